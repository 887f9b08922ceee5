"""Handing out bearer tokens and taking them back, each with its entry in the trail."""

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Least, Now

from audit.services import record
from cerbero.access import Actor, issue_person_token, issue_token, user_of
from cerbero.errors import PermissionMissing, StateConflict
from cerbero.models import AccessToken, Bot, PersonToken, User

DAYS_MAX = 365
# For how long two tokens work side by side: to change over wherever a bot runs.
OVERLAP_HOURS = 72


def issue(*, actor: Actor, bot: Bot, scopes: Sequence[str], days: int, label: str = "") -> str:
    """A new token for `bot`, returned this once. Raises ValueError for an unknown scope or too many days."""
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"a token lives for 1 to {DAYS_MAX} days")
    with transaction.atomic(durable=True):
        token = issue_token(bot, scopes=tuple(scopes), days=days, label=label)
        details = {
            "prefix": token.split("_", 2)[1],
            "scopes": sorted(scopes),
            "days": days,
            "environment": bot.environment,
        }
        record("token.issued", actor=actor, subject_kind="bot", subject_id=bot.pk, details=details)
    return token


def rotate(*, actor: Actor, token: AccessToken, overlap_hours: int = OVERLAP_HOURS) -> str:
    """Another token with the same scopes for as many days, returned this once; the old one works a while longer.

    Raises StateConflict when the old one is revoked or has expired.
    """
    with transaction.atomic(durable=True):
        old = AccessToken.objects.select_for_update(of=("self",)).usable().filter(pk=token.pk).first()
        if old is None:
            raise StateConflict(kind="accesstoken", id=str(token.pk))
        days = min(DAYS_MAX, max(1, round((old.expires_at - old.created_at) / timedelta(days=1))))
        fresh = issue_token(old.bot, scopes=tuple(old.scopes), days=days, label=old.label)
        until = Least("expires_at", Now() + timedelta(hours=overlap_hours))
        AccessToken.objects.filter(pk=old.pk).update(expires_at=until)
        details = {
            "old_prefix": old.prefix,
            "prefix": fresh.split("_", 2)[1],
            "scopes": sorted(old.scopes),
            "days": days,
            "overlap_hours": overlap_hours,
        }
        record("token.rotated", actor=actor, subject_kind="bot", subject_id=old.bot_id, details=details)
    return fresh


def revoke(*, actor: Actor, token: AccessToken) -> None:
    """Make a token useless from this moment. Raises StateConflict when it was revoked before."""
    with transaction.atomic(durable=True):
        revoked = AccessToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())
        if revoked != 1:
            raise StateConflict(kind="accesstoken", id=str(token.pk))
        details = {"prefix": token.prefix}
        record("token.revoked", actor=actor, subject_kind="bot", subject_id=token.bot_id, details=details)


def issue_own(*, actor: Actor, scopes: Sequence[str], days: int, label: str = "") -> str:
    """A new token of the person who asks, returned this once. Raises ValueError, PermissionMissing or SignInRequired."""
    actor.require_session()
    owner = user_of(actor)
    if owner is None:
        raise PermissionMissing("Only a signed-in person does this.")
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"a token lives for 1 to {DAYS_MAX} days")
    with transaction.atomic(durable=True):
        token = issue_person_token(owner, scopes=tuple(scopes), days=days, label=label)
        details = {"prefix": token.split("_", 2)[1], "scopes": sorted(scopes), "days": days}
        record("persontoken.issued", actor=actor, subject_kind="user", subject_id=owner.pk, details=details)
    return token


def revoke_persons(*, actor: Actor, token: PersonToken) -> None:
    """Make a person's token useless: its person may, and whoever may change tokens.

    Raises PermissionMissing, SignInRequired, or StateConflict when it was revoked before.
    """
    actor.require_session()
    who = user_of(actor)
    if who is None or not (who.pk == token.person_id or who.has_perm("cerbero.change_persontoken")):
        raise PermissionMissing(permission="cerbero.change_persontoken")
    with transaction.atomic(durable=True):
        revoked = PersonToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())
        if revoked != 1:
            raise StateConflict(kind="persontoken", id=str(token.pk))
        details = {"prefix": token.prefix}
        record(
            "persontoken.revoked",
            actor=actor,
            subject_kind="user",
            subject_id=token.person_id,
            details=details,
        )


def revoke_all_of(*, actor: Actor, person: User) -> None:
    """Make every token of a person's programs useless, in the caller's transaction; bots keep theirs."""
    rows = PersonToken.objects.filter(person=person, revoked_at=None).select_for_update()
    if prefixes := sorted(rows.values_list("prefix", flat=True)):
        rows.update(revoked_at=Now())
        details = {"prefixes": prefixes}
        record(
            "persontokens.revoked", actor=actor, subject_kind="user", subject_id=person.pk, details=details
        )
