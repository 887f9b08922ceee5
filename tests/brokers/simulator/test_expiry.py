"""What is left of a contract when it has ended: shares at the strike, cash, or nothing."""

from datetime import UTC, datetime, time
from decimal import Decimal

import pytest

from brokers.simulator.exchange import NEW_YORK
from brokers.simulator.universe import Universe, option_conid
from tests.simulator_process import start_simulator

AAPL = 265598


@pytest.fixture
def universe():
    return Universe(datetime.now(UTC).date())


def test_options_are_exercised_assigned_or_worthless_and_futures_settle_in_cash(tmp_path, universe):
    expiry = list(universe.option_months(AAPL).values())[1]
    future = universe.named("ES", "FUT")[1]
    chain = universe.find(AAPL).chain
    held = {
        option_conid(chain, expiry, strike, right): quantity
        for strike, right, quantity in ((240, "C", 2), (240, "P", 1), (245, "C", -1), (260, "P", -3))
    }
    simulator = start_simulator(tmp_path / "state")
    try:
        simulator.config(freeze=True, fills="never")
        simulator.control("POST", "/_sim/price", {"conid": AAPL, "price": "250"})
        for conid, quantity in (held | {future.conid: 2}).items():
            simulator.control("POST", "/_sim/position", {"conid": conid, "quantity": str(quantity)})
        account = simulator.credentials["accounts"][0]
        begun = Decimal(simulator.book()["accounts"][account]["cash"]["USD"])
        simulator.control("POST", "/_sim/price", {"conid": future.conid, "price": str(future.price + 10)})
        told = simulator.book()["accounts"][account]
        assert set(told["positions"]) == {str(each) for each in (*held, future.conid)}
        bid = {"conid": next(iter(held)), "side": "BUY", "quantity": 1, "price": "0.01", "tif": "GTC"}
        resting = simulator.control("POST", "/_sim/manual_order", bid)["order_id"]

        after = datetime.combine(max(expiry, future.expiry), time(20, 1), NEW_YORK)
        simulator.control("POST", "/_sim/clock", {"to": after.isoformat()})
        book = simulator.book()
        ended = book["accounts"][account]
        assert ended["positions"] == {str(AAPL): "400"}
        shares = Decimal(-200 * 240 + 100 * 245 - 300 * 260)
        gained = Decimal(ended["cash"]["USD"]) - begun - shares
        assert abs(gained - 2 * 50 * 10) <= 2 * 50, "within a step of the price that it was held at"
        (order,) = [each for each in book["orders"] if each["order_id"] == resting]
        assert order["status"] == "Cancelled"
        simulator.control("POST", "/_sim/clock", {"next": "reset"})
        with pytest.raises(AssertionError, match="No contract"):
            simulator.control("POST", "/_sim/manual_order", bid)
    finally:
        simulator.stop()
    again = start_simulator(tmp_path / "state")
    try:
        assert again.book()["accounts"][account]["positions"] == ended["positions"]
        assert again.book()["accounts"][account]["cash"] == ended["cash"]
    finally:
        again.stop()
