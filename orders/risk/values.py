"""What the checks are given, and what they say."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import time
from decimal import Decimal
from typing import Any

from brokers.base import OrderType, Side

HUNDRED = Decimal(100)
# The most that an approver may let the price of one ticket drift until it is sent.
DRIFT_PERCENT_MAX = Decimal(10)


@dataclass(frozen=True)
class Leg:
    """One order as the checks see it. Prices are in the instrument's own units; `rate` makes them base money."""

    symbol: str
    asset_class: str
    currency: str
    multiplier: Decimal | None
    price_increment: Decimal | None
    is_allowed: bool
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    offset: Decimal | None = None
    outside_hours: bool = False
    # From each lower edge on, ascending; empty where `price_increment` holds for every price.
    price_bands: tuple[tuple[Decimal, Decimal], ...] = ()
    size_increment: Decimal | None = None
    reduce_only: bool = False
    price_magnifier: int | None = None
    # What one unit of the instrument's currency is worth in the account's; None is unknown or too old.
    rate: Decimal | None = Decimal(1)
    # Of an option's underlying, fresh; None is unknown.
    underlying_price: Decimal | None = None
    strike: Decimal | None = None

    def step_at(self, price: Decimal) -> Decimal | None:
        """The price step that holds at a price; None is unknown."""
        steps = [step for edge, step in self.price_bands if edge <= price]
        return steps[-1] if steps else self.price_increment


@dataclass(frozen=True)
class Market:
    """The newest quote and its age in seconds; None means that there is none."""

    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    age_seconds: Decimal | None
    is_halted: bool = False

    @property
    def mid(self) -> Decimal | None:
        if self.bid is not None and self.ask is not None and self.bid > 0 and self.ask > 0:
            return (self.bid + self.ask) / 2
        return self.last if self.last and self.last > 0 else None

    @property
    def highest(self) -> Decimal | None:
        known = [price for price in (self.bid, self.ask, self.last) if price is not None]
        return max(known) if known else None


@dataclass(frozen=True)
class Bounds:
    """The strictest of every limit that applies (orders/limit_table.py); money in the account's currency."""

    currency: str
    notional_max: Decimal
    quantity_max: Decimal
    collar_percent: Decimal
    collar_period_percent: Decimal
    collar_period_seconds: int
    drift_percent: Decimal
    quote_age_max_seconds: int
    rate_age_max_seconds: int
    figures_age_max_seconds: int
    position_max: Decimal
    gross_exposure_max: Decimal
    leverage_max: Decimal
    working_orders_per_side_max: int
    cushion_min: Decimal
    look_ahead_excess_min: Decimal
    day_trades_left_min: int
    daily_loss_max: Decimal
    daily_turnover_max: Decimal
    daily_orders_max: int
    orders_per_minute_max: int
    messages_per_minute_max: int
    repeats_max: int
    repeats_window_seconds: int
    allows_opening: bool
    allows_reducing: bool
    allows_flipping: bool
    allows_short_sale: bool
    asset_classes: list[str]
    order_types: list[str]
    opens_at: time | None = None
    closes_at: time | None = None
    # Every list that a narrower set gives; all of them must hold the symbol, and the account.
    symbols: tuple[tuple[str, ...], ...] = ()
    accounts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Counted:
    """One set's own counts, without the order that is judged. `limits` holds what the set limits, by name.

    `turnover` is None when an order sent today has no known value.
    """

    scope: str
    limits: dict[str, Decimal | int]
    asset_class: str = ""
    orders_minute: int = 0
    messages_minute: int = 0
    orders_day: int = 0
    turnover: Decimal | None = Decimal(0)


@dataclass(frozen=True)
class Book:
    """What the account holds, works and did, without the order itself; from our own rows (gates.md G12).

    Quantities are of the order's instrument; what works or is in doubt counts as filled. Values are in the
    account's currency, `held_value` with the sign of the holding; None is unknown.
    """

    account: str = ""
    is_live: bool = False
    local_time: time = time(12)
    held: Decimal = Decimal(0)
    buys: Decimal = Decimal(0)
    sells: Decimal = Decimal(0)
    buy_orders: int = 0
    sell_orders: int = 0
    held_value: Decimal | None = Decimal(0)
    buys_value: Decimal | None = Decimal(0)
    sells_value: Decimal | None = Decimal(0)
    # Gross exposure in every other instrument, by asset class.
    others: dict[str, Decimal] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    figures_age_seconds: Decimal | None = None
    net_liquidation: Decimal | None = None
    day_start: Decimal | None = None
    cushion: Decimal | None = None
    look_ahead_excess: Decimal | None = None
    day_trades_left: int | None = None
    # The best price of our own working orders of the other side; `at_market` is how many have none.
    opposing_price: Decimal | None = None
    opposing_at_market: int = 0
    period_price: Decimal | None = None
    repeats: int = 0
    counted: tuple[Counted, ...] = ()


@dataclass(frozen=True)
class Case:
    """One order, and everything that it is judged by. It travels with `together` orders, itself included, `alike` of
    them on its side.
    """

    leg: Leg
    market: Market
    bounds: Bounds
    book: Book
    together: int = 1
    alike: int = 1


@dataclass(frozen=True)
class Check:
    """One limit with what was asked of it; shown to people and to the bot. `code` is the limit's stable name."""

    name: str
    ok: bool
    value: str
    limit: str
    says: str = ""
    code: str = ""
    # The value as a number, where it is past a limit that people may override for one ticket.
    over: Decimal | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "over"}


@dataclass(frozen=True)
class Ceiling:
    """Up to what one ticket may pass a limit that stands at `limit`, as checks say it; once that is another, it may not."""

    limit: str
    most: Decimal


def past(value: Decimal | int | None, limit: Decimal | int) -> Decimal | None:
    """For `Check.over`: a value that is known and past its limit. A limit of nought is a stop, which nobody lifts."""
    return Decimal(value) if value is not None and value > limit > 0 else None


def most_past(found: Iterable[tuple[Decimal | int, Decimal | int]]) -> Decimal | None:
    """For `Check.over` of several sets: the largest value past its own limit; None where none may be lifted, or one may not."""
    overs = [past(value, limit) for value, limit in found if value > limit]
    known = [each for each in overs if each is not None]
    return max(known) if known and len(known) == len(overs) else None


def position_effect(before: Decimal, side: str, quantity: Decimal) -> str:
    """Opening, reducing or flipping, judged by the position before."""
    change = quantity if side == Side.BUY else -quantity
    if before == 0 or (before > 0) == (change > 0):
        return "opening"
    return "reducing" if abs(change) <= abs(before) else "flipping"


def shown(value: Decimal | int) -> str:
    """A number as people read it."""
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Decimal | None) -> str:
    return "unknown" if value is None else shown(value.quantize(Decimal("0.01")))
