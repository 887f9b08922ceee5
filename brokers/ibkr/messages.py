"""Wire and domain, in tables (ibkr-web-api.md §3 to §7). Pure: rows in, records out, never a crash.

A row may be strange: a status that nobody wrote down gives `state` None, an unreadable number None.
"""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from brokers import base
from brokers.base import BrokerOrderState as State
from brokers.base import Side
from brokers.ibkr.order_words import (
    OPTIONAL_PRICES,
    ORDER_TYPES,
    PRICES,
    SIDE_WORDS,
    SIDES,
    TIF_WORDS,
    TIMES_IN_FORCE,
    TRAILING_WORDS,
    TYPE_WORDS,
)
from brokers.ibkr.values import Row, abbreviated, day, entry, first, moment, money, number, rows, text, whole

ASSET_CLASSES = {
    "STK": "stock",
    "FUT": "future",
    "IND": "index",
    "CASH": "fx",
    "OPT": "option",
    "BOND": "bond",
}
# §6.8. None: the word proves nothing yet. A new order's first frame says Inactive before it is submitted
# (§7.3 sor), so Inactive alone is no rejection; `_settled_state` decides by the row's age.
STATES: dict[str, State | None] = {
    "PRESUBMITTED": State.ACCEPTED,
    "SUBMITTED": State.ACCEPTED,
    "PENDINGCANCEL": State.PENDING_CANCEL,
    "PRECANCELLED": State.PENDING_CANCEL,
    "CANCELLED": State.CANCELED,
    "FILLED": State.FILLED,
    "FAILED": State.REJECTED,
    "PENDINGSUBMIT": None,
    "INACTIVE": None,
    "WARNSTATE": None,
}
INACTIVE_SETTLES_AFTER = timedelta(seconds=3)

AVAILABILITY = {
    "R": base.Availability.LIVE,
    "D": base.Availability.DELAYED,
    "Z": base.Availability.FROZEN,
    "Y": base.Availability.FROZEN,
}
# §4.2: last, bid, ask, bid size, ask size, volume twice, prior close, availability.
QUOTE_FIELDS = ("31", "84", "86", "88", "85", "87", "7762", "7741", "6509")
# `sizeIncrement` is what a form's arrows step by, not what may be ordered (§3); fractions go to four places.
FRACTION = Decimal("0.0001")
# Cancelling "-1" would cancel everything (§6.7), so it never becomes an id.
NO_ORDER_ID = "-1"


def ticket(broker_account_id: str, terms: base.OrderTerms) -> dict[str, Any]:
    """One leg as the placement and the what-if take it (§6.1). Raises ValueError when a price is missing."""
    body: dict[str, Any] = {
        "acctId": broker_account_id,
        "conid": int(terms.broker_instrument_id),
        "orderType": TYPE_WORDS[terms.order_type],
        "side": SIDE_WORDS[terms.side],
        "quantity": terms.quantity,
        "tif": TIF_WORDS[terms.time_in_force],
        "outsideRTH": terms.outside_hours,
        **_prices(terms),
    }
    optional = {
        "cOID": terms.client_order_id,
        "parentId": terms.parent_client_order_id,
        "isSingleGroup": terms.one_cancels_other or None,
        "manualIndicator": terms.manual_indicator,
        "extOperator": terms.ext_operator,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _prices(terms: base.OrderTerms) -> dict[str, Any]:
    wanted = PRICES[terms.order_type]
    body: dict[str, Any] = {}
    for name, field in wanted.items():
        value = getattr(terms, field)
        if value is not None:
            body[name] = value
        elif (terms.order_type, field) not in OPTIONAL_PRICES:
            raise ValueError(f"A {terms.order_type} order lacks its {field}.")
    for field, word in TRAILING_WORDS.items():
        if getattr(terms, field) is not None:
            body |= {"trailingAmt": getattr(terms, field), "trailingType": word}
    return body


def placement_answer(data: Any) -> base.Answer | None:
    """A question, or a row for each leg (§6.3); None where the answer is of neither form."""
    items = [data] if isinstance(data, dict) else data
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return None
    if all("message" in item and text(item.get("id")) for item in items):
        return base.Answer(question=_question(items[0])) if len(items) == 1 else None
    if all(text(item.get("order_id")) and "order_status" in item for item in items):
        return base.Answer(orders=tuple(order_report(item) for item in items))
    return None


def _question(item: Row) -> base.Question:
    return base.Question(
        reply_id=str(item["id"]),
        message_ids=_words(item.get("messageIds")),
        messages=_words(item.get("message")),
    )


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(word) for word in value) if isinstance(value, list) else ()


def order_report(row: Row, *, read_at: datetime | None = None) -> base.OrderReport:
    """One order from any way: answer, live orders, status or stream.

    With `read_at` (a poll) an Inactive row that is older than a moment is a rejection.
    """
    order_type = order_type_of(first(row, "origOrderType", "orderType", "order_type"))
    broker_order_id = text(first(row, "orderId", "order_id")) or ""
    parent = text(first(row, "parentId", "parent_order_id"))
    return base.OrderReport(
        broker_order_id="" if broker_order_id == NO_ORDER_ID else broker_order_id,
        state=_settled_state(row, read_at),
        client_order_id=text(first(row, "order_ref", "local_order_id")),
        broker_account_id=text(first(row, "acct", "account")),
        broker_instrument_id=text(first(row, "conid")),
        side=side_of(row.get("side")),
        order_type=order_type,
        total_quantity=number(first(row, "totalSize", "total_size")),
        filled_quantity=_filled(row),
        average_price=number(first(row, "avgPrice", "average_price")),
        parent_order_id=None if parent == NO_ORDER_ID else parent,
        text=_order_text(row),
        time_in_force=time_in_force_of(first(row, "timeInForce", "tif")),
        outside_hours=_flag(first(row, "outsideRTH", "outside_rth")),
        **_shown_prices(row, order_type),
    )


def _shown_prices(row: Row, order_type: str | None) -> dict[str, Decimal | None]:
    """`price` is the stop where a type has no limit; a stop has a key of its own in an order's status (§6.9)."""
    price = number(first(row, "limit_price", "price"))
    aux = number(first(row, "stop_price", "auxPrice", "aux_price"))
    meant = PRICES.get(order_type, {})
    if meant.get("price") == "stop_price":
        shown = {"stop_price": aux if aux is not None else price}
    elif meant.get("auxPrice") == "offset":
        shown = {"limit_price": price, "offset": aux}
    else:
        shown = {"limit_price": price, "stop_price": aux}
    trail = number(first(row, "trailingAmt", "trailing_amt"))
    unit = text(first(row, "trailingType", "trailing_type"))
    return shown | {field: trail for field, word in TRAILING_WORDS.items() if unit == word}


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def state_of(word: Any) -> State | None:
    """What a status proves; `pre_submitted` and `PreSubmitted` are the same word."""
    return STATES.get(re.sub(r"[^A-Z]", "", str(word or "").upper()))


def side_of(word: Any) -> Side | None:
    return SIDES.get(str(word or "").strip().upper())


def order_type_of(word: Any) -> str | None:
    """Ours where we know it, else the broker's word in lower case."""
    if text(word) is None:
        return None
    return ORDER_TYPES.get(re.sub(r"[^A-Z]", "", str(word).upper()), str(word).strip().lower())


def time_in_force_of(word: Any) -> str | None:
    """Ours where we know it, else the broker's word in lower case."""
    said = str(word or "").strip().upper()
    return TIMES_IN_FORCE.get(said, said.lower()) or None


def _settled_state(row: Row, read_at: datetime | None) -> State | None:
    word = first(row, "status", "order_status")
    if read_at is None or str(word).strip().lower() != "inactive" or _filled(row):
        return state_of(word)
    stamp = moment(first(row, "lastExecutionTime_r", "lastExecutionTime", "order_time"))
    fresh = stamp is not None and read_at - stamp < INACTIVE_SETTLES_AFTER
    return None if fresh else State.REJECTED


def _filled(row: Row) -> Decimal | None:
    found = number(first(row, "filledQuantity", "cum_fill"))
    if found is not None:
        return found
    # "0/5" is filled/total; a lone number is a completed order's size (§6.8).
    sizes = str(first(row, "sizeAndFills", "size_and_fills") or "").partition("/")
    return (
        number(sizes[0]) if sizes[0] and (sizes[1] or state_of(row.get("status")) is State.FILLED) else None
    )


def _order_text(row: Row) -> str:
    names = ("order_cancellation_by_system_reason", "text", "warning_message", "error")
    return "; ".join(str(row[name]) for name in names if row.get(name))


def has_news(row: Row) -> bool:
    """Whether a stream row says more than that the order exists (§7.3 sor, the id-only row)."""
    return bool(first(row, "orderId", "order_id")) and first(row, "status", "filledQuantity") is not None


def execution_report(row: Row) -> base.ExecutionReport | None:
    """One fill (§6.10); None for a row that lacks what a fill must have, and for an exercise."""
    found = {
        "execution_id": text(row.get("execution_id")),
        "broker_account_id": text(first(row, "account", "accountCode", "acct")),
        "broker_instrument_id": text(first(row, "conid", "conidEx")),
        "side": side_of(row.get("side")),
        "quantity": number(row.get("size")),
        "price": number(row.get("price")),
        "executed_at": moment(first(row, "trade_time_r", "trade_time")),
    }
    if any(value is None for value in found.values()):
        return None
    return base.ExecutionReport(
        **found,  # type: ignore[arg-type]
        broker_order_id=text(row.get("order_id")),
        client_order_id=text(row.get("order_ref")),
        commission=number(row.get("commission")),
        is_liquidation=text(row.get("liquidation_trade")) not in (None, "0"),
    )


def quote_record(row: Row, received_at: datetime) -> base.QuoteRecord | None:
    """A snapshot row, or the merged deltas of a stream (§4.1); None without a conid."""
    conid = text(first(row, "conid", "conidEx"))
    if conid is None:
        return None
    last_text = str(row.get("31") or "")
    last = number(last_text)
    is_close = last_text.startswith("C")
    prior_close = number(row.get("7741"))
    volume = next(
        (v for v in (abbreviated(row.get(f)) for f in ("7762", "87_raw", "87")) if v is not None), None
    )
    return base.QuoteRecord(
        broker_instrument_id=conid,
        received_at=received_at,
        bid=number(row.get("84")),
        ask=number(row.get("86")),
        last=None if is_close else last,
        bid_size=number(row.get("88")),
        ask_size=number(row.get("85")),
        volume=volume,
        prior_close=last if is_close and prior_close is None else prior_close,
        availability=AVAILABILITY.get(str(row.get("6509") or "")[:1], base.Availability.NONE),
        is_halted=last_text.startswith("H"),
        changed_at=moment(row.get("_updated")),
    )


def session_status(row: Any) -> base.SessionStatus:
    """`auth/status`, `ssodh/init`, tickle's `authStatus` and `sts`: what is not said is not so (§2.2)."""
    said = row if isinstance(row, dict) else {}
    established = said.get("established")
    return base.SessionStatus(
        authenticated=said.get("authenticated") is True,
        connected=said.get("connected") is True,
        competing=said.get("competing") is True,
        established=established if isinstance(established, bool) else None,
        message=text(first(said, "message", "fail")) or "",
    )


def listed_accounts(row: Any) -> base.ListedAccounts:
    """`/iserver/accounts` and `act` (§2.2)."""
    said = row if isinstance(row, dict) else {}
    accounts = said.get("accounts")
    paper = said.get("isPaper")
    return base.ListedAccounts(
        broker_account_ids=tuple(str(a) for a in accounts) if isinstance(accounts, list) else (),
        is_paper=paper if isinstance(paper, bool) else None,
    )


WARNING_CODE = re.compile(r"^\d{1,4}/")


def preview(data: Row) -> base.Preview:
    """The what-if (§6.5): display strings with commas, `NA` where there is nothing."""
    commission, currency = money(entry(data, "amount").get("commission"))
    errors = [text(data.get("error")), *_words(data.get("errors"))]
    warnings = [text(data.get("warn")), *_words(data.get("warns"))]
    return base.Preview(
        commission=commission,
        commission_currency=currency,
        initial_margin_after=number(entry(data, "initial").get("after")),
        initial_margin_change=number(entry(data, "initial").get("change")),
        maintenance_margin_after=number(entry(data, "maintenance").get("after")),
        equity_after=number(entry(data, "equity").get("after")),
        position_after=number(entry(data, "position").get("after")),
        warnings=tuple(dict.fromkeys(WARNING_CODE.sub("", w) for w in warnings if w)),
        error="; ".join(dict.fromkeys(e for e in errors if e)) or None,
        initial_margin_before=number(entry(data, "initial").get("current")),
        maintenance_margin_before=number(entry(data, "maintenance").get("current")),
    )


def instrument_record(conid: str, info: Row, *, exchange: str | None, is_us: bool) -> base.InstrumentRecord:
    """`/iserver/contract/{conid}/info-and-rules` (§3), with the listing that the search named."""
    sec_type = str(first(info, "instrument_type", "secType") or "")
    rules = info.get("rules") if isinstance(info.get("rules"), dict) else {}
    names = ("local_symbol", "symbol") if sec_type == "FUT" else ("symbol", "local_symbol")
    if sec_type == "CASH":
        names = ("local_symbol", "symbol")
    return base.InstrumentRecord(
        broker_instrument_id=conid,
        symbol=text(first(info, *names)) or conid,
        name=text(first(info, "company_name", "text")) or "",
        asset_class=ASSET_CLASSES.get(sec_type, sec_type.lower()),
        currency=text(info.get("currency")) or "",
        exchange=exchange or text(info.get("exchange")) or "",
        multiplier=_multiplier(info, sec_type),
        price_increment=_increment(rules or {}),
        is_us=is_us,
        price_magnifier=whole((rules or {}).get("priceMagnifier")),
        expires_on=day(info.get("maturity_date")),
        price_bands=_bands(rules or {}),
        size_increment=FRACTION if (rules or {}).get("fraqTypes") else None,
    )


def _multiplier(info: Row, sec_type: str) -> Decimal | None:
    found = number(info.get("multiplier"))
    if sec_type in ("STK", "CASH"):
        return found or Decimal(1)
    return found or None


def _bands(rules: Row) -> tuple[tuple[Decimal, Decimal], ...]:
    found = (
        (number(r.get("lowerEdge")), number(r.get("increment"))) for r in rows(rules.get("incrementRules"))
    )
    return tuple(sorted((edge, step) for edge, step in found if edge is not None and step))


def _increment(rules: Row) -> Decimal | None:
    """The step in force; with several price bands and none named, the finest."""
    found = number(rules.get("increment"))
    steps = [number(rule.get("increment")) for rule in rows(rules.get("incrementRules"))]
    return found or min((step for step in steps if step), default=None)
