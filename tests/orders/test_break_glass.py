"""Break glass: it works while Postgres and Redis do not, proves what it says, and its journal comes home."""

import json
import os
import stat
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from audit.models import Entry
from brokers import sealed_bundle
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
    said = broken(files, code=1)
    assert "FAILED" in said
    assert "NOT PROVEN. Call the trade desk: +1 555 0100" in said


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
