"""The first start makes people, a bot and a login; every later one leaves them as they are."""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit.models import Entry
from brokers.credentials import load_credentials
from brokers.models import Account, Instrument, Login, Subscription
from cerbero.access import DEFAULT_SCOPES, authenticate
from cerbero.management.commands.bootstrap_demo import PEOPLE, WATCHED
from cerbero.models import AccessToken, Bot, User
from orders.models import Limits, TradingState
from tests.rig import Database, run_together
from tests.simulator_process import SimulatorProcess


@pytest.fixture
def credentials(simulator: SimulatorProcess, fresh_database: Database, settings) -> Path:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return simulator.state_dir / "credentials.json"


def bootstrap(credentials: Path) -> dict[str, Any]:
    out = io.StringIO()
    call_command("bootstrap_demo", credentials=credentials, json=True, stdout=out)
    return json.loads(out.getvalue())


def everything() -> list[tuple[str, int, str]]:
    """Each table's rows, as text, with where they lie: an UPDATE that changes nothing shows, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        tables = [row[0] for row in cursor.fetchall()]
        found = []
        for table in tables:
            cursor.execute(f"SELECT count(*), coalesce(string_agg(ctid::text, ' '), '') FROM {table}")
            found.append((table, *cursor.fetchone()))
    return found


def test_people_can_sign_in_and_nobody_is_a_superuser(credentials: Path) -> None:
    demo = bootstrap(credentials)
    for told in demo["people"]:
        user = User.objects.get(username=told["username"])
        assert user.check_password(told["password"])
        assert user.is_staff
        assert not user.is_superuser
        assert set(user.groups.values_list("name", flat=True)) == set(PEOPLE[user.username])
    assert len({told["password"] for told in demo["people"]}) == len(PEOPLE)


def test_the_bot_belongs_to_alice_and_its_token_is_for_paper(credentials: Path) -> None:
    demo = bootstrap(credentials)
    actor = authenticate(f"Bearer {demo['token']}", "test")
    assert (actor.name, actor.environment) == ("scanner-alpha", "paper")
    assert actor.owner_id == User.objects.get(username="alice").pk
    assert actor.scopes == frozenset(DEFAULT_SCOPES)


def test_the_login_has_the_simulators_keys_and_the_environment_is_left_to_the_broker(
    credentials: Path, simulator: SimulatorProcess
) -> None:
    bootstrap(credentials)
    login = Login.objects.get()
    assert (login.environment, login.is_paper, login.base_url) == ("paper", None, simulator.base_url)
    assert load_credentials(login).consumer_key == simulator.credentials["consumer_key"]
    assert {str(row): row.environment for row in Account.objects.all()} == dict.fromkeys(
        simulator.credentials["accounts"], ""
    )


def test_accounts_have_limits_and_every_trading_state_has_its_row(credentials: Path) -> None:
    bootstrap(credentials)
    assert Limits.objects.count() == 2
    wanted = {"", "ibkr", str(Bot.objects.get().pk), *(str(row.pk) for row in Account.objects.all())}
    assert set(TradingState.objects.values_list("scope_id", flat=True)) == wanted


def test_the_watch_list_is_allowed_and_streamed(credentials: Path) -> None:
    bootstrap(credentials)
    allowed = Instrument.objects.filter(is_allowed=True, asset_class="STK")
    assert set(allowed.values_list("symbol", flat=True)) == set(WATCHED)
    assert Subscription.objects.count() == len(WATCHED)


def test_a_second_run_changes_nothing_and_prints_no_secret(credentials: Path) -> None:
    first = bootstrap(credentials)
    before = everything()
    second = bootstrap(credentials)
    assert everything() == before
    assert second["token"] is None
    assert {told["password"] for told in second["people"]} == {None}
    for secret in (first["token"], *(told["password"] for told in first["people"])):
        assert secret not in json.dumps(second)


def test_what_a_person_took_back_stays_taken_back(credentials: Path) -> None:
    bootstrap(credentials)
    Instrument.objects.filter(symbol="TSLA").update(is_allowed=False)
    Subscription.objects.filter(instrument__symbol="TSLA").delete()
    User.objects.get(username="bob").groups.clear()
    AccessToken.objects.all().delete()
    bootstrap(credentials)
    assert not Instrument.objects.get(symbol="TSLA").is_allowed
    assert not Subscription.objects.filter(instrument__symbol="TSLA").exists()
    assert not User.objects.get(username="bob").groups.exists()
    assert not AccessToken.objects.exists()


def test_a_simulator_on_another_port_is_followed(credentials: Path, tmp_path: Path) -> None:
    bootstrap(credentials)
    told = json.loads(credentials.read_text()) | {"base_url": "http://127.0.0.1:9/v1/api"}
    moved = tmp_path / "credentials.json"
    moved.write_text(json.dumps(told))
    bootstrap(moved)
    login = Login.objects.get()
    assert login.base_url == told["base_url"]
    assert login.credentials.count() == 1
    assert Entry.objects.filter(event="login.moved").count() == 1


def test_keys_that_a_rotation_replaced_do_not_come_back(credentials: Path) -> None:
    bootstrap(credentials)
    Login.objects.get().credentials.update(status="retired")
    bootstrap(credentials)
    assert Login.objects.get().credentials.get().status == "retired"


def test_the_trail_names_what_was_made_and_holds_no_secret(credentials: Path) -> None:
    demo = bootstrap(credentials)
    entries = list(Entry.objects.all())
    events = {entry.event for entry in entries}
    assert {"user.created", "bot.created", "token.issued", "login.created", "credential.stored"} <= events
    assert {entry.actor_name for entry in entries} == {"bootstrap"}
    trail = json.dumps([entry.details for entry in entries])
    told = json.loads(credentials.read_text())
    for secret in (demo["token"], demo["people"][0]["password"], told["access_token_secret"]):
        assert secret not in trail


def test_the_curl_is_a_shell_line_with_one_json_body(credentials: Path) -> None:
    demo = bootstrap(credentials)
    script = f"""curl() {{ printf '%s\\0' "$@"; }}; {demo["curl"]}"""
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    words = said.split("\0")
    order = json.loads(words[words.index("-d") + 1])
    assert order["idempotency_key"].removeprefix("try-").isdigit()
    assert order["account"] in demo["accounts"]
    assert f"Authorization: Bearer {demo['token']}" in words


def test_two_first_runs_at_once_make_one_of_each(credentials: Path) -> None:
    run_together(lambda: bootstrap(credentials), lambda: bootstrap(credentials))
    assert (User.objects.count(), Bot.objects.count(), Login.objects.count()) == (4, 1, 1)
    assert AccessToken.objects.count() == 1


def test_demo_people_are_refused_where_live_trading_is_enabled(credentials: Path, settings) -> None:
    settings.LIVE_TRADING = "enabled"
    with pytest.raises(CommandError, match="LIVE_TRADING"):
        bootstrap(credentials)
    assert not User.objects.exists()
