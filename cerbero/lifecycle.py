"""Our own moves: a look in the table, a conditional UPDATE, an audit entry; all or nothing."""

from collections.abc import Mapping
from typing import Any

from django.db import models, transaction

from audit.services import record
from cerbero.access import Actor
from cerbero.errors import StateConflict


def transition(
    row: models.Model,
    to: str,
    *,
    moves: Mapping[str, frozenset[str]],
    actor: Actor,
    event: str,
    details: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Move `row.status`, with `changes` in the same UPDATE. The WHERE clause is the lock.

    Raises StateConflict when the table does not allow it or somebody else moved the row first.
    """
    before = row.status  # type: ignore[attr-defined]
    if to not in moves.get(before, frozenset()):
        raise StateConflict(kind=row._meta.model_name, id=str(row.pk), status=before, wanted=to)
    with transaction.atomic():
        claimed = type(row)._default_manager.filter(pk=row.pk, status=before).update(status=to, **changes)
        if claimed != 1:
            raise StateConflict(kind=row._meta.model_name, id=str(row.pk), expected=before, wanted=to)
        record(
            event,
            actor=actor,
            subject_kind=str(row._meta.model_name),
            subject_id=row.pk,
            details={"from": before, "to": to, **(details or {})},
        )
    row.status = to  # type: ignore[attr-defined]
    for name, value in changes.items():
        setattr(row, name, value)
