"""From nothing to a login: the keys, the portal, and each of the usual mistakes by its own sentence."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from brokers import primes
from brokers.generation import GROUP_14_PRIME, prime_of_pem, prime_pem
from brokers.key_folder import KeyFolder
from brokers.management.commands.ibkr_setup import PrimeSearch
from brokers.models import Credential, Login
from brokers.sessions import keep_session
from tests.brokers.logins import SYSTEM, events
from tests.rig import Database
from tests.simulator_process import SimulatorProcess

CONSUMER = "SETUPKEYS"
HOUR_AWAY = 4102444800.0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder as the first run leaves it; making keys is slow."""
    folder = tmp_path_factory.mktemp("made") / "keys"
    call_folder = KeyFolder(folder)
    call_folder.make_pairs()
    call_folder.keep_prime(int(GROUP_14_PRIME, 16))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "keys"))


def setup(sim: SimulatorProcess, folder: Path, *more: str, environment: str = "paper") -> None:
    words = ["desk", "--environment", environment, "--folder", str(folder), "--base-url", sim.base_url]
    call_command("ibkr_setup", *words, *more)


def upload(sim: SimulatorProcess, folder: Path, **changes: Any) -> dict[str, str]:
    """What a person does at the portal, and what it shows them."""
    body = {
        "consumer_key": CONSUMER,
        "dh_prime": f"{prime_of_pem((folder / 'dhparam.pem').read_text()):x}",
        **{f"{kind}_public_key": (folder / f"public_{kind}.pem").read_text() for kind in KINDS},
    }
    return {"consumer_key": CONSUMER} | sim.control("POST", "/_sim/keys", body | changes)


KINDS = ("signature", "encryption")


def issue(folder: Path, **issued: str) -> list[str]:
    path = folder / "issued.json"
    path.write_text(json.dumps(issued))
    path.chmod(0o600)
    return ["--issued", str(path)]


def refusal(sim: SimulatorProcess, folder: Path, *more: str, environment: str = "paper") -> str:
    with pytest.raises(CommandError) as refused:
        setup(sim, folder, *more, environment=environment)
    assert not Credential.objects.exists()
    return str(refused.value)


def test_a_walk_from_an_empty_folder_to_a_session(
    fresh_database: Database, simulator: SimulatorProcess, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "keys"
    setup(simulator, folder, "--known-prime")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "private_signature.pem",
        "private_encryption.pem",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    issued = upload(simulator, folder)
    setup(simulator, folder, *issue(folder, **issued))
    said = capsys.readouterr().out
    assert "Run this again" in said
    assert "entered; its session is brought up next" in said
    secrets = [issued["access_token"], issued["access_token_secret"], GROUP_14_PRIME, "PRIVATE"]
    assert not [each for each in secrets if each in said]
    assert keep_session(Login.objects.get(name="desk"), SYSTEM) == "up"
    assert events("credential.stored") == ["credential.stored"]


def test_a_person_types_what_the_portal_shows_and_is_asked_again_after_a_mistake(
    db, simulator: SimulatorProcess, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    issued = upload(simulator, folder)
    keys, tokens = iter([CONSUMER.lower(), CONSUMER]), iter([*issued.values()][1:] * 2)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda words: next(keys))
    monkeypatch.setattr("getpass.getpass", lambda words: next(tokens))
    setup(simulator, folder)
    assert "upper case" in capsys.readouterr().err
    assert Credential.objects.get().consumer_key == CONSUMER
    # The same form that connect_login reads.
    call_command(
        "connect_login", "desk", "--environment", "paper", "--credentials", str(folder / "credentials.json")
    )
    assert Credential.objects.filter(status="retired").count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"consumer_key": "setupkeys"}, "upper case"),
        ({"consumer_key": "SHORT"}, "has 9 letters"),
        ({"access_token": "nonsense"}, "20 digits and letters"),
        ({"access_token_secret": "not base64!"}, "not base64"),
        ({"access_token_secret": "c2hvcnQ="}, "Was it cut"),
    ],
)
def test_what_cannot_be_right_is_told_before_the_broker_is_asked(
    db, simulator: SimulatorProcess, folder: Path, change: dict, sentence: str
) -> None:
    issued = upload(simulator, folder)
    assert sentence in refusal(simulator, folder, *issue(folder, **issued | change))


def swapped(folder: Path) -> dict[str, str]:
    signature, encryption = ((folder / f"public_{kind}.pem").read_text() for kind in KINDS)
    return {"signature_public_key": encryption, "encryption_public_key": signature}


# How the portal was filled in → the words that name the mistake.
AT_THE_PORTAL = {
    "the keys are not active yet": ({"active_at": HOUR_AWAY, "consumer_key": "NOTACTIVE"}, "not active yet"),
    "another prime was uploaded": ({"dh_prime": f"{2**2048 - 1:x}"}, "another Diffie-Hellman prime"),
    "a short prime was uploaded": ({"dh_prime": f"{2**255 - 19:x}"}, "this folder's dhparam.pem"),
    "the secret is of an earlier token": ({"misfit": True}, "belongs to an earlier token"),
}


@pytest.mark.parametrize("mistake", AT_THE_PORTAL)
def test_a_failed_dry_mint_says_which_mistake_it_was(
    db, simulator: SimulatorProcess, folder: Path, mistake: str
) -> None:
    changes, sentence = AT_THE_PORTAL[mistake]
    issued = upload(simulator, folder, **changes)
    if "consumer_key" in changes:
        issued["consumer_key"] = changes["consumer_key"]
    assert sentence in refusal(simulator, folder, *issue(folder, **issued))
    # Only what time may mend is kept for another try.
    assert (folder / "credentials.json").exists() is ("active_at" in changes)


def test_public_keys_in_each_others_place_are_named(db, simulator, folder: Path) -> None:
    issued = upload(simulator, folder, **swapped(folder))
    assert "in each other's place" in refusal(simulator, folder, *issue(folder, **issued))


def test_another_token_than_the_brokers_and_an_unknown_consumer_are_told_apart(
    db, simulator, folder: Path
) -> None:
    issued = upload(simulator, folder)
    other = issue(folder, **issued | {"access_token": "0" * 20})
    assert "generate the token anew" in refusal(simulator, folder, *other)
    other = issue(folder, **issued | {"consumer_key": "UNKNOWNCK"})
    assert "does not know this consumer key" in refusal(simulator, folder, *other)


def test_keys_of_a_paper_username_are_not_entered_as_live(db, simulator, folder: Path) -> None:
    issued = upload(simulator, folder)
    said = refusal(simulator, folder, *issue(folder, **issued), environment="live")
    assert "open paper accounts" in said


def test_a_broker_that_cannot_be_reached_is_not_the_keys_fault(db, simulator, folder: Path) -> None:
    issued = upload(simulator, folder)
    words = [*issue(folder, **issued), "--base-url", "http://127.0.0.1:9/v1/api"]
    assert "cannot be reached" in refusal(simulator, folder, *words)
    assert (folder / "credentials.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandError, match="needs https"):
        setup(simulator, folder, "--base-url", "http://broker.example/v1/api")


@pytest.mark.parametrize("name", ["private_signature.pem", "issued.json", "."])
def test_files_that_others_can_read_are_refused(db, simulator, folder: Path, name: str) -> None:
    words = issue(folder, **upload(simulator, folder))
    (folder / name).chmod(0o755)
    assert "open to others (mode 755): chmod" in refusal(simulator, folder, *words)


@pytest.mark.parametrize("number", [int(GROUP_14_PRIME, 16) - 2, 23])
def test_a_prime_that_is_none_is_refused(db, simulator, folder: Path, number: int) -> None:
    (folder / "dhparam.pem").write_text(prime_pem(number))
    assert "no safe prime of 2048 bits" in refusal(simulator, folder)
    (folder / "dhparam.pem").write_text("-----BEGIN NONSENSE-----")
    assert "cannot be used" in refusal(simulator, folder)


def test_a_prime_is_searched_for_in_the_background_on_all_processors() -> None:
    search = PrimeSearch(bits=128)
    search.start()
    search.join(30)
    assert search.prime is not None
    assert search.tried > 0
    assert primes.is_safe_prime(search.prime)
    assert prime_of_pem(prime_pem(search.prime)) == search.prime
