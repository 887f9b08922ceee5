"""A running simulator and a client of the tests' own."""

import pytest

from tests.brokers.simulator.wire_client import WireClient
from tests.simulator_process import start_simulator


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    process = start_simulator(tmp_path_factory.mktemp("simulator"))
    yield process
    process.stop()


@pytest.fixture
def stranger(simulator):
    """A client that has no token yet."""
    client = WireClient(simulator.credentials)
    yield client
    client.close()


@pytest.fixture
def client(simulator, stranger):
    """A client ready to trade, in a quiet market that fills nothing by itself but what a test asks for."""
    simulator.control("DELETE", "/_sim/faults")
    simulator.config(
        fills="normal", questions=[], no_data_conids=[], freeze=False, stale_reply_goes_live=False
    )
    simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
    return stranger.bring_up()
