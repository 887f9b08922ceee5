"""The second way in: a person signs in at IBKR's gateway, and Cerbero says plainly when that is what it waits for."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from brokers import services
from brokers.base import BrokerOrderState
from brokers.break_glass import Journal, stop_everything
from brokers.connections import close_connections
from brokers.credentials import store_credential
from brokers.entering import enter_gateway
from brokers.ibkr.tls import trusted
from brokers.management.commands.break_glass import _logins as bundled_logins
from brokers.models import Account, Login
from brokers.relay_rows import read_plan
from brokers.sessions import keep_session, take_over_session
from brokers.ways import SessionState, Usability, WayIn
from cerbero import access, health
from cerbero.errors import (
    BadInput,
    KeysNotOurs,
    PermissionMissing,
    SessionExpired,
    StateConflict,
    TlsUnverified,
)
from cerbero.management.commands import doctor
from cerbero.models import Bot
from cerbero.tool import TOOLS, call
from keyrotation.services import start_rotation
from orders.notices.models import Outage
from orders.notices.watching import watch
from tests.brokers.desk import order
from tests.brokers.logins import SYSTEM, events, fresh, key_material, ready_again, somebody
from tests.rig import Database
from tests.simulator_process import SimulatorProcess, start_simulator

HERE = "https://localhost:5000/v1/api"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[SimulatorProcess]:
    """A simulator with both ways in; nobody is signed in at its gateway."""
    running = start_simulator(tmp_path / "simulator", "--gateway-port", "0")
    yield running
    running.stop()
    close_connections()


@pytest.fixture
def login(fresh_database: Database, gateway: SimulatorProcess) -> Login:
    places = gateway.credentials["gateway"]
    made, is_new = enter_gateway(
        actor=SYSTEM,
        name="desk",
        environment="paper",
        base_url=places["base_url"],
        is_verified=False,
        region="none",
    )
    assert is_new
    return made


def press(gateway: SimulatorProcess, button: str) -> str:
    """What a person does at the gateway's page."""
    address = gateway.credentials["gateway"]["base_url"].removesuffix("/v1/api") + "/sso/Login"
    context = ssl._create_unverified_context()
    with urllib.request.urlopen(address, data=f"do={button}".encode(), context=context) as response:
        return response.read().decode()


def keep(login: Login) -> Login:
    keep_session(ready_again(login), SYSTEM)
    return fresh(login)


def test_a_login_waits_for_its_person_and_comes_up_by_itself_when_they_have_signed_in(
    login: Login, gateway: SimulatorProcess
) -> None:
    waiting = keep(login)
    assert (waiting.state, waiting.usability) == (SessionState.SIGNED_OUT, Usability.MANUAL)
    assert gateway.credentials["gateway"]["base_url"].removesuffix("v1/api") in waiting.state_detail
    assert waiting.retry_at - waiting.state_changed_at < timedelta(seconds=10)
    keep(login)
    assert events("session.") == ["session.minting", "session.signed_out"]
    assert "login succeeds" in press(gateway, "sign_in")
    up = keep(login)
    assert (up.state, up.usability) == (SessionState.UP, Usability.USABLE)
    assert timedelta(hours=23) < up.session_token_expires_at - datetime.now(UTC) <= timedelta(hours=24)
    assert Account.objects.filter(login=login, environment="paper").count() == 2
    with services.broker_for(up) as broker:
        assert broker.open_orders() == []
        assert broker.credential_id is None
    plan = read_plan(up)
    assert (plan.access_token, plan.is_verified) == (None, False)
    assert b"session" not in bytes(up.session_token), "it stands encrypted"


def test_after_a_day_the_person_is_asked_for_again_and_people_are_told_once(
    login: Login, gateway: SimulatorProcess
) -> None:
    press(gateway, "sign_in")
    assert keep(login).state == SessionState.UP
    minted = events("session.token_minted")
    tomorrow = datetime.now(UTC) + timedelta(hours=24, minutes=1)
    gateway.control("POST", "/_sim/clock", {"to": tomorrow.isoformat()})
    assert keep(login).state == SessionState.SIGNED_OUT
    with services.broker_for(fresh(login)) as broker, pytest.raises(SessionExpired):
        broker.open_orders()
    Login.objects.update(state_changed_at=datetime.now(UTC) - timedelta(seconds=3))
    for _ in range(2):
        watch(actor=SYSTEM, is_settled=False)
    (outage,) = Outage.objects.filter(ended_at=None)
    assert "sign in" in outage.words.lower()
    (shown,) = health.examine()["logins"]
    assert (shown["is_ok"], shown["usability"]) == (False, "manual_action_required")
    press(gateway, "sign_in")
    assert keep(login).state == SessionState.UP
    assert len(events("session.token_minted")) == len(minted) + 1


def test_bots_and_doctor_are_told_what_a_login_waits_for(login: Login, gateway: SimulatorProcess) -> None:
    def told(name: str, **params: str) -> dict[str, Any]:
        return call(TOOLS[name], scanner, params).model_dump(mode="json")

    bot = Bot.objects.create(name="scanner-alpha", owner=somebody("alice"), environment="paper")
    scopes = frozenset({"market:read", "session:renew"})
    scanner = access.Actor(kind="bot", id=bot.pk, name=bot.name, scopes=scopes, environment="paper")
    press(gateway, "sign_in")
    account = keep(login).accounts.first().broker_account_id
    (finding,) = doctor._gateways()
    assert (finding.level, "not verified" in finding.detail) == ("ok", True)
    press(gateway, "sign_out")
    Login.objects.update(tickled_at=None)
    renewed = told("renew_session", account=account)
    (shown,) = told("get_session_status")["sessions"]
    assert renewed == shown
    assert (shown["way_in"], shown["state"], shown["usability"], shown["is_up"]) == (
        "gateway",
        "signed_out",
        "manual_action_required",
        False,
    )
    (finding,) = doctor._gateways()
    assert finding.level == "warn"


def test_its_stream_opens_by_the_cookie_alone(login: Login, gateway: SimulatorProcess) -> None:
    press(gateway, "sign_in")
    plan = read_plan(keep(login))

    async def first_event() -> object:
        async with asyncio.timeout(60), plan.stream() as stream:
            return await anext(stream.events())

    assert asyncio.run(first_event())


def test_everything_is_stopped_through_a_gateway_while_somebody_is_signed_in(
    login: Login, gateway: SimulatorProcess, tmp_path: Path
) -> None:
    gateway.config(price_limit_percent=30)
    press(gateway, "sign_in")
    with services.broker_for(keep(login)) as broker:
        account = broker.listed_accounts().broker_account_ids[0]
        (row,) = broker.place(account, [order()]).orders
    sealed = json.loads(json.dumps(bundled_logins()[0]))
    said: list[str] = []
    for button, is_proven in (("sign_out", False), ("sign_in", True)):
        press(gateway, button)
        journal = Journal(tmp_path / button)
        assert stop_everything(sealed, journal, said.append, list_seconds=0.05) is is_proven
        journal.close()
    assert any("manual_login_required" in each for each in said)
    with services.broker_for(keep(login)) as broker:
        assert broker.order(row.broker_order_id).state is BrokerOrderState.CANCELED


def test_a_gateway_that_is_not_there_is_unavailable(login: Login, gateway: SimulatorProcess) -> None:
    gateway.stop()
    away = keep(login)
    assert (away.state, away.usability) == (SessionState.UNREACHABLE, Usability.UNAVAILABLE)


def test_another_username_at_the_gateway_is_not_taken_for_this_login(
    login: Login, gateway: SimulatorProcess
) -> None:
    own = Account.objects.create(login=login, broker_account_id="DU7654321", environment="paper")
    press(gateway, "sign_in")
    waiting = keep(login)
    assert waiting.state == SessionState.SIGNED_OUT
    assert "other accounts" in waiting.state_detail
    assert list(Account.objects.all()) == [own], "nothing of the stranger's is kept"
    Account.objects.update(broker_account_id=gateway.credentials["accounts"][0])
    assert keep(login).state == SessionState.UP


def test_another_platform_is_never_fought_through_a_gateway_either(
    login: Login, gateway: SimulatorProcess
) -> None:
    press(gateway, "sign_in")
    assert keep(login).state == SessionState.UP
    gateway.fault("competing")
    held = keep(login)
    assert (held.state, held.usability) == (SessionState.COMPETING, Usability.MANUAL)
    assert keep(login).state == SessionState.COMPETING
    assert take_over_session(login, actor=access.person(somebody("alice"))) == SessionState.UP


def test_what_has_no_keys_is_not_rotated_and_takes_none(login: Login, gateway: SimulatorProcess) -> None:
    carol = access.person(somebody("carol", "Administrator"))
    with pytest.raises(KeysNotOurs) as refused:
        start_rotation(actor=carol, login_id=login.pk, reason="a year has passed")
    assert refused.value.code == "keys_not_ours"
    with pytest.raises(KeysNotOurs):
        store_credential(actor=SYSTEM, login=login, **key_material(gateway.credentials))


@pytest.mark.parametrize(
    "url",
    ["https://localhost/v1/api", HERE, "https://127.0.0.1:5000/v1/api", "wss://[::1]:5000/v1/api/ws"],
)
def test_a_certificate_may_go_unverified_on_this_machine(url: str) -> None:
    assert trusted(url, is_verified=False).verify_mode == ssl.CERT_NONE
    assert trusted(url).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "url",
    [
        "https://api.ibkr.com/v1/api",
        "https://localhost.example/v1/api",
        "https://localhost@example.com/v1/api",
        "https://example.com\\@localhost/v1/api",
        "https://127.0.0.1.nip.io/v1/api",
        "https://127.0.0.2/v1/api",
        "https://LOCALHOST/v1/api",
        "https://2130706433/v1/api",
        "http://localhost/v1/api",
        "https://localhost/v1/api\n",
        "https://localhost:5000:443/v1/api",
        " https://localhost/v1/api",
    ],
)
def test_anywhere_else_it_is_refused_by_code_and_by_the_database(db: None, url: str) -> None:
    with pytest.raises(TlsUnverified) as refused:
        trusted(url, is_verified=False)
    assert (refused.value.code, refused.value.status) == ("tls_unverified", 422)
    with pytest.raises(IntegrityError), transaction.atomic():
        Login.objects.create(
            name="desk", environment="paper", base_url=url, ws_url="wss://localhost/ws", is_verified=False
        )


def test_a_certificate_that_nobody_signed_is_refused_where_it_counts(
    login: Login, gateway: SimulatorProcess
) -> None:
    press(gateway, "sign_in")
    Login.objects.update(is_verified=True)
    assert keep(login).state == SessionState.UNREACHABLE


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"base_url": "https://gateway.example:5000/v1/api"}, TlsUnverified),
        ({"base_url": "https://gateway.example:5000/v1/api", "is_verified": True}, BadInput),
        ({"base_url": "http://localhost:5000/v1/api"}, BadInput),
        ({"name": "a desk"}, BadInput),
    ],
)
def test_a_page_enters_gateways_of_this_machine_by_https(db: None, changes, refusal) -> None:
    carol = access.person(somebody("carol", "Administrator"))
    wanted = {"name": "desk", "environment": "paper", "base_url": HERE, "is_verified": False} | changes
    with pytest.raises(refusal):
        enter_gateway(actor=carol, **wanted)
    assert not Login.objects.exists()


def test_only_an_administrator_enters_a_login_and_its_way_never_changes(db: None) -> None:
    wanted = {"name": "desk", "environment": "paper", "base_url": HERE, "is_verified": False}
    with pytest.raises(PermissionMissing):
        enter_gateway(actor=access.person(somebody("alice")), **wanted)
    Login.objects.create(name="desk", environment="paper")
    with pytest.raises(StateConflict):
        enter_gateway(actor=SYSTEM, **wanted)


def signed_in(name: str, group: str) -> Client:
    user = somebody(name, group)
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def test_an_administrator_enters_a_gateway_on_a_page(db: None) -> None:
    client = signed_in("carol", "Administrator")
    path = "/admin/brokers/login/add/"
    assert "Client Portal Gateway" in client.get(path).content.decode()
    wanted = {"name": "desk-paper", "environment": "paper", "base_url": HERE, "region": "America/New_York"}
    answer = client.post(path, wanted, follow=True)
    assert "now sign in at the gateway itself" in answer.content.decode()
    login = Login.objects.get(name="desk-paper")
    assert (login.way_in, login.is_verified, login.ws_url) == (
        WayIn.GATEWAY,
        False,
        "wss://localhost:5000/v1/api/ws",
    )
    assert events("login.") == ["login.entered"]
    assert signed_in("oscar", "Operator").get(path).status_code == 403


def test_setup_says_what_is_missing_and_enters_the_login_once_somebody_is_signed_in(
    fresh_database: Database, gateway: SimulatorProcess, capsys: pytest.CaptureFixture
) -> None:
    words = ["ibkr_setup", "desk", "--gateway", "--base-url", gateway.credentials["gateway"]["base_url"]]
    paper = [*words, "--environment", "paper", "--region", "none"]
    with pytest.raises(CommandError, match="--unverified-tls"):
        call_command(*paper)
    with pytest.raises(CommandError, match="nobody is signed in"):
        call_command(*paper, "--unverified-tls")
    press(gateway, "sign_in")
    with pytest.raises(CommandError, match="opens paper accounts"):
        call_command(*words, "--environment", "live", "--unverified-tls")
    assert not Login.objects.exists()
    call_command(*paper, "--unverified-tls")
    assert "opens 2 account(s)" in capsys.readouterr().out
    assert keep(Login.objects.get()).state == SessionState.UP
