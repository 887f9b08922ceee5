"""One budget a login for every process, and silence after a 429."""

import time

import pytest
from django.db import transaction

from brokers import pacing
from brokers.ibkr.limits import GAPS, Rank, gaps_at, rank_of
from brokers.models import Login
from brokers.services import broker_for
from cerbero.errors import BrokerUnavailable
from tests.brokers.logins import brought_up, fresh
from tests.rig import Database, run_together
from tests.simulator_process import SimulatorProcess


@pytest.fixture
def budget(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "REQUESTS_PER_SECOND", 10)


@pytest.fixture
def login(budget: None) -> Login:
    return Login.objects.create(name="desk", environment="paper")


def taken(login: Login, rank: Rank, tries: int = 20) -> int:
    return sum(pacing.take_slot(login.pk, rank) for _ in range(tries))


def test_no_second_holds_more_than_ten_requests_and_cancels_go_before_orders_and_those_before_reads(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "WINDOW_SECONDS", 60)
    assert taken(login, Rank.READ) == 8
    assert taken(login, Rank.ORDER) == 1
    assert taken(login, Rank.CANCEL) == 1
    Login.objects.update(asked_at=[])
    assert taken(login, Rank.CANCEL) == 10
    assert taken(login, Rank.ORDER) == taken(login, Rank.READ) == 0
    assert len(fresh(login).asked_at) == 10


def test_processes_share_one_budget(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "WINDOW_SECONDS", 60)
    counts = run_together(*[lambda: taken(login, Rank.CANCEL, 5)] * 4)
    assert sum(counts) == 10


@pytest.mark.parametrize(
    ("method", "path", "rank"),
    [
        ("DELETE", "/iserver/account/DU1/order/7", Rank.CANCEL),
        ("POST", "/iserver/account/DU1/orders", Rank.ORDER),
        ("POST", "/iserver/account/DU1/order/7", Rank.ORDER),
        ("POST", "/iserver/reply/abc", Rank.ORDER),
        ("POST", "/tickle", Rank.ORDER),
        ("POST", "/oauth/live_session_token", Rank.ORDER),
        ("POST", "/iserver/account/DU1/orders/whatif", Rank.READ),
        ("GET", "/iserver/account/orders", Rank.READ),
        ("GET", "/portfolio/DU1/summary", Rank.READ),
    ],
)
def test_each_request_has_its_rank(method: str, path: str, rank: Rank) -> None:
    assert rank_of(method, path) is rank


def test_what_would_wait_too_long_is_refused_but_a_cancel_waits(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "WINDOW_SECONDS", 60)
    taken(login, Rank.CANCEL)
    waited: list[float] = []
    with pytest.raises(BrokerUnavailable) as refused:
        pacing.await_slot(login.pk, Rank.READ, wait=waited.append)
    assert refused.value.details == {"paced": True}
    assert 1.5 < sum(waited) <= 2.0
    monkeypatch.setattr(pacing, "WINDOW_SECONDS", 0.5)
    pacing.await_slot(login.pk, Rank.CANCEL)


def test_during_the_cool_down_only_cancels_and_one_tickle_a_minute_pass(login: Login) -> None:
    pacing.cool_down(login.pk)
    pace = pacing.pacer(login.pk)
    for method, path in (("GET", "/portfolio/accounts"), ("POST", "/iserver/account/DU1/orders")):
        with pytest.raises(BrokerUnavailable) as refused:
            pace(method, path)
        assert "cooling_until" in refused.value.details
    pace("DELETE", "/iserver/account/DU1/order/1")
    pace("POST", "/tickle")
    with pytest.raises(BrokerUnavailable):
        pace("POST", "/tickle")
    remaining = fresh(login).cooling_until.timestamp() - time.time()
    assert 590 < remaining <= 600


def test_nothing_is_sent_inside_a_transaction(login: Login) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError):
        pacing.take_slot(login.pk, Rank.READ)


def test_an_answer_429_begins_the_cool_down_and_the_next_request_never_leaves(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.fault("status", path="/portfolio/.*/summary", status=429, times=1)
    account = fresh_simulator.credentials["accounts"][0]
    with broker_for(login) as broker:
        with pytest.raises(BrokerUnavailable) as limited:
            broker.summary(account)
        with pytest.raises(BrokerUnavailable) as refused:
            broker.summary(account)
    assert limited.value.details.get("rate_limited") is True
    assert refused.value.details["paced"] is True
    assert fresh(login).cooling_until is not None


def test_an_endpoint_with_a_limit_of_its_own_is_asked_once_in_its_gap(login: Login) -> None:
    waited: list[float] = []
    pace = pacing.pacer(login.pk, GAPS, wait=lambda seconds: (waited.append(seconds), time.sleep(seconds)))
    pace("GET", "/iserver/account/trades")
    pace("GET", "/iserver/account/orders")
    pace("POST", "/iserver/account/DU1/orders")
    assert not waited, "another endpoint, and placing, wait for nothing"
    began = time.monotonic()
    pace("POST", "/tickle")
    run_together(lambda: pace("POST", "/tickle"), lambda: pace("POST", "/tickle"))
    assert time.monotonic() - began >= 2.0


def test_whoever_would_wait_too_long_for_an_endpoint_is_told_that_nothing_was_sent(login: Login) -> None:
    pace = pacing.pacer(login.pk, GAPS, wait=lambda _: None)
    pace("GET", "/iserver/account/orders")
    with pytest.raises(BrokerUnavailable) as refused:
        pace("GET", "/iserver/account/orders")
    assert refused.value.details == {"paced": True, "path": "/iserver/account/orders"}


def test_a_gap_of_minutes_is_not_waited_for(login: Login) -> None:
    waited: list[float] = []
    pace = pacing.pacer(login.pk, GAPS, wait=waited.append)
    pace("POST", "/pa/performance")
    with pytest.raises(BrokerUnavailable) as refused:
        pace("POST", "/pa/performance")
    assert refused.value.details["paced"]
    assert not waited


@pytest.mark.parametrize(
    ("base_url", "limits"),
    [("https://api.ibkr.com/v1/api", True), ("http://127.0.0.1:5055/v1/api", False), ("nonsense", True)],
)
def test_only_a_simulator_on_this_machine_has_no_endpoint_limits(base_url: str, limits: bool) -> None:
    assert bool(gaps_at(base_url, "America/New_York")) is limits


def test_a_gateway_on_this_machine_has_the_broker_s_limits_unless_it_is_a_simulator() -> None:
    assert gaps_at("https://localhost:5000/v1/api", "America/New_York")
    assert not gaps_at("https://localhost:5000/v1/api", "none")
