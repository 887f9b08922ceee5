"""The checks of the account as it would be after the order, with all that works counted as filled."""

from collections.abc import Callable
from decimal import Decimal

from brokers.base import Side
from orders.order_types import FORMS
from orders.risk.value import exposure
from orders.risk.values import Case, Check, money, most_past, past, position_effect, shown

# Selling these to open is no sale of something that is not held.
SYMMETRIC_CLASSES = frozenset({"FUT", "CASH"})
RULES = {
    "opening": "allows_opening",
    "reducing": "allows_reducing",
    "flipping": "allows_flipping",
    "short sale": "allows_short_sale",
}
NOT_READ = "the account's figures have not been read"


def check_figures(case: Case) -> Check:
    """How old the account's money and positions are; the checks below stand on them."""
    age, limit = case.book.figures_age_seconds, case.bounds.figures_age_max_seconds
    ok = age is not None and age <= limit
    words = "none" if age is None else f"{age:.0f} s"
    return Check(
        "Account figures", ok, words, f"{limit} s", "" if ok else NOT_READ, "figures_age_max_seconds"
    )


def effects(case: Case) -> list[str]:
    """What the order does to the position, once everything of its side that works is filled.

    A flip of what cannot be sold short is a short sale as well.
    """
    leg, book = case.leg, case.book
    before = book.held + book.buys if leg.side == Side.BUY else book.held - book.sells
    found = [position_effect(before, leg.side, leg.quantity)]
    if leg.side == Side.SELL and before < leg.quantity and leg.asset_class not in SYMMETRIC_CLASSES:
        found = [*(each for each in found if each == "flipping"), "short sale"]
    return found


def check_effect(case: Case) -> Check:
    found = effects(case)
    refused = [effect for effect in found if not getattr(case.bounds, RULES[effect])]
    allowed = ", ".join(effect for effect, rule in RULES.items() if getattr(case.bounds, rule))
    code = RULES[(refused or found)[0]]
    says = f"{' and '.join(refused)} is not allowed" if refused else ""
    return Check("Position effect", not refused, ", ".join(found), allowed or "none", says, code)


def check_position(case: Case) -> Check:
    book, leg = case.book, case.leg
    if leg.side == Side.BUY:
        after = book.held + book.buys + leg.quantity
    else:
        after = book.held - book.sells - leg.quantity
    limit = case.bounds.position_max
    over = past(abs(after), limit)
    return Check("Position", abs(after) <= limit, shown(after), shown(limit), code="position_max", over=over)


def check_exposure(case: Case) -> Check:
    """The account's gross exposure, and that of the asset class where a set limits it: the tightest is told."""
    name, code = "Gross exposure", "gross_exposure_max"
    found = []
    for row in (row for row in case.book.counted if code in row.limits):
        value, limit = exposure(case, row.asset_class), row.limits[code]
        if value is None:
            return Check(name, False, "unknown", shown(limit), _unknown(case), code)
        found.append((value, limit, row.asset_class))
    if not found:
        return Check(name, False, "unknown", "unknown", "no limit is set", code)
    over = most_past((value, limit) for value, limit, _ in found)
    value, limit, asset_class = min(found, key=lambda each: each[1] - each[0])
    says = f"of {asset_class}" if asset_class else ""
    return Check(name, value <= limit, money(value), shown(limit), says, code, over)


def check_leverage(case: Case) -> Check:
    name, code, limit = "Leverage", "leverage_max", case.bounds.leverage_max
    value, net = exposure(case), case.book.net_liquidation
    if value is None:
        return Check(name, False, "unknown", shown(limit), _unknown(case), code)
    if net is None or net <= 0:
        return Check(name, False, "unknown", shown(limit), "the account's net liquidation is not known", code)
    times = value / net
    return Check(name, times <= limit, f"{times:.2f}", shown(limit), "", code, past(times, limit))


def check_working(case: Case) -> Check:
    """The broker takes so many orders of one contract and side (15 at IBKR)."""
    book = case.book
    count = case.alike + (book.buy_orders if case.leg.side == Side.BUY else book.sell_orders)
    limit = case.bounds.working_orders_per_side_max
    name, code = "Working orders", "working_orders_per_side_max"
    return Check(name, count <= limit, shown(count), shown(limit), "", code, past(count, limit))


def check_self_trade(case: Case) -> Check:
    """An order that would meet one of our own at the broker; a stop that has not fired meets nobody."""
    leg, book = case.leg, case.book
    name, code = "Self-trade", "self_trade"
    best = book.opposing_price
    words = "none" if best is None else shown(best)
    if FORMS[leg.order_type].waits:
        return Check(name, True, "waits for its trigger", words, code=code)
    price = leg.limit_price
    crosses = book.opposing_at_market > 0 or (
        best is not None and (price is None or _meets(leg.side, price, best))
    )
    says = "would cross our own working order" if crosses else ""
    return Check(name, not crosses, "at market" if price is None else shown(price), words, says, code)


def check_cushion(case: Case) -> Check:
    value, limit = case.book.cushion, case.bounds.cushion_min
    return _given("Cushion", value, limit, "cushion_min")


def check_look_ahead(case: Case) -> Check:
    value, limit = case.book.look_ahead_excess, case.bounds.look_ahead_excess_min
    return _given("Look-ahead excess", value, limit, "look_ahead_excess_min")


def check_day_trades(case: Case) -> Check:
    left = case.book.day_trades_left
    # The broker says -1 for any number.
    value = None if left is None or left < 0 else Decimal(left)
    return _given("Day trades left", value, Decimal(case.bounds.day_trades_left_min), "day_trades_left_min")


def _given(name: str, value: Decimal | None, limit: Decimal, code: str) -> Check:
    """A figure that not every broker or account has: where it is not given it limits nothing."""
    if value is None:
        return Check(name, True, "not given", f"at least {shown(limit)}", "the broker gives none", code)
    return Check(name, value >= limit, shown(value), f"at least {shown(limit)}", code=code)


def _meets(side: Side, price: Decimal, opposing: Decimal) -> bool:
    return price >= opposing if side == Side.BUY else price <= opposing


def _unknown(case: Case) -> str:
    what = ", ".join(case.book.unknown)
    return f"cannot be computed: the value of {what or 'this order or its instrument'} is not known"


ACCOUNT_CHECKS: tuple[Callable[[Case], Check], ...] = (
    check_figures,
    check_effect,
    check_position,
    check_exposure,
    check_leverage,
    check_working,
    check_self_trade,
    check_cushion,
    check_look_ahead,
    check_day_trades,
)
