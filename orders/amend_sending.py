"""Sending an amendment: intent before the wire, outcome after, never twice; as orders/submission.py sends a ticket.

ask for the order → prepare (locks, look again, consume, attempt) → arm → wire → outcome
"""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.base import Answer, Broker, OrderReport
from brokers.holding import may_leave
from brokers.reports import record_reports
from brokers.sessions import session_lost
from cerbero import decisions, leases
from cerbero.access import Actor
from cerbero.errors import (
    AlreadyDecided,
    BrokerRejected,
    BrokerUnavailable,
    CerberoError,
    DigestMismatch,
    GroupImpossible,
    LeaseLost,
    NotProven,
    OutcomeUnknown,
    PolicyRefused,
    PolicyUnreadable,
    SessionExpired,
    StateConflict,
)
from cerbero.lifecycle import transition
from orders import amended, environment, trading
from orders.amended import IN_THE_AIR
from orders.amending import AMENDABLE, ask_people, digest_for, is_ours
from orders.canonical import decision_digest
from orders.conversation import Talk, allowed_questions, converse
from orders.facts import gather_for
from orders.groups import amends, wire
from orders.lifecycle import AMENDMENT, ATTEMPT, AttemptStatus, TicketStatus
from orders.locks import bound_locks, leased, locked_state
from orders.models import TICKET_ROWS, Amendment, ChangeAttempt, Order
from orders.recheck import Denied, Moment, Moved, Waits, look_at_amendment, may_amend, read_moment, renewed
from orders.submission import Hold
from orders.tickets import terms_of

_ROWS = [f"order__ticket__{name}" for name in TICKET_ROWS]


def submit_amendment(*, actor: Actor, amendment: Amendment, broker: Broker, hold: Hold) -> None:
    """Send one allowed amendment, or say why not. Raises BrokerError while the broker cannot be read."""
    order = _fresh(amendment).order
    if not may_amend(amendment, trading.worst_state(order.ticket.account, order.ticket.bot_id)):
        return
    row = broker.order(order.broker_order_id)
    is_free = amendment.tightens and amendment.request_id is None
    moment = None if is_free else read_moment(order.ticket, order, broker)
    change = prepare(actor, amendment, row, moment, hold)
    if change is not None:
        send(actor, change, broker, hold)


def prepare(
    actor: Actor, amendment: Amendment, row: OrderReport | None, moment: Moment | None, hold: Hold
) -> ChangeAttempt | None:
    """One transaction: everything is looked at again, the approval used up, and the attempt written."""
    with transaction.atomic(durable=True):
        bound_locks()
        leases.check(hold.name, hold.fence)
        ticket = _fresh(amendment).order.ticket
        state = locked_state(ticket)
        amends.hold(ticket)
        fresh = _fresh(amendment, lock=True)
        order = fresh.order
        if fresh.status != TicketStatus.ALLOWED:
            return None
        try:
            _look(fresh, order, row)
            changed = amended.amended(order, amended.terms(fresh))
            if moment is not None:
                moment = renewed(moment, order.ticket, order)
            look_at_amendment(fresh, changed, moment, state)
            _use(actor, fresh)
        except Waits as why:
            environment.heed(actor, order.ticket.account, why.code, state)
            return None
        except (Denied, Moved) as refusal:
            if fresh.request is not None:
                decisions.withdraw(fresh.request, actor=actor)
            amended.deny(actor, fresh, refusal.code, **refusal.details)
            return None
        return _write(actor, fresh, order, hold)


def send(actor: Actor, change: ChangeAttempt, broker: Broker, hold: Hold) -> None:
    """Arm, send, and write what came back."""
    amendment, order = _both(change)
    if not arm(actor, change, hold, broker):
        _not_sent(actor, change, "not_sent_in_time")
        return
    account = change.account
    wanted = amended.amended(order, amended.terms(amendment))
    terms = wire.linked(order, terms_of(wanted, gather_for(account, order).broker_instrument_id))
    before = partial(require_ours, change, hold)
    try:
        answer = broker.amend(account.broker_account_id, change.broker_order_id, terms, before=before)
    except BrokerRejected as no:
        _rejected(actor, change, no)
    except (BrokerUnavailable, SessionExpired, LeaseLost) as problem:
        if isinstance(problem, SessionExpired):
            session_lost(account.login, actor, broker.credential_id)
        _not_sent(actor, change, problem.code)
    except BaseException as problem:
        doubt(actor, change, problem)
        if not isinstance(problem, CerberoError):
            raise
    else:
        _converse(actor, change, answer, broker, before)


def arm(actor: Actor, change: ChangeAttempt, hold: Hold, broker: Broker | None = None) -> bool:
    """The last look before the wire, under the locks of a submission: ours, not halted, not being canceled."""
    amendment, order = _both(change)
    with transaction.atomic(durable=True):
        bound_locks()
        leases.check(hold.name, hold.fence)
        if not may_amend(amendment, locked_state(order.ticket)) or change.fence != hold.fence:
            return False
        is_canceled = Order.objects.select_for_update().get(pk=order.pk).cancel_requested_at is not None
        if is_canceled or not may_leave(change.account.login_id, broker):
            return False
        transition(change, AttemptStatus.SENT, moves=ATTEMPT, actor=actor, event="amend.sent", sent_at=Now())
    return True


def require_ours(change: ChangeAttempt, hold: Hold) -> None:
    """Right before the bytes leave. Raises LeaseLost when they are not ours to send."""
    rows = ChangeAttempt.objects.filter(leased(*hold), pk=change.pk, status=AttemptStatus.SENT)
    if not rows.filter(fence=hold.fence).exists():
        raise LeaseLost(lease=hold.name)


def doubt(actor: Actor, change: ChangeAttempt, problem: BaseException, **more: Any) -> None:
    """The outcome is not known: the broker is asked for the order, and the amendment is never sent again."""
    outcome = {"why": problem.code if isinstance(problem, CerberoError) else "internal_error", **more}
    with transaction.atomic(durable=True):
        transition(
            change,
            AttemptStatus.IN_DOUBT,
            moves=ATTEMPT,
            actor=actor,
            event="amend.doubted",
            details={"why": outcome["why"]},
            outcome=outcome,
        )


def give_up_prepared(actor: Actor, change: ChangeAttempt) -> None:
    """Whoever prepared it is gone, and it certainly never left."""
    _not_sent(actor, change, "process_died")


def over(actor: Actor, change: ChangeAttempt, **by_hand: str) -> None:
    """The broker works on the old terms, asked often enough or as a person says: back to people after our no, else it
    never arrived.
    """
    amendment, order = _both(change)
    questions = change.outcome.get("questions") if change.outcome.get("refused") else None
    with transaction.atomic(durable=True):
        fresh = ChangeAttempt.objects.select_for_update().get(pk=change.pk)
        if fresh.status != AttemptStatus.IN_DOUBT:
            return
        if not questions or order.status not in AMENDABLE or order.cancel_requested_at is not None:
            amended.not_taken(actor, change, "never_arrived", asked=change.absent_count, **by_hand)
            return
        amended.settle_unheard(actor, change, **by_hand)
        try:
            known = amendment.request.facts.get("questions", []) if amendment.request else []
            asked = {each["id"]: each for each in [*known, *questions]}
            if len(asked) == len(known) and not change.outcome.get("known"):
                amended.deny(actor, amendment, "broker_asks_again", questions=questions)
                return
            request = ask_people(actor, amendment, order, list(asked.values()))
        except (PolicyRefused, PolicyUnreadable) as no:
            amended.deny(actor, amendment, no.code, **no.details)
            return
        transition(
            amendment,
            TicketStatus.PROPOSED,
            moves=AMENDMENT,
            actor=actor,
            event="amendment.proposed_again",
            details={"why": "broker_asked"},
            request=request,
            allowed_at=None,
        )


def _look(amendment: Amendment, order: Order, row: OrderReport | None) -> None:
    """The broker's terms and fill, and ours, are those that it was bound to (gates.md §8)."""
    if digest_for(amendment, order) != amendment.digest:
        raise Denied("terms_changed")
    if not is_ours(amendment):
        raise Denied("approval_not_proven", why="not an amendment of ours")
    if order.status not in AMENDABLE or order.cancel_requested_at is not None:
        raise Denied("order_moved", status=order.status)
    was = amended.was(amendment)
    filled = row.filled_quantity if row is not None and row.filled_quantity is not None else 0
    at_work = row is not None and row.state in amended.AT_WORK and amended.has(row, was)
    ours = {name: getattr(order, name) for name in amended.TERMS}
    if not at_work or filled != amendment.filled_quantity or ours != was:
        raise Denied("order_moved", bound=str(amendment.filled_quantity), filled=str(filled))
    if order.filled_quantity > amendment.filled_quantity:
        raise Denied("order_moved", bound=str(amendment.filled_quantity), filled=str(order.filled_quantity))
    if amendment.tightens != amended.is_tighter(order, was, amended.terms(amendment)):
        raise Denied("terms_changed")
    try:
        amends.require_alone(order)
        amends.require_fits(order, amended.terms(amendment))
    except (StateConflict, GroupImpossible) as no:
        raise Denied(no.code, says=no.message, **no.details) from None


def _use(actor: Actor, amendment: Amendment) -> None:
    request = amendment.request
    if request is None:
        if not amendment.tightens:
            raise Denied("approval_not_proven", why="nobody was asked")
        return
    try:
        decisions.consume(request, actor=actor, digest=decision_digest(amendment.digest, request.facts))
    except (AlreadyDecided, DigestMismatch, NotProven) as no:
        raise Denied("approval_not_proven", why=no.code) from None
    if request.subject_id != amendment.pk:
        raise Denied("approval_not_proven", why="another subject")


def _write(actor: Actor, amendment: Amendment, order: Order, hold: Hold) -> ChangeAttempt:
    change = ChangeAttempt(
        kind=ChangeAttempt.Kind.AMEND,
        account=order.ticket.account,
        order=order,
        broker_order_id=order.broker_order_id,
        amendment=amendment,
        asked_by=actor.name,
        digest=amendment.digest,
        fence=hold.fence,
    )
    change.save(force_insert=True)
    details = {"amendment": str(amendment.pk), "digest": amendment.digest, "fence": hold.fence}
    record("amend.prepared", actor=actor, subject_kind="changeattempt", subject_id=change.pk, details=details)
    transition(amendment, TicketStatus.SENT, moves=AMENDMENT, actor=actor, event="amendment.sent")
    return change


def _converse(actor: Actor, change: ChangeAttempt, answer: Answer, broker: Broker, before: Any) -> None:
    amendment, order = _both(change)
    talk = converse(
        broker,
        answer,
        allowed=allowed_questions(change.account.allowed_question_ids, amendment.request),
        is_wanted=partial(_is_wanted, amendment, order),
        before=before,
    )
    if talk.answer is not None:
        _answered(actor, change, talk)
    elif isinstance(talk.problem, BrokerRejected):
        _rejected(actor, change, talk.problem)
    elif talk.problem is not None:
        doubt(actor, change, talk.problem, **talk.as_outcome())
        if not isinstance(talk.problem, CerberoError):
            raise talk.problem


def _answered(actor: Actor, change: ChangeAttempt, talk: Talk) -> None:
    rows = talk.answer.orders if talk.answer is not None else ()
    if not any(row.broker_order_id == change.broker_order_id for row in rows):
        # An answer that does not name the order proves nothing of it.
        doubt(actor, change, OutcomeUnknown(), questions=talk.questions)
        return
    with transaction.atomic(durable=True):
        order = amended.locked_order(change)
        change.refresh_from_db(fields=["status", "outcome"])
        if change.status in IN_THE_AIR:
            amended.taken(actor, change, order, questions=talk.questions)
        record_reports(change.account.login, "reply", [(row, None) for row in rows])


def _rejected(actor: Actor, change: ChangeAttempt, no: BrokerRejected) -> None:
    words = str(no.details.get("broker_says") or no.message)[:300]
    amendment, _ = _both(change)
    with transaction.atomic(durable=True):
        transition(
            change,
            AttemptStatus.ANSWERED,
            moves=ATTEMPT,
            actor=actor,
            event="amend.answered",
            outcome={"rejected": words},
            answered_at=Now(),
        )
        amended.deny(actor, amendment, no.code, broker_says=words)


def _not_sent(actor: Actor, change: ChangeAttempt, code: str) -> None:
    """Certainly not sent: it is over, and may be asked for anew."""
    amendment, _ = _both(change)
    why = {"why": code}
    with transaction.atomic(durable=True):
        if change.status == AttemptStatus.SENT:
            transition(
                change,
                AttemptStatus.PREPARED,
                moves=ATTEMPT,
                actor=actor,
                event="amend.not_sent",
                details=why,
            )
        transition(
            change,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="amend.settled",
            outcome={"sent": False, **why},
            settled_at=Now(),
        )
        # One that was settled before is none of this sending's: only rows written past this program look so.
        if amendment.status == TicketStatus.SENT:
            amended.deny(actor, amendment, code)


def _is_wanted(amendment: Amendment, order: Order) -> bool:
    if Order.objects.filter(pk=order.pk).exclude(cancel_requested_at=None).exists():
        return False
    return may_amend(amendment, trading.worst_state(order.ticket.account, order.ticket.bot_id))


def _both(change: ChangeAttempt) -> tuple[Amendment, Order]:
    if change.amendment_id is None:
        raise ValueError("a cancel amends nothing")
    fresh = _fresh(Amendment(pk=change.amendment_id))
    return fresh, fresh.order


def _fresh(amendment: Amendment, *, lock: bool = False) -> Amendment:
    """The amendment with everything around it as it is now."""
    rows = Amendment.objects.select_related("order__instrument", "request", "person", *_ROWS)
    return (rows.select_for_update(of=("self", "order")) if lock else rows).get(pk=amendment.pk)
