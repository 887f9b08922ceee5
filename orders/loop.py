"""The orders process: a plain loop that finds its work in rows.

A notification wakes it and a poll every second finds what a lost notification would have said. Redis
plays no part.
"""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from uuid import UUID

import psycopg
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.base import Broker
from brokers.holding import is_held, still_serves
from brokers.models import Login, SessionState
from brokers.notifications import ORDERS, listening
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero import access, decisions, leases
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given, together
from cerbero.errors import (
    CerberoError,
    InternalError,
    LeaseLost,
    LoginDisabled,
    ProcessDied,
    SessionExpired,
)
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from cerbero.stopping import StopSignal
from orders import (
    adopting,
    amend_sending,
    amending,
    canceling,
    drift,
    environment,
    forged,
    halting,
    hand_settling,
    limit_changes,
    mandates,
    reports,
    resuming,
    services,
    submission,
)
from orders.groups import safety
from orders.holding import hold_all, hold_back
from orders.lifecycle import ORDER, AttemptStatus, OrderStatus, TicketStatus
from orders.models import TICKET_ROWS, Amendment, Attempt, ChangeAttempt, Order, Ticket
from orders.submission import Hold

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
BEAT_SECONDS = 5.0
LEASE_SECONDS = 15

# Questions from whose end nothing follows.
_QUESTIONS = (resuming.KIND, hand_settling.KIND, limit_changes.KIND, adopting.KIND)
_UNANSWERED = Compiled(lambda: DecisionRequest.objects.overdue().filter(subject_kind__in=_QUESTIONS))
_LOGINS = Compiled(lambda: Login.objects.all())


def _attempts(status: AttemptStatus) -> Compiled[Attempt]:
    rows = [f"ticket__{name}" for name in TICKET_ROWS]
    return Compiled(
        lambda: Attempt.objects.filter(ticket__account__login=Given("login"), status=status).select_related(
            *rows
        )
    )


def _amends(status: AttemptStatus) -> Compiled[ChangeAttempt]:
    kind = ChangeAttempt.Kind.AMEND
    return Compiled(
        lambda: ChangeAttempt.objects.filter(kind=kind, account__login=Given("login"), status=status)
    )


_PREPARED, _SENT = _attempts(AttemptStatus.PREPARED), _attempts(AttemptStatus.SENT)
_AMENDS_PREPARED, _AMENDS_SENT = _amends(AttemptStatus.PREPARED), _amends(AttemptStatus.SENT)
_TO_CANCEL = Compiled(lambda: Order.objects.to_cancel().filter(ticket__account__login=Given("login")))
_SENDABLE = Compiled(
    lambda: Ticket.objects.sendable().filter(account__login=Given("login")).select_related(*TICKET_ROWS)
)
_AMENDMENTS = Compiled(
    lambda: Amendment.objects.filter(
        status=TicketStatus.ALLOWED, order__ticket__account__login=Given("login")
    )
)


def run(stop: StopSignal) -> None:
    """Work until `stop` is set. A database that went away is waited for."""
    actor, holder = access.system("orders"), leases.unique_holder()
    holds: dict[str, Hold] = {}
    lost = ""
    while not stop.is_set():
        try:
            with listening(ORDERS) as wait:
                if lost:
                    record("orders.interrupted", actor=actor, details={"why": lost})
                    lost = ""
                _work(actor, holder, holds, stop, wait)
        except (psycopg.OperationalError, OperationalError, InterfaceError) as problem:
            lost = type(problem).__name__
            log.warning("database away", extra={"problem": lost})
            close_old_connections()
            stop.wait(POLL_SECONDS)
    for hold in holds.values():
        leases.release(hold.name, hold.fence)


def _work(
    actor: Actor, holder: str, holds: dict[str, Hold], stop: StopSignal, wait: Callable[[float], None]
) -> None:
    beat_at = 0.0
    while not stop.is_set():
        turn(actor, holder, holds)
        if monotonic() - beat_at > BEAT_SECONDS:
            leases.succeeded("process:orders")
            beat_at = monotonic()
        wait(POLL_SECONDS)


def turn(actor: Actor, holder: str, holds: dict[str, Hold]) -> None:
    """One pass over everything that waits."""
    reports.drain(actor)
    services.expire_overdue(actor=actor)
    expire_unanswered(actor)
    mandates.return_unfilled(actor=actor)
    amending.expire_overdue(actor=actor)
    halting.stay_armed(actor=actor)
    forged.halt_forged(actor)
    environment.halt_mismatched(actor)
    drift.restrain(actor)
    for login in _LOGINS.rows():
        try:
            if not login.is_enabled:
                raise LoginDisabled(login=login.name)
            _serve(actor, login, _hold(login, holder, holds))
        except LeaseLost:
            continue
        except CerberoError as problem:
            # One login that cannot be served must not end the process that serves the others.
            hold_all(actor, login, problem.code)


def expire_unanswered(actor: Actor) -> None:
    """End the questions that nobody answered in time and from whose end nothing follows."""
    for request in _UNANSWERED.rows():
        with transaction.atomic(durable=True):
            decisions.expire(request, actor=actor)


def _hold(login: Login, holder: str, holds: dict[str, Hold]) -> Hold:
    """Our turn to place for a login. Raises LeaseLost while another process has it."""
    name = f"place:{login.pk}"
    mine = holds.pop(name, None)
    try:
        if mine is None:
            raise LeaseLost
        leases.renew(mine.name, mine.fence, LEASE_SECONDS)
    except LeaseLost:
        mine = Hold(name, leases.hold(name, holder, LEASE_SECONDS))
    holds[name] = mine
    return mine


def _serve(actor: Actor, login: Login, hold: Hold) -> None:
    """Everything that one login waits for; one failure does not keep the rest waiting."""
    sent, amends_sent, to_cancel = together(
        _SENT.asked(login=login.pk), _AMENDS_SENT.asked(login=login.pk), _TO_CANCEL.asked(login=login.pk)
    )
    for attempt in sent:
        # We place for this login, and we are not placing: whoever sent this is gone.
        submission.doubt(actor, attempt, ProcessDied())
    for change in amends_sent:
        amend_sending.doubt(actor, change, ProcessDied())
    canceling.doubt_abandoned(actor, login)
    for order in to_cancel:
        _guarded(actor, login, partial(_cancel_again, actor, login, order))
    lacking = safety.watch(actor, login)
    if login.state != SessionState.UP or is_held(login):
        hold_all(actor, login, "login_held" if is_held(login) else f"session_{login.state}")
        return
    for change in _AMENDS_PREPARED.rows(login=login.pk):
        _guarded(actor, login, partial(amend_sending.give_up_prepared, actor, change))
    prepared, sendable, amendments = together(
        _PREPARED.asked(login=login.pk), _SENDABLE.asked(login=login.pk), _AMENDMENTS.asked(login=login.pk)
    )
    if not prepared and not sendable and not amendments and not lacking:
        return
    with broker_for(login) as broker:
        for ticket in lacking:
            work = partial(safety.complete, actor=actor, ticket=ticket, broker=broker, hold=hold)
            _guarded(actor, login, work, broker.credential_id)
        _place(actor, login, hold, broker, prepared, sendable, amendments)


def _place(
    actor: Actor,
    login: Login,
    hold: Hold,
    broker: Broker,
    prepared: list[Attempt],
    sendable: list[Ticket],
    amendments: list[Amendment],
) -> None:
    works: list[tuple[Ticket | None, Callable[[], None]]] = [
        *(
            (each.ticket, partial(_resume, actor=actor, attempt=each, broker=broker, hold=hold))
            for each in prepared
        ),
        *(
            (each, partial(submission.submit, actor=actor, ticket=each, broker=broker, hold=hold))
            for each in sendable
        ),
        *(
            (
                None,
                partial(
                    amend_sending.submit_amendment, actor=actor, amendment=each, broker=broker, hold=hold
                ),
            )
            for each in amendments
        ),
    ]
    for number, (ticket, work) in enumerate(works):
        if number and not still_serves(login.pk, broker):
            # The next pass has a broker of the session that is in use by then.
            return
        leases.renew(hold.name, hold.fence, LEASE_SECONDS)
        problem = _guarded(actor, login, work, broker.credential_id)
        if problem and ticket is not None:
            hold_back(actor, ticket, problem)
        reports.drain(actor)


def _resume(*, actor: Actor, attempt: Attempt, broker: Broker, hold: Hold) -> None:
    again = safety.resume if attempt.completes else submission.resume
    again(actor=actor, attempt=attempt, broker=broker, hold=hold)


def _guarded(actor: Actor, login: Login, work: Callable[[], None], keys: UUID | None = None) -> str:
    """The code of what went wrong, empty when nothing did; only a database that is away ends the round."""
    try:
        work()
    except SessionExpired as problem:
        session_lost(login, actor, keys)
        return problem.code
    except CerberoError as problem:
        log.warning("order not sent", extra={"code": problem.code})
        return problem.code
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("order not sent")
        return InternalError.code
    return ""


def _cancel_again(actor: Actor, login: Login, order: Order) -> None:
    """A cancel that was asked for before the broker's id was known, or that the broker has not carried out."""
    Order.objects.filter(pk=order.pk).update(cancel_requested_at=Now())
    if order.status in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}:
        transition(order, OrderStatus.PENDING_CANCEL, moves=ORDER, actor=actor, event="order.cancel_pending")
    if canceling.unsettled_cancels().filter(order=order, status=AttemptStatus.IN_DOUBT).exists():
        with broker_for(login, is_for_cancel=True) as broker:
            if canceling.look_after(actor, order, broker):
                return
    services.send_cancel(actor, order)
