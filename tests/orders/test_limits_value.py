"""Notional, held against a table that was computed by hand (gates.md §8); what is unknown is None."""

from dataclasses import replace
from decimal import Decimal

import pytest

from brokers.base import OrderType, Side
from orders.limit_table import LIMITS, strictest
from orders.models import Limits, LimitSet
from orders.risk import Bounds, Leg, Market, notional

D = Decimal
LIMIT, MARKET, STOP = OrderType.LIMIT, OrderType.MARKET, OrderType.STOP


def bounds(currency: str = "USD") -> Bounds:
    return Bounds(currency=currency, **strictest([Limits()]))


def leg(**changes) -> Leg:
    plain = Leg(
        symbol="X",
        asset_class="STK",
        currency="USD",
        multiplier=D(1),
        price_increment=D("0.01"),
        is_allowed=True,
        side=Side.BUY,
        quantity=D(1),
        order_type=LIMIT,
        limit_price=None,
        stop_price=None,
    )
    return replace(plain, **changes)


def quote(bid: str, ask: str) -> Market:
    return Market(D(bid), D(ask), D(bid), D(1))


# What is ordered, at which market, and its value in the account's currency, by hand.
BY_HAND = {
    # 2 × 6,590.25 × 50
    "ES future": (
        leg(asset_class="FUT", multiplier=D(50), quantity=D(2), limit_price=D("6590.25")),
        quote("6590.00", "6590.25"),
        "659025",
    ),
    # 1,000 × 245.5 pence / 100 = 2,455 GBP × 1.27
    "London stock in pence": (
        leg(currency="GBP", quantity=D(1000), limit_price=D("245.5"), price_magnifier=100, rate=D("1.27")),
        quote("245.4", "245.6"),
        "3117.85",
    ),
    # 100 × 50.20 EUR × 1.1654
    "EUR stock": (
        leg(currency="EUR", quantity=D(100), limit_price=D("50.20"), rate=D("1.1654")),
        quote("50.18", "50.22"),
        "5850.308",
    ),
    # 2 × 100 × 255.32 (the underlying), and not 2 × 100 × 5.00 (the premium)
    "short put, strike below the underlying": (
        leg(
            asset_class="OPT",
            side=Side.SELL,
            multiplier=D(100),
            quantity=D(2),
            limit_price=D("5.00"),
            underlying_price=D("255.32"),
            strike=D(250),
        ),
        quote("4.95", "5.05"),
        "51064",
    ),
    # 2 × 100 × 300: who is put the stock pays the strike
    "short put, strike above the underlying": (
        leg(
            asset_class="OPT",
            side=Side.SELL,
            multiplier=D(100),
            quantity=D(2),
            limit_price=D("46.00"),
            underlying_price=D("255.32"),
            strike=D(300),
        ),
        quote("45.00", "46.00"),
        "60000",
    ),
    # 20,000 EUR × 1.16540 USD
    "FX pair": (
        leg(asset_class="CASH", quantity=D(20000), limit_price=D("1.16540")),
        quote("1.16535", "1.16540"),
        "23308",
    ),
    # 10 × 190.02 × 1.05
    "at market: the ask and the collar": (
        leg(order_type=MARKET, quantity=D(10)),
        quote("189.98", "190.02"),
        "1995.21",
    ),
    # 10 × 195.00 × 1.05: a stop that fires becomes a market order
    "stop above the market: the stop and the collar": (
        leg(order_type=STOP, quantity=D(10), stop_price=D("195.00")),
        quote("189.98", "190.02"),
        "2047.5",
    ),
    # 10 × 190.02 × 1.05: its trigger is under the market
    "at market if touched: the quote and the collar": (
        leg(order_type=OrderType.MARKET_IF_TOUCHED, quantity=D(10), stop_price=D("185.00")),
        quote("189.98", "190.02"),
        "1995.21",
    ),
    # 10 × 189.50
    "limit if touched: its limit": (
        leg(
            order_type=OrderType.LIMIT_IF_TOUCHED, quantity=D(10), stop_price=D(189), limit_price=D("189.50")
        ),
        quote("189.98", "190.02"),
        "1895",
    ),
    # 10 × (190.02 + 2 % of it = 193.8204) × 1.05
    "a buy trails above the market": (
        leg(order_type=OrderType.TRAILING_STOP, quantity=D(10), trailing_percent=D(2)),
        quote("189.98", "190.02"),
        "2035.1142",
    ),
    # 10 × 190.02 × 1.05: a sale trails under the market
    "a sale trails under the market": (
        leg(order_type=OrderType.TRAILING_STOP, side=Side.SELL, quantity=D(10), trailing_amount=D("1.50")),
        quote("189.98", "190.02"),
        "1995.21",
    ),
    # 10 × 196.00 × 1.05: the limit moves, so that it bounds nothing
    "a trailing limit counts with the collar": (
        leg(
            order_type=OrderType.TRAILING_STOP_LIMIT,
            quantity=D(10),
            trailing_amount=D("1.50"),
            stop_price=D("195.00"),
            limit_price=D("196.00"),
        ),
        quote("189.98", "190.02"),
        "2058",
    ),
    # 10 × 190.02 × 1.05
    "at the midpoint without a cap": (
        leg(order_type=OrderType.MIDPRICE, quantity=D(10)),
        quote("189.98", "190.02"),
        "1995.21",
    ),
    # 10 × 191
    "at the midpoint with a cap": (
        leg(order_type=OrderType.MIDPRICE, quantity=D(10), limit_price=D(191)),
        quote("189.98", "190.02"),
        "1910",
    ),
    # 10 × (190.02 + 0.05) × 1.05
    "relative without a cap: the quote, its offset and the collar": (
        leg(order_type=OrderType.RELATIVE, quantity=D(10), offset=D("0.05")),
        quote("189.98", "190.02"),
        "1995.735",
    ),
    # 10 × 190.02 × 1.05
    "at market on close": (
        leg(order_type=OrderType.MARKET_ON_CLOSE, quantity=D(10)),
        quote("189.98", "190.02"),
        "1995.21",
    ),
    # 10 × 191.50
    "limit on close": (
        leg(order_type=OrderType.LIMIT_ON_CLOSE, quantity=D(10), limit_price=D("191.50")),
        quote("189.98", "190.02"),
        "1915",
    ),
    # 1 × 0.01 × 0.00000333 → rounded up
    "a crumb is rounded up": (
        leg(limit_price=D("0.01"), rate=D("0.00000333")),
        quote("0.01", "0.02"),
        "0.00000004",
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_notional_is_what_was_computed_by_hand(case: str) -> None:
    order, market, value = BY_HAND[case]
    assert notional(order, market, bounds()) == D(value)


def test_every_type_is_computed_by_hand_or_refuses() -> None:
    assert {order.order_type for order, _, _ in BY_HAND.values()} >= set(OrderType) - {OrderType.STOP_LIMIT}
    unheard = leg(order_type="pegged_to_the_moon", limit_price=D(5))
    assert notional(unheard, quote("4.99", "5.01"), bounds()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"asset_class": "FUT", "multiplier": None},
        {"asset_class": "FUT", "multiplier": D(0)},
        {"asset_class": "OPT", "multiplier": D(100), "underlying_price": None},
        {"currency": "EUR", "rate": None},
    ],
)
def test_what_is_unknown_has_no_value(changes: dict) -> None:
    assert notional(leg(limit_price=D(5), **changes), quote("4.99", "5.01"), bounds()) is None


def test_without_a_quote_a_market_order_has_no_value() -> None:
    nothing = Market(None, None, None, None)
    assert notional(leg(order_type=MARKET), nothing, bounds()) is None


def test_every_limit_is_a_column_and_a_bound_and_has_a_default() -> None:
    named = {limit.name for limit in LIMITS}
    assert named | {"currency", "symbols", "accounts"} == set(Bounds.__dataclass_fields__)
    for model in (Limits, LimitSet):
        assert named <= {field.name for field in model._meta.fields}, model
    lacking = {limit.name for limit in LIMITS if getattr(Limits(), limit.name) is None}
    assert lacking == {"opens_at", "closes_at"}, "nothing is unlimited by accident"
    assert not Limits().allows_short_sale


def test_the_strictest_of_all_sets_wins() -> None:
    narrow = LimitSet(notional_max=D(10), cushion_min=D("0.3"), order_types=["limit"], allows_opening=False)
    wide = LimitSet(notional_max=D(10**9), cushion_min=D("0.01"), allows_short_sale=True, order_types=[])
    found = strictest([Limits(), narrow, wide])
    assert found["notional_max"] == 10
    assert found["cushion_min"] == D("0.3"), "a minimum is strictest where it is highest"
    assert found["order_types"] == ["limit"]
    assert (found["allows_opening"], found["allows_short_sale"]) == (False, False)
