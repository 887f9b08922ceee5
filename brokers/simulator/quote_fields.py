"""Quotes in IBKR's words: field codes of ibkr-web-api.md §4.2, values as strings except the `_raw` ones."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from .accounting import Account, Position
from .config import Config
from .market import Quote
from .universe import Instrument

DEFAULT_FIELDS = ("31", "84", "86", "88", "85", "7059", "87", "6509")
SERVER_ID = "q0"


def price(number: Any, quote: Quote) -> str:
    """A price with the decimals of its tick."""
    return f"{number.quantize(quote.instrument.tick)}"


def size(number: int) -> str:
    """A size with thousands separators, as they have been seen."""
    return f"{number:,}"


def abbreviated(number: int) -> str:
    """ "12.2M", as field 87."""
    for limit, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if number >= limit:
            return (
                f"{number / limit:.1f}{letter}" if number < 100 * limit else f"{number / limit:.0f}{letter}"
            )
    return str(number)


def _percent_change(quote: Quote) -> str:
    return f"{(quote.last - quote.prior_close) / quote.prior_close * 100:.2f}%"


def _greek(name: str) -> Callable[[Quote], str | None]:
    return lambda quote: f"{quote.greeks[name]:.3f}" if name in quote.greeks else None


def _of(read: Callable[[Instrument], Any]) -> Callable[[Quote], Any]:
    return lambda quote: read(quote.instrument)


FIELDS: dict[str, Callable[[Quote], Any]] = {
    "31": lambda q: price(q.last, q),
    "55": _of(lambda i: i.symbol),
    "70": lambda q: price(q.high, q),
    "71": lambda q: price(q.low, q),
    "82": lambda q: f"{q.last - q.prior_close:+}",
    "83": _percent_change,
    "84": lambda q: price(q.bid, q) if q.instrument.tradable else None,
    "85": lambda q: size(q.ask_size) if q.instrument.tradable else None,
    "86": lambda q: price(q.ask, q) if q.instrument.tradable else None,
    "87": lambda q: abbreviated(q.volume),
    "88": lambda q: size(q.bid_size) if q.instrument.tradable else None,
    "6004": _of(lambda i: i.exchange),
    "6008": _of(lambda i: i.conid),
    "6070": _of(lambda i: i.sec_type),
    "6457": _of(lambda i: i.underlying or None),
    "7051": _of(lambda i: i.name),
    "7059": lambda q: size(q.last_size) if q.last_size else None,
    "7184": _of(lambda i: "1" if i.tradable else "0"),
    "7219": _of(lambda i: i.local_name),
    "7221": _of(lambda i: i.exchange),
    "7295": lambda q: price(q.open, q),
    "7296": lambda q: price(q.prior_close, q),
    "7308": _greek("delta"),
    "7309": _greek("gamma"),
    "7310": _greek("theta"),
    "7311": _greek("vega"),
    "7633": lambda q: f"{q.instrument.volatility * 100:.2f}%" if q.greeks else None,
    "7635": lambda q: price((q.bid + q.ask) / 2, q),
    "7741": lambda q: price(q.prior_close, q),
    "7762": lambda q: str(q.volume),
    "7768": lambda q: "1",
}


# What the session's account holds of it, in display form but for the raw ones.
HOLDING_FIELDS: dict[str, Callable[[Account, Position], Any]] = {
    "73": lambda a, p: f"{a.value(p):.2f}",
    "74": lambda a, p: f"{p.average:.2f}",
    "75": lambda a, p: f"{a.unrealized(p):.2f}",
    "76": lambda a, p: shown(p.quantity),
    "77": lambda a, p: shown(a.unrealized(p)),
    "78": lambda a, p: shown(a.gained(p) - p.day_start),
    "79": lambda a, p: f"{p.realized:.2f}",
    "80": lambda a, p: f"{a.unrealized(p) / cost(p) * 100:.2f}%" if cost(p) else None,
    "7292": lambda a, p: f"{cost(p):.2f}",
    "7920": lambda a, p: f"{a.gained(p) - p.day_start:.2f}",
    "7921": lambda a, p: f"{cost(p):.2f}",
}


def cost(held: Position) -> Decimal:
    return abs(held.quantity) * held.average * held.instrument.unit


def shown(number: Decimal) -> str:
    """ "1.2K", or exact where it is small."""
    rest = number.normalize()
    return f"{rest:f}" if abs(rest) < 1000 else ("-" if rest < 0 else "") + abbreviated(int(abs(rest)))


def holding_values(account: Account, conid: int, codes: Iterable[str]) -> dict[str, Any]:
    """The wanted fields that speak of a holding; none where nothing is held."""
    held = account.positions.get(conid)
    if held is None or not held.quantity:
        return {}
    found = {code: HOLDING_FIELDS[code](account, held) for code in codes if code in HOLDING_FIELDS}
    return {code: value for code, value in found.items() if value is not None}


def values(quote: Quote, codes: Iterable[str], config: Config) -> dict[str, Any]:
    """The available ones of the wanted fields; the others are simply absent."""
    if quote.instrument.conid in config.no_data_conids:
        return {}
    found: dict[str, Any] = {"6509": config.availability}
    for code in codes:
        value = FIELDS[code](quote) if code in FIELDS else None
        if value is not None:
            found[code] = value
            if code == "87":
                found["87_raw"] = float(quote.volume)
    return found


def envelope(quote: Quote) -> dict[str, Any]:
    """The keys that every populated row carries."""
    conid = quote.instrument.conid
    return {
        "conidEx": str(conid),
        "conid": conid,
        "_updated": quote.updated_ms,
        "server_id": SERVER_ID,
        "6119": SERVER_ID,
    }
