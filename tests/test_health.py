"""Health says what works, to anybody, without saying what nobody should know."""

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from brokers.models import FEED_SILENT_SECONDS, Account, Login, SessionState
from cerbero import health, leases
from cerbero.models import Lease
from tests.doors import GRANIAN, serve
from tests.rig import Database

PROBE_SECONDS = health.PROBE_SECONDS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a probe may take longer than anybody should be kept waiting."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 60.0)


def mark_all(age: timedelta = timedelta()) -> None:
    for name in leases.MARKS:
        Lease.objects.update_or_create(name=name, defaults={"succeeded_at": Now() - age})


def make_login(**changes: object) -> Login:
    now = timezone.now()
    fields = {"state": SessionState.UP, "tickled_at": now, "feed_alive_at": now} | changes
    return Login.objects.create(name="paper-login", environment="paper", **fields)


def named(found: dict) -> dict[str, dict]:
    return {record["name"]: record for record in (*found["dependencies"], *found["logins"])}


def test_alive_asks_nobody(client: Client, settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert response["Cache-Control"] == "no-store"


def test_ready_when_everything_has_lately_succeeded(fresh_database: Database, client: Client) -> None:
    mark_all()
    make_login()
    found = client.get("/health/ready").json()
    assert found["status"] == "ready", found
    assert set(named(found)) == {"postgres", "redis", "paper-login", "beat", *leases.MARKS}
    login = named(found)["paper-login"]
    assert (login["state"], login["environment"]) == ("up", "paper")
    assert login["tickled_at"].endswith("Z")
    assert 0 <= login["feed_age_seconds"] < FEED_SILENT_SECONDS


def test_a_beat_that_lags_is_its_own_line(fresh_database: Database) -> None:
    mark_all()
    Lease.objects.filter(name__startswith="beat:").update(succeeded_at=Now() - timedelta(seconds=15))
    found = health.examine()
    assert [record["name"] for record in found["dependencies"] if not record["is_ok"]] == ["beat"]


@pytest.mark.parametrize("name", sorted(leases.MARKS))
def test_degraded_when_one_process_is_silent_or_never_spoke(fresh_database: Database, name: str) -> None:
    mark_all()
    old = timedelta(seconds=leases.MARKS[name] + 5)
    Lease.objects.filter(name=name).update(succeeded_at=Now() - old)
    found = health.examine()
    assert found["status"] == "degraded"
    assert [record["name"] for record in found["dependencies"] if not record["is_ok"]] == [name]
    assert "silent" in named(found)[name]["detail"]
    Lease.objects.filter(name=name).delete()
    assert named(health.examine())[name]["detail"] == "has not succeeded yet"


@pytest.mark.parametrize(
    "changes",
    [
        {"state": SessionState.COMPETING},
        {"feed_alive_at": None},
        {"feed_alive_at": timezone.now() - timedelta(minutes=5)},
    ],
)
def test_degraded_when_a_login_is_down_or_its_feed_is_silent(fresh_database: Database, changes: dict) -> None:
    mark_all()
    make_login(**changes)
    found = health.examine()
    assert (found["status"], named(found)["paper-login"]["is_ok"]) == ("degraded", False)


def test_a_login_that_is_switched_off_is_not_missed(fresh_database: Database) -> None:
    mark_all()
    make_login(is_enabled=False, state=SessionState.DOWN)
    assert health.examine()["status"] == "ready"


def test_degraded_without_redis(fresh_database: Database, settings) -> None:
    mark_all()
    settings.REDIS_URL = "redis://:hunter2@127.0.0.1:1/0"
    found = health.examine()
    assert found["status"] == "degraded"
    assert named(found)["redis"] == {"name": "redis", "is_ok": False, "detail": "ConnectionError"}
    assert "hunter2" not in str(found)


def test_a_probe_that_hangs_is_given_up_after_two_seconds(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROBE_SECONDS == 2
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.5)
    mark_all()
    over = threading.Event()
    monkeypatch.setitem(health._PROBES, "redis", lambda: {"waited": over.wait(60)})
    found = health.examine()
    is_answered_before = not over.is_set()
    over.set()
    assert (is_answered_before, named(found)["redis"]["detail"]) == (True, "no answer within 0.5 s")


def test_no_account_number_is_shown_even_where_the_broker_named_one(
    fresh_database: Database, client: Client
) -> None:
    login = make_login(state=SessionState.NOT_ESTABLISHED, state_detail="account DU7654321 is not approved")
    Account.objects.create(login=login, broker_account_id="DU7654321")
    text = client.get("/health/ready").content.decode()
    assert "DU7654321" not in text
    assert "is not approved" in text


@pytest.mark.parametrize(("fails", "status"), [(False, 200), (True, 503)])
def test_degraded_is_200_unless_the_operator_asks_for_503(
    fresh_database: Database, client: Client, settings, fails: bool, status: int
) -> None:
    settings.READY_FAILS_ON_DEGRADED = fails
    assert client.get("/health/ready").status_code == status
    mark_all()
    assert client.get("/health/ready").status_code == 200


def test_metrics_count_calls_and_rows_and_name_nobody(fresh_database: Database, client: Client) -> None:
    login = make_login()
    Account.objects.create(login=login, broker_account_id="DU7654321")
    text = client.get("/metrics").content.decode()
    for line in (
        "cerbero_database_up 1.0",
        'cerbero_orders{status="filled"} 0.0',
        "cerbero_attempts_in_doubt 0.0",
        "cerbero_decisions_waiting 0.0",
        "cerbero_logins_enabled 1.0",
        "cerbero_sessions_up 1.0",
        "cerbero_unsealed_entries 0.0",
        "# TYPE cerbero_tool_calls_total counter",
        "# TYPE cerbero_tool_seconds histogram",
    ):
        assert line in text, line
    assert "DU7654321" not in text
    assert "paper-login" not in text


def test_without_postgres_it_is_alive_and_not_ready_and_metrics_say_so(
    fresh_database: Database, tmp_path: Path
) -> None:
    gone = fresh_database.url().replace(fresh_database.name, "no_such_database")
    with serve(
        fresh_database, tmp_path, *GRANIAN, "tests.sample_wsgi:application", DATABASE_URL=gone
    ) as tools:
        assert tools.ask("/health")[0] == 200
        status, _, body = tools.ask("/health/ready")
        assert (status, json.loads(body)["status"]) == (200, "not_ready")
        assert "no_such_database" not in body.decode()
        status, _, body = tools.ask("/metrics")
        assert (status, b"cerbero_database_up 0.0" in body) == (200, True)
