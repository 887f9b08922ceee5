"""The sealer chains in the order of commits, alone or in company, and comes back from whatever ends it."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command

from audit import sealing
from audit.anchors import Anchor
from cerbero import embedded, health
from keyrotation.calendar import watch
from keyrotation.models import SystemKey
from keyrotation.services import PROPOSER
from tests.audit.trail import Trail, acting_as, insert_entry
from tests.rig import BASE_DIR, run_together


def test_what_was_written_is_sealed_signed_and_anchored(trail: Trail) -> None:
    trail.write(3)
    trail.seal()
    verdict = trail.verify()
    assert (verdict.ok, verdict.entries, verdict.checkpoints, verdict.anchored) == (True, 3, 1, 1)
    assert verdict.unsealed == 0
    assert trail.anchor.stat().st_mode & 0o777 == 0o600


def test_a_second_pass_with_nothing_new_changes_nothing(sealed: Trail) -> None:
    before = sealed.anchor.read_bytes()
    sealed.seal()
    assert sealed.anchor.read_bytes() == before
    assert sealed.verify().checkpoints == 3


def test_an_early_id_committed_late_is_not_lost(trail: Trail) -> None:
    with trail.database.connect() as slow, trail.database.connect() as quick:
        with slow.transaction():
            early = insert_entry(slow, "slow.done")
            late = insert_entry(quick, "quick.done")
            trail.seal()
            assert trail.links() == []
        trail.seal()
    assert [entry for _, entry in trail.links()] == [early, late]
    assert trail.verify().ok


def test_the_transaction_orders_entries_and_not_the_id(trail: Trail) -> None:
    with trail.database.connect() as first, trail.database.connect() as second:
        with first.transaction():
            first.execute("SELECT pg_current_xact_id()")
            small = insert_entry(second, "second.done")
            big = insert_entry(first, "first.done")
        trail.seal()
    assert small < big
    assert [entry for _, entry in trail.links()] == [big, small]
    assert trail.verify().ok


def test_sealers_in_company_do_not_fork_the_chain(trail: Trail) -> None:
    with acting_as(trail.database, embedded.SEALER):
        counts = run_together(*[_sealing(trail, 60)] * 3, *[_writing(trail, 60)] * 2)
    assert [count for count in counts if isinstance(count, Exception)] == []
    trail.seal()
    assert [position for position, _ in trail.links()] == list(range(1, 121))
    assert trail.verify().ok


def _sealing(trail: Trail, rounds: int) -> Callable[[], None]:
    def seal() -> None:
        for _ in range(rounds):
            sealing.seal_batch(limit=3)

    return seal


def _writing(trail: Trail, count: int) -> Callable[[], None]:
    def write() -> None:
        with trail.database.connect() as app:
            for _ in range(count):
                insert_entry(app, "race.run")

    return write


def test_a_restored_database_begins_a_new_epoch_and_loses_nothing(sealed: Trail) -> None:
    # As after a restore into another cluster: numbers of the former life, sealed and not, lie far ahead.
    sealed.write(2)
    sealed.spoil(
        "UPDATE audit_cursor SET epoch = '42.1', transaction_id = transaction_id + 1000000000",
        "UPDATE audit_entry SET transaction_id = transaction_id + 1000000000",
        "UPDATE audit_link SET digest = digest WHERE false",
    )
    _rechain(sealed)
    assert sealed.verify().unsealed == 2
    sealed.write(2)
    for _ in range(2):
        sealed.seal()
    assert [position for position, _ in sealed.links()] == list(range(1, 14))
    epochs = sealed.rows("SELECT number, first_position FROM audit_cursor ORDER BY number")
    assert epochs == [(1, 1), (2, 12)]
    verdict = sealed.verify()
    assert (verdict.ok, verdict.entries, verdict.unsealed) == (True, 13, 0)


def _rechain(trail: Trail) -> None:
    """Seal the spoiled rows again as a former cluster's sealer would have, with an anchor to match."""
    sealed = len(trail.links())
    digest, updates = bytes(32), []
    with trail.database.connect(embedded.OWNER) as owner:
        columns = sealing._COLUMNS.replace("id,", "e.id,", 1)
        rows = owner.execute(
            f"SELECT {columns} FROM audit_link l JOIN audit_entry e ON e.id = l.entry_id ORDER BY position"
        ).fetchall()
    for position, row in enumerate(rows, 1):
        digest = hashlib.sha256(digest + sealing.canonical(row)).digest()
        updates.append(f"UPDATE audit_link SET digest = '{digest.hex()}' WHERE position = {position}")
    assert len(updates) == sealed
    trail.spoil(*updates, "DELETE FROM audit_checkpoint")
    trail.anchor.unlink()


@pytest.fixture
def sealer(trail: Trail) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_sealer", "--anchor", str(trail.anchor)],
        cwd=BASE_DIR,
        env=trail.database.environment(embedded.SEALER),
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_the_process_survives_a_lost_connection_and_ends_when_asked(
    trail: Trail, sealer: subprocess.Popen
) -> None:
    trail.write(2)
    assert trail.command("--wait", "20")["entries"] == 2
    admin = trail.database.servers.postgres.url(embedded.ADMIN, trail.database.name)
    with psycopg.connect(admin, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE usename = 'cerbero_sealer' AND datname = current_database()"
        ).fetchone()
    assert ended is not None
    assert ended[0] > 0
    trail.write(2)
    assert trail.command("--wait", "20")["entries"] == 4
    sealer.terminate()
    assert sealer.wait(60) == 0


def test_another_seal_key_is_refused(sealed: Trail, settings) -> None:
    settings.SEAL_KEY = "11" * 32
    with pytest.raises(CommandError, match="another SEAL_KEY"):
        call_command("run_sealer", once=True, anchor=sealed.anchor)


def test_a_new_seal_key_is_named_by_the_old_one_and_verify_follows(sealed: Trail, settings) -> None:
    old, new = settings.SEAL_KEY, "11" * 32
    noted_seal_keys = SystemKey.objects.filter(name="SEAL_KEY").count
    settings.SEAL_KEY = ""
    watch(PROPOSER)
    assert noted_seal_keys() == 1, "its age is known to who does not have it"
    settings.SEAL_KEY = f"{new} {old}"
    sealed.write(2)
    for _ in range(2):
        sealed.seal()
    assert sealed.verify().ok
    watch(PROPOSER)
    assert noted_seal_keys() == 2
    settings.SEAL_KEY = new
    sealed.write()
    sealed.seal()
    verdict = sealed.verify()
    assert (verdict.ok, verdict.anchored) == (True, verdict.checkpoints)
    settings.SEAL_KEY = old
    with pytest.raises(CommandError, match="another SEAL_KEY"):
        sealed.seal()
    public = Path(f"{sealed.anchor}.pub")
    first, second = public.read_text().splitlines()
    words = second.split(" ")
    for forged, code in (
        (f"{words[0]} {int(words[1]) - 1} {words[2]}", "signature_wrong"),
        (f"{words[0]} {words[1]} {words[2][:-4]}AAA=", "signature_wrong"),
    ):
        public.write_text(f"{first}\n{forged}\n")
        assert (sealed.verify().problem or {}).get("code") == code
    public.write_text(f"{first}\n")
    assert (sealed.verify().problem or {}).get("code") == "signed_by_another_key"


def test_a_missing_seal_key_is_refused(trail: Trail, settings) -> None:
    settings.SEAL_KEY = ""
    with pytest.raises(CommandError, match="SEAL_KEY must be"):
        call_command("run_sealer", once=True, anchor=trail.anchor)


def test_a_note_torn_by_a_crash_is_dropped(sealed: Trail) -> None:
    whole = sealed.anchor.read_bytes()
    with sealed.anchor.open("ab") as file:
        file.write(b"cerbero/1.1\n12\nhalf")
    sealed.seal()
    assert sealed.anchor.read_bytes() == whole


def test_a_lost_last_newline_is_put_back(sealed: Trail) -> None:
    whole = sealed.anchor.read_bytes()
    sealed.anchor.write_bytes(whole[:-1])
    sealed.seal()
    assert sealed.anchor.read_bytes() == whole


def test_an_anchor_without_its_public_key_is_not_given_a_new_one(sealed: Trail) -> None:
    anchor = Anchor(sealed.anchor)
    anchor.public_path.unlink()
    with pytest.raises(CommandError, match="is missing"):
        sealed.seal()


def test_a_head_that_was_committed_and_never_anchored_is_anchored_next_time(sealed: Trail) -> None:
    notes = sealed.anchor.read_text().split("\n\ncerbero/")
    sealed.anchor.write_text("\n\ncerbero/".join(notes[:-1]) + "\n\n")
    assert sealed.verify().anchored == 2
    sealed.seal()
    assert sealed.verify().anchored == 3


def test_the_sealer_marks_its_success_where_health_looks(trail: Trail) -> None:
    trail.seal()
    mark = next(each for each in health.examine()["dependencies"] if each["name"] == "process:sealer")
    assert mark["is_ok"]
    assert mark["age_seconds"] < 10


def test_the_public_half_is_written_as_other_tools_read_it(sealed: Trail) -> None:
    text = Path(f"{sealed.anchor}.pub").read_text()
    name, key_id, key = text.strip().split("+", 2)
    assert (name, len(key_id), len(key)) == ("cerbero", 8, 44)
