"""Entering a login by hand: its keys come in once, encrypted, and bring a session up."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from brokers.models import Credential, Login
from brokers.sessions import keep_session
from tests.brokers.logins import SYSTEM
from tests.rig import Database
from tests.simulator_process import SimulatorProcess


def connect(path: Path, environment: str = "paper") -> None:
    call_command("connect_login", "desk", "--environment", environment, "--credentials", str(path))


def test_a_login_entered_from_a_file_comes_up(
    fresh_database: Database, fresh_simulator: SimulatorProcess, capsys: pytest.CaptureFixture
) -> None:
    connect(fresh_simulator.state_dir / "credentials.json")
    assert keep_session(Login.objects.get(name="desk"), SYSTEM) == "up"
    said = capsys.readouterr().out
    assert "entered" in said
    assert fresh_simulator.credentials["access_token"] not in said


def test_the_same_login_again_gets_new_keys_but_never_another_environment(
    db, simulator: SimulatorProcess
) -> None:
    path = simulator.state_dir / "credentials.json"
    connect(path)
    connect(path)
    assert Credential.objects.filter(status="active").count() == 1
    assert Credential.objects.filter(status="retired").count() == 1
    with pytest.raises(CommandError, match="never changes"):
        connect(path, "live")


@pytest.mark.parametrize(
    "change", [{"dh_prime": "17"}, {"signature_key_path": "/nowhere"}, {"consumer_key": None}]
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(
    db, simulator: SimulatorProcess, tmp_path: Path, change: dict
) -> None:
    content = {k: v for k, v in (simulator.credentials | change).items() if v is not None}
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(CommandError):
        connect(tmp_path / "c.json")
    assert not Credential.objects.exists()
