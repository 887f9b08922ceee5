"""A halt's cancels: what rests at the broker, which of it must go, and asking for that, once in five seconds.

Nothing here waits for a read that fails: cancels pass while reads are refused (brokers.pacing).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.services import record
from brokers.base import Broker, BrokerOrderState, OrderReport, Side
from brokers.models import Account, BrokerInstrument, Login
from cerbero.access import Actor
from cerbero.errors import BrokerRejected, BrokerUnavailable
from cerbero.leases import ClockTime
from orders.canceling import EVERY_ORDER, ask_cancel
from orders.halt_notes import note_swept, was_swept
from orders.lifecycle import UNSETTLED, WORKING
from orders.models import Attempt, Halt, HaltedOrder, HaltMode, Order, TradingState
from orders.presentation import number, sentence
from orders.tickets import sender_of
from orders.trading import accounts_of, of_scope

log = logging.getLogger(__name__)

AGAIN = timedelta(seconds=5)
# Up to so many orders are canceled one by one; more by one call for the whole account, where all must go.
SINGLES_MAX = 3
EVERYTHING_GOES = frozenset({HaltMode.CANCEL_ALL, HaltMode.FLATTEN})

Held = dict[str, Decimal]


@dataclass(frozen=True)
class Resting:
    """One order that rests at the broker. `order` is None for one that was not placed here."""

    account: Account
    broker_order_id: str
    broker_instrument_id: str
    side: str
    left: Decimal
    label: str
    asset_class: str = ""
    is_close: bool = False
    order: Order | None = None


def is_working(row: OrderReport) -> bool:
    """A state that proves nothing counts as working."""
    return row.state in {None, BrokerOrderState.ACCEPTED, BrokerOrderState.PENDING_CANCEL}


def reduces(resting: Resting, held: Decimal) -> bool:
    """Whether it can only bring the position nearer to zero (never through it)."""
    return held != 0 and (held > 0) == (resting.side == Side.SELL) and resting.left <= abs(held)


def must_go(mode: str, resting: Resting, held: Decimal) -> bool:
    """Whether a halt of this mode cancels it, judged by the broker's position."""
    if mode in EVERYTHING_GOES:
        return True
    return mode == HaltMode.STOP_AND_CANCEL_OPENING and not resting.is_close and not reduces(resting, held)


def strike(
    actor: Actor, halt: Halt, login: Login, broker: Broker, listed: Sequence[OrderReport] | None = None
) -> None:
    """Ask for every cancel of a halt at one login that was not asked for in the last five seconds.

    `listed` is a full list read this moment; orders that were not placed here are known from it alone.
    Raises BrokerError when the broker cannot be asked; what was not asked for is asked for next time.
    """
    resting = [*ours(halt, login), *foreign(halt, login, listed or [])]
    for account in accounts_of(halt.scope, halt.scope_id).filter(login=login):
        mine = [each for each in resting if each.account == account]
        if mine or _is_first_sweep(halt, account):
            _strike_account(actor, halt, account, mine, broker, is_listed=listed is not None)


def ours(halt: Halt, login: Login) -> list[Resting]:
    """What the ledger knows to rest, without what people close while the halt holds."""
    orders = (
        Order.objects.filter(of_scope(halt.scope, halt.scope_id), ticket__account__login=login)
        .filter(status__in=WORKING)
        .exclude(broker_order_id="")
        .exclude(let_through(halt))
        .select_related("ticket__account__login", "instrument")
        .order_by("created_at")
    )
    ids = dict(
        BrokerInstrument.objects.filter(broker=login.broker).values_list(
            "instrument_id", "broker_instrument_id"
        )
    )
    return [
        Resting(
            account=order.ticket.account,
            broker_order_id=order.broker_order_id,
            broker_instrument_id=ids.get(order.instrument_id, ""),
            side=order.side,
            left=order.quantity - order.filled_quantity,
            label=str(sentence(order)),
            asset_class=order.instrument.asset_class,
            is_close=order.ticket.reduce_only,
            order=order,
        )
        for order in orders
    ]


def foreign(halt: Halt, login: Login, listed: Sequence[OrderReport]) -> list[Resting]:
    """Working orders in the broker's list that were not placed here; a bot's halt speaks for its own only."""
    if halt.scope == TradingState.Scope.BOT:
        return []
    accounts = {
        each.broker_account_id: each for each in accounts_of(halt.scope, halt.scope_id).filter(login=login)
    }
    working = [row for row in listed if is_working(row) and row.broker_account_id in accounts]
    ids = [row.broker_order_id for row in working]
    known = set(
        Order.objects.filter(ticket__account__login=login, broker_order_id__in=ids).values_list(
            "broker_order_id", flat=True
        )
    )
    return [
        _foreign(accounts[str(row.broker_account_id)], row)
        for row in working
        if row.broker_order_id not in known
    ]


def let_through(halt: Halt) -> Q:
    """Closes that people asked for while the halt holds: it never cancels those."""
    return Q(ticket__reduce_only=True, ticket__person__isnull=False, ticket__created_at__gte=halt.halted_at)


def _foreign(account: Account, row: OrderReport) -> Resting:
    left = (row.total_quantity or Decimal(0)) - (row.filled_quantity or Decimal(0))
    instrument = BrokerInstrument.objects.filter(
        broker=account.login.broker, broker_instrument_id=row.broker_instrument_id or ""
    ).select_related("instrument")
    known = instrument.first()
    name = known.instrument.symbol if known else f"instrument {row.broker_instrument_id}"
    return Resting(
        account=account,
        broker_order_id=row.broker_order_id,
        broker_instrument_id=row.broker_instrument_id or "",
        side=row.side or "",
        left=left,
        label=f"{(row.side or 'order').capitalize()} {number(left)} {name}, not placed here",
        asset_class=known.instrument.asset_class if known else "",
    )


def _strike_account(
    actor: Actor, halt: Halt, account: Account, mine: list[Resting], broker: Broker, *, is_listed: bool
) -> None:
    held = _held(account, broker) if mine else {}
    go = [each for each in mine if must_go(halt.mode, each, held.get(each.broker_instrument_id, Decimal(0)))]
    _note(halt, mine, go, held)
    if halt.is_drill:
        return
    if len(go) == len(mine) and _may_sweep(halt, account, go, is_known=is_listed or not held):
        _sweep(actor, halt, account, go, broker)
        return
    for each in go:
        if _claim(halt, [each]):
            _cancel(actor, halt, each, broker)


def _held(account: Account, broker: Broker) -> Held:
    """The broker's positions now; what it said last where it cannot say."""
    try:
        rows = broker.positions(account.broker_account_id)
    except (BrokerUnavailable, BrokerRejected) as problem:
        log.warning("a halt judges by stored positions", extra={"code": problem.code})
        return dict(account.positions.exclude(quantity=0).values_list("broker_instrument_id", "quantity"))
    return {row.broker_instrument_id: row.quantity for row in rows if row.quantity}


def _note(halt: Halt, mine: list[Resting], go: list[Resting], held: Held) -> None:
    """A row for each; one that was kept and must go now, since the position moved, is moved over."""
    going = {each.broker_order_id for each in go}
    HaltedOrder.objects.bulk_create(
        [
            HaltedOrder(
                halt=halt,
                account=each.account,
                order=each.order,
                broker_order_id=each.broker_order_id,
                label=each.label[:200],
                effect="reducing" if _is_exit(each, held) else "opening",
                action=HaltedOrder.Action.CANCEL
                if each.broker_order_id in going
                else HaltedOrder.Action.KEEP,
                fate=each.order.status if each.order else "accepted",
            )
            for each in mine
        ],
        ignore_conflicts=True,
    )
    rows = HaltedOrder.objects.filter(halt=halt, broker_order_id__in=going)
    rows.update(ended_at=None)
    rows.filter(action=HaltedOrder.Action.KEEP).update(action=HaltedOrder.Action.CANCEL)


def _is_exit(resting: Resting, held: Held) -> bool:
    return resting.is_close or reduces(resting, held.get(resting.broker_instrument_id, Decimal(0)))


def _is_first_sweep(halt: Halt, account: Account) -> bool:
    is_whole = halt.scope != TradingState.Scope.BOT and halt.mode in EVERYTHING_GOES
    return is_whole and not halt.is_drill and not was_swept(halt, account)


def _may_sweep(halt: Halt, account: Account, go: list[Resting], *, is_known: bool) -> bool:
    """One call for all of an account: only where nothing that works in it may stay.

    `is_known`: the broker's list was read, or the account holds nothing, so that no exit can rest unseen.
    """
    if _is_first_sweep(halt, account):
        return True
    others = Order.objects.filter(let_through(halt), ticket__account=account, status__in=WORKING)
    if halt.scope == TradingState.Scope.BOT or len(go) <= SINGLES_MAX or others.exists():
        return False
    if halt.mode in EVERYTHING_GOES:
        return True
    return is_known and not Attempt.objects.filter(ticket__account=account, status__in=UNSETTLED).exists()


def _sweep(actor: Actor, halt: Halt, account: Account, go: list[Resting], broker: Broker) -> None:
    """One cancel-all call before hundreds of paced ones (gates.md §8)."""
    is_first = _is_first_sweep(halt, account)
    if not _claim(halt, go) and not is_first:
        return
    send = partial(broker.cancel_all, account.broker_account_id)
    problem = ask_cancel(actor, account, EVERY_ORDER, send)
    outcome = problem.code if problem else "accepted"
    ids = [each.broker_order_id for each in go]
    HaltedOrder.objects.filter(halt=halt, broker_order_id__in=ids).update(outcome=outcome)
    details = {"halt": str(halt.pk), "outcome": outcome, "broker_order_ids": ids}
    record("cancels.sent", actor=actor, subject_kind="account", subject_id=account.pk, details=details)
    if problem is not None:
        raise problem
    note_swept(halt, account)


def _cancel(actor: Actor, halt: Halt, resting: Resting, broker: Broker) -> None:
    named = sender_of(resting.asset_class, actor.name, actor.is_person)
    send = partial(broker.cancel, resting.account.broker_account_id, resting.broker_order_id, **named)
    problem = ask_cancel(actor, resting.account, resting.broker_order_id, send, resting.order)
    outcome = problem.code if problem else "accepted"
    HaltedOrder.objects.filter(halt=halt, broker_order_id=resting.broker_order_id).update(outcome=outcome)
    details = {"halt": str(halt.pk), "broker_order_id": resting.broker_order_id, "outcome": outcome}
    subject = resting.order.pk if resting.order else resting.broker_order_id
    record("cancel.sent", actor=actor, subject_kind="order", subject_id=subject, details=details)
    # Refused: it may have ended; only its reports say what became of it.
    if problem is not None and not isinstance(problem, BrokerRejected):
        raise problem


def _claim(halt: Halt, go: list[Resting]) -> int:
    """Ours to ask for now: neither another process nor we asked within five seconds. Returns how many.

    An order of which a report is being applied this moment is left to the next round: whoever applies reports holds
    many orders, in the reports' order, and a cancel of the others neither waits for them nor ends in a deadlock.
    """
    stale = Now() - AGAIN
    ids = [each.broker_order_id for each in go]
    rows = HaltedOrder.objects.filter(halt=halt, broker_order_id__in=ids)
    ours = Order.objects.filter(pk__in=[each.order.pk for each in go if each.order])
    due = ours.filter(Q(cancel_requested_at=None) | Q(cancel_requested_at__lt=stale))
    with transaction.atomic():
        free = list(due.select_for_update(skip_locked=True).values_list("pk", flat=True))
        claimed = Order.objects.filter(pk__in=free).update(cancel_requested_at=ClockTime())
    strangers = rows.filter(order=None).filter(Q(asked_at=None) | Q(asked_at__lt=stale))
    claimed += strangers.update(asked_at=ClockTime())
    if claimed:
        rows.filter(asked_at=None).update(asked_at=ClockTime())
    return claimed
