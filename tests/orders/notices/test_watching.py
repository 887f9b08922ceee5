"""Whatever is dead or silent is told once, and over when it is back; planned nights and a start page nobody."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from brokers.models import Login, SessionState
from cerbero import access
from cerbero.leases import MARKS
from cerbero.models import Lease
from orders.notices import watching
from orders.notices.models import Delivery, Outage
from tests.orders.notices.test_sending import Receiver, deliver, webhook

ACTOR = access.system("watch")
pytestmark = pytest.mark.django_db


@pytest.fixture
def login() -> Login:
    """An installation in which everything is well, and one place that is told."""
    webhook("desk")
    mark(*MARKS)
    long_ago = timezone.now() - timedelta(hours=1)
    return Login.objects.create(
        name="desk-paper",
        environment="paper",
        base_url="http://127.0.0.1:1/v1/api",
        state=SessionState.UP,
        state_changed_at=long_ago,
        feed_alive_at=timezone.now(),
    )


def mark(*names: str, seconds_ago: float = 0) -> None:
    at = Now() - timedelta(seconds=seconds_ago)
    for name in names:
        Lease.objects.update_or_create(name=name, defaults={"succeeded_at": at})


def change(login: Login, **fields: Any) -> None:
    Login.objects.filter(pk=login.pk).update(**fields)


def look(*, is_settled: bool = True) -> list[str]:
    """One look; returns what is not well after it."""
    watching.watch(actor=ACTOR, is_settled=is_settled)
    return sorted(Outage.objects.running().values_list("name", flat=True))


def dead(login: Login, state: str, seconds: float = 3) -> None:
    since = timezone.now() - timedelta(seconds=seconds)
    change(login, state=state, state_detail="The broker's words.", state_changed_at=since)


def test_a_well_installation_says_nothing(login: Login) -> None:
    assert look() == []
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    "state", ["expired", "competing", "not_established", "unreachable", "locked_out", "mismatched"]
)
def test_a_dead_session_is_told_once_and_leaves_at_once(login: Login, state: str) -> None:
    dead(login, state)
    assert look() == look(is_settled=False) == ["session:desk-paper"]
    receiver = Receiver()
    assert deliver(receiver) == 1
    said = receiver.heard[0][1].decode()
    assert "session:desk-paper" in said
    assert SessionState(state).label in said
    change(login, state=SessionState.UP)
    assert look() == []
    # It comes and goes: one outage, told once.
    dead(login, state)
    assert look() == ["session:desk-paper"]
    assert Outage.objects.count() == Delivery.objects.count() == 1


def test_a_session_that_mends_itself_or_is_being_opened_is_no_outage(login: Login) -> None:
    dead(login, "expired", seconds=1)
    assert look() == []
    dead(login, "minting", seconds=10)
    assert look() == []
    dead(login, "minting", seconds=21)
    assert look() == ["session:desk-paper"]


def test_a_stale_feed_is_told_but_not_while_the_session_is_dead_or_just_up(login: Login) -> None:
    change(login, feed_alive_at=timezone.now() - timedelta(seconds=31))
    assert look(is_settled=False) == []
    assert look() == ["feed:desk-paper"]
    change(login, state_changed_at=timezone.now())
    assert look() == []
    dead(login, "expired")
    assert look() == ["session:desk-paper"]


def test_a_rate_limit_is_told_until_it_is_over(login: Login) -> None:
    change(login, cooling_until=timezone.now() + timedelta(minutes=5))
    assert look() == ["rate:desk-paper"]
    change(login, cooling_until=timezone.now())
    assert look() == []


@pytest.mark.parametrize("name", sorted(each for each in MARKS if each.startswith("process:")))
def test_a_silent_process_is_told_once_the_watch_has_settled(login: Login, name: str) -> None:
    mark(name, seconds_ago=MARKS[name] + 1)
    assert look(is_settled=False) == []
    assert look() == [name]
    mark(name)
    assert look() == []


def test_a_beat_that_lags_is_told_as_one_and_not_as_each_of_its_jobs(login: Login) -> None:
    jobs = [name for name in MARKS if name.startswith("beat:")]
    mark(*jobs, seconds_ago=400)
    assert look() == ["beat"]
    mark("beat:keep_sessions")
    assert look() == sorted(set(jobs) - {"beat:keep_sessions"})


def test_the_brokers_planned_night_and_a_login_that_is_off_page_nobody(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(login, "unreachable")
    change(login, base_url="https://api.ibkr.com/v1/api", feed_alive_at=None)
    night = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
    monkeypatch.setattr(watching.leases, "database_now", lambda: night)
    mark(*MARKS)
    assert look() == []
    monkeypatch.undo()
    change(login, is_enabled=False, base_url="http://127.0.0.1:1/v1/api")
    assert look() == []


def test_after_a_database_that_was_away_silence_counts_anew(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark("process:relay", seconds_ago=60)
    clock = [1000.0]
    monkeypatch.setattr(watching, "monotonic", lambda: clock[0])
    watcher = watching.Watcher()
    clock[0] += 60
    with monkeypatch.context() as away:
        away.setattr(watching, "watch", lambda **_: (_ for _ in ()).throw(watching.DatabaseError()))
        with pytest.raises(watching.DatabaseError):
            watcher.look()
    watcher.look()
    assert not Outage.objects.exists()
    clock[0] += watching.SETTLED_SECONDS
    watcher.look()
    assert Outage.objects.get().name == "process:relay"
