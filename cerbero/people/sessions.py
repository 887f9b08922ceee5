"""Who is signed in where: seen, ended when idle, and ended by hand."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.http import HttpRequest

from audit.services import record
from cerbero import tokens
from cerbero.access import SERVER, Actor, user_of
from cerbero.errors import PermissionMissing
from cerbero.models import User
from cerbero.people.models import PersonSession
from cerbero.people.signing_in import address_of

TOUCH_EVERY = timedelta(minutes=1)


def is_alive(request: HttpRequest, person: User) -> bool:
    """Whether the signed-in person's session still counts; notes that it was seen.

    What a page asks by itself, every few seconds, is no sign of a person.
    """
    key = request.session.session_key or ""
    mine = PersonSession.objects.filter(session_key=key)
    row = mine.annotate(now=Now()).first()
    if row is None:
        PersonSession.objects.get_or_create(
            session_key=key,
            defaults={
                "person": person,
                "device": request.headers.get("User-Agent", "")[:200],
                "address": address_of(request),
            },
        )
        return True
    idle = row.now - row.seen_at
    if row.ended_at is not None or idle.total_seconds() > settings.SESSION_IDLE_SECONDS:
        return False
    if idle > TOUCH_EVERY and not request.path.endswith(".json"):
        mine.update(seen_at=Now())
    return True


def still_open(keys: Iterable[str]) -> set[str]:
    """Which of these sessions count now, in one query: for what stays open between two requests."""
    idle = timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    is_over = Q(ended_at__isnull=False) | Q(seen_at__lte=Now() - idle) | Q(person__is_active=False)
    over = PersonSession.objects.filter(is_over, session_key=OuterRef("pk"))
    open_rows = Session.objects.filter(~Exists(over), pk__in=list(keys), expire_date__gt=Now())
    return set(open_rows.values_list("pk", flat=True))


def of_person(person: User) -> list[PersonSession]:
    """Where this person is signed in, the newest first."""
    there = Session.objects.filter(pk=OuterRef("session_key"), expire_date__gt=Now())
    idle = timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    rows = PersonSession.objects.filter(Exists(there), person=person, ended_at=None, seen_at__gt=Now() - idle)
    return list(rows.order_by("-seen_at"))


def end(*, actor: Actor, person: User, keep: str = "", only: UUID | None = None) -> int:
    """End all of a person's sessions but `keep`, or `only` that one; returns how many.

    One's own, or anybody's as an Administrator or by the server's command. Raises PermissionMissing.
    """
    user = user_of(actor)
    may = user is not None and (user.pk == person.pk or user.has_perm("cerbero.change_user"))
    if not may and actor != SERVER:
        raise PermissionMissing
    with transaction.atomic():
        rows = PersonSession.objects.filter(person=person, ended_at=None).exclude(session_key=keep)
        if only:
            rows = rows.filter(pk=only)
        keys = list(rows.values_list("session_key", flat=True))
        PersonSession.objects.filter(session_key__in=keys).update(ended_at=Now())
        Session.objects.filter(pk__in=keys).delete()
        details = {"person": str(person), "ended": len(keys)}
        record("session.revoked", actor=actor, subject_kind="user", subject_id=person.pk, details=details)
    return len(keys)


def shut_out(*, actor: Actor, person: User, keep: str = "") -> None:
    """After a new password: whatever the old one opened is closed, every session but `keep` and every token.

    Raises PermissionMissing as `end` does.
    """
    end(actor=actor, person=person, keep=keep)
    tokens.revoke_all_of(actor=actor, person=person)
