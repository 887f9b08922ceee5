"""Sending: intent is committed before the wire, the outcome after, and nothing is ever sent twice.

    read the market → prepare (locks, look again, consume, attempt) → arm → wire → outcome

A process that dies between two of these leaves an attempt that says exactly what is not known.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from audit.services import record_change, record_insert
from brokers.base import Answer, Broker, OrderTerms
from brokers.holding import may_leave
from brokers.reports import record_reports
from brokers.sessions import session_lost
from cerbero import decisions, failpoints, leases
from cerbero.access import Actor
from cerbero.database.compiled import bind
from cerbero.errors import (
    AlreadyDecided,
    BrokerError,
    BrokerRejected,
    BrokerUnavailable,
    CerberoError,
    LeaseLost,
    OutcomeUnknown,
    PolicyRefused,
    PolicyUnreadable,
    SessionExpired,
)
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from orders import breaches, environment, judging, overrides, trading
from orders.canonical import client_order_id
from orders.conversation import allowed_questions, converse
from orders.facts import as_seen, check_sending
from orders.groups import wire
from orders.holding import hold_back
from orders.lifecycle import ATTEMPT, ORDER, TICKET, AttemptStatus, OrderStatus, TicketStatus
from orders.locks import ARM, ARMED, ATTEMPTS, locked, locked_state
from orders.models import Attempt, Order, Ticket
from orders.notices.alerting import alert
from orders.recheck import (
    Denied,
    Moment,
    Moved,
    Refusal,
    Waits,
    is_still_wanted,
    look_again,
    look_at_return,
    may_pass,
    read_moment,
    renewed,
)
from orders.tickets import ask_people, deny, end_if_over, terms_of_all, told

log = logging.getLogger(__name__)
# The lease under which a process places for a login.
Hold = leases.Held


def submit(*, actor: Actor, ticket: Ticket, broker: Broker, hold: Hold) -> None:
    """Send one allowed ticket, or say why not. Raises LeaseLost when this process may no longer send."""
    if not _may_pass(ticket):
        # The broker is not asked for prices, second after second, while nothing may be sent.
        hold_back(actor, ticket, "trading_halted")
        return
    failpoints.reach("place.before_claim")
    order = ticket.first_order
    moment = read_moment(ticket, order, broker)
    attempt = prepare(actor, ticket, order, moment, hold)
    if attempt is not None:
        send(actor, attempt, terms_of_all(attempt.ticket, moment.facts.broker_instrument_id), broker, hold)


def resume(*, actor: Actor, attempt: Attempt, broker: Broker, hold: Hold) -> None:
    """Try again what certainly did not leave, by the same attempt, after looking at everything again."""
    ticket = attempt.ticket
    order = ticket.first_order
    moment = read_moment(ticket, order, broker)
    with transaction.atomic(durable=True):
        state, ticket = locked(ticket, hold)
        attempt.ticket = ticket
        order = ticket.first_order
        try:
            look_at_return(ticket, order)
            look_again(ticket, order, renewed(moment, ticket, order), state)
        except Waits as wait:
            hold_back(actor, ticket, wait.code)
            return
        except (Denied, Moved) as refusal:
            _give_up(actor, attempt, refusal)
            return
        # The fence that prepared it may be an earlier process's.
        Attempt.objects.filter(pk=attempt.pk).update(fence=hold.fence)
    send(actor, attempt, terms_of_all(ticket, moment.facts.broker_instrument_id), broker, hold)


def prepare(actor: Actor, ticket: Ticket, order: Order, moment: Moment, hold: Hold) -> Attempt | None:
    """One transaction: lock the trading states, look at everything again, consume, write the attempt."""
    with transaction.atomic(durable=True):
        state, fresh = locked(ticket, hold)
        # What is looked at, digested and sent are the same objects.
        fresh.legs = [order, *fresh.legs[1:]]
        if fresh.status != TicketStatus.ALLOWED:
            return None
        granted = judging.granted(fresh)
        try:
            moment = renewed(moment, fresh, order)
            look_again(fresh, order, moment, state, granted)
            if granted is not None:
                judging.use(actor, fresh, granted)
        except (Waits, AlreadyDecided) as why:
            environment.heed(actor, fresh.account, why.code, state)
            hold_back(actor, fresh, why.code)
            return None
        except Denied as refusal:
            _withdraw_request(actor, fresh.request)
            _refuse(actor, fresh, refusal.code, refusal.details)
            breaches.halt_repeating(fresh, refusal.checks)
            return None
        except Moved as moved:
            _ask_again(actor, fresh, order, moment, moved)
            return None
        return _write_attempt(actor, fresh, hold)


def send(actor: Actor, attempt: Attempt, legs: Sequence[OrderTerms], broker: Broker, hold: Hold) -> None:
    """Arm, send, and write what came back. Nothing here is ever sent a second time."""
    if not arm(actor, attempt, hold, broker):
        hold_back(actor, attempt.ticket, "not_armed")
        return
    account = attempt.ticket.account
    terms = wire.as_sent(attempt, legs)
    try:
        before = partial(require_ours, attempt, hold)
        answer = broker.place(account.broker_account_id, terms, before=before)
    except (BrokerUnavailable, SessionExpired, LeaseLost) as problem:
        _disarm(actor, attempt, problem, broker)
    except BrokerRejected as no:
        _rejected(actor, attempt, no)
    except BaseException as problem:
        doubt(actor, attempt, problem)
        if not isinstance(problem, BrokerError):
            raise
    else:
        _converse(actor, attempt, answer, broker, hold)


def arm(actor: Actor, attempt: Attempt, hold: Hold, broker: Broker | None = None) -> bool:
    """The last look before the wire: attempt, lease and keys are still ours, nobody halted it, nobody canceled it.

    The trading states stay locked until the commit: a halt that returned either finds this attempt among
    those in flight or keeps it from leaving. One conditional UPDATE; its row count is the verdict.
    """
    ticket = attempt.ticket
    named = {"attempt": attempt.pk, "ticket": ticket.pk, "lease": hold.name, "fence": hold.fence}
    details = {"client_order_id": attempt.client_order_id, "fence": hold.fence}
    with transaction.atomic(durable=True):
        passes = may_pass(ticket, locked_state(ticket), completes=attempt.completes)
        is_free = passes and may_leave(ticket.account.login_id, broker)
        if not is_free or not record_change(
            bind(ARM.words, named),
            "attempt.sent",
            actor=actor,
            subject_kind="attempt",
            subject_id=attempt.pk,
            details=details,
        ):
            return False
    attempt.status = AttemptStatus.SENT
    return True


def require_ours(attempt: Attempt, hold: Hold) -> None:
    """Right before the bytes leave, after any wait for the budget. Raises LeaseLost when they are not ours to send."""
    if not ARMED.rows(attempt=attempt.pk, lease=hold.name, fence=hold.fence):
        raise LeaseLost(lease=hold.name)


def doubt(actor: Actor, attempt: Attempt, problem: BaseException, **more: Any) -> None:
    """The outcome is not known: say so, and let reconciliation ask."""
    code = problem.code if isinstance(problem, CerberoError) else "internal_error"
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.IN_DOUBT,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.doubted",
            details={"why": code},
            outcome={"why": code, **more},
        )


def _converse(actor: Actor, attempt: Attempt, answer: Answer, broker: Broker, hold: Hold) -> None:
    ticket = attempt.ticket
    talk = converse(
        broker,
        answer,
        allowed=allowed_questions(ticket.account.allowed_question_ids, ticket.request),
        is_wanted=partial(is_still_wanted, attempt),
        before=partial(require_ours, attempt, hold),
    )
    if talk.answer is not None:
        _answered(actor, attempt, talk.answer, talk.questions, broker)
    elif isinstance(talk.problem, BrokerRejected):
        _rejected(actor, attempt, talk.problem)
    elif talk.problem is not None:
        doubt(actor, attempt, talk.problem, **talk.as_outcome())
        if not isinstance(talk.problem, CerberoError):
            raise talk.problem


def _answered(
    actor: Actor, attempt: Attempt, answer: Answer, asked: list[dict[str, Any]], broker: Broker
) -> None:
    if not answer.orders:
        doubt(actor, attempt, OutcomeUnknown(), questions=asked)
        return
    rows, is_whole = wire.named(attempt, answer.orders, broker)
    ids = [row.broker_order_id for row in rows]
    with transaction.atomic(durable=True):
        if is_whole:
            transition(
                attempt,
                AttemptStatus.ANSWERED,
                moves=ATTEMPT,
                actor=actor,
                event="attempt.answered",
                outcome={"orders": ids, "questions": asked},
                answered_at=Now(),
            )
        record_reports(
            attempt.ticket.account.login, "reply", [(row, None) for row in rows], as_of=timezone.now()
        )
    if not is_whole:
        doubt(actor, attempt, OutcomeUnknown(), questions=asked, orders=ids)


def _rejected(actor: Actor, attempt: Attempt, no: BrokerRejected) -> None:
    text = str(no.details.get("broker_says") or no.message)[:300]
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.ANSWERED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.answered",
            outcome={"rejected": text},
            answered_at=Now(),
        )
        for order in attempt.carried.filter(status=OrderStatus.SUBMITTED):
            transition(
                order, OrderStatus.REJECTED, moves=ORDER, actor=actor, event="order.rejected", text=text
            )
        end_if_over(actor, Ticket.objects.get(pk=attempt.ticket_id))


def _disarm(actor: Actor, attempt: Attempt, problem: CerberoError, broker: Broker) -> None:
    """Certainly not sent: the same attempt is tried again until its approval expires."""
    if isinstance(problem, SessionExpired):
        session_lost(attempt.ticket.account.login, actor, broker.credential_id)
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.PREPARED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.not_sent",
            details={"why": problem.code},
            outcome={"why": problem.code},
        )


def _give_up(actor: Actor, attempt: Attempt, refusal: Refusal) -> None:
    """An attempt that never left ends without having been sent; its ticket is denied."""
    transition(
        attempt,
        AttemptStatus.SETTLED,
        moves=ATTEMPT,
        actor=actor,
        event="attempt.settled",
        outcome={"why": refusal.code, "sent": False},
        settled_at=Now(),
    )
    ticket = Ticket.objects.get(pk=attempt.ticket_id)
    if ticket.status == TicketStatus.SENT:
        _refuse(actor, ticket, refusal.code, refusal.details)
        breaches.halt_repeating(ticket, refusal.checks)


def _refuse(actor: Actor, ticket: Ticket, code: str, details: dict[str, Any]) -> None:
    """What people approved and is not sent after all: they are told why, as the bot reads it on its order."""
    deny(actor, ticket, code, details)
    if ticket.request_id is not None and code != "canceled_before_sending":
        words = f"It was approved, and refused at the moment of sending: {code.replace('_', ' ')}."
        path = f"/admin/orders/order/{ticket.first_order.pk}/change/"
        alert(f"not-sent:{ticket.pk}", f"Not sent: {told(ticket)}", words, path=path)


def _ask_again(actor: Actor, ticket: Ticket, order: Order, moment: Moment, moved: Moved) -> None:
    """Back to people, with the market as it is now; denied where the policy asks nobody any more."""
    _withdraw_request(actor, ticket.request)
    checks = check_sending(moment.facts, *ticket.legs, group=ticket.group)
    seen = as_seen(moment.facts, order, checks, ticket) | {"asked_again": moved.code}
    if ticket.request and ticket.request.facts.get("questions"):
        seen["questions"] = ticket.request.facts["questions"]
    seen |= overrides.kept(ticket.request)
    try:
        request = ask_people(actor, ticket, moment.facts, order, seen)
    except (PolicyRefused, PolicyUnreadable) as no:
        _refuse(actor, ticket, no.code, no.details)
        return
    transition(
        ticket,
        TicketStatus.PROPOSED,
        moves=TICKET,
        actor=actor,
        event="ticket.proposed_again",
        details={"why": moved.code},
        request=request,
        allowed_at=None,
        policy_version=ticket.policy_version,
        policy_rule=ticket.policy_rule,
    )


def _withdraw_request(actor: Actor, request: DecisionRequest | None) -> None:
    if request is not None:
        decisions.withdraw(request, actor=actor)


def _write_attempt(actor: Actor, ticket: Ticket, hold: Hold) -> Attempt:
    number = len(ATTEMPTS.rows(ticket=ticket.pk)) + 1
    attempt = Attempt(
        ticket=ticket,
        number=number,
        client_order_id=client_order_id(ticket, number),
        digest=ticket.digest,
        fence=hold.fence,
    )
    details = {"client_order_id": attempt.client_order_id, "ticket": str(ticket.pk), "digest": ticket.digest}
    record_insert(
        [attempt],
        "attempt.prepared",
        actor=actor,
        subject_kind="attempt",
        subject_id=attempt.pk,
        details=details,
    )
    if ticket.group:
        wire.enter_legs(attempt, ticket.legs)
    transition(ticket, TicketStatus.SENT, moves=TICKET, actor=actor, event="ticket.sent", held_for="")
    for order in ticket.legs:
        transition(order, OrderStatus.SUBMITTED, moves=ORDER, actor=actor, event="order.submitted")
    return attempt


def _may_pass(ticket: Ticket) -> bool:
    """A close has no approval that would expire: it is looked at, and denied when it waited too long."""
    return ticket.reduce_only or may_pass(ticket, trading.worst_state(ticket.account, ticket.bot_id))
