"""What is in doubt: asked for by our own id, more than once and over a grace, and only then said to be absent.

No finite wait proves absence (gates.md §3, §6). What was found is settled by the reports (orders/reports.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from brokers.base import Broker, OrderReport
from brokers.holding import lists_began_anew
from brokers.models import Account, Report
from cerbero.access import Actor
from cerbero.errors import BrokerError, PolicyRefused, PolicyUnreadable, StateConflict
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from orders import amend_sending, amended, canceling, overrides
from orders.facts import as_seen, check_sending, gather_for
from orders.groups import wire
from orders.lifecycle import ATTEMPT, ORDER, TICKET, AttemptStatus, OrderStatus, TicketStatus
from orders.models import Attempt, Inquiry, Ticket
from orders.notices.alerting import alert
from orders.tickets import ask_people, deny, told

# Longer than the broker's worst delay between taking an order and listing it.
GRACE = timedelta(seconds=60)
ABSENT_TIMES = 3
# The day's list holds working and recent orders.
LOOKED_IN = "working and recent orders, executions"


def settle_absent(
    actor: Actor, account: Account, broker: Broker, asked_at: datetime, grace: timedelta = GRACE
) -> None:
    """Count one absence for each attempt of an account in doubt since before we asked; conclude after enough.

    An attempt whose order was reported is no absence: the report settles it, or we do where it was applied
    before the attempt came into doubt.
    """
    doubted = list(_doubted(account).filter(sent_at__lt=asked_at))
    is_live = bool(doubted) and _is_live(broker)
    for attempt in doubted:
        if is_found(account, attempt):
            _keep(attempt, asked_at, Inquiry.Result.FOUND, is_live)
            if not Report.objects.filter(login=account.login).waiting().exists():
                _was_found(actor, attempt)
            continue
        if attempt.sent_at and lists_began_anew(account.login, attempt.sent_at, asked_at):
            _say_unlisted(attempt, asked_at, is_live)
            continue
        _keep(attempt, asked_at, Inquiry.Result.ABSENT if is_live else Inquiry.Result.FAILED, is_live)
        if not is_live:
            continue
        Attempt.objects.filter(pk=attempt.pk).update(absent_count=F("absent_count") + 1, absent_at=asked_at)
        if (
            attempt.absent_count + 1 >= ABSENT_TIMES
            and attempt.sent_at
            and asked_at - attempt.sent_at >= grace
        ):
            never_arrived(actor, attempt)


@contextmanager
def failures_kept(account: Account) -> Iterator[None]:
    """An asking that the broker did not answer is kept with what is in doubt, and concludes nothing."""
    asked_at = timezone.now()
    try:
        yield
    except BrokerError as problem:
        for attempt in _doubted(account):
            _keep(attempt, asked_at, Inquiry.Result.FAILED, is_live=False, text=problem.code)
        raise


def settle_changes(
    actor: Actor, account: Account, broker: Broker, listed: Sequence[OrderReport], grace: timedelta = GRACE
) -> None:
    """Ask for the order of each amendment in doubt: it works on the new terms, or on the old ones."""
    working = {row.broker_order_id for row in listed if row.state in amended.AT_WORK}
    canceling.settle_foreign(actor, account, working)
    for change in amended.in_doubt(account):
        if amended.ask_about(actor, change, broker, grace, ABSENT_TIMES) == amended.OVER:
            amend_sending.over(actor, change)


def is_found(account: Account, attempt: Attempt) -> bool:
    """Of a group all must be: an entry that lives says nothing of its exits. What waits in the inbox is not absent."""
    if attempt.ticket.group:
        return not wire.missing(attempt).exists() or wire.is_told_of(attempt)
    return Report.objects.filter(
        login=account.login, record__client_order_id=attempt.client_order_id
    ).exists()


def _say_unlisted(attempt: Attempt, asked_at: datetime, is_live: bool) -> None:
    words = "Sent before the broker's night: its lists begin anew, and prove no absence."
    _keep(attempt, asked_at, Inquiry.Result.UNCLEAR, is_live, words)
    alert(
        f"unlisted:{attempt.pk}",
        f"In doubt until a person settles it: {told(attempt.ticket)} on {attempt.ticket.account}",
        f"{words} Ask the broker for {attempt.client_order_id}, and say what it is.",
        path="/admin/doubts/",
        is_urgent=True,
    )


def _was_found(actor: Actor, attempt: Attempt) -> None:
    with suppress(StateConflict):
        transition(
            attempt,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.settled",
            outcome=attempt.outcome | {"found": True},
            settled_at=Now(),
        )


def _doubted(account: Account) -> QuerySet[Attempt]:
    rows = Attempt.objects.filter(ticket__account=account, status=AttemptStatus.IN_DOUBT)
    return rows.select_related("ticket__account__login", "ticket__request")


def _is_live(broker: Broker) -> bool:
    """Whether the session still stands after the answers: one that ended meanwhile may have listed nothing."""
    try:
        return broker.session_status().is_up
    except BrokerError:
        return False


def _keep(attempt: Attempt, asked_at: datetime, result: str, is_live: bool, text: str = "") -> None:
    inquiry = Inquiry(attempt=attempt, asked_at=asked_at, looked_in=LOOKED_IN, result=result)
    inquiry.had_session, inquiry.text = is_live, text or ("" if is_live else "no live session")
    inquiry.save(force_insert=True)


def never_arrived(actor: Actor, attempt: Attempt, **by_hand: str) -> None:
    """It is not at the broker, as often as it was asked or as a person says: back to people after our no, else denied."""
    ticket = attempt.ticket
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.settled",
            details=by_hand,
            outcome=attempt.outcome | {"found": False, "asked": attempt.absent_count + 1, **by_hand},
            settled_at=Now(),
        )
        if wire.missing(attempt).count() < attempt.carried.count() or attempt.completes:
            _end_missing(actor, attempt)
        elif attempt.outcome.get("refused") and not ticket.orders.exclude(cancel_requested_at=None).exists():
            _back_to_people(actor, attempt)
        else:
            deny(actor, ticket, "never_arrived", {"client_order_id": attempt.client_order_id})
        alert(
            f"settled:{attempt.pk}",
            f"Never arrived: {told(ticket)} on {ticket.account}",
            f"The broker does not know {attempt.client_order_id}. {by_hand.get('reason', '')}",
            path="/admin/doubts/",
        )


def _end_missing(actor: Actor, attempt: Attempt) -> None:
    """The rest of a group arrived: what did not is ended, and orders/groups/safety.py makes the rest safe."""
    for order in wire.missing(attempt):
        transition(
            order,
            OrderStatus.CANCELED,
            moves=ORDER,
            actor=actor,
            event="order.never_arrived",
            text="It never arrived at the broker.",
        )


def _back_to_people(actor: Actor, attempt: Attempt) -> None:
    """We answered no to the broker's question; people see its words, and a yes answers them in advance."""
    ticket = attempt.ticket
    order = ticket.first_order
    questions, before = _all_questions(attempt), _questions_before(ticket)
    if len(questions) == len(before) and not attempt.outcome.get("known"):
        # Their yes did not answer it, so another would not, either.
        deny(actor, ticket, "broker_asks_again", {"questions": questions})
        return
    for leg in ticket.legs:
        transition(leg, OrderStatus.PENDING, moves=ORDER, actor=actor, event="order.returned")
    facts = gather_for(ticket.account, order)
    checks = check_sending(facts, *ticket.legs, group=ticket.group)
    seen = as_seen(facts, order, checks, ticket) | {
        "questions": questions,
        "asked_again": "broker_asked",
    }
    seen |= overrides.kept(ticket.request)
    try:
        request: DecisionRequest = ask_people(actor, ticket, facts, order, seen)
    except (PolicyRefused, PolicyUnreadable) as no:
        deny(actor, ticket, no.code, no.details)
        return
    transition(
        ticket,
        TicketStatus.PROPOSED,
        moves=TICKET,
        actor=actor,
        event="ticket.proposed_again",
        details={"why": "broker_asked"},
        request=request,
        allowed_at=None,
        policy_version=ticket.policy_version,
        policy_rule=ticket.policy_rule,
    )


def _all_questions(attempt: Attempt) -> list[dict[str, str]]:
    """What the broker asked this time and before: nobody is asked the same twice for one ticket."""
    both = [*_questions_before(attempt.ticket), *attempt.outcome.get("questions", [])]
    return list({question["id"]: question for question in both}.values())


def _questions_before(ticket: Ticket) -> list[dict[str, str]]:
    return list(ticket.request.facts.get("questions", [])) if ticket.request else []
