"""`desk` in a rolled-back transaction, `lasting_desk` where commits, races and crashes count."""

from itertools import count
from threading import Lock
from typing import Any

import pytest

# Making a pair takes a tenth of a second; each test is given them in the same order.
PAIRS: list[Any] = []


@pytest.fixture(autouse=True)
def pairs_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from brokers.generation import new_pair

    numbers, one_at_a_time = count(), Lock()

    def next_pair() -> Any:
        with one_at_a_time:
            if (number := next(numbers)) == len(PAIRS):
                PAIRS.append(new_pair())
            return PAIRS[number]

    monkeypatch.setattr("keyrotation.services.new_pair", next_pair)
    monkeypatch.setattr("keyrotation.sweep.new_pair", next_pair)


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
