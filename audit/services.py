"""Writing the trail. What cannot be recorded does not happen: `record` runs in the business transaction."""

import json
import math
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Model

from cerbero import failpoints, plain
from cerbero.access import Actor
from cerbero.database.compiled import Insert

_INSERT = (
    "INSERT INTO audit_entry (event, actor_kind, actor_id, actor_name, subject_kind, subject_id, request_id, details) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_UPDATE_AND_INSERT = (
    "WITH changed AS ({update} RETURNING 1) INSERT INTO audit_entry "
    "(event, actor_kind, actor_id, actor_name, subject_kind, subject_id, request_id, details) "
    "SELECT %s, %s, %s, %s, %s, %s, %s, %s FROM changed"
)

_INSERTS = "WITH {parts}, entry AS ({entry}) SELECT {returned} FROM {names}"


def record(
    event: str,
    *,
    actor: Actor,
    subject_kind: str = "",
    subject_id: UUID | str | int = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Insert one entry, named `noun.participle`; no secrets, ever.

    Decimals, UUIDs and times in `details` become text. Raises TypeError for what has no JSON form.
    """
    # Plain SQL: every call writes an entry, and building the statement anew costs more than the row.
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, _row(event, actor, subject_kind, subject_id, details))
    failpoints.around_commit(event)


def record_change(
    change: tuple[str, tuple[Any, ...]],
    event: str,
    *,
    actor: Actor,
    subject_kind: str,
    subject_id: UUID | str | int,
    details: dict[str, Any],
) -> bool:
    """Make a change, given as an UPDATE of one row, and enter it: one statement, both or neither.

    False when the UPDATE found no row; then nothing is entered.
    """
    update, values = change
    row = _row(event, actor, subject_kind, subject_id, details)
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE_AND_INSERT.format(update=update), (*values, *row))
        is_changed = cursor.rowcount == 1
    if is_changed:
        failpoints.around_commit(event)
    return is_changed


def record_insert(
    rows: Sequence[Model],
    event: str,
    *,
    actor: Actor,
    subject_kind: str,
    subject_id: UUID | str | int,
    details: dict[str, Any],
) -> None:
    """Insert new rows and their entry: one statement, all or none."""
    inserts = {f"row{number}": Insert.of(row) for number, row in enumerate(rows)}
    statement = _INSERTS.format(
        entry=_INSERT,
        parts=", ".join(f"{name} AS ({each.words[0]})" for name, each in inserts.items()),
        returned=", ".join(f"{name}.*" for name in inserts),
        names=", ".join(inserts),
    )
    values = [value for each in inserts.values() for value in each.words[1]]
    with connection.cursor() as cursor:
        cursor.execute(statement, (*values, *_row(event, actor, subject_kind, subject_id, details)))
        found = iter(cursor.fetchone())
    for each in inserts.values():
        each.take([next(found) for _ in each.returned])
    failpoints.around_commit(event)


def _row(
    event: str,
    actor: Actor,
    subject_kind: str,
    subject_id: UUID | str | int,
    details: dict[str, Any] | None,
) -> tuple[Any, ...]:
    return (
        event,
        actor.kind,
        actor.id,
        _clean(actor.name),
        subject_kind,
        _clean(str(subject_id)),
        _clean(actor.request_id),
        json.dumps(_plain(details or {})),
    )


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {_clean(str(_plain(key))): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted(_plain(item) for item in value)
        case Enum():
            return _plain(value.value)
        case None | bool() | int():
            return value
    return _text(value)


def _text(value: Any) -> str | float:
    match value:
        case str():
            return _clean(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            return plain.text(value)
        case UUID():
            return str(value)
        case date() | time():
            return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no place in an audit entry")


def _clean(text: str) -> str:
    # Postgres stores neither NUL nor half a surrogate pair; a caller's text must not keep its entry out.
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
