"""Whatever the tables' owner does to the trail is found, and the first fault is named."""

import ast
import hashlib
from pathlib import Path

import pytest

from audit import sealing, verifying
from cerbero import embedded
from tests.audit.trail import Trail, insert_entry

SPOILED = {
    "an edited entry": (["UPDATE audit_entry SET actor_name = 'mallory' WHERE id = 5"], "digest_differs", 5),
    "edited details": (["UPDATE audit_entry SET details = '{\"a\": 1}' WHERE id = 2"], "digest_differs", 2),
    "a moved time": (["UPDATE audit_entry SET at = at + '1 microsecond' WHERE id = 9"], "digest_differs", 9),
    "a removed entry": (["DELETE FROM audit_entry WHERE id = 4"], "entry_missing", 4),
    "an entry removed with its link": (
        ["DELETE FROM audit_entry WHERE id = 4", "DELETE FROM audit_link WHERE entry_id = 4"],
        "links_missing",
        4,
    ),
    "a removed link": (["DELETE FROM audit_link WHERE position = 4"], "links_missing", 4),
    "no entries": (["TRUNCATE audit_entry"], "entry_missing", 1),
    "no links": (["TRUNCATE audit_link"], "tail_missing", 1),
    "no checkpoints and no links": (["TRUNCATE audit_link, audit_checkpoint"], "tail_missing", 1),
    "a cut tail": (
        [
            "DELETE FROM audit_entry WHERE id > 7",
            "DELETE FROM audit_link WHERE position > 7",
            "DELETE FROM audit_checkpoint WHERE position > 7",
        ],
        "tail_missing",
        8,
    ),
    "everything wiped": (
        ["TRUNCATE audit_entry, audit_link, audit_checkpoint, audit_cursor"],
        "tail_missing",
        1,
    ),
    "two entries swapped": (
        [
            "UPDATE audit_link SET entry_id = -1 WHERE position = 3",
            "UPDATE audit_link SET entry_id = 3 WHERE position = 4",
            "UPDATE audit_link SET entry_id = 4 WHERE position = 3",
        ],
        "digest_differs",
        3,
    ),
    "a forged digest": (
        ["UPDATE audit_link SET digest = repeat('0', 64) WHERE position = 6"],
        "digest_differs",
        6,
    ),
    "a forged link": (["INSERT INTO audit_link VALUES (10, 99, repeat('0', 64))"], "entry_missing", 10),
    "a forged head": (
        ["UPDATE audit_checkpoint SET digest = repeat('0', 64) WHERE position = 6"],
        "signature_wrong",
        6,
    ),
    "a removed head": (["DELETE FROM audit_checkpoint WHERE position = 6"], "checkpoint_missing", 6),
    "a signature of nothing": (
        ["UPDATE audit_checkpoint SET signature = '' WHERE position = 3"],
        "signed_by_another_key",
        3,
    ),
}


@pytest.mark.parametrize(("statements", "code", "position"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_trail_is_found_out(sealed: Trail, statements: list[str], code: str, position: int) -> None:
    assert sealed.verify().ok
    sealed.spoil(*statements)
    verdict = sealed.verify()
    assert not verdict.ok
    assert verdict.problem is not None
    assert (verdict.problem["code"], verdict.problem["position"]) == (code, position)


def _forge_chain(trail: Trail, position: int) -> dict[int, str]:
    """Edit one entry and compute every later digest anew, as anyone with the owner's role can."""
    trail.spoil(f"UPDATE audit_entry SET actor_name = 'mallory' WHERE id = {position}")
    with trail.database.connect() as app:
        rows = app.execute(
            f"SELECT {sealing._COLUMNS} FROM audit_entry ORDER BY transaction_id, id"
        ).fetchall()
    digest, digests = bytes(32), {}
    for number, row in enumerate(rows, 1):
        digest = hashlib.sha256(digest + sealing.canonical(row)).digest()
        digests[number] = digest.hex()
    trail.spoil(*(f"UPDATE audit_link SET digest = '{d}' WHERE position = {n}" for n, d in digests.items()))
    return digests


def test_a_chain_made_anew_without_the_key_is_found_by_its_signed_heads(sealed: Trail) -> None:
    _forge_chain(sealed, 5)
    problem = sealed.verify().problem
    assert problem is not None
    assert (problem["code"], problem["position"]) == ("checkpoint_differs", 6)


def test_a_chain_made_anew_by_the_holder_of_the_key_is_found_by_the_anchor(sealed: Trail, settings) -> None:
    digests = _forge_chain(sealed, 5)
    signer = sealing.Signer.from_hex(settings.SEAL_KEY)
    epoch = sealed.rows("SELECT epoch FROM audit_cursor")[0][0]
    for position in (6, 9):
        body = sealing.note_body(epoch, position, bytes.fromhex(digests[position]))
        sealed.spoil(
            f"UPDATE audit_checkpoint SET digest = '{digests[position]}', signature = '{signer.sign(body)}'"
            f" WHERE position = {position}"
        )
    problem = sealed.verify().problem
    assert problem is not None
    assert (problem["code"], problem["position"]) == ("anchor_differs", 6)


def test_a_forged_anchor_is_found(sealed: Trail) -> None:
    text = sealed.anchor.read_text()
    sealed.anchor.write_text(text.replace("\n6\n", "\n7\n"))
    problem = sealed.verify().problem
    assert problem is not None
    assert (problem["code"], problem["position"]) == ("signature_wrong", 7)
    sealed.anchor.write_text(text.replace("\n\n— cerbero", "\n— cerbero", 1))
    problem = sealed.verify().problem
    assert problem is not None
    assert problem["code"] == "anchor_unreadable"


def test_a_lost_anchor_is_not_taken_for_a_whole_one(sealed: Trail) -> None:
    sealed.anchor.unlink()
    sealed.spoil("UPDATE audit_checkpoint SET sealed_at = sealed_at - interval '2 minutes'")
    problem = sealed.verify().problem
    assert problem is not None
    assert problem["code"] == "anchor_behind"


def test_a_strangers_key_does_not_fit(sealed: Trail) -> None:
    other = sealing.Signer.from_hex("22" * 32)
    Path(f"{sealed.anchor}.pub").write_text(f"{other.verifier_key}\n")
    problem = sealed.verify().problem
    assert problem is not None
    assert problem["code"] == "signed_by_another_key"
    Path(f"{sealed.anchor}.pub").unlink()
    problem = sealed.verify().problem
    assert problem is not None
    assert problem["code"] == "public_key_unreadable"


@pytest.mark.parametrize("transaction_id", ["0", "transaction_id + 1000000000000"])
def test_an_entry_slipped_in_where_the_sealer_never_comes_is_found(
    sealed: Trail, transaction_id: str
) -> None:
    with sealed.database.connect() as app:
        slipped = insert_entry(app, "entry.slipped")
    sealed.spoil(f"UPDATE audit_entry SET transaction_id = {transaction_id} WHERE id = {slipped}")
    problem = sealed.verify().problem
    assert problem is not None
    assert (problem["code"], problem["entry"]) == ("entry_unreachable", slipped)


def test_what_waits_to_be_sealed_is_said_and_is_no_fault(sealed: Trail) -> None:
    sealed.write(2)
    verdict = sealed.verify()
    assert (verdict.ok, verdict.unsealed) == (True, 2)
    assert verdict.lag_seconds > 0


def test_the_command_says_whole_and_broken_by_its_exit_code(sealed: Trail) -> None:
    found = sealed.command()
    assert (found["ok"], found["entries"], found["anchored"]) == (True, 9, 3)
    assert sealed.says().startswith("The audit trail is whole: 9 entries, head ")
    sealed.spoil("DELETE FROM audit_entry WHERE id = 4")
    assert sealed.command(code=2)["problem"]["entry"] == 4
    done = sealed.database.manage("verify_audit", "--anchor", str(sealed.anchor), code=2)
    assert done.stdout.startswith("The audit trail is broken at position 4, entry 4: a sealed entry is gone")


def test_waiting_in_vain_for_a_sealer_is_a_fault(sealed: Trail) -> None:
    sealed.write(1)
    found = sealed.command("--wait", "0.3", code=2)
    assert found["problem"]["code"] == "not_sealed"


def test_an_empty_trail_is_whole(trail: Trail) -> None:
    assert trail.verify().ok


def test_verify_runs_as_every_role_that_may_read(sealed: Trail) -> None:
    for role in (embedded.APP, embedded.SEALER, embedded.OWNER):
        assert "is whole: 9 entries" in sealed.says(role=role)


def test_the_second_reading_shares_no_code_with_the_first() -> None:
    tree = ast.parse(Path(verifying.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    }
    assert not [name for name in imported if name.split(".")[0] in {"audit", "cerbero", "sealing", "anchors"}]
