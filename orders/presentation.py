"""How rows read to people: numbers with separators and named currencies, prices by increment, sentences."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation

from brokers.base import OrderType, Side, TimeInForce
from brokers.models import Instrument
from orders.groups.relations import NAMES, role
from orders.models import Order
from orders.order_types import FIELDS, FORMS

MISSING = "–"
TIME_WORDS: dict[str, str] = {TimeInForce.OPG: "at the opening"}
_MINUS = "\N{MINUS SIGN}"


def number(value: Decimal | None, places: int | None = None) -> str:
    """Thousands separated, no trailing zeros; with `places`, exactly so many decimals. A dash for None."""
    if value is None:
        return MISSING
    if places is not None:
        return f"{value:,.{places}f}".replace("-", _MINUS)
    whole, _, rest = f"{value:,f}".partition(".")
    rest = rest.rstrip("0")
    return (f"{whole}.{rest}" if rest else whole).replace("-", _MINUS)


def price_places(increment: Decimal | None) -> int:
    """How many decimals a price has, from the contract's increment; two where the broker named none."""
    if not increment:
        return 2
    exponent = increment.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 2


def price(value: Decimal | None, increment: Decimal | None = None) -> str:
    """A price at the increment's precision, or at its own where it is finer: no digit is ever hidden."""
    if value is None:
        return MISSING
    own = value.normalize().as_tuple().exponent
    finer = -own if isinstance(own, int) else 0
    return number(value, max(price_places(increment), finer))


def money(value: Decimal | None, currency: str) -> str:
    return MISSING if value is None else f"{number(value, 2)} {currency}".rstrip()


def percent(part: Decimal | None, whole: Decimal | None, places: int = 2, *, signed: bool = False) -> str:
    """`part` of `whole` in percent; a dash where either is missing or the whole is zero."""
    if part is None or not whole:
        return MISSING
    # Plus nought, so that a rounded nought has no sign.
    value = round(part / whole * 100, places) + 0
    sign = "+" if signed and value > 0 else ""
    return f"{sign}{number(value, places)} %"


def decimal(text: object) -> Decimal | None:
    """A decimal out of stored facts, where numbers are strings; None for anything else."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def duration(seconds: float) -> str:
    """`0.3 s`, `41 s`, `2 m 31 s`, `21 h 04 m`, `3 d 2 h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole // 60 % 60:02d} m"
    return f"{whole // 86400} d {whole // 3600 % 24} h"


def clock(seconds: float) -> str:
    """Time left as `1:06`, or `1:02:30` from an hour on."""
    whole = max(int(seconds), 0)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"


def milliseconds(moment: datetime | None) -> str:
    """Milliseconds of the Unix epoch, for scripts; empty for never."""
    return str(int(moment.timestamp() * 1000)) if moment else ""


@dataclass(frozen=True)
class Sentence:
    """One leg as a sentence. `terms` alternates a quiet word and what it says, such as limit 189.20."""

    side: str
    quantity: str
    symbol: str
    terms: tuple[tuple[str, str], ...]
    time_in_force: str
    # What it is in its group, where that is not the first of it.
    role: str = ""

    def __str__(self) -> str:
        terms = " ".join(f"{word} {value}".strip() for word, value in self.terms)
        words = f"{self.side.capitalize()} {self.quantity} {self.symbol} {terms} {self.time_in_force}"
        return f"{self.role}: {words}" if self.role else words


def sentence(order: Order) -> Sentence:
    return Sentence(
        side=order.side,
        quantity=number(order.quantity),
        symbol=symbol(order.instrument),
        terms=_terms(order),
        time_in_force=_time(order),
    )


def sentences(group: str, legs: Sequence[Order]) -> tuple[Sentence, ...]:
    """Every leg of a ticket, the later ones of a group with what they are."""
    return tuple(
        replace(sentence(leg), role=NAMES.get(role(group, leg.number), "") if leg.number > 1 else "")
        for leg in legs
    )


def symbol(instrument: Instrument) -> str:
    """The symbol; with the currency where it is a pair."""
    return (
        f"{instrument.symbol}.{instrument.currency}"
        if instrument.asset_class == "CASH"
        else instrument.symbol
    )


def _terms(order: Order) -> tuple[tuple[str, str], ...]:
    """The type's own words in its own order; a price that it may lack is left out."""
    values = _values(order)
    words = [
        (word, values.get(name, ""))
        for name, word in FORMS[OrderType(order.order_type)].words
        if not name or values.get(name)
    ]
    if order.cash_quantity is not None:
        words.append(("out of", money(order.cash_quantity, order.instrument.currency)))
    return tuple(words)


def _values(order: Order) -> dict[str, str]:
    increment = order.instrument.price_increment
    found = {name: price(value, increment) for name in FIELDS if (value := getattr(order, name)) is not None}
    if order.trailing_percent is not None:
        found["trailing_percent"] = f"{number(order.trailing_percent)} %"
    trail = found.get("trailing_amount") or found.get("trailing_percent")
    # A sale trails under the market, a buy above it.
    where = "above" if order.side == Side.BUY else "under"
    return found | ({"trail": f"{trail} {where}"} if trail else {})


def _time(order: Order) -> str:
    word = TIME_WORDS.get(order.time_in_force, order.time_in_force)
    return f"{word}, outside hours too" if order.outside_hours else word
