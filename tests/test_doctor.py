"""What `manage.py doctor` finds, and what it says to do; that a whole installation is well is test_up's."""

import json
from typing import Any

import pytest
from django.core.management import call_command

from brokers.models import Account, Credential
from brokers.services import broker_for
from orders.models import Order, PolicyVersion
from tests.orders import world
from tests.orders.world import World
from tests.simulator_process import SimulatorProcess

Findings = dict[str, tuple[str, str]]


@pytest.fixture
def floor(fresh_database: Any, simulator: SimulatorProcess) -> World:
    return world.connect(simulator)


def look(capsys: pytest.CaptureFixture, *words: str, code: int = 1) -> Findings:
    """By name: how it is, and the words; what it printed is never a secret's place."""
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json", "--url", "http://127.0.0.1:9", *words)
    assert ended.value.code == code
    printed = capsys.readouterr().out
    for secret in Credential.objects.values_list("access_token", flat=True):
        assert not secret or secret not in printed
    return {each["name"]: (each["level"], each["detail"]) for each in json.loads(printed)["findings"]}


def test_it_asks_the_broker_and_places_nothing(floor: World, capsys: pytest.CaptureFixture) -> None:
    found = look(capsys)
    assert found["broker of desk-1"][0] == "ok"
    assert "a what-if in" in found["broker of desk-1"][1]
    assert (found["policy"][0], found["migrations"][0], found["clock"][0]) == ("ok", "ok", "ok")
    assert not Order.objects.exists()
    with broker_for(floor.login) as broker:
        assert broker.open_orders() == []
    assert "broker of desk-1" not in look(capsys, "--without-broker")


def test_what_is_not_well_is_named_with_what_to_do(floor: World, capsys: pytest.CaptureFixture) -> None:
    Credential.objects.update(access_token_secret=b"not a cipher")
    bare = Account.objects.create(login=floor.login, broker_account_id="DU1", environment="paper")
    PolicyVersion.objects.update(status="retired")
    found = look(capsys, "--without-broker")
    assert found["web"] == (
        "fail",
        "http://127.0.0.1:9 does not answer (ConnectError); is PUBLIC_URL right?",
    )
    assert found["process:orders"] == ("fail", "has not succeeded yet")
    assert found["keys of desk-1"][0] == "fail"
    assert found[f"limits of {bare}"][0] == "warn"
    assert found["rules"][0] == "fail", "there is no policy in force"


def test_an_address_that_says_something_else_is_not_taken_for_ours(
    floor: World, capsys: pytest.CaptureFixture
) -> None:
    found = look(capsys, "--without-broker", "--url", floor.login.base_url)
    assert found["web"][0] == "fail"
    assert "answers 401, and not as Cerbero does" in found["web"][1]
