"""Every test runs against real Postgres and Redis, started once for the run.

- `db` (or `django_db`): a rolled-back transaction, as the application's role.
- `fresh_database`: a database of its own, for tests that commit, race or run processes.
- `redis_url`, `servers`: the run's Redis and both servers.
- `simulator`, `fresh_simulator`: the broker simulator, shared or of the test's own.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from cerbero.errors import CannotStart
from tests.rig import FOREIGN, Database, Servers, django_uses, roomy_folder
from tests.shares import in_shares
from tests.simulator_process import SimulatorProcess, start_simulator

SERVERS = pytest.StashKey[Servers]()
CONFORMANCE = "tests/brokers/test_conformance"
# How quick the machine is proves nothing.
hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before pytest-django loads the settings, which need them."""
    # Many processes would compile the same modules anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Simulators and installations write through to the disk, which is slow and proves nothing here.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(roomy_folder()))
    if config.option.help or config.option.version:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in FOREIGN:
        os.environ.pop(name, None)
    try:
        if getattr(config.option, "numprocesses", None):
            # This process only hands tests out: what it set in the environment would reach the workers.
            return Servers.prepare()
        config.stash[SERVERS] = servers = Servers.start()
    except CannotStart as refusal:
        pytest.exit(str(refusal), returncode=3)
    os.environ.update(servers.environment("cerbero"))
    from django.conf import settings

    settings.DATABASES  # noqa: B018  (loads the settings; pytest-django sets Django up next)
    settings.PASSWORD_HASHERS = ["tests.quick.Hasher"]
    # Every test client would read the head of every static file before its first request.
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        items[:] = in_shares(items, workers)


def pytest_unconfigure(config: pytest.Config) -> None:
    if servers := config.stash.get(SERVERS, None):
        servers.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many of the numbered cases that every adapter must pass it did, by the way in."""
    from tests.brokers.desk import ADAPTERS

    counts = {adapter: Counter[str]() for adapter in ADAPTERS}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if CONFORMANCE in report.nodeid and (outcome != "passed" or report.when == "call"):
                named = report.nodeid.partition("[")[2].rstrip("]").split("-")
                for adapter in counts.keys() & set(named):
                    counts[adapter][outcome] += 1
    for adapter, found in counts.items():
        if found:
            words = f"conformance by {adapter}: {found['passed']} of {found.total()} cases passed"
            terminalreporter.write_line(words)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    return pytestconfig.stash[SERVERS]


@pytest.fixture(scope="session")
def migrated(servers: Servers) -> Servers:
    """The servers, with the migrated template in place."""
    servers.migrate_template()
    return servers


@pytest.fixture(scope="session")
def django_db_setup(migrated: Servers, django_test_environment: None, django_db_blocker) -> Iterator[None]:
    """Instead of pytest-django's: the tests' database is a clone of the template, and the role owns nothing."""
    with django_db_blocker.unblock(), django_uses(migrated.create_database()), django_db_blocker.block():
        yield


@pytest.fixture
def fresh_database(
    request: pytest.FixtureRequest, migrated: Servers, django_db_blocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """A database of the test's own, Django's connection included; for commits, threads and other processes."""
    if "db" in request.fixturenames or request.node.get_closest_marker("django_db"):
        pytest.fail("fresh_database and db exclude each other: fresh_database alone is enough")
    database = migrated.create_database()
    monkeypatch.setenv("DATABASE_URL", database.url())
    # What waits for the request budget is tested by test_pacing.py, which sets it again.
    monkeypatch.setattr("brokers.pacing.REQUESTS_PER_SECOND", 100)
    with django_db_blocker.unblock():
        with django_uses(database):
            yield database
        migrated.drop_database(database.name)


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """The run's Redis, emptied before the test."""
    import redis

    with redis.Redis.from_url(servers.redis.url) as client:
        client.flushdb()
    return servers.redis.url


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """One broker for the whole run: for tests that leave it as they found it."""
    running = start_simulator(tmp_path_factory.mktemp("simulator"))
    yield running
    running.stop()


@pytest.fixture
def fresh_simulator(tmp_path: Path) -> Iterator[SimulatorProcess]:
    """A broker of the test's own, for faults, restarts and counting what arrived."""
    running = start_simulator(tmp_path / "simulator")
    yield running
    running.stop()


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """An RSA key is tried for primality whenever it is parsed, as is each prime, and the run's brokers share theirs."""
    from brokers import primes
    from brokers.ibkr import oauth

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oauth, "load_pem_private_key", cache(oauth.load_pem_private_key))
        patch.setattr(primes, "is_prime", cache(primes.is_prime))
        yield


@pytest.fixture(autouse=True)
def stepped_up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`force_login` stands for a person at the beginning of a shift, with a code just given.

    Tests of that asking are marked `asks`.
    """
    from django.test import Client

    from cerbero.people import step_up

    if request.node.get_closest_marker("asks"):
        return
    plain = Client.force_login

    def force_login(self: Client, user: Any, backend: str | None = None) -> None:
        plain(self, user, backend)
        session = self.session
        session[step_up.SESSION_FLAG] = int(time.time())
        session.save()

    monkeypatch.setattr(Client, "force_login", force_login)
