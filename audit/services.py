"""Writing the trail. What cannot be recorded does not happen: `record` runs in the business transaction."""

from typing import Any
from uuid import UUID

from audit.models import Entry
from cerbero.access import Actor


def record(
    event: str,
    *,
    actor: Actor,
    subject_kind: str = "",
    subject_id: UUID | str | int = "",
    details: dict[str, Any] | None = None,
) -> None:
    """Insert one entry, named `noun.participle`. Details are JSON: Decimals as text, no secrets ever."""
    Entry.objects.create(
        event=event,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        subject_kind=subject_kind,
        subject_id=str(subject_id),
        request_id=actor.request_id,
        details=details or {},
    )
