"""The kill switch: stop new orders at once, cancel by mode, prove it by the broker, and stay armed.

The process that is asked takes the locks, sends the cancels itself and answers within a bounded time; the
orders loop goes on until everything is proven, and afterwards cancels what still turns up.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.utils import timezone

from audit.services import record
from brokers.base import Broker
from brokers.models import Login
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero import access, leases
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Compiled
from cerbero.errors import BadInput, CerberoError, InternalError, LeaseLost, SessionExpired
from cerbero.leases import ClockTime
from orders import cancels, proving, reports, services, trading
from orders.halt_notes import forget_lists, note_close, note_problem, of_login
from orders.lifecycle import TicketStatus
from orders.models import Halt, HaltedOrder, HaltMode, Position, Ticket, TradingState
from orders.reconciliation import reconcile

log = logging.getLogger(__name__)

Scope = TradingState.Scope
WAIT_SECONDS = 10.0
# The broker's full list may be read once in five seconds (ibkr-web-api.md §8).
LIST_SECONDS = 5
ROUND_SECONDS = 0.25
CLOSES_MAX = 10
_ARMED = Compiled(lambda: Halt.objects.armed().exclude(mode=HaltMode.STOP_NEW).order_by("started_at"))

# One pursuit at a time for a login in this process.
_aside: dict[UUID, threading.Thread] = {}


def halt_trading(
    *,
    actor: Actor,
    scope: str = Scope.EVERYTHING,
    scope_id: str = "",
    mode: str = HaltMode.STOP_AND_CANCEL_OPENING,
    reason: str,
    is_drill: bool = False,
    wait_seconds: float = WAIT_SECONDS,
) -> dict[str, Any]:
    """Halt a scope. When this returns nothing new leaves; the report says what is in flight and still open.

    Waits for proof for at most `wait_seconds`; a broker that cannot be reached is in the report, and is
    tried again by the orders loop until a person resumes. A drill halts for as long as it takes, cancels
    nothing, and puts the state back. Raises PermissionMissing, NotFound or BadInput, before anything.
    """
    _require_sense(actor, scope, mode, is_drill)
    halt, before = _begin(actor, scope, scope_id, mode, reason, is_drill)
    try:
        if halt.finished_at is None:
            _set_to_work(actor, halt, wait_seconds)
    finally:
        if is_drill:
            _end_drill(actor, halt, before)
    return report_of(halt)


def stay_armed(*, actor: Actor) -> None:
    """One pass of the orders loop: go on where a halt is not proven, and look for what turned up since."""
    armed = _ARMED.rows()
    for halt in armed:
        if halt.finished_at is not None and proving.is_disturbed(halt):
            _reopen(actor, halt)
    unproven = [halt for halt in armed if halt.finished_at is None]
    logins = {login.pk: login for halt in unproven for login in proving.logins_of(halt)}
    for login in logins.values():
        mine = [halt for halt in unproven if proving.logins_of(halt).filter(pk=login.pk).exists()]
        _pursue_aside(actor, login, mine)


def _pursue_aside(actor: Actor, login: Login, halts: list[Halt]) -> None:
    """Not in the loop's own thread: full lists wait for their turn, and other logins' orders must not."""
    before = _aside.get(login.pk)
    if before is not None and before.is_alive():
        return
    thread = threading.Thread(target=_guarded, args=(pursue, actor, login, halts), daemon=True)
    _aside[login.pk] = thread
    thread.start()


def pursue(actor: Actor, login: Login, halts: Iterable[Halt]) -> None:
    """One round at one login: cancel what must go, read a full list when one is due, conclude. Never raises
    for the broker's sake: what went wrong stands in the halt's report.
    """
    halts = list(halts)
    try:
        with broker_for(login) as broker:
            for halt in halts:
                cancels.strike(actor, halt, login, broker)
            _look(actor, login, halts, broker)
    except CerberoError as problem:
        if isinstance(problem, SessionExpired):
            session_lost(login, actor)
        for halt in halts:
            note_problem(halt, login, problem)
    reports.drain(actor)
    for halt in halts:
        proving.conclude(actor, halt)


def report_of(halt: Halt) -> dict[str, Any]:
    """A halt as every door shows it; times in UTC, durations in seconds."""
    halt.refresh_from_db()
    rows = list(halt.orders.select_related("account").order_by("seen_at", "pk"))
    ended = max((row.ended_at for row in rows if row.ended_at), default=None)
    problems = [
        {"login": name, **notes["problem"]}
        for name, notes in halt.report.get("logins", {}).items()
        if "problem" in notes
    ]
    return {
        "halt_id": str(halt.pk),
        "state": TradingState.State.HALTED,
        "scope": halt.scope,
        "scope_id": halt.scope_id,
        "mode": halt.mode,
        "is_drill": halt.is_drill,
        "by": halt.by,
        "reason": halt.reason,
        "started_at": halt.started_at,
        "halted_at": halt.halted_at,
        "finished_at": halt.finished_at,
        "seconds_to_halt": _seconds(halt.started_at, halt.halted_at),
        "seconds_to_last_cancel": _seconds(halt.started_at, ended),
        "seconds_to_proof": _seconds(halt.started_at, halt.finished_at),
        # As the halt found them, and what of them and of closes since is not settled yet.
        "in_flight": halt.report.get("in_flight", []),
        "amendments_in_flight": halt.report.get("amendments_in_flight", []),
        "unsettled": [
            *trading.in_flight(halt.scope, halt.scope_id),
            *trading.amendments_in_flight(halt.scope, halt.scope_id),
        ],
        "orders": [_fate(row) for row in rows],
        "still_open": sum(row.ended_at is None and row.action == HaltedOrder.Action.CANCEL for row in rows),
        "kept": sum(row.ended_at is None and row.action == HaltedOrder.Action.KEEP for row in rows),
        "no_working_orders": halt.no_working_orders_at is not None,
        "no_working_orders_at": halt.no_working_orders_at,
        "flat": halt.flat_at is not None,
        "flat_at": halt.flat_at,
        "problems": problems,
        "not_asked": list(proving.logins_of(halt, enabled=False).values_list("name", flat=True)),
        "closes": {
            key: said
            for notes in halt.report.get("logins", {}).values()
            for key, said in notes.get("closes", {}).items()
        },
    }


def _require_sense(actor: Actor, scope: str, mode: str, is_drill: bool) -> None:
    if mode not in HaltMode.values or scope not in Scope.values:
        raise BadInput(modes=HaltMode.values, scopes=Scope.values)
    if mode != HaltMode.FLATTEN:
        return
    if scope == Scope.BOT:
        raise BadInput("Positions belong to an account, not to a bot: flatten the account.", mode=mode)
    if not is_drill:
        trading.require_permission(actor, "orders.close_position")


def _begin(
    actor: Actor, scope: str, scope_id: str, mode: str, reason: str, is_drill: bool
) -> tuple[Halt, dict[str, Any]]:
    """The state change and the run's row, in one transaction; also what a drill puts back."""
    started_at = timezone.now()
    with transaction.atomic(durable=True):
        trading.may_halt(actor, scope, scope_id)
        row = trading.locked(scope, scope_id)
        before = {name: getattr(row, name) for name in ("changed_by", "reason", "changed_at")}
        before["state"] = row.effective
        event = "trading.drilled" if is_drill else "trading.halted"
        trading.stop_new(actor=actor, scope=scope, scope_id=scope_id, reason=reason, event=event)
        now = timezone.now()
        halt = Halt(
            scope=scope,
            scope_id=scope_id,
            mode=mode,
            is_drill=is_drill,
            by=actor.name,
            person=user_of(actor),
            reason=reason[:300],
            started_at=started_at,
            halted_at=now,
            finished_at=now if mode == HaltMode.STOP_NEW and not is_drill else None,
        )
        halt.save(force_insert=True)
        details = {"scope": scope, "scope_id": scope_id, "mode": mode, "is_drill": is_drill}
        record("halt.started", actor=actor, subject_kind="halt", subject_id=halt.pk, details=details)
    # Read after the commit: what was armed before it is listed, and nothing was armed after it.
    halt.report = {
        "in_flight": trading.in_flight(scope, scope_id),
        "amendments_in_flight": trading.amendments_in_flight(scope, scope_id),
    }
    halt.save(update_fields=["report"])
    return halt, before


def _set_to_work(actor: Actor, halt: Halt, wait_seconds: float) -> None:
    """A thread a login: a broker that hangs keeps neither the others nor the caller waiting."""
    deadline = monotonic() + wait_seconds
    threads = [
        threading.Thread(target=_guarded, args=(_pursue_until, actor, login, [halt], deadline), daemon=True)
        for login in proving.logins_of(halt)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    if not threads:
        proving.conclude(actor, halt)


def _guarded(work: Callable[..., None], actor: Actor, login: Login, halts: list[Halt], *more: Any) -> None:
    """A thread's body: whatever breaks is said in the report, and the orders loop tries again."""
    try:
        work(actor, login, halts, *more)
    except Exception:
        log.exception("a halt's cancels broke off", extra={"login": login.name})
        with suppress(Exception):
            for halt in halts:
                note_problem(halt, login, InternalError())
    finally:
        connections.close_all()


def _pursue_until(actor: Actor, login: Login, halts: list[Halt], deadline: float) -> None:
    pause = threading.Event()
    while monotonic() < deadline:
        keys = [halt.pk for halt in halts]
        mine = list(Halt.objects.filter(pk__in=keys, finished_at=None, released_at=None))
        mine = [halt for halt in mine if not (halt.is_drill and proving.lists_of(halt, login))]
        if not mine:
            return
        pursue(actor, login, mine)
        pause.wait(ROUND_SECONDS)


def _look(actor: Actor, login: Login, halts: list[Halt], broker: Broker) -> None:
    """A full list where one is due. It is a whole reconciliation, so that lists are never read twice as often;
    its lease is kept until it runs out, which spaces them.
    """
    try:
        leases.hold(f"reconcile:{login.pk}", leases.unique_holder(), LIST_SECONDS)
    except LeaseLost:
        return
    asked_at = timezone.now()
    listed = reconcile(actor=access.system("reconciliation"), login=login, broker=broker)
    reports.drain(actor)
    for halt in halts:
        cancels.strike(actor, halt, login, broker, listed)
        proving.note_fates(halt, login, listed, broker)
        proving.note_counts(halt, login, listed, asked_at)
        if halt.mode == HaltMode.FLATTEN and proving.nothing_left(halt, login) and not halt.is_drill:
            _close_positions(halt, login)


def _close_positions(halt: Halt, login: Login) -> None:
    """Reduce-only closes, sized by the broker at this moment; the orders loop sends them."""
    accounts = trading.accounts_of(halt.scope, halt.scope_id).filter(login=login)
    held = Position.objects.filter(account__in=accounts).exclude(quantity=0)
    for position in held.select_related("account__login", "instrument"):
        prefix = f"halt-{halt.pk.hex}-{position.broker_instrument_id}-"
        tickets = Ticket.objects.filter(account=position.account, idempotency_key__startswith=prefix)
        if tickets.filter(status__in=[TicketStatus.ALLOWED, TicketStatus.SENT]).exists():
            continue
        count = tickets.count()
        if position.instrument is None or count >= CLOSES_MAX or halt.person is None:
            code = "instrument_unknown" if position.instrument is None else "given_up"
            note_close(halt, position.account, position.symbol, code=code)
            continue
        _close(halt, position, position.instrument.symbol, f"{prefix}{count + 1}")


def _close(halt: Halt, position: Position, symbol: str, key: str) -> None:
    person = halt.person
    if person is None:
        return
    try:
        ticket = services.close_position(
            actor=access.person(person, door="process"),
            account=position.account.broker_account_id,
            symbol=symbol,
            idempotency_key=key,
            reason=f"flatten: {halt.reason}"[:500],
        )
    except CerberoError as refusal:
        note_close(halt, position.account, symbol, code=refusal.code)
    else:
        note_close(halt, position.account, symbol, ticket=str(ticket.pk))


def _reopen(actor: Actor, halt: Halt) -> None:
    """An order turned up after the proof: the claims hold no longer, and the halt goes on."""
    with transaction.atomic(durable=True):
        halt.finished_at = halt.no_working_orders_at = halt.flat_at = None
        halt.save(update_fields=["finished_at", "no_working_orders_at", "flat_at"])
        for login in proving.logins_of(halt):
            if of_login(halt.report, login).get("lists"):
                forget_lists(halt, login)
        record("halt.reopened", actor=actor, subject_kind="halt", subject_id=halt.pk)


def _end_drill(actor: Actor, halt: Halt, before: dict[str, Any]) -> None:
    """Put back the state that the drill found, unless somebody changed it meanwhile, and file the report."""
    with transaction.atomic(durable=True):
        row = trading.locked(halt.scope, halt.scope_id)
        if (row.changed_by, row.reason) == (actor.name, halt.reason) and not _is_held_since(halt):
            TradingState.objects.filter(pk=row.pk).update(**before)
        Halt.objects.filter(pk=halt.pk).update(finished_at=ClockTime(), released_at=ClockTime())
        details = {"orders": halt.orders.count(), "state": before["state"]}
        record("halt.drilled", actor=actor, subject_kind="halt", subject_id=halt.pk, details=details)


def _is_held_since(drill: Halt) -> bool:
    same = Halt.objects.armed().filter(scope=drill.scope, scope_id=drill.scope_id)
    return same.filter(halted_at__gte=drill.halted_at).exists()


def _fate(row: HaltedOrder) -> dict[str, Any]:
    return {
        "order_id": str(row.order_id) if row.order_id else None,
        "account": row.account.broker_account_id,
        "broker_order_id": row.broker_order_id,
        "what": row.label,
        "effect": row.effect,
        "action": row.action,
        "asked_at": row.asked_at,
        "outcome": row.outcome,
        "fate": row.fate,
        "ended_at": row.ended_at,
    }


def _seconds(start: datetime, end: datetime | None) -> Decimal | None:
    return Decimal((end - start) // timedelta(milliseconds=1)) / 1000 if end else None
