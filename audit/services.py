"""Writing the trail. What cannot be recorded does not happen: `record` runs in the business transaction."""

import math
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from audit.models import Entry
from cerbero import plain
from cerbero.access import Actor


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
    Entry.objects.create(
        event=event,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=_clean(actor.name),
        subject_kind=subject_kind,
        subject_id=_clean(str(subject_id)),
        request_id=_clean(actor.request_id),
        details=_plain(details or {}),
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
