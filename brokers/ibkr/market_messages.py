"""Quotes, bars and scans, from the wire to our records, in tables (ibkr-web-api.md §4). Pure."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from brokers.base import Availability
from brokers.ibkr.messages import ASSET_CLASSES, AVAILABILITY, QUOTE_FIELDS, quote_record
from brokers.ibkr.values import Row, abbreviated, first, moment, number, rows, text, whole
from brokers.market_records import Bar, Bars, Greeks, Scan, Scanned, Ticker
from brokers.read_records import DepthLevel, DepthRecord

# §4.2, by our names.
DAY_FIELDS = {
    "last_size": "7059",
    "open": "7295",
    "high": "70",
    "low": "71",
    "change": "82",
    "change_percent": "83",
    "mark": "7635",
    "year_high": "7293",
    "year_low": "7294",
    "average_volume": "7282",
    "shortable_shares": "7636",
}
GREEK_FIELDS = {"delta": "7308", "gamma": "7309", "theta": "7310", "vega": "7311", "open_interest": "7638"}
VOLATILITY, UNDERLYING = "7633", "6457"
TICKER_FIELDS = (*QUOTE_FIELDS, *DAY_FIELDS.values())
OPTION_FIELDS = (*QUOTE_FIELDS, *GREEK_FIELDS.values(), VOLATILITY, UNDERLYING)
# History says its availability by a letter of its own; S is a snapshot of live data.
BAR_AVAILABILITY = AVAILABILITY | {"S": Availability.LIVE}
SCALE = Decimal(100)


def ticker(row: Row, received_at: datetime) -> Ticker | None:
    """A snapshot row with TICKER_FIELDS; None without a conid."""
    quote = quote_record(row, received_at)
    if quote is None:
        return None
    return Ticker(quote=quote, **{name: abbreviated(row.get(code)) for name, code in DAY_FIELDS.items()})


def greeks(row: Row, received_at: datetime) -> Greeks | None:
    """A snapshot row with OPTION_FIELDS; None without a conid."""
    quote, volatility = quote_record(row, received_at), number(row.get(VOLATILITY))
    if quote is None:
        return None
    return Greeks(
        quote=quote,
        implied_volatility=None if volatility is None else volatility / SCALE,
        underlying_id=text(whole(row.get(UNDERLYING))),
        **{name: abbreviated(row.get(code)) for name, code in GREEK_FIELDS.items()},
    )


def depth(topic: str, data: Any, received_at: datetime) -> DepthRecord | None:
    """A frame of `sbd+ACCOUNT+CONID` (§7.3; documented, never captured in public): rows of which one was traded last."""
    account, _, conid = topic.partition("+")[2].partition("+")
    conid = conid.partition("+")[0]
    levels = [each for row in rows(data) if (each := _level(row))]
    if not account or not conid:
        return None
    levels.sort(key=lambda level: level.price, reverse=True)
    return DepthRecord(account, conid, received_at, tuple(levels))


def _level(row: Row) -> DepthLevel | None:
    """`190.25`, or `100 @ 190.24` where a hundred were traded last."""
    size, at, price = str(row.get("price") or "").rpartition("@")
    found = number(price)
    if found is None:
        return None
    return DepthLevel(
        price=found,
        bid_size=number(row.get("bid")),
        ask_size=number(row.get("ask")),
        is_last=bool(at),
        last_size=number(size),
    )


def bars(data: Row) -> Bars:
    """`/iserver/marketdata/history` (§4.4): volumes by their factor; a bar without a time is left out."""
    factor = number(data.get("volumeFactor")) or Decimal(1)
    found = [_bar(row, factor) for row in rows(data.get("data"))]
    return Bars(
        symbol=text(data.get("symbol")) or "",
        bar_seconds=whole(data.get("barLength")),
        delay_seconds=number(data.get("mktDataDelay")),
        availability=BAR_AVAILABILITY.get(str(data.get("mdAvailability") or "")[:1], Availability.NONE),
        bars=tuple(sorted((bar for bar in found if bar), key=lambda bar: bar.starts_at)),
    )


def _bar(row: Row, factor: Decimal) -> Bar | None:
    starts_at, volume = moment(row.get("t")), number(row.get("v"))
    if starts_at is None:
        return None
    return Bar(
        starts_at=starts_at,
        open=number(row.get("o")),
        high=number(row.get("h")),
        low=number(row.get("l")),
        close=number(row.get("c")),
        volume=None if volume is None else volume * factor,
    )


def scan(data: Row) -> Scan:
    """`/iserver/scanner/params` (§4.6), flat: locations are a tree on the wire."""
    return Scan(
        types=_names(data.get("scan_type_list"), "code"),
        instruments=_names(data.get("instrument_list"), "type"),
        locations=_places(data.get("location_tree")),
        filters=_names(data.get("filter_list"), "code"),
    )


def _names(value: Any, key: str) -> dict[str, str]:
    found = {text(row.get(key)): text(row.get("display_name")) or "" for row in rows(value)}
    return {code: name for code, name in found.items() if code}


def _places(value: Any) -> dict[str, str]:
    found = _names(value, "type")
    for row in rows(value):
        found |= _places(row.get("locations"))
    return found


def scanned(row: Row) -> Scanned | None:
    """A row of `/iserver/scanner/run`; None without a conid."""
    conid = text(whole(first(row, "con_id", "conidex")))
    if conid is None:
        return None
    kind = str(row.get("sec_type") or "")
    return Scanned(
        broker_instrument_id=conid,
        symbol=text(row.get("symbol")) or "",
        name=text(row.get("company_name")) or "",
        exchange=text(row.get("listing_exchange")) or "",
        asset_class=ASSET_CLASSES.get(kind, kind.lower()),
        value=text(row.get("scan_data")) or "",
    )
