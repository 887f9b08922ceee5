"""Sessions: brought up fast, kept, healed, and honest about how they are dead."""

from datetime import datetime, timedelta

import pytest
from django.db import transaction

from brokers import holding, keeping, sessions
from brokers.accounts import environment_of
from brokers.credentials import store_credential
from brokers.ibkr.limits import away_until, was_reset
from brokers.models import Account, BrokerInstrument, Credential, Instrument, Login, SessionState
from brokers.services import broker_for, session_token, socket_session
from brokers.sessions import keep_session, refresh_token, take_over_session
from brokers.tasks import keep_sessions, refresh_tokens
from cerbero import access, leases
from cerbero.errors import LeaseLost, LoginDisabled, PermissionMissing, SessionExpired
from cerbero.leases import ClockTime
from cerbero.models import Lease
from tests.brokers.logins import (
    SYSTEM,
    brought_up,
    events,
    fresh,
    key_material,
    make_login,
    ready_again,
    somebody,
)
from tests.rig import Database, run_together
from tests.simulator_process import SimulatorProcess, start_simulator


def test_a_login_comes_up_and_its_accounts_are_what_the_broker_says(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = make_login(fresh_simulator)
    assert keep_session(login, SYSTEM) == SessionState.UP
    row = fresh(login)
    assert row.is_paper is True
    assert row.tickled_at is not None
    assert len(socket_session(row)) == 32
    accounts = Account.objects.filter(login=login).values_list("broker_account_id", "environment")
    assert dict(accounts) == dict.fromkeys(fresh_simulator.credentials["accounts"], "paper")
    assert events("session.") == [
        "session.minting",
        "session.token_minted",
        "session.authenticated",
        "session.established",
    ]
    assert events("account.") == ["account.listed", "account.listed"]


def test_a_session_that_is_up_asks_nothing_until_a_minute_has_passed(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    tickled_at, count = login.tickled_at, len(events("session."))
    fresh_simulator.stop()
    assert keep_session(login, SYSTEM) == SessionState.UP
    assert fresh(login).tickled_at == tickled_at
    start_again(fresh_simulator)
    Login.objects.update(tickled_at=ClockTime() - timedelta(seconds=56))
    assert keep_session(login, SYSTEM) == SessionState.UP
    assert fresh(login).tickled_at > tickled_at
    assert len(events("session.")) == count


def start_again(simulator: SimulatorProcess) -> None:
    """The same broker, on the same port, behind the same fixture."""
    simulator.process = start_simulator(simulator.state_dir).process


def test_secrets_of_the_session_stand_encrypted_and_are_read_afresh_each_time(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    token = session_token(login)
    assert len(token) == 20
    assert token not in bytes(login.session_token)
    with broker_for(login) as broker:
        assert broker.session_status().is_up
    Login.objects.update(session_token=b"")
    with broker_for(login) as broker, pytest.raises(SessionExpired):
        broker.session_status()


def test_a_token_near_its_end_is_replaced_and_the_session_goes_on(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    assert refresh_token(login, SYSTEM) is False
    Login.objects.update(session_token_expires_at=ClockTime() + timedelta(minutes=59))
    old = bytes(login.session_token)
    refresh_tokens()
    row = fresh(login)
    assert bytes(row.session_token) != old
    assert row.session_token_expires_at - row.tickled_at > timedelta(hours=20)
    assert row.state == SessionState.UP
    with broker_for(login) as broker:
        assert broker.session_status().is_up
    assert Lease.objects.get(name="beat:refresh_tokens").succeeded_at is not None


def test_a_token_that_the_broker_forgot_is_minted_anew_at_the_next_tickle(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.control("POST", "/_sim/session", {"drop": "outer"})
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    with broker_for(login) as broker:
        assert broker.session_status().is_up


def test_a_token_that_cannot_be_decrypted_heals_by_a_new_one(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    other = make_login(fresh_simulator, name="other")
    Login.objects.filter(pk=other.pk).update(
        session_token=login.session_token, session_token_expires_at=login.session_token_expires_at
    )
    assert keep_session(other, SYSTEM) == SessionState.UP
    assert session_token(fresh(other)) != session_token(login)


def test_a_lost_brokerage_session_is_brought_up_again(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    with broker_for(login) as broker:
        assert broker.session_status().is_up


def test_a_new_socket_session_is_noticed(fresh_database: Database, fresh_simulator: SimulatorProcess) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.control("POST", "/_sim/session", {"roll": True})
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    assert socket_session(fresh(login)) != socket_session(login)


def test_a_competing_platform_is_never_fought_and_a_person_takes_the_session_over(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.fault("competing")
    assert keep_session(ready_again(login), SYSTEM) == SessionState.COMPETING
    assert keep_session(ready_again(login), SYSTEM) == SessionState.COMPETING
    assert events("session.contested") == ["session.contested"]
    assert "take it over" in fresh(login).state_detail
    with pytest.raises(PermissionMissing):
        take_over_session(login, actor=SYSTEM)
    alice = access.person(somebody("alice"))
    assert take_over_session(login, actor=alice) == SessionState.UP
    assert events("session.")[-2:] == ["session.taken_over", "session.established"]


def test_a_session_comes_back_by_itself_when_the_other_platform_left(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.fault("competing")
    keep_session(ready_again(login), SYSTEM)
    fresh_simulator.control("DELETE", "/_sim/faults")
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP


def test_a_live_broker_behind_a_paper_login_is_a_mismatch(fresh_database: Database, tmp_path) -> None:
    live = start_simulator(tmp_path / "live", "--live")
    try:
        login = make_login(live, "paper")
        assert keep_session(login, SYSTEM) == SessionState.MISMATCHED
        row = fresh(login)
        assert row.is_paper is False
        assert "entered as paper" in row.state_detail
        assert set(Account.objects.values_list("environment", flat=True)) == {"live"}
        assert events("session.")[-1] == "session.mismatched"
        assert keep_session(ready_again(login), SYSTEM) == SessionState.MISMATCHED
        assert events("session.mismatched") == ["session.mismatched"]
    finally:
        live.stop()


def test_paper_keys_swapped_for_live_ones_are_found_out_at_the_next_tickle(
    fresh_database: Database, fresh_simulator: SimulatorProcess, tmp_path
) -> None:
    login = brought_up(fresh_simulator)
    live = start_simulator(tmp_path / "live", "--live")
    try:
        Login.objects.update(base_url=live.base_url, ws_url=live.ws_url)
        store_credential(actor=SYSTEM, login=fresh(login), **key_material(live.credentials))
        assert keep_session(ready_again(login), SYSTEM) == SessionState.MISMATCHED
        paper = fresh_simulator.credentials["accounts"]
        assert set(Account.objects.filter(broker_account_id__in=paper).values_list("environment")) == {("",)}
    finally:
        live.stop()


@pytest.mark.parametrize(
    ("account", "is_paper", "expected"),
    [
        ("DU1234567", True, "paper"),
        ("DF1234567", True, "paper"),
        ("U1234567", False, "live"),
        ("F1234567", False, "live"),
        ("U1234567", True, ""),
        ("DU1234567", False, ""),
        ("DU1234567", None, ""),
    ],
)
def test_an_environment_is_known_only_when_flag_and_id_agree(account, is_paper, expected) -> None:
    assert environment_of(account, is_paper) == expected


def test_an_unreachable_broker_is_said_and_left_alone_for_a_while_and_heals_after_its_restart(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.kill()
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UNREACHABLE
    row = fresh(login)
    assert row.failures == 1
    assert row.retry_at > row.state_changed_at
    assert keep_session(login, SYSTEM) == SessionState.UNREACHABLE
    assert fresh(login).failures == 1
    start_again(fresh_simulator)
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    assert fresh(login).failures == 0
    with broker_for(login) as broker:
        assert broker.session_status().is_up


HALF_UP = {"authenticated": True, "connected": True, "competing": False, "established": False}


@pytest.mark.parametrize(
    ("path", "answer", "state", "words"),
    [
        (
            "/tickle|/iserver/auth",
            {"status": 200, "body": HALF_UP | {"iserver": {"authStatus": HALF_UP}}},
            SessionState.NOT_ESTABLISHED,
            "authenticated, connected",
        ),
        ("", {"status": 403, "body": {"error": "Forbidden"}}, SessionState.LOCKED_OUT, "bars us"),
    ],
)
def test_alive_at_single_sign_on_and_dead_at_the_brokerage_is_said_in_the_brokers_words_and_heals(
    fresh_database: Database, fresh_simulator: SimulatorProcess, monkeypatch, path, answer, state, words
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.fault("status", path=path, **answer)
    monkeypatch.setattr("brokers.ibkr.client.BRING_UP_WAIT_SECONDS", 0.01)
    assert keep_session(ready_again(login), SYSTEM) == state
    assert words in fresh(login).state_detail
    assert fresh(login).retry_at > fresh(login).state_changed_at
    fresh_simulator.control("DELETE", "/_sim/faults")
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP


def test_wrong_keys_are_an_expired_session_with_a_reason(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = make_login(fresh_simulator)
    token = fresh_simulator.credentials["access_token"]
    fresh_simulator.control("DELETE", f"/_sim/keys/{token}")
    assert keep_session(login, SYSTEM) == SessionState.EXPIRED
    row = fresh(login)
    assert row.state_detail
    assert token not in row.state_detail


def test_keys_that_are_refused_again_and_again_are_a_lock_out_that_is_not_asked_for_long(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = make_login(fresh_simulator)
    token = fresh_simulator.credentials["access_token"]
    fresh_simulator.control("DELETE", f"/_sim/keys/{token}")
    states = [keep_session(ready_again(login), SYSTEM) for _ in range(sessions.KEY_REFUSALS_MAX + 1)]
    assert states == [*[SessionState.EXPIRED] * sessions.KEY_REFUSALS_MAX, SessionState.LOCKED_OUT]
    row = fresh(login)
    assert row.retry_at - row.state_changed_at > timedelta(minutes=9)
    assert "again and again" in row.state_detail
    store_credential(actor=SYSTEM, login=row, **key_material(fresh_simulator.credentials))
    assert keep_session(login, SYSTEM) == SessionState.EXPIRED, "a person's new keys are tried at once"


def test_a_planned_reset_is_called_so_holds_what_is_new_and_is_over_by_itself(
    fresh_database: Database, fresh_simulator: SimulatorProcess, monkeypatch
) -> None:
    login = brought_up(fresh_simulator)
    ends = login.tickled_at + timedelta(minutes=9)
    for module in (keeping, holding):
        monkeypatch.setattr(module, "away_until", lambda *_: ends)
    assert holding.is_held(login)
    with transaction.atomic():
        assert not holding.may_leave(login.pk, None)
    fresh_simulator.fault("status", path="/tickle|/iserver|/live_session_token", status=503)
    assert keep_session(ready_again(login), SYSTEM) == SessionState.MAINTENANCE
    assert f"Planned until {ends:%H:%M} UTC" in fresh(login).state_detail
    fresh_simulator.control("DELETE", "/_sim/faults")
    monkeypatch.undo()
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    assert not holding.is_held(login)


REAL = "https://api.ibkr.com/v1/api"


@pytest.mark.parametrize(
    ("url", "zone", "moment", "ends"),
    [
        (REAL, "America/New_York", "2026-01-14T06:00", "2026-01-14T06:15"),
        (REAL, "America/New_York", "2026-07-14T05:00", "2026-07-14T05:15"),
        (REAL, "America/New_York", "2026-01-14T06:20", ""),
        (REAL, "Europe/Zurich", "2026-01-14T00:00", "2026-01-14T00:15"),
        (REAL, "Asia/Hong_Kong", "2026-01-13T17:00", "2026-01-13T17:15"),
        (REAL, "Asia/Hong_Kong", "2026-01-18T04:00", "2026-01-18T08:05"),
        (REAL, "America/New_York", "2026-01-18T07:00", "2026-01-18T08:05"),
        (REAL, "America/New_York", "2026-01-17T07:00", ""),
        ("http://127.0.0.1:5055/v1/api", "America/New_York", "2026-01-14T06:00", ""),
    ],
)
def test_the_broker_s_nights_and_saturdays_are_known_in_each_region(url, zone, moment, ends) -> None:
    found = away_until(url, zone, datetime.fromisoformat(f"{moment}+00:00"))
    assert found == (datetime.fromisoformat(f"{ends}+00:00") if ends else None)


@pytest.mark.parametrize(
    ("url", "zone", "since", "until", "was"),
    [
        (REAL, "America/New_York", "2026-01-14T05:54", "2026-01-14T06:16", True),
        (REAL, "America/New_York", "2026-01-14T06:16", "2026-01-14T23:00", False),
        (REAL, "America/New_York", "2026-01-13T23:00", "2026-01-14T05:54", False),
        (REAL, "America/New_York", "2026-01-10T12:00", "2026-01-14T05:00", True),
        (REAL, "Asia/Hong_Kong", "2026-01-13T16:50", "2026-01-13T17:20", True),
        ("http://127.0.0.1:5055/v1/api", "America/New_York", "2026-01-10T12:00", "2026-01-14T05:00", False),
    ],
)
def test_whether_the_brokers_lists_began_anew_since(url, zone, since, until, was) -> None:
    since, until = (datetime.fromisoformat(f"{each}+00:00") for each in (since, until))
    assert was_reset(url, zone, since, until) is was


def test_a_login_without_keys_is_down_and_says_so(fresh_database: Database) -> None:
    login = Login.objects.create(name="bare", environment="paper")
    assert keep_session(login, SYSTEM) == SessionState.DOWN
    assert "no active credential" in fresh(login).state_detail


def test_a_disabled_login_is_neither_kept_nor_used(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    Login.objects.update(is_enabled=False)
    assert keep_session(login, SYSTEM) == SessionState.DOWN
    with pytest.raises(LoginDisabled), broker_for(login):
        pass


def test_a_429_keeps_the_session_and_asks_no_more(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    fresh_simulator.fault("status", path="/tickle", status=429, times=1)
    assert keep_session(ready_again(login), SYSTEM) == SessionState.UP
    assert fresh(login).cooling_until is not None
    assert "rate" in fresh(login).state_detail


def test_two_keepers_at_once_bring_up_one_session(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = make_login(fresh_simulator)
    results = run_together(*[lambda: keep_session(login, SYSTEM)] * 4)
    assert results.count("up") == 1
    assert sum(isinstance(each, LeaseLost) for each in results) == 3
    assert events("session.token_minted") == ["session.token_minted"]


def test_a_keeper_that_slept_through_its_lease_writes_nothing(
    fresh_database: Database, fresh_simulator: SimulatorProcess, monkeypatch
) -> None:
    login = make_login(fresh_simulator)
    monkeypatch.setattr(sessions, "LEASE_SECONDS", 0.05)
    fresh_simulator.fault("latency", path="live_session_token", seconds=0.3)
    with pytest.raises(LeaseLost):
        keep_session(login, SYSTEM)
    assert bytes(fresh(login).session_token) == b""


def test_the_task_keeps_all_logins_and_marks_its_success(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = make_login(fresh_simulator)
    with leases.lease(sessions.lease_name(login)):
        keep_sessions()
        assert fresh(login).state == SessionState.DOWN
    keep_sessions()
    assert fresh(login).state == SessionState.UP
    assert Lease.objects.get(name="beat:keep_sessions").succeeded_at is not None


def test_instruments_get_their_ids_once_the_session_is_up_and_nothing_is_guessed(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    aapl = Instrument.objects.create(symbol="AAPL")
    nowhere = Instrument.objects.create(symbol="NOSUCH")
    futures = Instrument.objects.create(symbol="ES", asset_class="FUT")
    odd = Instrument.objects.create(symbol="X", asset_class="MOON")
    login = brought_up(fresh_simulator)
    assert dict(BrokerInstrument.objects.values_list("instrument", "broker_instrument_id")) == {
        aapl.pk: "265598"
    }
    aapl.refresh_from_db()
    assert (aapl.name, aapl.multiplier, str(aapl.price_increment.normalize())) == ("APPLE INC", 1, "0.01")
    assert aapl.exchange == "NASDAQ"
    for each, words in ((nowhere, "knows no"), (futures, "Several contracts"), (odd, "form")):
        each.refresh_from_db()
        assert words in each.problem
        assert each.multiplier is None
    msft = Instrument.objects.create(symbol="MSFT")
    assert keep_session(login, SYSTEM) == SessionState.UP
    assert BrokerInstrument.objects.filter(instrument=msft).exists()
    assert events("instrument.") == ["instrument.resolved", "instrument.resolved"]


def test_keys_are_read_from_the_row_each_time(
    fresh_database: Database, fresh_simulator: SimulatorProcess
) -> None:
    login = brought_up(fresh_simulator)
    Credential.objects.update(status="retired")
    with pytest.raises(Exception, match="no active credential"), broker_for(login):
        pass
