"""What an order is worth in the account's currency (gates.md §8). None where anything is unknown."""

from decimal import ROUND_UP, Decimal, localcontext

from brokers.base import Side
from orders.order_types import FORMS, trail_from
from orders.risk.values import HUNDRED, Bounds, Case, Leg, Market

# Asset classes whose multiplier is 1 where the broker names none; derivatives must have one (gates.md §8).
UNIT_CLASSES = frozenset({"STK", "ETF", "CASH", "CRYPTO"})
OPTIONS = frozenset({"OPT", "FOP", "WAR"})
# As fine as the ledger keeps money; exposure is rounded up to it.
FINEST = Decimal("1e-8")
DIGITS = 60


def notional(leg: Leg, market: Market, bounds: Bounds) -> Decimal | None:
    """Quantity × price × multiplier in base money, rounded up.

    Without a limit price, or with one that trails, the dearest of quote and trigger × (1 + collar); in pence by the magnifier; options by what they are
    written on, and where they are sold by the strike if that is more.
    """
    price = _option_price(leg) if leg.asset_class in OPTIONS else _price(leg, market, bounds)
    multiplier = effective_multiplier(leg)
    if price is None or multiplier is None or leg.rate is None:
        return None
    with localcontext(prec=DIGITS):
        value = abs(price) * leg.quantity * multiplier * leg.rate / (leg.price_magnifier or 1)
        return value.quantize(FINEST, ROUND_UP)


def effective_multiplier(leg: Leg) -> Decimal | None:
    if leg.multiplier:
        return leg.multiplier
    return Decimal(1) if leg.asset_class in UNIT_CLASSES else None


def _price(leg: Leg, market: Market, bounds: Bounds) -> Decimal | None:
    """The limit, unless the broker moves it; else the dearest that could be met, and the collar."""
    form = FORMS.get(leg.order_type)
    if form is None:
        return None
    if leg.limit_price is not None and not form.moves:
        return leg.limit_price
    if market.highest is None:
        return None
    trailed = trail_from(leg, market.highest)
    known = [price for price in (leg.limit_price, leg.stop_price, trailed) if price is not None]
    dearest = max([market.highest, *known]) + (leg.offset or 0)
    return dearest * (1 + bounds.collar_percent / HUNDRED)


def _option_price(leg: Leg) -> Decimal | None:
    if leg.underlying_price is None:
        return None
    is_written = leg.side == Side.SELL and leg.strike is not None
    return max(leg.underlying_price, leg.strike or Decimal(0)) if is_written else leg.underlying_price


def exposure(case: Case, asset_class: str = "") -> Decimal | None:
    """Gross exposure after the order, of everything or of one asset class, in base money.

    Of each instrument the worst of: held, held and every buy filled, held and every sale filled.
    """
    book, value = case.book, notional(case.leg, case.market, case.bounds)
    if value is None or book.unknown or book.held_value is None:
        return None
    if book.buys_value is None or book.sells_value is None:
        return None
    buys, sells = book.buys_value, book.sells_value
    if case.leg.side == Side.BUY:
        buys += value
    else:
        sells += value
    held = book.held_value
    mine = max(abs(held), abs(held + buys), abs(held - sells))
    others = book.others.values() if not asset_class else [book.others.get(asset_class, Decimal(0))]
    return mine + sum(others, Decimal(0))
