"""What each order type needs, may have and cannot have: the one table, for every door and every check.

Sources: ibkr-web-api.md §6.1, and the broker's pages of each type for times in force and hours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from brokers.base import OrderType, Side, TimeInForce
from cerbero.errors import ImpossibleOrder

# Every field that only some types have.
FIELDS = ("limit_price", "stop_price", "trailing_amount", "trailing_percent", "offset")
# Of those, what must stand on the contract's price step.
ON_STEP = ("limit_price", "stop_price", "trailing_amount", "offset")
TRAILS = frozenset({"trailing_amount", "trailing_percent"})
HUNDRED = Decimal(100)

DAY, GTC, IOC, OPG, OVERNIGHT = TimeInForce
RESTING = frozenset({DAY, GTC})

SHARES = frozenset({"STK", "ETF"})
NOT_FX = frozenset({"STK", "ETF", "OPT", "FUT", "FOP", "WAR", "BOND"})
# Where one unit costs its price: money can be turned into a quantity.
BY_MONEY = frozenset({"STK", "ETF", "CASH", "CRYPTO"})


@dataclass(frozen=True)
class Form:
    """One type. What is neither needed nor allowed is forbidden; `words` are a sentence's, in its order."""

    words: tuple[tuple[str, str], ...]
    needs: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    # Exactly one of these.
    one_of: frozenset[str] = frozenset()
    times: frozenset[TimeInForce] = RESTING
    # May also trade outside regular hours, where a time in force has such hours at all.
    outside: bool = False
    # Asset classes that have it; None is all of them.
    classes: frozenset[str] | None = None
    # In fractions of a unit, and for an amount of money.
    divides: bool = False
    # Rests unseen until its stop price is met, so that it meets no order before.
    waits: bool = False
    # Fills at the price of the closing auction, as everybody there.
    at_auction: bool = False
    # What the broker may call it once it was triggered or sent to the auction.
    becomes: OrderType | None = None
    # The broker moves its prices with the market: they are not compared with what was approved, nor amended.
    moves: bool = False


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


FORMS: dict[OrderType, Form] = {
    OrderType.MARKET: Form((("", "at market"),), times=frozenset({DAY, GTC, IOC, OPG}), divides=True),
    OrderType.LIMIT: Form(
        (("limit_price", "limit"),),
        needs=_names("limit_price"),
        times=frozenset(TimeInForce),
        outside=True,
        divides=True,
    ),
    OrderType.STOP: Form(
        (("stop_price", "stop"),),
        needs=_names("stop_price"),
        divides=True,
        waits=True,
        becomes=OrderType.MARKET,
    ),
    OrderType.STOP_LIMIT: Form(
        (("stop_price", "stop"), ("limit_price", "limit")),
        needs=_names("stop_price", "limit_price"),
        outside=True,
        divides=True,
        waits=True,
        becomes=OrderType.LIMIT,
    ),
    OrderType.MARKET_IF_TOUCHED: Form(
        (("stop_price", "at market if touched"),),
        needs=_names("stop_price"),
        waits=True,
        becomes=OrderType.MARKET,
    ),
    OrderType.LIMIT_IF_TOUCHED: Form(
        (("stop_price", "if touched"), ("limit_price", "limit")),
        needs=_names("stop_price", "limit_price"),
        outside=True,
        waits=True,
        becomes=OrderType.LIMIT,
    ),
    OrderType.TRAILING_STOP: Form(
        (("trail", "trailing stop"), ("stop_price", "from")),
        may=_names("stop_price"),
        one_of=TRAILS,
        waits=True,
        becomes=OrderType.MARKET,
        moves=True,
    ),
    OrderType.TRAILING_STOP_LIMIT: Form(
        (("trail", "trailing stop"), ("stop_price", "from"), ("limit_price", "limit")),
        needs=_names("stop_price", "limit_price"),
        one_of=TRAILS,
        outside=True,
        waits=True,
        becomes=OrderType.LIMIT,
        moves=True,
    ),
    OrderType.MIDPRICE: Form(
        (("", "at the midpoint"), ("limit_price", "no worse than")),
        may=_names("limit_price"),
        times=frozenset({DAY}),
        classes=SHARES,
    ),
    OrderType.RELATIVE: Form(
        (("offset", "relative by"), ("limit_price", "no worse than")),
        needs=_names("offset"),
        may=_names("limit_price"),
        classes=NOT_FX,
    ),
    OrderType.MARKET_ON_CLOSE: Form(
        (("", "at market on close"),),
        times=frozenset({DAY}),
        at_auction=True,
        classes=NOT_FX,
        becomes=OrderType.MARKET,
    ),
    OrderType.LIMIT_ON_CLOSE: Form(
        (("limit_price", "on close limit"),),
        needs=_names("limit_price"),
        times=frozenset({DAY}),
        classes=NOT_FX,
        becomes=OrderType.LIMIT,
    ),
}
# What rests unseen, for SQL.
WAITING = sorted(kind.value for kind, form in FORMS.items() if form.waits)


@dataclass(frozen=True)
class Problem:
    """Why an order is impossible: a stable code, the field that it stands at, and a sentence."""

    code: str
    field: str
    says: str

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "field": self.field, "says": self.says}


def named(name: str) -> str:
    return name.replace("_", " ")


def given(terms: Any) -> set[str]:
    return {name for name in FIELDS if getattr(terms, name, None) is not None}


def problems(terms: Any) -> list[Problem]:
    """Everything that makes these terms impossible whatever the contract is; empty when nothing does.

    `terms` has an order's fields: a proposal, or a row.
    """
    form = FORMS[OrderType(terms.order_type)]
    return [problem for rule in _RULES for problem in rule(form, terms)]


def require_possible(*legs: Any) -> None:
    """Raises ImpossibleOrder with every problem of an order, or of each leg of a group."""
    found = [problem for leg in legs for problem in problems(leg)]
    if len(legs) > 1 and any(leg.cash_quantity is not None for leg in legs):
        says = "The orders of a group have quantities, and no cash quantity."
        found.append(Problem("cash_quantity", "cash_quantity", says))
    if found:
        raise ImpossibleOrder(
            " ".join(problem.says for problem in found), problems=[problem.as_json() for problem in found]
        )


def trail_from(order: Any, price: Decimal) -> Decimal | None:
    """Where a trail that begins at `price` puts its stop; None where nothing trails."""
    away = order.trailing_amount
    if away is None and order.trailing_percent is not None:
        away = price * order.trailing_percent / HUNDRED
    if away is None:
        return None
    return price + away if order.side == Side.BUY else price - away


def _missing(form: Form, terms: Any) -> Iterator[Problem]:
    for name in sorted(form.needs - given(terms)):
        yield Problem("missing", name, f"A {named(terms.order_type)} order needs a {named(name)}.")


def _one_of(form: Form, terms: Any) -> Iterator[Problem]:
    if form.one_of and len(form.one_of & given(terms)) != 1:
        words = " or a ".join(named(name) for name in sorted(form.one_of))
        yield Problem(
            "one_of", min(form.one_of), f"A {named(terms.order_type)} order needs a {words}: one of the two."
        )


def _not_taken(form: Form, terms: Any) -> Iterator[Problem]:
    for name in sorted(given(terms) - form.needs - form.may - form.one_of):
        yield Problem("not_taken", name, f"A {named(terms.order_type)} order has no {named(name)}.")


def _positive(form: Form, terms: Any) -> Iterator[Problem]:
    for name in ("quantity", "cash_quantity", *FIELDS):
        value = getattr(terms, name, None)
        if value is not None and value <= 0:
            yield Problem("not_positive", name, f"The {named(name)} must be above nought.")
    percent = terms.trailing_percent
    if percent is not None and percent >= HUNDRED:
        yield Problem("too_far", "trailing_percent", "The trailing percent must be below 100.")


def _time(form: Form, terms: Any) -> Iterator[Problem]:
    if terms.time_in_force not in form.times:
        words = ", ".join(sorted(form.times))
        yield Problem(
            "time_in_force",
            "time_in_force",
            f"A {named(terms.order_type)} order cannot be {terms.time_in_force}; it can be: {words}.",
        )


def _hours(form: Form, terms: Any) -> Iterator[Problem]:
    if not terms.outside_hours:
        return
    if not form.outside:
        yield Problem(
            "outside_hours",
            "outside_hours",
            f"A {named(terms.order_type)} order does not trade outside regular hours.",
        )
    elif terms.time_in_force in {OPG, OVERNIGHT}:
        yield Problem(
            "outside_hours", "outside_hours", f"An order that is {terms.time_in_force} has hours of its own."
        )


def _size(form: Form, terms: Any) -> Iterator[Problem]:
    cash = terms.cash_quantity
    if (terms.quantity is None) == (cash is None):
        yield Problem("quantity", "quantity", "Give either a quantity or a cash quantity.")
    if cash is not None and (not form.divides or form.waits):
        yield Problem(
            "cash_quantity",
            "cash_quantity",
            f"A {named(terms.order_type)} order is not sized by money; say its quantity.",
        )


_RULES: tuple[Callable[[Form, Any], Iterator[Problem]], ...] = (
    _missing,
    _one_of,
    _not_taken,
    _positive,
    _time,
    _hours,
    _size,
)
