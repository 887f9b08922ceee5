"""From the JSON ticket of §6.1 to an Order, and the rejections that need no state. Pure."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from .answers import bad_request
from .orders import LIMITED, ORDER_TYPES, PEGGED, STOPS, TIME_IN_FORCE, TOUCHES, Order
from .universe import Instrument

TRUE = (True, "true", "True", 1)


class Rejected(Exception):
    """A business reject: HTTP 200 with `{"error": …}` (§6.3)."""


def number(ticket: dict[str, Any], name: str) -> Decimal | None:
    """A numeric field, sent as a number or as a string. Refuses text with 400."""
    value = ticket.get(name)
    if value in (None, ""):
        return None
    try:
        parsed = Decimal(str(value))
    except InvalidOperation:
        raise bad_request(f"{name} is not a number") from None
    if not parsed.is_finite():
        raise bad_request(f"{name} is not a number")
    return parsed


def conid_of(ticket: dict[str, Any]) -> int:
    """`conid`, or the first part of `conidex` (`265598@NYSE`)."""
    raw = ticket.get("conid") or str(ticket.get("conidex", "")).partition("@")[0]
    try:
        return int(raw)
    except (TypeError, ValueError):
        raise bad_request("conid is missing or not a number") from None


def parse(
    ticket: dict[str, Any], *, account: str, order_id: int, find: Callable[[int], Instrument | None]
) -> Order:
    """A new Order from a ticket. Raises Rejected (200) or a Refusal (400)."""
    instrument = find(conid_of(ticket))
    if instrument is None:
        raise Rejected("No contract found for the conid of the order")
    order = Order(
        order_id=order_id,
        account=account,
        conid=instrument.conid,
        conidex=str(ticket.get("conidex") or instrument.conid),
        side=str(ticket.get("side", "")).upper(),
        order_type=str(ticket.get("orderType", "")).upper(),
        quantity=number(ticket, "quantity") or Decimal(0),
        tif=str(ticket.get("tif", "")).upper(),
        client_order_id=str(ticket["cOID"]) if ticket.get("cOID") else None,
        outside_rth=ticket.get("outsideRTH") in TRUE,
    )
    _check_words(order)
    _set_prices(order, ticket)
    _check_instrument(instrument, ticket)
    check_prices(order, instrument)
    return order


def amend(order: Order, ticket: dict[str, Any], instrument: Instrument) -> Order:
    """A copy of an order with the changes of a modify ticket (§6.6). Raises as `parse` does."""
    for name, current in (("side", order.side), ("orderType", order.order_type)):
        if str(ticket.get(name, current)).upper() != current:
            raise Rejected(f"Order couldn't be modified: {name} cannot be changed")
    if ticket.get("conid") and conid_of(ticket) != order.conid:
        raise Rejected("Order couldn't be modified: conid cannot be changed")
    changed = replace(order, history=list(order.history))
    changed.quantity = number(ticket, "quantity") or order.quantity
    changed.tif = str(ticket.get("tif") or order.tif).upper()
    _set_prices(changed, ticket)
    _check_words(changed)
    _check_instrument(instrument, ticket)
    check_prices(changed, instrument)
    if changed.quantity < changed.filled:
        raise Rejected("Order couldn't be modified: quantity is below what has been filled")
    return changed


def _check_words(order: Order) -> None:
    if order.side not in ("BUY", "SELL"):
        raise bad_request("side must be BUY or SELL")
    if order.order_type not in ORDER_TYPES:
        raise Rejected(f"Invalid order type: {order.order_type or 'missing'}")
    if order.tif not in TIME_IN_FORCE:
        raise Rejected(f"Invalid time in force: {order.tif or 'missing'}")
    if order.tif == "OPG" and order.order_type not in ("MKT", "LMT"):
        raise Rejected(f"Invalid time in force: OPG for {order.order_type}")
    if order.quantity <= 0:
        raise Rejected("Order quantity must be positive")


def _set_prices(order: Order, ticket: dict[str, Any]) -> None:
    """§6.1: `price` is the limit, or the stop of STP and TRAIL; `auxPrice` the trigger of the others."""
    price, aux = number(ticket, "price"), number(ticket, "auxPrice")
    if order.order_type in LIMITED + PEGGED:
        order.limit_price = price if price is not None else order.limit_price
    if order.order_type in ("STP", "TRAIL", "MIT"):
        order.stop_price = price if price is not None else order.stop_price
    elif order.order_type in STOPS + TOUCHES:
        order.stop_price = aux if aux is not None else order.stop_price
    elif order.order_type == "REL":
        order.offset = aux if aux is not None else order.offset
    order.trailing = number(ticket, "trailingAmt") or order.trailing
    order.trailing_percent = ticket.get("trailingType", "%" if order.trailing_percent else "amt") == "%"


def _check_instrument(instrument: Instrument, ticket: dict[str, Any]) -> None:
    if not instrument.tradable:
        raise Rejected("No trading permissions.")
    step = instrument.size_step if ticket.get("outsideRTH") not in TRUE else 1
    if (number(ticket, "quantity") or 0) % step:
        raise Rejected(f"Order quantity must be in steps of {step}")
    if instrument.needs_manual_indicator and (
        ticket.get("manualIndicator") is None or not ticket.get("extOperator")
    ):
        raise bad_request("manualIndicator and extOperator are required for this contract")


def check_prices(order: Order, instrument: Instrument) -> None:
    """Raises Rejected for a missing, non-positive or off-tick price."""
    needed = [order.limit_price] if order.order_type in LIMITED else []
    if order.order_type in ("STP", "STOP_LIMIT", *TOUCHES):
        needed.append(order.stop_price)
    if order.order_type == "REL":
        needed.append(order.offset)
    if None in needed:
        raise Rejected("invalid order price fields")
    if order.order_type in ("TRAIL", "TRAILLMT") and not order.trailing:
        raise Rejected("invalid order price fields: trailingAmt is required")
    for price in (order.limit_price, order.stop_price):
        if price is not None and price <= 0:
            raise Rejected("invalid order price fields")
        if price is not None and price % instrument.step_at(price):
            raise Rejected("The price does not conform to the minimum price variation for this contract.")
