"""`desk` needs only rows; `floor` has a broker of its own. Models are imported late: settings need the servers."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def lists_at_once() -> Iterator[None]:
    """Nobody minds how often the simulator's full list is read, which at the broker is once in five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orders.halting.LIST_SECONDS", 0.2)
        patch.setattr("orders.halting.ROUND_SECONDS", 0.05)
        yield


@pytest.fixture
def desk(db) -> Any:
    from tests.orders import world

    return world.build()


@pytest.fixture
def floor(fresh_database, fresh_simulator, redis_url) -> Iterator[Any]:
    """Quick fills and no questions."""
    from brokers.connections import close_connections
    from tests.orders import world

    fresh_simulator.config(fill_delay=[0.01, 0.02], questions=[])
    yield world.connect(fresh_simulator)
    close_connections()
