"""Limits: a leg and facts in, checks out. No clock, no query, no settings; what is unknown refuses."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal

from brokers.base import OrderType, Side

HUNDRED = Decimal(100)
# The most that an approver may let the price of one ticket drift until it is sent.
DRIFT_PERCENT_MAX = Decimal(10)
# Asset classes whose multiplier is 1 where the broker names none; derivatives must have one (gates.md §8).
UNIT_CLASSES = frozenset({"STK", "ETF", "CASH", "CRYPTO"})


@dataclass(frozen=True)
class Leg:
    """One order as the checks see it."""

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
    reduce_only: bool = False


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


@dataclass(frozen=True)
class Bounds:
    """The account's limits; money in the account's currency."""

    currency: str
    notional_max: Decimal
    quantity_max: Decimal
    collar_percent: Decimal
    drift_percent: Decimal
    quote_age_max_seconds: Decimal


@dataclass(frozen=True)
class Check:
    """One limit with what was asked of it; shown to people and to the bot."""

    name: str
    ok: bool
    value: str
    limit: str
    says: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def check_all(leg: Leg, market: Market, bounds: Bounds) -> list[Check]:
    """Every check of an order that adds risk, in the order in which people read them."""
    return [check(leg, market, bounds) for check in CHECKS]


def failed(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]


def notional(leg: Leg, market: Market, bounds: Bounds) -> Decimal | None:
    """Quantity × price × multiplier, unrounded; without a limit price the quote × (1 + collar)."""
    multiplier = effective_multiplier(leg)
    price = leg.limit_price or leg.stop_price
    if price is None:
        known = [value for value in (market.bid, market.ask, market.last) if value is not None]
        price = max(known) * (1 + bounds.collar_percent / HUNDRED) if known else None
    if price is None or multiplier is None:
        return None
    return abs(price) * leg.quantity * multiplier


def effective_multiplier(leg: Leg) -> Decimal | None:
    if leg.multiplier:
        return leg.multiplier
    return Decimal(1) if leg.asset_class in UNIT_CLASSES else None


def check_allowed(leg: Leg, market: Market, bounds: Bounds) -> Check:
    return Check(
        "Instrument", leg.is_allowed, leg.symbol, "allow-list", "" if leg.is_allowed else "not on the list"
    )


def check_currency(leg: Leg, market: Market, bounds: Bounds) -> Check:
    same = leg.currency == bounds.currency
    return Check(
        "Currency", same, leg.currency, bounds.currency, "" if same else "no stored rate converts it"
    )


def check_quote(leg: Leg, market: Market, bounds: Bounds) -> Check:
    fresh = market.age_seconds is not None and market.age_seconds <= bounds.quote_age_max_seconds
    says = "" if fresh else "too old or missing"
    if market.is_halted:
        says = "the instrument is halted"
    age = "none" if market.age_seconds is None else f"{market.age_seconds:.1f} s"
    ok = fresh and not market.is_halted and market.mid is not None
    return Check("Quote age", ok, age, f"{bounds.quote_age_max_seconds:f} s", says)


def check_quantity(leg: Leg, market: Market, bounds: Bounds) -> Check:
    ok = 0 < leg.quantity <= bounds.quantity_max
    return Check("Quantity", ok, _number(leg.quantity), _number(bounds.quantity_max))


def check_notional(leg: Leg, market: Market, bounds: Bounds) -> Check:
    value = notional(leg, market, bounds)
    ok = value is not None and value <= bounds.notional_max
    says = "" if value is not None else "cannot be computed: no price or no multiplier"
    shown = "unknown" if value is None else _number(value.quantize(Decimal("0.01")))
    return Check("Order value", ok, shown, _number(bounds.notional_max), says)


def check_collar(leg: Leg, market: Market, bounds: Bounds) -> Check:
    price = leg.limit_price or leg.stop_price
    limit = f"{_number(bounds.collar_percent)} %"
    if price is None:
        return Check("Price collar", leg.order_type == OrderType.MARKET, "at market", limit)
    if market.mid is None:
        return Check("Price collar", False, "unknown", limit, "no reference price")
    away = abs(price - market.mid) / market.mid * HUNDRED
    return Check("Price collar", away <= bounds.collar_percent, f"{away:.2f} %", limit)


def check_increment(leg: Leg, market: Market, bounds: Bounds) -> Check:
    prices = [price for price in (leg.limit_price, leg.stop_price) if price is not None]
    if not prices:
        return Check("Price step", True, "no price", "any")
    if not leg.price_increment:
        return Check("Price step", False, "unknown", "unknown", "the contract's increment is not known")
    ok = all(price % leg.price_increment == 0 for price in prices)
    shown = " / ".join(_number(price) for price in prices)
    return Check(
        "Price step", ok, shown, _number(leg.price_increment), "" if ok else "off the contract's increment"
    )


CHECKS: tuple[Callable[[Leg, Market, Bounds], Check], ...] = (
    check_notional,
    check_collar,
    check_quantity,
    check_quote,
    check_increment,
    check_allowed,
    check_currency,
)


def check_drift(seen: Decimal | None, now: Decimal | None, percent: Decimal) -> Check:
    """How far the mid moved since people looked; unknown on either side refuses."""
    if seen is None or now is None or seen <= 0:
        return Check("Price drift", False, "unknown", f"{_number(percent)} %", "no reference price")
    moved = abs(now - seen) / seen * HUNDRED
    return Check("Price drift", moved <= percent, f"{moved:.2f} %", f"{_number(percent)} %")


def position_effect(before: Decimal, side: str, quantity: Decimal) -> str:
    """Opening, reducing or flipping, judged by the position before."""
    change = quantity if side == Side.BUY else -quantity
    if before == 0 or (before > 0) == (change > 0):
        return "opening"
    return "reducing" if abs(change) <= abs(before) else "flipping"


def _number(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
