"""What a broker tells of contracts and markets beside the order path.

As in `brokers.base`: money and sizes are Decimal, times aware UTC, and what the broker did not say is None.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from brokers.base import Availability, QuoteRecord


class Right(StrEnum):
    CALL = "call"
    PUT = "put"


@dataclass(frozen=True)
class Section:
    """One kind of contract that a search found on a symbol; `months` as the broker writes them, `DEC26`."""

    asset_class: str
    months: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """One row of a search: a company or an index, and what is traded on it."""

    broker_instrument_id: str
    symbol: str
    name: str
    exchange: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class PriceStep:
    """From `lower_edge` on, prices are multiples of `increment`."""

    lower_edge: Decimal
    increment: Decimal


@dataclass(frozen=True)
class Rules:
    """What the broker takes for a contract, in its own words in lower case. `problem` is why it takes nothing."""

    order_types: tuple[str, ...]
    order_types_outside_hours: tuple[str, ...]
    times_in_force: tuple[str, ...]
    price_steps: tuple[PriceStep, ...]
    size_increment: Decimal | None
    default_size: Decimal | None
    cash_size_increment: Decimal | None
    takes_fractions: bool
    takes_cash_quantity: bool
    may_be_negative: bool
    trades_overnight: bool
    tradable_in: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Contract:
    """One contract whole. `price_magnifier` is how many units of the price make one of the currency."""

    broker_instrument_id: str
    symbol: str
    local_symbol: str
    name: str
    asset_class: str
    currency: str
    exchange: str
    valid_exchanges: tuple[str, ...]
    multiplier: Decimal | None
    price_increment: Decimal | None
    price_magnifier: int | None
    expires_on: dt.date | None
    underlying_id: str | None
    trading_class: str
    industry: str
    category: str
    rules: Rules


@dataclass(frozen=True)
class Strikes:
    """The strikes of one month, both sides."""

    calls: tuple[Decimal, ...]
    puts: tuple[Decimal, ...]


@dataclass(frozen=True)
class OptionContract:
    broker_instrument_id: str
    symbol: str
    right: Right
    strike: Decimal
    expires_on: dt.date
    multiplier: Decimal | None
    currency: str
    trading_class: str


@dataclass(frozen=True)
class Greeks:
    """One option: its model's numbers beside its quote. `implied_volatility` is a fraction a year: 0.3 is 30 %."""

    quote: QuoteRecord
    delta: Decimal | None
    gamma: Decimal | None
    theta: Decimal | None
    vega: Decimal | None
    implied_volatility: Decimal | None
    open_interest: Decimal | None
    underlying_id: str | None


@dataclass(frozen=True)
class Ticker:
    """One instrument's quote and its day. `change_percent` is in per cent."""

    quote: QuoteRecord
    last_size: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    change: Decimal | None
    change_percent: Decimal | None
    mark: Decimal | None
    year_high: Decimal | None
    year_low: Decimal | None
    average_volume: Decimal | None
    shortable_shares: Decimal | None


@dataclass(frozen=True)
class Bar:
    starts_at: dt.datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None


@dataclass(frozen=True)
class Bars:
    """Oldest first. `delay_seconds` is how far the newest lags behind the market."""

    symbol: str
    bar_seconds: int | None
    delay_seconds: Decimal | None
    availability: Availability
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Pair:
    """Two currencies that are traded against each other: one unit of `base` costs so many of `quoted_in`."""

    broker_instrument_id: str
    symbol: str
    base: str
    quoted_in: str


@dataclass(frozen=True)
class Scan:
    """What the scanner can be asked: codes with the broker's own names for them."""

    types: dict[str, str]
    instruments: dict[str, str]
    locations: dict[str, str]
    filters: dict[str, str]


@dataclass(frozen=True)
class Scanned:
    """One row of a scan; `value` is of the column that it was ranked by, as the broker writes it."""

    broker_instrument_id: str
    symbol: str
    name: str
    exchange: str
    asset_class: str
    value: str
