"""`live` is a whole live desk; `admins` are two Administrators in rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator_process import start_simulator


@pytest.fixture
def live(fresh_database, redis_url, settings, tmp_path: Path) -> Iterator[Any]:
    from brokers.connections import close_connections
    from tests.people import desk

    sim = start_simulator(tmp_path / "live", "--live")
    try:
        sim.config(fill_delay=[0.01, 0.02], questions=[])
        yield desk.open_desk(sim, fresh_database, settings)
    finally:
        close_connections()
        sim.stop()


@pytest.fixture
def admins(fresh_database) -> Any:
    from tests.people import desk

    return desk.administrators("erin", "frank")
