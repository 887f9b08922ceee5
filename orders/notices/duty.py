"""Who is on duty: told first. When nobody is, everybody who may decide is told at once."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from audit.services import record
from cerbero.access import Actor, user_of
from cerbero.errors import BadInput, DutyOverlaps, PermissionMissing
from cerbero.models import User
from orders.notices.models import Duty

HOURS_MAX = 16
AHEAD_MAX = timedelta(days=31)


def go_on_duty(*, actor: Actor, hours: int, starts_at: datetime | None = None) -> Duty:
    """Take a shift of 1 to 16 hours, from now or from a moment within 31 days.

    Raises PermissionMissing, BadInput, or DutyOverlaps when this person has a shift then.
    """
    person, now = _person(actor), timezone.now()
    if not 1 <= hours <= HOURS_MAX:
        raise BadInput(f"A shift lasts 1 to {HOURS_MAX} hours.", hours=hours)
    begins = max(starts_at or now, now)
    if begins - now > AHEAD_MAX:
        raise BadInput("A shift begins within 31 days.", starts_at=f"{begins:%Y-%m-%d %H:%M}")
    ends = begins + timedelta(hours=hours)
    with transaction.atomic(durable=True):
        # One shift after the other, also for a person with two browsers.
        User.objects.select_for_update().get(pk=person.pk)
        if person.duties.filter(starts_at__lt=ends, ends_at__gt=begins).exists():
            raise DutyOverlaps
        duty = Duty.objects.create(person=person, starts_at=begins, ends_at=ends)
        _record(actor, duty, "duty.taken")
    return duty


def go_off_duty(*, actor: Actor) -> int:
    """End this person's shift, and drop those to come. Returns how many. Raises PermissionMissing."""
    person = _person(actor)
    with transaction.atomic(durable=True):
        rows = list(person.duties.select_for_update().filter(ends_at__gt=Now()))
        for duty in rows:
            duty.ends_at = max(duty.starts_at, timezone.now())
            duty.save(update_fields=["ends_at"])
            _record(actor, duty, "duty.ended")
    return len(rows)


def on_duty() -> list[User]:
    """Everybody whose shift runs now, by name."""
    return list(User.objects.filter(duties__in=Duty.objects.now()).distinct().order_by("username"))


def coming() -> list[Duty]:
    """Shifts that run or come, in order."""
    return list(
        Duty.objects.filter(ends_at__gt=Greatest(Now(), F("starts_at")), person__is_active=True)
        .select_related("person")
        .order_by("starts_at", "id")[:50]
    )


def _person(actor: Actor) -> User:
    person = user_of(actor)
    if person is None or not person.has_perm("notices.take_duty"):
        raise PermissionMissing(permission="notices.take_duty")
    return person


def _record(actor: Actor, duty: Duty, event: str) -> None:
    record(
        event,
        actor=actor,
        subject_kind="duty",
        subject_id=duty.pk,
        details={"from": duty.starts_at.isoformat(), "until": duty.ends_at.isoformat()},
    )
