"""Break glass: it works while Postgres and Redis do not, proves what it says, and its journal comes home."""

import json
import os
import stat
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from audit.models import Entry
from brokers import break_glass, sealed_bundle
from cerbero.errors import BadInput, CannotDecrypt
from tests.orders.test_halt_run import rest, working
from tests.rig import BASE_DIR

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    return tmp_path


def words(files, *more):
    return [
        "break_glass",
        "--bundle",
        str(files / "bundle"),
        "--passphrase-file",
        str(files / "passphrase"),
        *more,
    ]


def broken(files, *more, code=0):
    """The command in a process that knows neither a database, nor Redis, nor a secret."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(files), "VAR_DIR": str(files / "nothing")}
    command = [sys.executable, "manage.py", *words(files, "--journal", str(files / "journal"), *more)]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_cancels_everything_without_a_database_and_its_journal_is_imported_once(
    floor, fresh_database, files
):
    fresh_database.manage(*words(files, "--seal", "--trade-desk", "+1 555 0100"))
    bundle = (files / "bundle").read_text()
    assert stat.S_IMODE((files / "bundle").stat().st_mode) == 0o600
    assert floor.sim.credentials["access_token"] not in bundle
    rest(floor, 3)
    assert len(working(floor)) == 3
    said = broken(files)
    assert working(floor) == set()
    assert "proven by two lists and by id" in said
    assert "+1 555 0100" in said
    assert "flat" in said
    journal = files / "journal"
    steps = [json.loads(line)["step"] for line in journal.read_text().splitlines()]
    assert steps[0] == "glass.broken"
    assert {"session.minted", "cancels.sent", "orders.listed", "orders.proven"} <= set(steps)
    assert floor.sim.credentials["access_token_secret"] not in journal.read_text()
    for _ in range(2):
        call_command("import_break_glass", str(journal))
    assert Entry.objects.filter(subject_kind="breakglass").count() == len(steps)
    assert Entry.objects.filter(event="bundle.sealed").count() == 1


def test_a_broker_that_is_down_is_said_with_the_desks_number(floor, fresh_database, files):
    fresh_database.manage(*words(files, "--seal", "--trade-desk", "+1 555 0100"))
    floor.sim.stop()
    said = broken(files, "--seconds", "1", code=1)
    assert "FAILED" in said
    assert "NOT PROVEN. Call the trade desk: +1 555 0100" in said


@pytest.fixture
def two_logins(floor, tmp_path):
    """What a bundle holds: a login whose keys cannot be read, and one that works."""
    seal(tmp_path / "bundle", floor)
    good = sealed_bundle.unseal(tmp_path / "bundle", PASSPHRASE)[0]["logins"][0]
    spoilt = good | {"name": "spoilt", "credentials": good["credentials"] | {"signature_key_pem": "bm8="}}
    return [spoilt, good]


def seal(path, floor):
    (path.parent / "passphrase").write_text(PASSPHRASE)
    call_command("break_glass", "--seal", bundle=path, passphrase_file=path.parent / "passphrase")


def test_a_login_that_fails_in_a_way_nobody_thought_of_and_a_full_disk_stop_no_other(
    floor, two_logins, monkeypatch, tmp_path
):
    rest(floor, 2)
    said = []
    monkeypatch.setattr(break_glass.os, "fsync", full)
    journal = break_glass.Journal(tmp_path / "journal", said.append)
    is_proven = break_glass.stop_everything(two_logins, journal, said.append, list_seconds=0.1)
    assert working(floor) == set()
    assert not is_proven
    assert any(line.startswith("spoilt: FAILED") for line in said)
    assert any("proven by two lists and by id" in line for line in said)
    assert "THE JOURNAL CANNOT BE WRITTEN" in said[0]
    assert not journal.is_kept
    assert {"orders.proven", "login.failed"} <= {json.loads(line)["step"] for line in said if line[0] == "{"}


def full(descriptor):
    raise OSError("no space left on device")


def test_a_list_that_fails_once_is_asked_for_again(floor, two_logins, tmp_path):
    rest(floor, 2)
    floor.sim.fault("status", status=503, method="GET", path="account/orders$", times=1)
    said = []
    journal = break_glass.Journal(tmp_path / "journal", said.append)
    assert break_glass.stop_everything(two_logins[1:], journal, said.append, list_seconds=0.1)
    journal.close()
    assert working(floor) == set()
    assert any("trying again" in line for line in said)


def test_a_journal_that_cannot_be_begun_is_said_instead(tmp_path):
    said = []
    journal = break_glass.Journal(tmp_path / "nowhere" / "journal", said.append)
    journal.write("cancels.begun", account="DU1")
    assert (len(said), json.loads(said[1])["step"]) == (2, "cancels.begun")


def test_a_login_that_the_bundle_lacks_is_named(tmp_path):
    sealed_bundle.seal(tmp_path / "bundle", PASSPHRASE, {"logins": [{"name": "desk-1"}]})
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    words = {"bundle": tmp_path / "bundle", "passphrase_file": tmp_path / "passphrase"}
    with pytest.raises(CommandError, match="Not in the bundle: desk-2"):
        call_command("break_glass", "--login", "desk-2", **words)


def test_a_changed_journal_is_refused(db, fresh_journal):
    lines = fresh_journal.read_text().replace('"account": "DU1"', '"account": "DU2"')
    fresh_journal.write_text(lines)
    with pytest.raises(CommandError):
        call_command("import_break_glass", str(fresh_journal))
    assert not Entry.objects.filter(subject_kind="breakglass").exists()


@pytest.fixture
def fresh_journal(tmp_path):
    from brokers.break_glass import Journal

    journal = Journal(tmp_path / "journal")
    for step in ("cancels.begun", "cancels.sent"):
        journal.write(step, account="DU1")
    journal.close()
    return tmp_path / "journal"


def test_the_bundle_opens_with_its_passphrase_alone_and_not_when_changed(tmp_path):
    path = tmp_path / "bundle"
    sealed_bundle.seal(path, PASSPHRASE, {"logins": []})
    assert sealed_bundle.unseal(path, PASSPHRASE)[0] == {"logins": []}
    with pytest.raises(CannotDecrypt):
        sealed_bundle.unseal(path, "another passphrase")
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"made_at": "2020-01-01T00:00:00+00:00"}))
    with pytest.raises(CannotDecrypt):
        sealed_bundle.unseal(path, PASSPHRASE)


def test_a_short_passphrase_seals_nothing(tmp_path):
    with pytest.raises(BadInput):
        sealed_bundle.seal(tmp_path / "bundle", "short", {})
    assert not (tmp_path / "bundle").exists()
