"""Attempts to pass the gate. Each test is one; what became of it is judged by the simulator's book and the trail.

`siege` is one desk with a broker for the whole folder, put back into order before each test; `attempt` judges.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from tests.rig import Database, Servers, django_uses
from tests.simulator_process import start_simulator

# By the test's id: workers finish in any order, and the table stands in one.
FOUND: dict[str, dict[str, Any]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        for name, row in report.user_properties:
            if name == "attempt":
                FOUND[report.nodeid] = row  # type: ignore[assignment]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of `make adversarial`: each attempt, and which entries of the trail tell of it."""
    if not FOUND:
        return
    write = terminalreporter.write_line
    terminalreporter.section("attempts to pass the gate")
    write(f"{'attempt':<98} {'opened':>6} {'sent':>4}  told by")
    for _, row in sorted(FOUND.items()):
        write(f"{row['name'][:98]:<98} {row['opened']:>6} {row['sent']:>4}  {row['told_by'] or 'NOBODY'}")


def pytest_unconfigure() -> None:
    """Last of all its sums, as one line of JSON."""
    if FOUND:
        print(json.dumps(sums(FOUND.values())))  # noqa: T201


def sums(rows: Collection[dict[str, Any]]) -> dict[str, int]:
    return {
        "attempts": len(rows),
        "opened": sum(row["opened"] for row in rows),
        "sent": sum(row["sent"] for row in rows),
        "unaudited": sum(not row["told_by"] for row in rows),
    }


@pytest.fixture(scope="package")
def adversarial_database(
    migrated: Servers, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Database]:
    """The folder's own database. The run's is set up before it: it would close the door to this one."""
    database = migrated.create_database()
    with django_db_blocker.unblock(), django_uses(database), pytest.MonkeyPatch.context() as patch:
        # Nobody attacks the request budget here, and waiting for it would be most of the time.
        patch.setattr("brokers.pacing.REQUESTS_PER_SECOND", 100)
        yield database
    migrated.drop_database(database.name)


@pytest.fixture(scope="package")
def besieged(adversarial_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from brokers.connections import close_connections
    from tests.adversarial.siege import Siege

    running = start_simulator(tmp_path_factory.mktemp("besieged"))
    with pytest.MonkeyPatch.context() as patch:
        # The request budget is tested by test_pacing.py; here it would only make everybody wait.
        patch.setattr("brokers.pacing.REQUESTS_PER_SECOND", 100)
        siege = Siege.lay(running, adversarial_database)
        yield siege
        siege.disarm()
    close_connections()
    running.stop()


@pytest.fixture
def siege(besieged: Any) -> Any:
    besieged.put_in_order()
    return besieged


@pytest.fixture
def attempt(siege: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the test tells of its attempt; judged when the test is over, whatever it asserted itself."""
    from tests.adversarial.siege import Attempt

    told = Attempt(siege, request.node.name)
    yield told
    row = told.judge()
    request.node.user_properties.append(("attempt", row))
    assert (row["opened"], row["sent"]) == (0, 0), row
    assert row["told_by"], "nobody would learn of this attempt"
