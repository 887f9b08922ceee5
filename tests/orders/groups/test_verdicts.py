"""The rule for half-taken groups, over rows that are never stored: what is canceled, completed and said."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orders.groups.verdicts import LINGER, verdict
from orders.models import Order

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
TEN = Decimal(10)


def _order(number: int, status: str, filled: Any = 0, **fields: Any) -> Order:
    fields = {"broker_order_id": "" if status == "rejected" else f"{number}", "reported_at": NOW} | fields
    side = "buy" if number == 1 else "sell"
    return Order(
        number=number, side=side, quantity=TEN, status=status, filled_quantity=Decimal(filled), **fields
    )


def _bracket(*told: Any) -> list[Order]:
    """Each leg by its status, or by its status and what of it filled."""
    pairs = [each if isinstance(each, tuple) else (each, TEN if each == "filled" else 0) for each in told]
    return [_order(number, *pair) for number, pair in enumerate(pairs, 1)]


@pytest.mark.parametrize(
    ("told", "state", "canceled"),
    [
        (("accepted", "accepted", "accepted"), "", []),
        (("submitted", "submitted", "submitted"), "", []),
        (("filled", "accepted", "accepted"), "", []),
        (("filled", "filled", "canceled"), "settled", []),
        (("filled", "canceled", "filled"), "settled", []),
        (("canceled", "canceled", "canceled"), "settled", []),
        (("rejected", "rejected", "rejected"), "settled", []),
        (("accepted", "accepted", "rejected"), "unwinding", [1]),
        (("accepted", "rejected", "accepted"), "unwinding", [1]),
        (("rejected", "accepted", "accepted"), "unwinding", [2, 3]),
        (("filled", "accepted", "rejected"), "completing", [2]),
        ((("partially_filled", 4), "accepted", "rejected"), "completing", [1, 2]),
        (("filled", "accepted", "canceled"), "naked", []),
        (("filled", "canceled", "expired"), "naked", []),
        (("filled", "rejected", "accepted"), "", []),
        (("filled", "filled", "accepted"), "", []),
    ],
)
def test_a_bracket_is_judged_by_what_the_broker_has_of_it(told, state, canceled):
    found = verdict("bracket", _bracket(*told), NOW)
    assert (found.state, [order.number for order in found.cancel]) == (state, canceled)
    assert bool(found.says) == (
        state in {"unwinding", "completing", "naked"} or told == ("filled", "rejected", "accepted")
    )


def test_the_missing_stop_is_sent_again_when_nothing_else_works():
    orders = _bracket("filled", "canceled", "rejected")
    found = verdict("bracket", orders, NOW)
    assert found.complete is orders[2]
    assert "NAKED" in found.says
    assert found.is_urgent


def test_what_completed_it_protects_and_when_that_is_refused_it_is_naked():
    orders = _bracket("filled", "canceled", "rejected")
    again = _order(4, "accepted", completes_id=orders[2].pk)
    assert verdict("bracket", [*orders, again], NOW).state == ""
    lost = _order(4, "rejected", completes_id=orders[2].pk)
    found = verdict("bracket", [*orders, lost], NOW)
    assert (found.state, found.complete) == ("naked", None)
    done = _order(4, "filled", TEN, completes_id=orders[2].pk)
    assert verdict("bracket", [*orders, done], NOW).state == "settled"


def test_an_oto_whose_exit_was_refused_is_unwound_or_completed():
    assert verdict("oto", _bracket("accepted", "rejected"), NOW).state == "unwinding"
    filled = _bracket("filled", "rejected")
    assert verdict("oto", filled, NOW).complete is filled[1]


@pytest.mark.parametrize(
    ("told", "state", "canceled"),
    [
        (("accepted", "accepted"), "", []),
        (("accepted", "rejected"), "unwinding", [1]),
        (("rejected", "accepted"), "unwinding", [2]),
        (("filled", "rejected"), "settled", []),
        (("filled", "accepted"), "", []),
        (("filled", "canceled"), "settled", []),
    ],
)
def test_of_an_oco_half_taken_the_other_half_is_canceled(told, state, canceled):
    found = verdict("oco", _bracket(*told), NOW)
    assert (found.state, [order.number for order in found.cancel]) == (state, canceled)


def test_what_the_broker_leaves_behind_is_canceled_after_a_moment():
    late = NOW + LINGER + timedelta(seconds=1)
    for group, told in (("oco", ("filled", "accepted")), ("bracket", ("filled", "filled", "accepted"))):
        found = verdict(group, _bracket(*told), late)
        assert (found.state, [order.status for order in found.cancel]) == ("unwinding", ["accepted"])


def test_a_stop_that_somebody_canceled_is_said_and_pages_nobody_at_night():
    orders = _bracket("filled", "accepted", "canceled")
    orders[2].cancel_requested_at = NOW
    found = verdict("bracket", orders, NOW)
    assert (found.state, found.is_urgent) == ("naked", False)
    assert "on request" in found.says


def test_only_what_went_with_the_entrys_cancel_is_sent_again():
    entry, profit, stop = orders = _bracket(("canceled", 4), "canceled", "canceled")
    assert verdict("bracket", orders, NOW).state == "naked", (
        "nobody asked for it: the broker or a person elsewhere did"
    )
    entry.cancel_requested_at = NOW
    found = verdict("bracket", orders, NOW)
    assert (found.state, found.complete, found.is_urgent) == ("completing", stop, True)
    entry.status = "pending_cancel"
    assert (verdict("bracket", orders, NOW).state, verdict("bracket", orders, NOW).complete) == (
        "completing",
        None,
    )
    entry.status, profit.status = "canceled", "accepted"
    assert verdict("bracket", orders, NOW).cancel == (profit,)
    profit.status, stop.reported_at = "canceled", NOW + LINGER * 2
    assert verdict("bracket", orders, NOW).state == "naked", (
        "it rested longer than its entry: somebody ended it"
    )
    stop.reported_at, stop.status = NOW, "expired"
    assert verdict("bracket", orders, NOW).state == "naked"
    stop.status, stop.cancel_requested_at = "canceled", NOW
    assert verdict("bracket", orders, NOW).state == "naked"
