"""Every limit that there is: its default, its unit, and which of two values is the stricter. The one place.

`Limits` (an account's: complete) and `LimitSet` (narrower: only what it sets) get their columns from this
table, `risk.Bounds` its fields, and the README its list; tests hold them equal.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from brokers.base import OrderType


class Kind:
    """What a limit's value is."""

    AMOUNT, PERCENT, COUNT, FLAG, WORDS, TIME = "amount", "percent", "count", "flag", "words", "time"


@dataclass(frozen=True)
class Limit:
    """`strictest` picks among the values of all sets that apply. `is_counted`: each set counts its own scope.

    `is_lifted`: people may override it for one ticket (orders/overriding.py), as they may what says how much. What
    says how fresh, what kind, when, or that something has gone wrong holds for everybody.
    """

    name: str
    kind: str
    default: Any
    says: str
    strictest: Callable[[Iterable[Any]], Any] = min
    is_counted: bool = False
    is_lifted: bool = False


def common(lists: Iterable[list[str]]) -> list[str]:
    """What every list has: of several lists the strictest."""
    first, *others = lists
    return [word for word in first if all(word in other for other in others)]


def default_asset_classes() -> list[str]:
    return ["STK", "ETF"]


def default_order_types() -> list[str]:
    return [each.value for each in OrderType]


LIMITS: tuple[Limit, ...] = (
    # Of one order.
    Limit(
        "notional_max",
        Kind.AMOUNT,
        Decimal(100_000),
        "value of one order, in the account's currency",
        is_lifted=True,
    ),
    Limit("quantity_max", Kind.AMOUNT, Decimal(10_000), "units of one order", is_lifted=True),
    Limit("collar_percent", Kind.PERCENT, Decimal(5), "order price against the quote's mid", is_lifted=True),
    Limit(
        "collar_period_percent",
        Kind.PERCENT,
        Decimal(10),
        "order price against the mid at the period's first order of the instrument",
        is_lifted=True,
    ),
    Limit("collar_period_seconds", Kind.COUNT, 3_600, "length of that period", max),
    Limit("drift_percent", Kind.PERCENT, Decimal(2), "move of the mid between approval and sending"),
    Limit("quote_age_max_seconds", Kind.COUNT, 15, "age of the quote that an order is judged by"),
    Limit("rate_age_max_seconds", Kind.COUNT, 3_600, "age of a currency rate"),
    Limit("figures_age_max_seconds", Kind.COUNT, 300, "age of the account's money and positions"),
    # Of the account after the order, working and in-doubt orders counted as filled.
    Limit(
        "position_max",
        Kind.AMOUNT,
        Decimal(20_000),
        "units held of one instrument, long or short",
        is_lifted=True,
    ),
    Limit(
        "gross_exposure_max",
        Kind.AMOUNT,
        Decimal(1_000_000),
        "value of everything held, long plus short, in the account's currency",
        is_counted=True,
        is_lifted=True,
    ),
    Limit(
        "leverage_max",
        Kind.PERCENT,
        Decimal(2),
        "gross exposure as a multiple of net liquidation",
        is_lifted=True,
    ),
    Limit(
        "working_orders_per_side_max",
        Kind.COUNT,
        15,
        "working orders of one instrument and side",
        is_lifted=True,
    ),
    Limit("cushion_min", Kind.PERCENT, Decimal("0.1"), "excess liquidity as a share of net liquidation", max),
    Limit(
        "look_ahead_excess_min", Kind.AMOUNT, Decimal(0), "excess liquidity after the next margin change", max
    ),
    Limit("day_trades_left_min", Kind.COUNT, 1, "day trades that the broker still allows", max),
    # Over time.
    Limit("daily_loss_max", Kind.AMOUNT, Decimal(5_000), "loss since the trading day began"),
    Limit(
        "daily_turnover_max",
        Kind.AMOUNT,
        Decimal(1_000_000),
        "value sent in the trading day",
        is_counted=True,
        is_lifted=True,
    ),
    Limit(
        "daily_orders_max", Kind.COUNT, 500, "orders sent in the trading day", is_counted=True, is_lifted=True
    ),
    Limit(
        "orders_per_minute_max", Kind.COUNT, 60, "orders sent within 60 s", is_counted=True, is_lifted=True
    ),
    Limit(
        "messages_per_minute_max",
        Kind.COUNT,
        120,
        "orders, cancels and amendments sent within 60 s",
        is_counted=True,
        is_lifted=True,
    ),
    Limit("repeats_max", Kind.COUNT, 10, "a bot's orders of the same instrument, side and size in a window"),
    Limit("repeats_window_seconds", Kind.COUNT, 60, "length of that window", max),
    # What may be done at all.
    Limit("allows_opening", Kind.FLAG, True, "orders that open or add to a position", all),
    Limit("allows_reducing", Kind.FLAG, True, "orders that reduce a position", all),
    Limit("allows_flipping", Kind.FLAG, False, "orders that turn long into short or back", all),
    Limit("allows_short_sale", Kind.FLAG, False, "sales of what is not held, written options too", all),
    Limit("asset_classes", Kind.WORDS, default_asset_classes, "asset classes that may be ordered", common),
    Limit("order_types", Kind.WORDS, default_order_types, "order types that may be used", common),
    Limit("opens_at", Kind.TIME, None, "time of day from which orders pass, in the account's zone", max),
    Limit("closes_at", Kind.TIME, None, "time of day until which orders pass, in the account's zone", min),
)
BY_NAME = {limit.name: limit for limit in LIMITS}
COUNTED = tuple(limit.name for limit in LIMITS if limit.is_counted)


def strictest(rows: Iterable[Any]) -> dict[str, Any]:
    """Of each limit the strictest value that any row sets; None where none does."""
    sets = list(rows)
    return {limit.name: _strictest(limit, sets) for limit in LIMITS}


def _strictest(limit: Limit, rows: list[Any]) -> Any:
    # An empty list is a form left blank: it sets nothing.
    values = [
        value for value in (getattr(row, limit.name) for row in rows) if value is not None and value != []
    ]
    return limit.strictest(values) if values else None
