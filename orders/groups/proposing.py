"""A group out of its first order and the prices of the others, for whoever proposes one."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from brokers.base import OrderType, Side, TimeInForce
from orders.lifecycle import Group
from orders.tickets import GroupProposal, Proposal


def bracket(
    entry: Proposal,
    *,
    profit: Decimal,
    stop: Decimal,
    stop_limit: Decimal | None = None,
    rests: TimeInForce | None = None,
) -> GroupProposal:
    """An entry with its take profit and stop loss; with `stop_limit` the latter is a stop-limit. The exits rest as long as
    the entry unless `rests` says otherwise.
    """
    exits = (_exit(entry, rests, limit=profit), _exit(entry, rests, stop=stop, limit=stop_limit))
    return GroupProposal(Group.BRACKET, (entry, *exits))


def oto(
    entry: Proposal, *, limit: Decimal | None, stop: Decimal | None, rests: TimeInForce | None = None
) -> GroupProposal:
    """An entry and its only exit: a limit, a stop, or with both prices a stop-limit."""
    return GroupProposal(Group.OTO, (entry, _exit(entry, rests, stop=stop, limit=limit)))


def oco(one: Proposal, *, stop: Decimal, stop_limit: Decimal | None = None) -> GroupProposal:
    """A limit, and a stop of the same side and quantity."""
    return GroupProposal(Group.OCO, (one, replace(one, **_terms(stop, stop_limit))))


def _exit(
    entry: Proposal, rests: TimeInForce | None, *, stop: Decimal | None = None, limit: Decimal | None = None
) -> Proposal:
    side = Side.SELL if entry.side == Side.BUY else Side.BUY
    return replace(entry, side=side, time_in_force=rests or entry.time_in_force, **_terms(stop, limit))


def _terms(stop: Decimal | None, limit: Decimal | None) -> dict[str, Any]:
    order_type = (
        OrderType.LIMIT if stop is None else OrderType.STOP if limit is None else OrderType.STOP_LIMIT
    )
    nothing = dict.fromkeys(("trailing_amount", "trailing_percent", "offset", "cash_quantity"))
    return nothing | {"order_type": order_type, "stop_price": stop, "limit_price": limit}
