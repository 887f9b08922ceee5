"""The checks of one order by itself: its value, its price, its quote, and what may be ordered at all."""

from collections.abc import Callable
from decimal import Decimal

from orders.order_types import FORMS, ON_STEP, named, trail_from
from orders.risk.value import notional
from orders.risk.values import HUNDRED, Case, Check, money, past, shown


def check_notional(case: Case) -> Check:
    value, limit = notional(case.leg, case.market, case.bounds), case.bounds.notional_max
    ok = value is not None and value <= limit
    says = "" if value is not None else "cannot be computed: no price, no multiplier or no currency rate"
    return Check("Order value", ok, money(value), shown(limit), says, "notional_max", past(value, limit))


def check_quantity(case: Case) -> Check:
    value, limit = case.leg.quantity, case.bounds.quantity_max
    ok = 0 < value <= limit
    return Check("Quantity", ok, shown(value), shown(limit), code="quantity_max", over=past(value, limit))


def check_collar(case: Case) -> Check:
    """How far the order's prices are from the quote's mid: the farthest counts."""
    leg, mid = case.leg, case.market.mid
    name, code, percent = "Price collar", "collar_percent", case.bounds.collar_percent
    limit = f"{shown(percent)} %"
    form = FORMS.get(leg.order_type)
    if form is None or not (form.needs | form.one_of or leg.limit_price):
        return Check(name, form is not None, "at market", limit, code=code)
    if mid is None:
        return Check(name, False, "unknown", limit, "no reference price", code)
    pegged = None if leg.offset is None else mid + leg.offset
    prices = (leg.limit_price, leg.stop_price, trail_from(leg, mid), pegged)
    away = max((abs(price - mid) / mid * HUNDRED for price in prices if price is not None), default=None)
    if away is None:
        return Check(name, False, "unknown", limit, "no price", code)
    return Check(name, away <= percent, f"{away:.2f} %", limit, code=code, over=past(away, percent))


def check_cap(case: Case) -> Check:
    """On live an order that would leave at whatever price is refused; a stop has its trigger (gates.md §8)."""
    leg, form = case.leg, FORMS.get(case.leg.order_type)
    is_capped = leg.limit_price is not None or (form is not None and (form.waits or form.at_auction))
    ok = is_capped or not case.book.is_live
    says = "" if ok else "a live account takes no order at market: name a limit"
    return Check("Price cap", ok, "none" if not is_capped else "named", "on live", says, "price_cap")


def check_period_collar(case: Case) -> Check:
    """How far orders of this instrument have walked since the period's first one."""
    limit, mid = case.bounds.collar_period_percent, case.market.mid
    name, code, words = "Collar over a period", "collar_period_percent", f"{shown(limit)} %"
    price = case.leg.limit_price or case.leg.stop_price or mid
    since = case.book.period_price or mid
    if price is None or since is None:
        return Check(name, False, "unknown", words, "no reference price", code)
    away = abs(price - since) / since * HUNDRED
    return Check(name, away <= limit, f"{away:.2f} %", words, "", code, past(away, limit))


def check_quote(case: Case) -> Check:
    market, limit = case.market, case.bounds.quote_age_max_seconds
    fresh = market.age_seconds is not None and market.age_seconds <= limit
    says = "" if fresh else "too old or missing"
    if market.is_halted:
        says = "the instrument is halted"
    age = "none" if market.age_seconds is None else f"{market.age_seconds:.1f} s"
    ok = fresh and not market.is_halted and market.mid is not None
    return Check("Quote age", ok, age, f"{limit} s", says, "quote_age_max_seconds")


def check_increment(case: Case) -> Check:
    """Every price on the step that holds at it; of a distance, on the step of the order's own prices."""
    leg, name, code = case.leg, "Price step", "price_increment"
    given = {field: value for field in ON_STEP if (value := getattr(leg, field)) is not None}
    if not given:
        return Check(name, True, "no price", "any", code=code)
    base = leg.limit_price or leg.stop_price or case.market.mid or Decimal(0)
    steps = {
        field: leg.step_at(value if field.endswith("_price") else base) for field, value in given.items()
    }
    if not all(steps.values()):
        return Check(name, False, "unknown", "unknown", "the contract's increment is not known", code)
    ok = all(value % (steps[field] or 1) == 0 for field, value in given.items())
    says = "" if ok else "off the contract's increment"
    words = " / ".join(shown(value) for value in given.values())
    allowed = " / ".join(dict.fromkeys(shown(step) for step in steps.values() if step))
    return Check(name, ok, words, allowed, says, code)


def check_size(case: Case) -> Check:
    """Whole units, or the contract's fractions where type, time and hours allow them (ibkr-web-api.md §6.4, o2165)."""
    leg, form = case.leg, FORMS.get(case.leg.order_type)
    fractions = form is not None and form.divides and not leg.outside_hours
    step = (leg.size_increment if fractions else None) or Decimal(1)
    ok = leg.quantity % step == 0
    says = "" if ok else "not in these units" if fractions else "fractions are not offered for this order"
    return Check("Size step", ok, shown(leg.quantity), shown(step), says, "size_increment")


def check_offered(case: Case) -> Check:
    """Whether contracts of this kind have the order type at all."""
    leg, form = case.leg, FORMS.get(case.leg.order_type)
    ok = form is not None and (form.classes is None or leg.asset_class in form.classes)
    classes = "any" if form is None or form.classes is None else ", ".join(sorted(form.classes))
    says = "" if ok else f"{leg.asset_class} has no such order"
    return Check("Order type and contract", ok, named(leg.order_type), classes, says, "order_type_offered")


def check_allowed(case: Case) -> Check:
    """The instrument's own switch, and every list that a narrower set gives."""
    leg = case.leg
    says = "" if leg.is_allowed else "not on the list"
    if not all(leg.symbol in symbols for symbols in case.bounds.symbols):
        says = "not on the list of this bot or account"
    return Check("Instrument", not says, leg.symbol, "allow-list", says, "symbols")


def check_account(case: Case) -> Check:
    account = case.book.account
    ok = all(account in accounts for accounts in case.bounds.accounts)
    return Check("Account", ok, account, "allow-list", "" if ok else "not on this bot's list", "accounts")


def check_asset_class(case: Case) -> Check:
    return _listed("Asset class", case.leg.asset_class, case.bounds.asset_classes, "asset_classes")


def check_order_type(case: Case) -> Check:
    return _listed("Order type", case.leg.order_type, case.bounds.order_types, "order_types")


def check_hours(case: Case) -> Check:
    now, opens, closes = case.book.local_time, case.bounds.opens_at, case.bounds.closes_at
    ok = (opens is None or now >= opens) and (closes is None or now < closes)
    limit = "any" if opens is None and closes is None else f"{opens or ''}–{closes or ''}"
    return Check("Hours", ok, f"{now:%H:%M}", limit, "" if ok else "outside the hours", "hours")


def check_currency(case: Case) -> Check:
    leg, base = case.leg, case.bounds.currency
    ok = leg.rate is not None
    says = "" if ok else "no stored rate converts it, or it is too old"
    return Check("Currency", ok, leg.currency, base, says, "rate_age_max_seconds")


def check_drift(seen: Decimal | None, now: Decimal | None, percent: Decimal) -> Check:
    """How far the mid moved since people looked; unknown on either side refuses."""
    limit = f"{shown(percent)} %"
    if seen is None or now is None or seen <= 0:
        return Check("Price drift", False, "unknown", limit, "no reference price", "drift_percent")
    moved = abs(now - seen) / seen * HUNDRED
    return Check("Price drift", moved <= percent, f"{moved:.2f} %", limit, code="drift_percent")


def _listed(name: str, value: str, allowed: list[str], code: str) -> Check:
    ok = value in (allowed or [])
    words = ", ".join(allowed or []) or "none"
    return Check(name, ok, value, words, "" if ok else "not on the list", code)


ORDER_CHECKS: tuple[Callable[[Case], Check], ...] = (
    check_notional,
    check_collar,
    check_cap,
    check_period_collar,
    check_quantity,
    check_quote,
    check_increment,
    check_size,
    check_offered,
    check_allowed,
    check_account,
    check_asset_class,
    check_order_type,
    check_hours,
    check_currency,
)
