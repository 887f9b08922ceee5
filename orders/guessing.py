"""What a difference looks like (gates.md §8). Pure, and a guess for people: nothing is decided on it."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from orders.drift_models import DriftCause

_OURS = re.compile(r"[0-9a-f]{32}")
# A dividend beyond this share of the price is rather something else.
DIVIDEND_MAX = Decimal("0.10")
# Interest is posted in the first days of a month.
INTEREST_DAYS = range(1, 8)
INTEREST_MAX = Decimal("0.02")
FEE_MAX = Decimal(500)
SPLIT_MAX = 50


@dataclass(frozen=True)
class Moved:
    """One holding that differs: units by our book and by the broker."""

    broker_instrument_id: str
    expected: Decimal
    actual: Decimal
    is_option: bool = False
    is_future: bool = False

    @property
    def amount(self) -> Decimal:
        return self.actual - self.expected


@dataclass(frozen=True)
class Holding:
    """Units held and their market price, of what pays in one currency."""

    quantity: Decimal
    price: Decimal | None


def of_stranger(client_order_id: str | None) -> DriftCause:
    """An order or fill that no row of ours explains: ours once where it carries an id of our form."""
    is_ours = bool(client_order_id and _OURS.fullmatch(client_order_id))
    return DriftCause.LOST_RECORD if is_ours else DriftCause.MADE_ELSEWHERE


def of_position(moved: Moved, others: Iterable[Moved], has_cash: bool) -> DriftCause:
    """`others` are the account's further differences of the same round; `has_cash` is whether cash moved, too."""
    if moved.is_option or moved.is_future:
        return DriftCause.ASSIGNMENT if moved.actual == 0 else DriftCause.MADE_ELSEWHERE
    if any(each.is_option for each in others) and moved.amount % 100 == 0:
        return DriftCause.ASSIGNMENT
    if not has_cash and _is_split(moved):
        return DriftCause.SPLIT
    return DriftCause.MADE_ELSEWHERE


def of_cash(
    amount: Decimal,
    *,
    today: date,
    balance: Decimal,
    holdings: Iterable[Holding],
    others: Mapping[str, Decimal],
    positions: Collection[Moved],
) -> DriftCause:
    """`others` are the same round's differences in other currencies, `positions` the units that moved, too."""
    if positions:
        ended = any(each.actual == 0 and (each.is_option or each.is_future) for each in positions)
        return DriftCause.ASSIGNMENT if ended else DriftCause.MADE_ELSEWHERE
    if any(each * amount < 0 for each in others.values()):
        return DriftCause.AUTO_FX
    if any(_pays(amount, each) for each in holdings):
        return DriftCause.DIVIDEND
    if today.day in INTEREST_DAYS and abs(amount) <= abs(balance) * INTEREST_MAX:
        return DriftCause.INTEREST
    if -FEE_MAX <= amount < 0:
        return DriftCause.FEE
    return DriftCause.TRANSFER


def _pays(amount: Decimal, held: Holding) -> bool:
    if not held.quantity or not held.price:
        return False
    each = amount / held.quantity
    return 0 < each <= held.price * DIVIDEND_MAX


def _is_split(moved: Moved) -> bool:
    """As many times as before, or one for several; two places for the ratios of three to two."""
    if not moved.expected or moved.expected * moved.actual <= 0:
        return False
    ratio = moved.actual / moved.expected
    return any((ratio * part) % 1 == 0 or (part / ratio) % 1 == 0 for part in (1, 2)) and (
        Decimal(1) / SPLIT_MAX <= ratio <= SPLIT_MAX
    )
