"""`desk` in a rolled-back transaction, `lasting_desk` where commits, races and crashes count."""

from typing import Any

import pytest


@pytest.fixture
def desk(db) -> Any:
    from tests.keyrotation import keys

    return keys.build()


@pytest.fixture
def lasting_desk(fresh_database) -> Any:
    from tests.keyrotation import keys

    return keys.build()


@pytest.fixture
def portal(fresh_database, fresh_simulator) -> Any:
    from brokers.connections import close_connections
    from tests.keyrotation import portal

    yield portal.open_portal(fresh_simulator)
    close_connections()
