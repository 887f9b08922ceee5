"""Limits: a case in, checks out. No clock, no query, no settings; what is unknown refuses (gates.md §2, §8)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from orders.risk.account import ACCOUNT_CHECKS, check_working
from orders.risk.order import (
    ORDER_CHECKS,
    check_allowed,
    check_drift,
    check_increment,
    check_offered,
    check_order_type,
    check_quantity,
    check_size,
)
from orders.risk.time import TIME_CHECKS
from orders.risk.value import UNIT_CLASSES, effective_multiplier, exposure, notional
from orders.risk.values import (
    DRIFT_PERCENT_MAX,
    Book,
    Bounds,
    Case,
    Ceiling,
    Check,
    Counted,
    Leg,
    Market,
    position_effect,
)

__all__ = [
    "CHECKS",
    "DRIFT_PERCENT_MAX",
    "UNIT_CLASSES",
    "Book",
    "Bounds",
    "Case",
    "Ceiling",
    "Check",
    "Counted",
    "Leg",
    "Market",
    "check_all",
    "check_drift",
    "check_exit",
    "effective_multiplier",
    "exposure",
    "failed",
    "lift",
    "notional",
    "position_effect",
]

CHECKS: tuple[Callable[[Case], Check], ...] = (*ORDER_CHECKS, *ACCOUNT_CHECKS, *TIME_CHECKS)
EXIT_CHECKS: tuple[Callable[[Case], Check], ...] = (
    check_quantity,
    check_increment,
    check_size,
    check_allowed,
    check_offered,
    check_order_type,
    check_working,
)


def check_all(case: Case) -> list[Check]:
    """Every check of an order that adds risk, in the order in which people read them."""
    return [check(case) for check in CHECKS]


def check_exit(case: Case) -> list[Check]:
    """What is looked at of an exit that waits for its entry: it takes back what that opens, and is approved with it.

    Its price may lie outside the collar, and it neither opens nor spends (gates.md §8).
    """
    return [check(case) for check in EXIT_CHECKS]


def lift(checks: Iterable[Check], ceilings: Mapping[str, Ceiling]) -> list[Check]:
    """The checks as they stand once one ticket may pass some limits, by the limit's code."""
    return [_lifted(check, ceilings.get(check.code)) for check in checks]


def _lifted(check: Check, ceiling: Ceiling | None) -> Check:
    if ceiling is None or check.over is None or check.over > ceiling.most or check.limit != ceiling.limit:
        return check
    return replace(check, ok=True, over=None, says="over its limit, by an override")


def failed(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if not check.ok]
