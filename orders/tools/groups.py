"""Brackets, OCOs and OTOs: several orders proposed, decided, sent and canceled as one (docs/groups.md)."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from brokers.base import OrderType, Side, TimeInForce
from cerbero.access import Actor
from cerbero.tool import DESTRUCTIVE, READ, WRITE, Out, Params, tool
from orders import services
from orders.drift_shapes import AccountId
from orders.groups import proposing, sets
from orders.tickets import GroupProposal, Proposal
from orders.tools.orders import Amount, Key, OrderOut, PreviewOut, Symbol, Words, order_out, preview_out


class Shared(Params):
    """What all orders of a group have in common; `side` is that of the first."""

    account: AccountId
    symbol: Symbol
    side: Side
    quantity: Amount
    time_in_force: TimeInForce = TimeInForce.DAY


class Entry(Shared):
    """The order that opens, and for how long its exits rest: as long as the entry unless you say so."""

    order_type: OrderType = OrderType.LIMIT
    limit_price: Amount | None = None
    stop_price: Amount | None = None
    exit_time_in_force: TimeInForce | None = None


class BracketParams(Entry):
    """An entry, and two exits for the same quantity of which one cancels the other; with a limit the stop is a stop-limit.

    With a trailing amount or percent the stop trails, from `stop_loss_price` or else from where the entry fills.
    """

    take_profit_price: Amount
    stop_loss_price: Amount | None = None
    stop_loss_limit_price: Amount | None = None
    stop_loss_trailing_amount: Amount | None = None
    stop_loss_trailing_percent: Amount | None = None


class OcoParams(Shared):
    """A limit and a stop of one side and quantity, of which one cancels the other: two exits, or two entries."""

    limit_price: Amount
    stop_price: Amount
    stop_limit_price: Amount | None = None


class OtoParams(Entry):
    """An entry, and one exit for the same quantity that waits for it: a limit, a stop, with both a stop-limit, or a trail."""

    exit_limit_price: Amount | None = None
    exit_stop_price: Amount | None = None
    exit_trailing_amount: Amount | None = None
    exit_trailing_percent: Amount | None = None


class PlaceBracket(BracketParams):
    idempotency_key: Key
    reason: Words = ""


class PlaceOco(OcoParams):
    idempotency_key: Key
    reason: Words = ""


class PlaceOto(OtoParams):
    idempotency_key: Key
    reason: Words = ""


class TicketId(Params):
    ticket_id: UUID


class OrderSetOut(Out):
    """A group's orders. `group_state` is empty while nothing is wrong; `is_naked` says that what it opened has no stop."""

    ticket_id: UUID
    group: str
    group_state: str
    status: str
    notional: Decimal | None
    open_quantity: Decimal
    is_naked: bool
    orders: list[OrderOut]


@tool(scope="orders:write", effect=WRITE)
def place_bracket_order(actor: Actor, params: PlaceBracket) -> OrderSetOut:
    """Propose an entry with its take profit and stop loss as one ticket; a person decides on all three at once."""
    return _placed(actor, _bracket(params))


@tool(scope="orders:write", effect=WRITE)
def place_oco_order(actor: Actor, params: PlaceOco) -> OrderSetOut:
    """Propose a limit and a stop, of which one cancels the other, as one ticket; a person decides on both at once."""
    return _placed(actor, _oco(params))


@tool(scope="orders:write", effect=WRITE)
def place_oto_order(actor: Actor, params: PlaceOto) -> OrderSetOut:
    """Propose an entry and the exit that waits for its fill as one ticket; a person decides on both at once."""
    return _placed(actor, _oto(params))


@tool(scope="orders:read", effect=READ)
def preview_bracket_order(actor: Actor, params: BracketParams) -> PreviewOut:
    """Say what a bracket would do: Cerbero's checks of each order, and the broker's what-if of the entry."""
    return preview_out(actor, _bracket(params))


@tool(scope="orders:read", effect=READ)
def preview_oco_order(actor: Actor, params: OcoParams) -> PreviewOut:
    """Say what an OCO would do: Cerbero's checks of both orders, and the broker's what-if of the limit."""
    return preview_out(actor, _oco(params))


@tool(scope="orders:read", effect=READ)
def preview_oto_order(actor: Actor, params: OtoParams) -> PreviewOut:
    """Say what an OTO would do: Cerbero's checks of both orders, and the broker's what-if of the entry."""
    return preview_out(actor, _oto(params))


@tool(scope="orders:write", effect=DESTRUCTIVE)
def cancel_order_set(actor: Actor, params: TicketId) -> OrderSetOut:
    """Cancel all of a group that still works, entry first; a position that it opened stays, without its stop."""
    return _out(sets.cancel(actor=actor, ticket_id=params.ticket_id))


@tool(scope="orders:read", effect=READ)
def get_order_set(actor: Actor, params: TicketId) -> OrderSetOut:
    """One of your groups: each order with its part and state, what is open of it, and whether that is naked."""
    return _out(sets.find(actor, params.ticket_id))


def _bracket(params: BracketParams) -> GroupProposal:
    return proposing.bracket(
        _entry(params),
        profit=params.take_profit_price,
        stop=params.stop_loss_price,
        stop_limit=params.stop_loss_limit_price,
        trail=proposing.Trail(params.stop_loss_trailing_amount, params.stop_loss_trailing_percent),
        rests=params.exit_time_in_force,
    )


def _oco(params: OcoParams) -> GroupProposal:
    limit = {"order_type": OrderType.LIMIT, "limit_price": params.limit_price}
    return proposing.oco(_leg(params, limit), stop=params.stop_price, stop_limit=params.stop_limit_price)


def _oto(params: OtoParams) -> GroupProposal:
    prices = {"limit": params.exit_limit_price, "stop": params.exit_stop_price}
    trail = proposing.Trail(params.exit_trailing_amount, params.exit_trailing_percent)
    return proposing.oto(_entry(params), **prices, trail=trail, rests=params.exit_time_in_force)


def _entry(params: Entry) -> Proposal:
    names = ("order_type", "limit_price", "stop_price")
    return _leg(params, {name: getattr(params, name) for name in names})


def _leg(params: Shared, terms: dict[str, Any]) -> Proposal:
    fields: dict[str, Any] = {
        "account": params.account,
        "symbol": params.symbol,
        "side": params.side,
        "quantity": params.quantity,
        "time_in_force": params.time_in_force,
        "idempotency_key": getattr(params, "idempotency_key", "preview"),
        "reason": getattr(params, "reason", ""),
    }
    return Proposal(**fields | terms)


def _placed(actor: Actor, proposal: GroupProposal) -> OrderSetOut:
    ticket = services.place_order(actor=actor, proposal=proposal)
    return _out(sets.find(actor, ticket.pk))


def _out(found: sets.OrderSet) -> OrderSetOut:
    ticket = found.ticket
    return OrderSetOut(
        ticket_id=ticket.pk,
        group=ticket.group,
        group_state=ticket.group_state,
        status=ticket.status,
        notional=ticket.notional,
        open_quantity=found.open_quantity,
        is_naked=found.is_naked,
        orders=[order_out(order, ticket) for order in found.orders],
    )
