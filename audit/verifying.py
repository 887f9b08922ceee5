"""A second reading of the trail, by code that shares nothing with the writer or the sealer.

The form that it checks is described in sealing.py; whoever has the public half of the seal key and a copy of
the anchor can do the same. It reads one snapshot and streams, so memory does not grow with the trail.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection, transaction

ANCHOR_GRACE_SECONDS = 60
_FETCH = 5000
_NOTE = re.compile(
    r"(cerbero/([0-9.]+)\n([1-9]\d*)\n([A-Za-z0-9+/=]{44})\n)\n— cerbero ([A-Za-z0-9+/=]+)\n\n?"
)

_CHAIN = """
    SELECT l.position, l.digest, l.entry_id, e.transaction_id,
        e.id::text, e.transaction_id::text, (extract(epoch FROM e.at) * 1000000)::bigint::text, e.event,
        e.actor_kind, coalesce(e.actor_id::text, ''), e.actor_name, e.subject_kind, e.subject_id, e.request_id,
        e.details::text
    FROM audit_link l LEFT JOIN audit_entry e ON e.id = l.entry_id ORDER BY l.position
"""
_UNSEALED = """
    SELECT e.id, e.transaction_id, extract(epoch FROM clock_timestamp() - e.at)
    FROM audit_entry e LEFT JOIN audit_link l ON l.entry_id = e.id
    WHERE l.entry_id IS NULL ORDER BY e.transaction_id, e.id
"""
_WAITING = """
    SELECT EXISTS (
        SELECT 1 FROM audit_entry e WHERE e.id <= %s AND (e.transaction_id, e.id) > (
            SELECT coalesce(max(transaction_id), -1), coalesce(max(entry_id), -1)
            FROM (SELECT * FROM audit_cursor ORDER BY number DESC LIMIT 1) newest)
        AND NOT EXISTS (SELECT 1 FROM audit_link l WHERE l.entry_id = e.id))
"""


class Broken(Exception):
    """The trail is not whole; `code`, position and entry say where, the message what."""

    def __init__(self, code: str, message: str, *, position: int | None = None, entry: int | None = None):
        super().__init__(message)
        self.code, self.position, self.entry = code, position, entry


@dataclass(frozen=True)
class Head:
    """A signed claim about the chain: at `position` the digest is `digest` (hex)."""

    position: int
    digest: str
    source: str


@dataclass
class Verdict:
    """What was found. `ok` says that nothing is wrong; what waits to be sealed is `unsealed`."""

    ok: bool = True
    entries: int = 0
    digest: str = ""
    checkpoints: int = 0
    anchored: int = 0
    unsealed: int = 0
    lag_seconds: float = 0.0
    seconds: float = 0.0
    problem: dict[str, Any] | None = field(default=None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(*, anchor: Path, public_key: Path) -> Verdict:
    """Read everything once and say whether it is whole."""
    verdict, started = Verdict(), time.monotonic()
    try:
        # Before the snapshot: a head is committed before it is anchored, so the snapshot holds all of these.
        anchored = anchor.read_text() if anchor.exists() else ""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(
                "SELECT set_config('jit', 'off', true), set_config('cursor_tuple_fraction', '1', true)"
            )
            heads = _signed_heads(verdict, anchored, public_key)
            _check_chain(verdict, heads)
            _check_unsealed(verdict)
    except Broken as broken:
        verdict.ok = False
        verdict.problem = {
            "code": broken.code,
            "position": broken.position,
            "entry": broken.entry,
            "message": str(broken),
        }
    verdict.seconds = round(time.monotonic() - started, 3)
    return verdict


def wait_until_sealed(seconds: float) -> bool:
    """Wait until everything committed by now is sealed; False when that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    newest = _fetch("SELECT coalesce(max(id), 0) FROM audit_entry")[0][0]
    while _fetch(_WAITING, [newest])[0][0]:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def _signed_heads(verdict: Verdict, anchored: str, public_key: Path) -> dict[int, list[Head]]:
    """Every signed claim about the chain, from the database and from the anchor, by position."""
    rows = _fetch(
        "SELECT position, digest, epoch, signature, extract(epoch FROM clock_timestamp() - sealed_at)"
        " FROM audit_checkpoint ORDER BY position"
    )
    notes = list(_notes(anchored))
    verdict.checkpoints, verdict.anchored = len(rows), len(notes)
    if not rows and not notes:
        return {}
    keys = _public_keys(public_key)
    heads: dict[int, list[Head]] = {}
    stored = set()
    for position, digest, epoch, signature, _ in rows:
        body = f"cerbero/{epoch}\n{position}\n{base64.b64encode(_hex(digest, position)).decode()}\n"
        _check_signature(keys, body, signature, position, "checkpoint")
        stored.add((body, signature))
        heads.setdefault(position, []).append(Head(position, digest, "checkpoint"))
    for body, position, digest, signature in notes:
        if (body, signature) not in stored:
            _check_signature(keys, body, signature, position, "anchor")
        heads.setdefault(position, []).append(Head(position, digest, "anchor"))
    if rows and rows[-1][4] > ANCHOR_GRACE_SECONDS and rows[-1][0] not in {note[1] for note in notes}:
        raise Broken("anchor_behind", "the newest checkpoint is not in the anchor", position=rows[-1][0])
    _check_checkpoints_kept(heads)
    return heads


def _check_checkpoints_kept(heads: dict[int, list[Head]]) -> None:
    last = max((p for p, claims in heads.items() if claims[0].source == "checkpoint"), default=0)
    for position, claims in sorted(heads.items()):
        if claims[0].source == "anchor" and position < last:
            raise Broken("checkpoint_missing", "an anchored checkpoint was removed", position=position)


def _notes(text: str) -> Iterator[tuple[str, int, str, str]]:
    """The anchor's notes, strictly: body, position, digest in hex, signature."""
    start = 0
    while start < len(text):
        note = _NOTE.match(text, start)
        if note is None:
            line = text.count("\n", 0, start) + 1
            raise Broken("anchor_unreadable", f"line {line} of the anchor does not begin a checkpoint")
        body, _, position, digest, signature = note.groups()
        yield body, int(position), base64.b64decode(digest).hex(), signature
        start = note.end()


@dataclass(frozen=True)
class SealKey:
    """A public key of the sealer, and the positions that it signs: beyond `after`, up to `until`."""

    key: Ed25519PublicKey
    key_id: bytes
    after: int
    until: float


def _public_keys(path: Path) -> list[SealKey]:
    """The keys of the file in their order: each but the first is named by the one before it, with its signature."""
    keys: list[SealKey] = []
    try:
        lines = path.read_text().strip().split("\n")
        for line in lines:
            words = line.split(" ")
            key, key_id = _public_key(words[0])
            after = int(words[1]) if keys else -1
            if keys:
                former = keys[-1]
                body = f"cerbero hands over\n{words[0]}\n{after}\n"
                _check_signature([former], body, words[2], former.after + 1, "handover")
                keys[-1] = replace(former, until=after)
            keys.append(SealKey(key, key_id, after, inf))
    except (OSError, ValueError, IndexError):
        raise Broken("public_key_unreadable", f"there is no public key of the sealer in {path}") from None
    return keys


def _public_key(line: str) -> tuple[Ed25519PublicKey, bytes]:
    name, key_id, encoded = line.split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    key = Ed25519PublicKey.from_public_bytes(raw[1:])
    expected = hashlib.sha256(f"{name}\n".encode() + raw).digest()[:4]
    if (name, raw[:1], bytes.fromhex(key_id)) != ("cerbero", b"\x01", expected):
        raise ValueError
    return key, expected


def _check_signature(keys: list[SealKey], body: str, signature: str, position: int, source: str) -> None:
    try:
        raw = base64.b64decode(signature, validate=True)
        signed_by = next((each for each in keys if each.key_id == raw[:4]), None)
        if signed_by is None or not signed_by.after < position <= signed_by.until:
            raise Broken("signed_by_another_key", f"the {source} names another key", position=position)
        signed_by.key.verify(raw[4:], body.encode())
    except (ValueError, InvalidSignature):
        raise Broken("signature_wrong", f"the {source}'s signature is wrong", position=position) from None


def _check_chain(verdict: Verdict, heads: dict[int, list[Head]]) -> None:
    starts = {row[0] for row in _fetch("SELECT first_position FROM audit_cursor")}
    with _stream(_CHAIN) as rows:
        end, digest = _follow(rows, starts, heads)
    verdict.entries, verdict.digest = end, digest.hex() if end else ""
    if heads:
        cut = max(heads)
        raise Broken(
            "tail_missing",
            f"the chain ends at {end}, but position {cut} was signed ({heads[cut][0].source})",
            position=end + 1,
        )


def _follow(rows: Iterator[tuple], starts: set[int], heads: dict[int, list[Head]]) -> tuple[int, bytes]:
    """Replay the chain; takes from `heads` what it meets. Returns the last position and its digest."""
    expected, digest, before = 1, bytes(32), (-1, -1)
    for position, claimed, entry, xid, *fields in rows:
        if position != expected:
            raise Broken("links_missing", f"links from {expected} on are gone", position=expected)
        if xid is None:
            raise Broken("entry_missing", "a sealed entry is gone", position=position, entry=entry)
        digest = hashlib.sha256(digest + "\0".join(("1", *fields)).encode()).digest()
        if digest.hex() != claimed:
            message = "an entry is not what was sealed, or its link was changed"
            raise Broken("digest_differs", message, position=position, entry=entry)
        if position in starts:
            before = (-1, -1)
        if (xid, entry) <= before:
            message = "entries were not sealed in the order of commits"
            raise Broken("order_wrong", message, position=position, entry=entry)
        if position in heads:
            _check_heads(heads.pop(position), claimed, entry)
        expected, before = expected + 1, (xid, entry)
    return expected - 1, digest


def _check_heads(claims: list[Head], digest: str, entry: int) -> None:
    for claim in claims:
        if claim.digest != digest:
            raise Broken(
                f"{claim.source}_differs",
                f"the chain was written anew: the {claim.source} signed another digest here",
                position=claim.position,
                entry=entry,
            )


def _check_unsealed(verdict: Verdict) -> None:
    system, xmax = _fetch(
        "SELECT system_identifier::text, pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        " FROM pg_control_system()"
    )[0]
    cursors = _fetch("SELECT epoch, transaction_id, entry_id FROM audit_cursor ORDER BY number DESC LIMIT 1")
    epoch, *reached = cursors[0] if cursors else (f"{system}.0", -1, -1)
    # A restored database's entries wait for the new epoch; here the former one's numbers mean nothing.
    is_same_life = epoch.split(".")[0] == system
    with _stream(_UNSEALED) as rows:
        for entry, xid, age in rows:
            if is_same_life and not tuple(reached) < (xid, entry) < (xmax, 0):
                raise Broken("entry_unreachable", "an entry stands where the sealer never comes", entry=entry)
            verdict.unsealed += 1
            verdict.lag_seconds = max(verdict.lag_seconds, round(float(age), 3))


def _hex(digest: str, position: int) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        raise Broken("signature_wrong", "the checkpoint's digest is not hex", position=position) from None


def _fetch(sql: str, params: list[Any] | None = None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


@contextmanager
def _stream(sql: str) -> Iterator[Iterator[tuple]]:
    """Rows as a server-side cursor gives them."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql)
        yield chain.from_iterable(iter(lambda: cursor.fetchmany(_FETCH), []))
