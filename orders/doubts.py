"""What is in doubt: asked for by our own id, more than once and over a grace, and only then said to be absent.

No finite wait proves absence (gates.md §3, §6). What was found is settled by the reports (orders/reports.py).
"""

from contextlib import suppress
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from brokers.base import Broker
from brokers.models import Login, Report
from cerbero.access import Actor
from cerbero.errors import PolicyRefused, PolicyUnreadable, StateConflict
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from orders.facts import as_seen, check_sending, gather_for
from orders.lifecycle import ATTEMPT, ORDER, TICKET, AttemptStatus, OrderStatus, TicketStatus
from orders.models import Attempt
from orders.tickets import ask_people, deny

# Longer than the broker's worst delay between taking an order and listing it.
GRACE = timedelta(seconds=60)
ABSENT_TIMES = 3


def settle_absent(
    actor: Actor, login: Login, broker: Broker, asked_at: datetime, grace: timedelta = GRACE
) -> None:
    """Count one absence for each attempt in doubt since before we asked; conclude after enough of them.

    An attempt whose order was reported is no absence: the report settles it, or we do where it was applied
    before the attempt came into doubt.
    """
    doubted = Attempt.objects.filter(
        ticket__account__login=login, status=AttemptStatus.IN_DOUBT, sent_at__lt=asked_at
    )
    for attempt in doubted.select_related("ticket__account__login", "ticket__request"):
        reports = Report.objects.filter(login=login, record__client_order_id=attempt.client_order_id)
        if reports.exists():
            if not reports.waiting().exists():
                _was_found(actor, attempt)
            continue
        Attempt.objects.filter(pk=attempt.pk).update(absent_count=F("absent_count") + 1, absent_at=asked_at)
        if (
            attempt.absent_count + 1 >= ABSENT_TIMES
            and attempt.sent_at
            and asked_at - attempt.sent_at >= grace
        ):
            _never_arrived(actor, attempt)


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


def _never_arrived(actor: Actor, attempt: Attempt) -> None:
    ticket = attempt.ticket
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.settled",
            outcome=attempt.outcome | {"found": False, "asked": attempt.absent_count + 1},
            settled_at=Now(),
        )
        if attempt.outcome.get("refused") and not ticket.orders.exclude(cancel_requested_at=None).exists():
            _back_to_people(actor, attempt)
        else:
            deny(actor, ticket, "never_arrived", {"client_order_id": attempt.client_order_id})


def _back_to_people(actor: Actor, attempt: Attempt) -> None:
    """We answered no to the broker's question; people see its words, and a yes answers them in advance."""
    ticket = attempt.ticket
    order = ticket.first_order
    transition(order, OrderStatus.PENDING, moves=ORDER, actor=actor, event="order.returned")
    facts = gather_for(ticket.account, order)
    checks = check_sending(facts, order)
    seen = as_seen(facts, order, checks) | {
        "questions": _all_questions(attempt),
        "asked_again": "broker_asked",
    }
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
    before = attempt.ticket.request.facts.get("questions", []) if attempt.ticket.request else []
    asked = {question["id"]: question for question in [*before, *attempt.outcome.get("questions", [])]}
    return list(asked.values())
