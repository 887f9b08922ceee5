"""Orders and executions in the recorded shapes, types and quirks of ibkr-web-api.md §6.8–§6.10."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from .orders import LIQUIDATION, Execution, Order, plain
from .universe import Instrument

TYPE_NAMES = {
    "LMT": "Limit",
    "MKT": "Market",
    "STP": "Stop",
    "STOP_LIMIT": "Stop Limit",
    "MIDPRICE": "MidPrice",
    "TRAIL": "Trailing Stop",
    "TRAILLMT": "Trailing Stop Limit",
    "MIT": "Market If Touched",
    "LIT": "Limit If Touched",
    "REL": "Relative",
    "MOC": "Market On Close",
    "LOC": "Limit On Close",
}
ORIGINAL_TYPES = {"LMT": "LIMIT", "MKT": "MARKET", "STP": "STOP"}
COLORS = {"Filled": ("#FFFFFF", "#000000"), "Cancelled": ("#FFFFFF", "#AA0000")}
CCP_STATUS = {"Filled": "2", "Cancelled": "4", "Inactive": "8"}


def live_row(order: Order, instrument: Instrument, status: str | None = None) -> dict[str, Any]:
    """A row of /iserver/account/orders and a full `sor` row. DAY reads "CLOSE"."""
    status = status or order.status
    foreground, background = colors(status)
    row: dict[str, Any] = {
        "acct": order.account,
        "conidex": str(order.conid),
        "conid": order.conid,
        "account": order.account,
        "orderId": order.order_id,
        "cashCcy": instrument.currency,
        "sizeAndFills": size_and_fills(order),
        "orderDesc": describe(order),
        "description1": instrument.local_name,
        "ticker": instrument.symbol,
        "secType": instrument.sec_type,
        "listingExchange": exchange_name(instrument),
        "remainingQuantity": float(order.remaining) if status not in ("Cancelled", "Filled") else 0.0,
        "filledQuantity": float(order.filled),
        "totalSize": float(order.quantity),
        "companyName": instrument.name,
        "status": status,
        "order_ccp_status": status,
        "origOrderType": ORIGINAL_TYPES.get(order.order_type, order.order_type),
        "supportsTaxOpt": "1",
        "lastExecutionTime": utc(order.updated_ms, "%y%m%d%H%M%S"),
        "lastExecutionTime_r": order.updated_ms,
        "orderType": TYPE_NAMES[order.order_type],
        "bgColor": background,
        "fgColor": foreground,
        "isEventTrading": "0",
        "price": plain(_shown_price(order)),
        "timeInForce": "CLOSE" if order.tif == "DAY" else order.tif,
        "side": order.side,
    }
    return row | _optional(order, status)


def _optional(order: Order, status: str) -> dict[str, Any]:
    """Keys that are there only when they have something to say."""
    average = order.average_price
    optional = {
        "avgPrice": f"{average:.2f}" if average is not None else None,
        "auxPrice": plain(order.offset or order.stop_price) if _has_aux(order) else None,
        # No capture of a trailing order is public; the names are those of its placement.
        "trailingAmt": plain(order.trailing) if order.trailing else None,
        "trailingType": ("%" if order.trailing_percent else "amt") if order.trailing else None,
        "order_ref": order.client_order_id,
        "parentId": order.parent_id,
        "ocaGroupId": order.oca_group,
        "outsideRTH": order.outside_rth or None,
        "order_cancellation_by_system_reason": order.reason if status == "Cancelled" else None,
    }
    return {key: value for key, value in optional.items() if value}


def _has_aux(order: Order) -> bool:
    return order.offset is not None or (order.limit_price is not None and order.stop_price is not None)


def _shown_price(order: Order) -> Decimal | None:
    return order.limit_price if order.limit_price is not None else order.stop_price


def id_row(order: Order) -> dict[str, Any]:
    """The id-only `sor` row that follows a new order."""
    return {
        "acct": order.account,
        "conidex": str(order.conid),
        "conid": order.conid,
        "orderId": order.order_id,
        "isEventTrading": "0",
    }


def status_delta(order: Order, status: str) -> dict[str, Any]:
    """A `sor` row that carries a change of status and nothing else."""
    foreground, background = colors(status)
    return {
        "orderId": order.order_id,
        "status": status,
        "order_ccp_status": status,
        "bgColor": background,
        "fgColor": foreground,
    }


def fill_delta(order: Order) -> dict[str, Any]:
    """A `sor` row after a fill."""
    average = order.average_price or Decimal(0)
    return status_delta(order, order.status) | {
        "sizeAndFills": size_and_fills(order),
        "remainingQuantity": float(order.remaining),
        "filledQuantity": float(order.filled),
        "avgPrice": f"{average:.2f}",
        "lastExecutionTime": utc(order.updated_ms, "%y%m%d%H%M%S"),
        "lastExecutionTime_r": order.updated_ms,
        "orderDesc": describe(order),
    }


def status_body(order: Order, instrument: Instrument, request_id: int) -> dict[str, Any]:
    """The body of /iserver/account/order/status/{id}: snake_case, numbers as strings."""
    foreground, background = colors(order.status)
    text = f"{'Buy' if order.side == 'BUY' else 'Sell'} {plain(order.quantity)}"
    terms = _terms(order)
    done = order.status in ("Filled", "Cancelled", "Inactive")
    body: dict[str, Any] = {
        "sub_type": None,
        "request_id": str(request_id),
        "server_id": "476341",
        "order_id": order.order_id,
        "conidex": str(order.conid),
        "conid": order.conid,
        "symbol": instrument.symbol,
        "side": order.side[0],
        "contract_description_1": instrument.local_name,
        "listing_exchange": exchange_name(instrument),
        "option_acct": "c",
        "company_name": instrument.name,
        "size": f"{float(order.remaining)}" if order.status != "Cancelled" else "0.0",
        "total_size": f"{float(order.quantity)}",
        "currency": instrument.currency,
        "account": order.account,
        "order_type": ORIGINAL_TYPES.get(order.order_type, order.order_type),
        "cum_fill": f"{float(order.filled)}",
        "order_status": order.status,
        "order_ccp_status": CCP_STATUS.get(order.status, "0"),
        "order_status_description": f"Order {order.status}" if done else "Order Submitted",
        "tif": order.tif,
        "fg_color": foreground,
        "bg_color": background,
        "order_not_editable": done,
        "editable_fields": "\u001e",
        "cannot_cancel_order": done,
        "outside_rth": order.outside_rth,
        "all_or_none": False,
        "deactivate_order": False,
        "use_price_mgmt_algo": False,
        "sec_type": instrument.sec_type,
        "available_chart_periods": "#R|1",
        "order_description": f"{text} {terms}",
        "order_description_with_contract": f"{text} {instrument.local_name} {terms}",
        "clearing_id": "IB",
        "clearing_name": "IB",
        "alert_active": 1,
        "child_order_type": "3",
        "order_clearing_account": order.account,
        "size_and_fills": f"{plain(order.filled)}/{plain(order.quantity)}",
        "exit_strategy_chart_description": f"{text} {terms}",
        "exit_strategy_tool_availability": "1",
        "allowed_duplicate_opposite": True,
        "order_time": utc(order.arrived_ms, "%y%m%d%H%M%S"),
    }
    return body | _status_prices(order)


def _status_prices(order: Order) -> dict[str, Any]:
    shown = _shown_price(order)
    prices = {
        "limit_price": _two_digits(order.limit_price),
        "stop_price": _two_digits(order.stop_price),
        "exit_strategy_display_price": _two_digits(shown),
        "average_price": _two_digits(order.average_price),
        "order_ref": order.client_order_id,
    }
    return {key: value for key, value in prices.items() if value}


def trade_row(
    execution: Execution, instrument: Instrument, *, with_commission: bool = True
) -> dict[str, Any]:
    """A row of /iserver/account/trades and of `str`; the stream's first copy has no commission."""
    verb = "Bought" if execution.side == "BUY" else "Sold"
    value = execution.quantity * execution.price * instrument.unit
    row: dict[str, Any] = {
        "execution_id": execution.execution_id,
        "symbol": instrument.symbol,
        "supports_tax_opt": "1",
        "side": execution.side[0],
        "order_description": f"{verb} {plain(execution.quantity)} @ {plain(execution.price)} on {execution.exchange}",
        "trade_time": utc(execution.executed_ms, "%Y%m%d-%H:%M:%S"),
        "trade_time_r": execution.executed_ms,
        "size": float(execution.quantity),
        "price": _two_digits(execution.price),
        "submitter": execution.submitter,
        "exchange": execution.exchange,
        "net_amount": float(value),
        "account": execution.account,
        "accountCode": execution.account,
        "account_allocation_name": execution.account,
        "company_name": instrument.name,
        "contract_description_1": instrument.local_name,
        "sec_type": instrument.sec_type,
        "listing_exchange": exchange_name(instrument),
        "conid": execution.conid,
        "conidEx": str(execution.conid),
        "order_id": execution.order_id,
        "position": plain(execution.position),
        "clearing_id": "IB",
        "clearing_name": "IB",
        "liquidation_trade": "1" if execution.submitter == LIQUIDATION else "0",
        "is_event_trading": "0",
    }
    if execution.client_order_id:
        row["order_ref"] = execution.client_order_id
    if with_commission:
        row["commission"] = plain(execution.commission)
    return row


def describe(order: Order) -> str:
    """`Buy 1 Limit 1.00, GTC`; past tense once filled."""
    past = order.status == "Filled"
    verb = ("Bought" if past else "Buy") if order.side == "BUY" else ("Sold" if past else "Sell")
    return f"{verb} {plain(order.quantity)} {_terms(order)}"


def _terms(order: Order) -> str:
    price = _two_digits(_shown_price(order))
    return f"{TYPE_NAMES[order.order_type]}{' ' + price if price else ''}, {order.tif}"


def size_and_fills(order: Order) -> str:
    """ "1" when filled, "0/5" while working."""
    if order.status == "Filled":
        return plain(order.quantity)
    return f"{plain(order.filled)}/{plain(order.quantity)}"


def colors(status: str) -> tuple[str, str]:
    """(foreground, background)."""
    return COLORS.get(status, ("#FFFFFF", "#0000CC"))


def exchange_name(instrument: Instrument) -> str:
    return "NASDAQ.NMS" if instrument.exchange == "NASDAQ" else instrument.exchange


def utc(epoch_ms: int, form: str) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime(form)


def _two_digits(number: Decimal | None) -> str:
    """At least two decimals, more when the price has them; "" for None."""
    if number is None:
        return ""
    text = plain(number.quantize(Decimal("0.00000001")))
    return f"{number:.2f}" if len(text.partition(".")[2]) < 2 else text
