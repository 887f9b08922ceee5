"""One budget a login for every process, and silence after a 429."""

import time
from datetime import timedelta

import pytest
from django.db import transaction

from brokers import pacing
from brokers.ibkr.limits import GAPS, gaps_at
from brokers.models import Login
from brokers.services import broker_for
from cerbero.errors import BrokerUnavailable
from cerbero.leases import ClockTime
from tests.brokers.logins import brought_up, fresh
from tests.rig import Database, run_together
from tests.simulator_process import SimulatorProcess


@pytest.fixture
def login(fresh_database: Database) -> Login:
    return Login.objects.create(name="desk", environment="paper")


def test_a_burst_of_ten_passes_at_once_and_then_ten_a_second(login: Login) -> None:
    waits = [pacing.take_slot(login.pk) for _ in range(15)]
    assert waits[:10] == [0.0] * 10
    assert waits[10] == pytest.approx(0.1, abs=0.08)
    assert waits[14] == pytest.approx(0.5, abs=0.1)


def test_processes_share_one_budget(login: Login) -> None:
    waits = run_together(*[lambda: [pacing.take_slot(login.pk) for _ in range(5)]] * 4)
    taken = sorted(seconds for each in waits for seconds in each)
    assert taken[9] == 0.0
    assert taken[19] == pytest.approx(1.0, abs=0.3)


def test_what_would_wait_too_long_is_refused_but_a_cancel_waits(login: Login) -> None:
    Login.objects.filter(pk=login.pk).update(paced_until=ClockTime() + timedelta(seconds=3))
    with pytest.raises(BrokerUnavailable) as refused:
        pacing.take_slot(login.pk)
    assert refused.value.details["paced"] is True
    assert pacing.take_slot(login.pk, is_cancel=True) > 1.5


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
        pacing.take_slot(login.pk)


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
    assert 2.0 <= time.monotonic() - began < 3.5


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
    assert bool(gaps_at(base_url)) is limits
