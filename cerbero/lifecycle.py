"""Our own moves: a look in the table, a conditional UPDATE, an audit entry; all or nothing."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.db import connection, models

from audit.services import record_change
from cerbero.access import Actor
from cerbero.database.compiled import CompiledUpdate, Given, bind
from cerbero.errors import StateConflict


def transition(
    row: models.Model,
    to: str,
    *,
    moves: Mapping[str, frozenset[str]],
    actor: Actor,
    event: str,
    details: dict[str, Any] | None = None,
    provided: models.Q | None = None,
    **changes: Any,
) -> None:
    """Move `row.status`, with `changes` in the same UPDATE. The WHERE clause is the lock; `provided` is another part of it.

    Raises StateConflict when the table does not allow it, somebody else moved the row first, or it is not as provided.
    """
    before = row.status  # type: ignore[attr-defined]
    kind = str(row._meta.model_name)
    if to not in moves.get(before, frozenset()):
        raise StateConflict(kind=kind, id=str(row.pk), status=before, wanted=to)
    is_moved = record_change(
        _update(row, before, {"status": to, **changes}, provided),
        event,
        actor=actor,
        subject_kind=kind,
        subject_id=row.pk,
        details={"from": before, "to": to, **(details or {})},
    )
    if not is_moved:
        raise StateConflict(kind=kind, id=str(row.pk), expected=before, wanted=to)
    row.status = to  # type: ignore[attr-defined]
    for name, value in changes.items():
        setattr(row, name, value)


def _update(
    row: models.Model, before: str, changes: dict[str, Any], provided: models.Q | None
) -> tuple[str, tuple[Any, ...]]:
    """The UPDATE in words and values; its words are compiled once for each set of columns."""
    computed = {name: value for name, value in changes.items() if hasattr(value, "resolve_expression")}
    given = {
        name: row._meta.get_field(name).get_db_prep_save(getattr(value, "pk", value), connection)  # type: ignore[union-attr]
        for name, value in changes.items()
        if name not in computed
    }
    words = _words(type(row), tuple(given), tuple(computed.items()), provided)
    return bind(words, {"row.pk": row.pk, "row.status": before, **given})


@lru_cache(maxsize=256)
def _words(
    model: type[models.Model],
    given: tuple[str, ...],
    computed: tuple[tuple[str, Any], ...],
    provided: models.Q | None,
) -> tuple[str, tuple[Any, ...]]:
    rows = model._default_manager.filter(
        provided or models.Q(), pk=Given("row.pk"), status=Given("row.status")
    )
    return CompiledUpdate(lambda: rows, **{name: Given(name) for name in given}, **dict(computed)).words
