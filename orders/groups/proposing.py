"""A group out of its first order and the prices of the others, for whoever proposes one."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from brokers.base import OrderType, Side, TimeInForce
from orders.lifecycle import Group
from orders.tickets import GroupProposal, Proposal


@dataclass(frozen=True)
class Trail:
    """How far a stop follows the market, by one of the two; by neither it stays where it is."""

    amount: Decimal | None = None
    percent: Decimal | None = None

    def __bool__(self) -> bool:
        return (self.amount, self.percent) != (None, None)


STAYS = Trail()


def bracket(
    entry: Proposal,
    *,
    profit: Decimal,
    stop: Decimal | None,
    stop_limit: Decimal | None = None,
    trail: Trail = STAYS,
    rests: TimeInForce | None = None,
) -> GroupProposal:
    """An entry with its take profit and stop loss; with `stop_limit` the latter is a stop-limit, with `trail` it follows
    the market, from `stop` where that is named. The exits rest as long as the entry unless `rests` says otherwise.
    """
    exits = (
        _exit(entry, rests, limit=profit),
        _exit(entry, rests, stop=stop, limit=stop_limit, trail=trail),
    )
    return GroupProposal(Group.BRACKET, (entry, *exits))


def oto(
    entry: Proposal,
    *,
    limit: Decimal | None,
    stop: Decimal | None,
    trail: Trail = STAYS,
    rests: TimeInForce | None = None,
) -> GroupProposal:
    """An entry and its only exit: a limit, a stop, with both prices a stop-limit, or a stop that trails."""
    return GroupProposal(Group.OTO, (entry, _exit(entry, rests, stop=stop, limit=limit, trail=trail)))


def oco(one: Proposal, *, stop: Decimal, stop_limit: Decimal | None = None) -> GroupProposal:
    """A limit, and a stop of the same side and quantity."""
    return GroupProposal(Group.OCO, (one, replace(one, **_terms(stop, stop_limit))))


def _exit(
    entry: Proposal,
    rests: TimeInForce | None,
    *,
    stop: Decimal | None = None,
    limit: Decimal | None = None,
    trail: Trail = STAYS,
) -> Proposal:
    side = Side.SELL if entry.side == Side.BUY else Side.BUY
    terms = _terms(stop, limit, trail)
    return replace(entry, side=side, time_in_force=rests or entry.time_in_force, **terms)


def _terms(stop: Decimal | None, limit: Decimal | None, trail: Trail = STAYS) -> dict[str, Any]:
    """What its type lacks or cannot have is refused with the rest of the group."""
    if trail:
        order_type = OrderType.TRAILING_STOP if limit is None else OrderType.TRAILING_STOP_LIMIT
    elif stop is None:
        order_type = OrderType.LIMIT
    else:
        order_type = OrderType.STOP if limit is None else OrderType.STOP_LIMIT
    prices = {"order_type": order_type, "stop_price": stop, "limit_price": limit}
    return prices | {
        "trailing_amount": trail.amount,
        "trailing_percent": trail.percent,
        "offset": None,
        "cash_quantity": None,
    }
