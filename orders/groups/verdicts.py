"""What is to be done about a group as it stands at the broker. Rows in, a verdict out: no query, no clock.

The rule (docs/groups.md): what was taken of a half-taken group is canceled unless it filled; a position whose stop was
not taken gets that stop again, alone; what is left without one is said loudly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from orders.groups.relations import EXIT, STOP_LOSS, role
from orders.lifecycle import ENDED, Group, GroupState, OrderStatus
from orders.models import Order

# The broker ends the other orders of a group by itself; what it leaves behind for longer, we cancel.
LINGER = timedelta(seconds=10)


@dataclass(frozen=True)
class Verdict:
    """The group's state, what must be canceled, which exit must be sent again, and what people are told."""

    state: str = GroupState.WATCHED
    cancel: tuple[Order, ...] = ()
    complete: Order | None = None
    says: str = ""
    is_urgent: bool = False


def verdict(group: str, orders: Sequence[Order], now: datetime) -> Verdict:
    """`orders` are the group's, with what was sent to complete it."""
    if group == Group.OCO:
        return _of_alternatives(orders, now)
    entry, *exits = sorted(orders, key=lambda order: order.number)
    opened = open_quantity(orders)
    if opened > 0:
        return _of_position(group, entry, exits, opened)
    if _lives(entry):
        if any(_was_refused(each) for each in exits) and entry.filled_quantity == 0:
            return Verdict(
                GroupState.UNWINDING,
                (entry,),
                says="An exit was not taken, so the entry is canceled.",
                is_urgent=True,
            )
        return Verdict()
    return _of_rest(exits, entry, now)


def may_be_oversized(group: str, orders: Sequence[Order], now: datetime) -> list[Order]:
    """The exits that work although their entry ended half filled: as large as it was meant to be, they open the other way.

    The broker has a moment to make them smaller by itself. Where the entry filled nothing they are canceled.
    """
    entry, *exits = sorted(orders, key=lambda order: order.number)
    is_over = entry.status in ENDED and entry.reported_at is not None and now - entry.reported_at > LINGER
    is_half = 0 < entry.filled_quantity < entry.quantity
    return [each for each in exits if _lives(each)] if group != Group.OCO and is_over and is_half else []


def open_quantity(orders: Sequence[Order]) -> Decimal:
    """What the entry has opened and no exit has closed."""
    filled = sum((each.filled_quantity for each in orders if each.number > 1), Decimal(0))
    return next(each.filled_quantity for each in orders if each.number == 1) - filled


def guard_of(group: str, orders: Sequence[Order]) -> Order:
    """The exit without which the position is naked: a bracket's stop, an OTO's only exit."""
    wanted = STOP_LOSS if group == Group.BRACKET else EXIT
    return next(each for each in orders if role(group, each.number) == wanted)


def _of_position(group: str, entry: Order, exits: Sequence[Order], opened: Decimal) -> Verdict:
    guard = guard_of(group, exits)
    again = next((each for each in exits if each.completes_id == guard.pk), None)
    if _lives(guard) or (again is not None and _lives(again)):
        lost = [each for each in exits if each.pk != guard.pk and _was_refused(each)]
        says = "Its take profit was not taken; its stop works." if lost and again is None else ""
        return Verdict(says=says)
    is_taken_away = _went_with(guard, entry)
    if (_was_refused(guard) or is_taken_away) and again is None:
        others = tuple(each for each in (entry, *exits) if _lives(each))
        why = "its exit went with the entry's cancel" if is_taken_away else "its exit was not taken"
        return Verdict(
            GroupState.COMPLETING,
            others,
            None if others else guard,
            says=f"The entry filled and {why}: NAKED until it is sent again, which is tried now.",
            is_urgent=True,
        )
    last = again or guard
    asked = last.cancel_requested_at is not None
    why = "was canceled on request" if asked else f"ended as {last.status}"
    return Verdict(
        GroupState.NAKED,
        says=f"NAKED: the position has no stop of this group any more; it {why}. Close it, or protect it anew.",
        is_urgent=not asked,
    )


def _of_rest(exits: Sequence[Order], entry: Order, now: datetime) -> Verdict:
    """Nothing of the group is open: exits that work all the same would open the other way."""
    left = tuple(each for each in exits if _lives(each))
    if not left:
        return Verdict(GroupState.SETTLED)
    if _was_refused(entry):
        says = "The entry was not taken, so its exits are canceled."
        return Verdict(GroupState.UNWINDING, left, says=says, is_urgent=True)
    return _lingering(left, [entry, *exits], now)


def _of_alternatives(orders: Sequence[Order], now: datetime) -> Verdict:
    left = tuple(each for each in orders if _lives(each))
    if not left:
        return Verdict(GroupState.SETTLED)
    if any(_was_refused(each) for each in orders):
        return Verdict(
            GroupState.UNWINDING,
            left,
            says="One of two was not taken, so the other is canceled: what it should protect has no exit of this group.",
            is_urgent=True,
        )
    return _lingering(left, orders, now) if len(left) < len(orders) else Verdict()


def _lingering(left: tuple[Order, ...], orders: Sequence[Order], now: datetime) -> Verdict:
    ended = [each.reported_at for each in orders if each.status in ENDED and each.reported_at is not None]
    if not ended or now - max(ended) < LINGER:
        return Verdict()
    says = "The broker did not cancel the rest of this group by itself; it is canceled now."
    return Verdict(GroupState.UNWINDING, left, says=says, is_urgent=True)


def _went_with(guard: Order, entry: Order) -> bool:
    """The broker ended it in one with the entry whose cancel was asked for; nobody asked for its own."""
    if guard.status != OrderStatus.CANCELED or guard.cancel_requested_at is not None:
        return False
    if entry.cancel_requested_at is None or guard.reported_at is None:
        return False
    return (
        entry.reported_at is None
        or entry.status not in ENDED
        or abs(guard.reported_at - entry.reported_at) <= LINGER
    )


def _lives(order: Order) -> bool:
    return order.status not in ENDED and order.status != OrderStatus.PENDING


def _was_refused(order: Order) -> bool:
    """By the broker, or it never arrived: then it was never named."""
    return order.status == OrderStatus.REJECTED or (
        order.status == OrderStatus.CANCELED and not order.broker_order_id
    )
