"""The sealer's half of the trail: entries become links of one chain, and the chain's head is signed.

The form, version 1. An entry's canonical bytes are the UTF-8 text of

    "1" NUL id NUL transaction_id NUL at NUL event NUL actor_kind NUL actor_id NUL actor_name NUL
    subject_kind NUL subject_id NUL request_id NUL details

where `at` is microseconds since 1970-01-01 UTC, an absent actor_id is empty, and details are as Postgres
prints the jsonb. A NUL cannot occur inside: Postgres stores none. Link n's digest is
SHA-256(digest of link n-1 as 32 bytes, canonical bytes); before link 1 stand 32 zero bytes.

A checkpoint is a C2SP signed note: "cerbero/<epoch>", the position and the digest in base64, a line each; an
empty line; and "— cerbero <base64 of key id and Ed25519 signature>".

Links follow the order of commits, not of ids: a transaction that took its id early and committed late must not
be lost, so only what lies below the snapshot's xmin is read, by (transaction, id) (gates.md §7).
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

KEY_NAME = "cerbero"
BATCH_SIZE = 5000
_FORM = "1"
_LOCK = 0x5EA1
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "id, transaction_id, at, event, actor_kind, actor_id, actor_name, subject_kind, subject_id, request_id, "
    "details::text"
)


@dataclass(frozen=True)
class Place:
    """Where the sealer stands: the epoch's cursor, and the chain's head."""

    epoch: str
    after: tuple[int, int]
    position: int
    digest: bytes


@dataclass(frozen=True)
class Signer:
    """The seal key, and the names that a reader of its signatures needs."""

    key: Ed25519PrivateKey

    @classmethod
    def from_hex(cls, seed: str) -> "Signer":
        """Raises ValueError unless `seed` is 32 bytes in hex."""
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))

    @property
    def key_id(self) -> bytes:
        name = f"{KEY_NAME}\n".encode()
        return hashlib.sha256(name + b"\x01" + self.key.public_key().public_bytes_raw()).digest()[:4]

    @property
    def verifier_key(self) -> str:
        """The public half, as C2SP's signed-note writes it: name+id+base64(1, key)."""
        public = b64encode(b"\x01" + self.key.public_key().public_bytes_raw()).decode()
        return f"{KEY_NAME}+{self.key_id.hex()}+{public}"

    def sign(self, body: str) -> str:
        return b64encode(self.key_id + self.key.sign(body.encode())).decode()


def handover(former: Signer, signer: Signer, position: int) -> str:
    """The line by which the former key names its successor: whatever lies beyond `position` is signed by that."""
    body = handover_body(signer.verifier_key, position)
    return f"{signer.verifier_key} {position} {former.sign(body)}"


def handover_body(verifier_key: str, position: int) -> str:
    return f"{KEY_NAME} hands over\n{verifier_key}\n{position}\n"


def seal_batch(limit: int = BATCH_SIZE) -> int:
    """Chain up to `limit` entries in one transaction and return how many were read; 0 when there are none.

    Two sealers cannot fork the chain: each batch holds an advisory lock until its commit.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        system = _system_identifier(cursor)
        place = _place(cursor)
        if place is None or place.epoch.split(".")[0] != system:
            rows = _left_behind(cursor, place, limit) if place else []
            if place and rows:
                return _chain(cursor, place, rows)
            place = _open_epoch(cursor, system)
        below_horizon = "transaction_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        return _chain(cursor, place, _read(cursor, place, below_horizon, limit))


def sign_head(signer: Signer) -> None:
    """Sign the chain's head, unless it is empty or signed already."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        place = _place(cursor)
        if place is None or place.position == 0:
            return
        cursor.execute("SELECT 1 FROM audit_checkpoint WHERE position = %s", [place.position])
        if cursor.fetchone() is None:
            signature = signer.sign(note_body(place.epoch, place.position, place.digest))
            cursor.execute(
                "INSERT INTO audit_checkpoint (position, digest, epoch, signature) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                [place.position, place.digest.hex(), place.epoch, signature],
            )


def mark_success() -> None:
    """Say that the sealer lives and that the head is anchored; the health page reads it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_mark_sealer()")


def newest_checkpoint() -> tuple[int, str] | None:
    """The newest signed head: its position and its whole note."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT epoch, position, digest, signature FROM audit_checkpoint ORDER BY position DESC LIMIT 1"
        )
        row = cursor.fetchone()
    if row is None:
        return None
    epoch, position, digest, signature = row
    body = note_body(epoch, position, bytes.fromhex(digest))
    return position, f"{body}\n— {KEY_NAME} {signature}\n"


def note_body(epoch: str, position: int, digest: bytes) -> str:
    return f"{KEY_NAME}/{epoch}\n{position}\n{b64encode(digest).decode()}\n"


def canonical(row: tuple) -> bytes:
    """An entry's bytes in the form above, from a row of _COLUMNS."""
    entry_id, transaction_id, at, event, actor_kind, actor_id, *rest = row
    micros = (at - _EPOCH_START) // timedelta(microseconds=1)
    actor = "" if actor_id is None else str(actor_id)
    fields = [_FORM, str(entry_id), str(transaction_id), str(micros), event, actor_kind, actor, *rest]
    return "\0".join(fields).encode()


def _place(cursor: CursorWrapper) -> Place | None:
    cursor.execute("SELECT epoch, transaction_id, entry_id FROM audit_cursor ORDER BY number DESC LIMIT 1")
    row = cursor.fetchone()
    if row is None:
        return None
    return Place(row[0], (row[1], row[2]), *_head(cursor))


def _head(cursor: CursorWrapper) -> tuple[int, bytes]:
    cursor.execute("SELECT position, digest FROM audit_link ORDER BY position DESC LIMIT 1")
    row = cursor.fetchone()
    return (row[0], bytes.fromhex(row[1])) if row else (0, bytes(32))


def _open_epoch(cursor: CursorWrapper, system: str) -> Place:
    position, digest = _head(cursor)
    cursor.execute(
        "INSERT INTO audit_cursor (epoch, number, first_position, transaction_id, entry_id)"
        " SELECT %s || '.' || n, n, %s, 0, 0"
        " FROM (SELECT coalesce(max(number), 0) + 1 AS n FROM audit_cursor) numbered RETURNING epoch",
        [system, position + 1],
    )
    return Place(cursor.fetchone()[0], (0, 0), position, digest)


def _left_behind(cursor: CursorWrapper, place: Place, limit: int) -> list[tuple]:
    # Visible, with a number that this cluster has yet to give: written in the former epoch and never sealed.
    ahead = "transaction_id >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    return _read(cursor, place, ahead, limit)


def _read(cursor: CursorWrapper, place: Place, which: str, limit: int) -> list[tuple]:
    cursor.execute(
        f"SELECT {_COLUMNS} FROM audit_entry WHERE (transaction_id, id) > (%s, %s) AND {which}"  # noqa: S608
        " ORDER BY transaction_id, id LIMIT %s",
        [*place.after, limit],
    )
    return cursor.fetchall()


def _chain(cursor: CursorWrapper, place: Place, rows: list[tuple]) -> int:
    if not rows:
        return 0
    # In a new epoch the cursor passes by entries of former ones.
    cursor.execute(
        "SELECT entry_id FROM audit_link WHERE entry_id = ANY(%s)", [[entry_id for entry_id, *_ in rows]]
    )
    known = {entry_id for (entry_id,) in cursor.fetchall()}
    _insert_links(cursor, place, [row for row in rows if row[0] not in known])
    cursor.execute(
        "UPDATE audit_cursor SET transaction_id = %s, entry_id = %s WHERE epoch = %s",
        [rows[-1][1], rows[-1][0], place.epoch],
    )
    return len(rows)


def _insert_links(cursor: CursorWrapper, place: Place, rows: Iterable[tuple]) -> None:
    digest, ids, digests = place.digest, [], []
    for row in rows:
        digest = hashlib.sha256(digest + canonical(row)).digest()
        ids.append(row[0])
        digests.append(digest.hex())
    positions = list(range(place.position + 1, place.position + 1 + len(ids)))
    cursor.execute(
        "INSERT INTO audit_link (position, entry_id, digest)"
        " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[])",
        [positions, ids, digests],
    )


def _system_identifier(cursor: CursorWrapper) -> str:
    cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
    return cursor.fetchone()[0]
