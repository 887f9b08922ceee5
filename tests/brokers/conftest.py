"""Desks for the conformance tests: `desk` shares a simulator in a module, `own` and `live` have theirs."""

from collections.abc import Iterator

import httpx
import pytest

from brokers.base import Broker, BrokerOrderState
from tests.brokers.desk import ADAPTERS, Adapter, Desk, Own
from tests.simulator_process import SimulatorProcess, start_simulator


@pytest.fixture(scope="module", params=ADAPTERS)
def running(request, tmp_path_factory) -> Iterator[tuple[Adapter, SimulatorProcess, bytes]]:
    """One simulator for the module, and one session token: minting is slow."""
    adapter = ADAPTERS[request.param]
    sim = start_simulator(tmp_path_factory.mktemp("broker"), *adapter.options)
    broker = adapter.broker(sim)
    token = broker.mint().secret
    broker.close()
    yield adapter, sim, token
    sim.stop()


@pytest.fixture
def desk(running) -> Iterator[Desk]:
    """An open session, no faults, quick fills."""
    adapter, sim, token = running
    sim.control("DELETE", "/_sim/faults")
    sim.config(
        fills="normal",
        cancel_delay=0.1,
        fill_delay=[0.01, 0.02],
        questions=[],
        price_limit_percent=30,
        availability="RpB",
    )
    broker = adapter.broker(sim, token)
    assert broker.open_session(compete=True).is_up
    yield Desk(adapter, sim, broker)
    # A broker takes only so many working orders of one kind.
    sim.control("DELETE", "/_sim/faults")
    for report in broker.open_orders():
        if report.state is BrokerOrderState.ACCEPTED:
            broker.cancel(report.broker_account_id, report.broker_order_id)
    broker.close()


@pytest.fixture
def hurried(desk: Desk, running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """The desk's broker with little patience for an answer."""
    monkeypatch.setattr("brokers.ibkr.wire.TIMEOUT", httpx.Timeout(60, read=0.6))
    broker = desk.adapter.broker(desk.sim, running[2])
    yield broker
    broker.close()


@pytest.fixture(params=ADAPTERS)
def own(request, tmp_path) -> Iterator[Own]:
    adapter = ADAPTERS[request.param]
    opened = Own(adapter, start_simulator(tmp_path / "broker", *adapter.options))
    yield opened
    opened.close()


@pytest.fixture(params=ADAPTERS)
def live(request, tmp_path) -> Iterator[Own]:
    adapter = ADAPTERS[request.param]
    opened = Own(adapter, start_simulator(tmp_path / "broker", "--live", *adapter.options))
    yield opened
    opened.close()
