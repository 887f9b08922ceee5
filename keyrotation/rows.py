"""What every step of a rotation shares: its row under lock, its legal moves, and what is written when it must wait."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from audit.services import record
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.leases import ClockTime
from cerbero.lifecycle import transition
from keyrotation.lifecycle import EVENTS, MOVES, Mode, RotationStatus
from keyrotation.models import Rotation

RETRY_SECONDS, FAILURES_MAX = 15, 5
_FRESH: dict[str, Any] = {"failures": 0, "problem": "", "stopped_at": None}


def locked(rotation_id: UUID) -> Rotation:
    """The row, locked until the caller's transaction ends. Raises NotFound."""
    rows = Rotation.objects.select_related("login", "credential", "previous", "request")
    rotation = rows.select_for_update(of=("self",)).filter(pk=rotation_id).first()
    if rotation is None:
        raise NotFound(rotation_id=str(rotation_id))
    return rotation


def move(
    actor: Actor,
    rotation: Rotation,
    to: RotationStatus,
    details: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """One step of its life, which begins the next step afresh. Raises StateConflict."""
    transition(
        rotation,
        to,
        moves=MOVES,
        actor=actor,
        event=EVENTS[to],
        details={"login": rotation.login.name, **(details or {})},
        **_FRESH | {"next_try_at": ClockTime()} | changes,
    )


def enter(actor: Actor, rotation: Rotation, event: str, details: dict[str, Any] | None = None) -> None:
    """An entry of the trail about a rotation, in the caller's transaction."""
    words = {"login": rotation.login.name, **(details or {})}
    record(event, actor=actor, subject_kind="rotation", subject_id=rotation.pk, details=words)


def postpone(rotation: Rotation, seconds: float, why: str, *, is_failure: bool = True) -> None:
    """The same step again, after so long."""
    Rotation.objects.filter(pk=rotation.pk, status=rotation.status).update(
        next_try_at=ClockTime() + timedelta(seconds=seconds),
        problem=why[:300],
        failures=F("failures") + 1 if is_failure else F("failures"),
    )


def stop(actor: Actor, rotation: Rotation, why: str) -> None:
    """No further try until a person asks for one; the keys in use stay in use. In the caller's transaction."""
    rows = Rotation.objects.filter(pk=rotation.pk, status=rotation.status, stopped_at=None)
    if rows.update(stopped_at=Now(), problem=why[:300]):
        enter(actor, rotation, "rotation.stopped", {"why": why[:300]})


def failed(actor: Actor, rotation: Rotation, why: str) -> None:
    """The same step again, a few times; then a person is asked."""
    rotation.refresh_from_db()
    postpone(rotation, RETRY_SECONDS, why)
    if rotation.failures + 1 >= FAILURES_MAX:
        with transaction.atomic(durable=True):
            stop(actor, rotation, why)


def go_on(actor: Actor, rotation: Rotation) -> None:
    """A person has looked: try again at once."""
    Rotation.objects.filter(pk=rotation.pk).update(**_FRESH | {"next_try_at": ClockTime()})
    enter(actor, rotation, "rotation.retried")


def grows_dark(actor: Actor, rotation: Rotation) -> None:
    """From now on neither set opens the login, as far as we know."""
    if Rotation.objects.filter(pk=rotation.pk, dark_since=None).update(dark_since=Now()):
        enter(actor, rotation, "rotation.went_dark")


def grows_light(actor: Actor, rotation: Rotation) -> None:
    """The old set opens the login after all: it was the broker's night, or a fault of the moment."""
    dark = Rotation.objects.filter(pk=rotation.pk, dark_until=None).exclude(dark_since=None)
    if dark.update(dark_since=None):
        enter(actor, rotation, "rotation.grew_light")


def old_set_ended(actor: Actor, rotation: Rotation) -> None:
    """The broker took it when the canary looked, and does not any more: from now on this is a blackout."""
    with transaction.atomic(durable=True):
        rows = Rotation.objects.filter(pk=rotation.pk).exclude(mode=Mode.BLACKOUT)
        if rows.update(mode=Mode.BLACKOUT):
            grows_dark(actor, rotation)
