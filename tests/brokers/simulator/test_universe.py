"""What the simulator trades: a table, and what is made of it; the market over it is the same for the same seed."""

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import pytest

from brokers.simulator.calendar import LONDON, VENUES
from brokers.simulator.market import Market, option_value
from brokers.simulator.universe import Universe, before_25th, third_last

TODAY, NOW = date(2026, 11, 23), datetime(2026, 11, 23, 15, tzinfo=UTC)
AAPL, SPY = 265598, 756733


@pytest.fixture
def universe() -> Universe:
    return Universe(TODAY)


def market(universe: Universe, seed: int = 7) -> Market:
    return Market(universe, seed=seed, now=lambda: NOW)


def test_the_table_has_a_world_in_it(universe):
    kinds: dict[str, list] = {}
    for each in universe:
        kinds.setdefault(each.sec_type, []).append(each)
    assert len([i for i in kinds["STK"] if i.is_us]) >= 100
    assert {i.magnifier for i in kinds["STK"] if i.currency == "GBP"} == {100}
    assert {"SPX", "VIX"} <= {i.symbol for i in kinds["IND"]}
    assert {i.symbol for i in kinds["FUT"]} == {"ES", "MES", "NQ", "CL", "GC"}
    assert len(kinds["CASH"]) >= 6
    conids = [each.conid for each in universe]
    assert len(set(conids)) == len(conids)
    known = {"AAPL": 265598, "MSFT": 272093, "SPY": 756733, "PG": 11054, "VTI": 12340041}
    assert {symbol: universe.named(symbol)[0].conid for symbol in known} == known


def test_futures_expire_by_the_rule_of_their_market(universe):
    for symbol in ("ES", "CL", "GC"):
        days = [i.expiry for i in universe.named(symbol, "FUT")]
        assert len(days) >= 4
        assert all(one < other for one, other in pairwise(days))
        assert days[0] >= TODAY
    # The December of 2026: crude oil ends on Friday the 20th of November, gold on Tuesday the 29th of December.
    assert (before_25th(2026, 12), third_last(2026, 12)) == (date(2026, 11, 20), date(2026, 12, 29))
    assert universe.named("CL", "FUT")[0].month == "JAN27"


def test_as_days_pass_new_expiries_are_listed_and_old_ones_stay_known(universe):
    world, front = market(universe), universe.named("ES", "FUT")[0]
    universe.roll(date(2026, 12, 21))
    listed = universe.named("ES", "FUT")
    assert front not in listed
    assert universe.find(front.conid) == front, "it may be held still"
    assert len(listed) == 4
    assert abs(world.quote(listed[-1].conid).mid / world.quote(listed[0].conid).mid - 1) < 0.01
    assert "DEC26" not in universe.option_months(AAPL)


def test_options_are_made_when_they_are_asked_for_and_are_the_same_each_time(universe):
    assert not universe._options
    months = universe.option_months(SPY)
    assert len(months) == 6
    chain = universe.options(SPY, next(iter(months)))
    assert len(chain) == len(universe._options) == 2 * 31
    assert universe.find(chain[5].conid) is chain[5]
    assert Universe(TODAY).find(chain[5].conid) == chain[5]
    assert universe.find(chain[5].conid + 3) is None, "there is no such strike"
    assert Universe(date(2028, 1, 3), since=TODAY).find(chain[5].conid) == chain[5], "it may be held still"
    assert Universe(date(2028, 1, 3)).find(chain[5].conid) is None


@pytest.mark.parametrize("underlying", [AAPL, SPY])
def test_prices_greeks_and_implied_volatility_agree(universe, underlying):
    world = market(universe)
    for _ in range(20):
        world.step(depth=100)
    spot = world.quote(underlying).mid
    for month in universe.option_months(underlying):
        for option in universe.options(underlying, month):
            quote = world.quote(option.conid)
            model, greeks = option_value(option, spot, NOW)
            assert all(each % option.step_at(each) == 0 for each in (quote.bid, quote.ask))
            assert quote.bid - option.tick <= Decimal(str(round(model, 6))) <= quote.ask + option.tick
            assert quote.greeks == greeks
            bump = spot * 1e-4
            up, down = (option_value(option, spot + each, NOW) for each in (bump, -bump))
            assert greeks["delta"] == pytest.approx((up[0] - down[0]) / (2 * bump), abs=2e-3)
            assert greeks["gamma"] == pytest.approx(
                (up[1]["delta"] - down[1]["delta"]) / (2 * bump), rel=0.05
            )
            # A point of volatility moves the price by vega: the volatility that the quote implies is the one told.
            if greeks["vega"] > 0.2:
                middle = float(quote.bid + quote.ask) / 2
                assert abs(middle - model) / greeks["vega"] < 0.5


def test_a_call_and_a_put_of_one_strike_differ_by_the_forward(universe):
    world, spot = market(universe), market(universe).quote(AAPL).mid
    chain = universe.options(AAPL, "JAN27")
    for call, put in zip(chain[::2], chain[1::2], strict=True):
        (one, first), (other, second) = (option_value(each, spot, NOW) for each in (call, put))
        if min(one, other) > 0.01:
            assert one - other == pytest.approx(spot - float(call.strike))
        assert first["delta"] - second["delta"] == pytest.approx(1)
        assert world.quote(call.conid).ask > world.quote(call.conid).bid


def test_the_same_seed_is_the_same_market_whoever_looks_at_options(universe):
    one, other, third = market(universe), market(universe), market(universe, seed=8)
    looked = universe.options(SPY, "DEC26")[10].conid
    one.quote(looked)
    for _ in range(10):
        for each in (one, other, third):
            each.step(depth=100)
    assert one.mids() == other.mids()
    assert one.mids() != third.mids()
    before = one.quote(looked).mid
    one.move(SPY, percent=Decimal(2))
    assert one.quote(looked).mid > before, "an option follows what it is written on"


def test_each_exchange_keeps_its_own_days_and_hours():
    opens, closes = (
        datetime.fromtimestamp(each, UTC) for each in LONDON.hours(date(2026, 12, 24))["regular"]
    )
    assert (opens.hour, closes.hour, closes.minute) == (8, 12, 30)
    assert not LONDON.is_open(date(2026, 12, 28)), "Boxing Day was a Saturday"
    assert not LONDON.is_open(date(2026, 8, 31))
    assert LONDON.is_open(date(2026, 11, 26)), "Thanksgiving is no holiday there"
    assert not VENUES["CME"].is_open(date(2026, 11, 26))
    first, last = VENUES["CME"].hours(date(2026, 11, 23))["extended"]
    assert last - first == 23 * 3600, "it opened the evening before"
