"""The checks over time: rates, the trading day, repetition. Each set of limits counts its own scope."""

from collections.abc import Callable
from decimal import Decimal

from orders.risk.value import notional
from orders.risk.values import Case, Check, Counted, money, most_past, shown

Value = Callable[[Case, Counted], Decimal | int | None]


def loss_today(net_liquidation: Decimal | None, day_start: Decimal | None) -> Decimal | None:
    """What the account lost since its trading day began, deposits and withdrawals included; None is unknown."""
    if net_liquidation is None or day_start is None:
        return None
    return max(day_start - net_liquidation, Decimal(0))


def check_loss(case: Case) -> Check:
    """Reaching the limit is enough."""
    loss, limit = loss_today(case.book.net_liquidation, case.book.day_start), case.bounds.daily_loss_max
    says = (
        "" if loss is not None else "cannot be computed: the account's money at the day's start is not known"
    )
    ok = loss is not None and loss < limit
    return Check("Daily loss", ok, money(loss), shown(limit), says, "daily_loss_max")


def check_turnover(case: Case) -> Check:
    return _tightest(case, "Daily turnover", "daily_turnover_max", _turnover)


def check_orders_today(case: Case) -> Check:
    return _tightest(case, "Orders today", "daily_orders_max", lambda _, row: row.orders_day + case.together)


def check_order_rate(case: Case) -> Check:
    return _tightest(
        case, "Orders a minute", "orders_per_minute_max", lambda _, row: row.orders_minute + case.together
    )


def check_message_rate(case: Case) -> Check:
    return _tightest(
        case,
        "Messages a minute",
        "messages_per_minute_max",
        lambda _, row: row.messages_minute + case.together,
    )


def check_repeats(case: Case) -> Check:
    """The same again and again is a program gone wild: whoever reaches this is halted."""
    value, limit = case.book.repeats + 1, case.bounds.repeats_max
    says = "" if value <= limit else "the same order too often: the bot is halted until a person resumes it"
    return Check("Repetition", value <= limit, shown(value), shown(limit), says, "repeats_max")


def _turnover(case: Case, row: Counted) -> Decimal | None:
    value = notional(case.leg, case.market, case.bounds)
    return None if value is None or row.turnover is None else row.turnover + value


def _tightest(case: Case, name: str, code: str, value_of: Value) -> Check:
    """Of every set that has this limit, the one with the least left; an unknown value refuses."""
    rows = [row for row in case.book.counted if code in row.limits]
    if not rows:
        return Check(name, False, "unknown", "unknown", "no limit is set", code)
    found = []
    for row in rows:
        value = value_of(case, row)
        if value is None:
            return Check(name, False, "unknown", shown(row.limits[code]), "cannot be computed", code)
        found.append((value, row.limits[code], row.scope))
    over = most_past((value, limit) for value, limit, _ in found)
    value, limit, scope = min(found, key=lambda each: each[1] - each[0])
    text = money(value) if isinstance(value, Decimal) else shown(value)
    says = f"counted for {scope}" if len(found) > 1 else ""
    return Check(name, value <= limit, text, shown(limit), says, code, over)


TIME_CHECKS: tuple[Callable[[Case], Check], ...] = (
    check_loss,
    check_turnover,
    check_orders_today,
    check_order_rate,
    check_message_rate,
    check_repeats,
)
