"""Who may do what is changed by two: one proposes, a second Administrator decides, everybody is told.

Whoever is changed is barred from live approvals for a day (gates.md §8): one person alone cannot make a second.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.errors import DigestMismatch, NotFound, PermissionMissing
from cerbero.models import DecisionStatus, User
from people import passkeys
from people.announcing import announce
from people.models import LiveBar, Passkey, PersonChange

ADMINISTRATOR = "Administrator"
WAITS_SECONDS = 86_400
BARRED_FOR = timedelta(hours=24)

Kind = PersonChange.Kind


def propose(*, actor: Actor, kind: str, person: User, terms: dict[str, Any], summary: str) -> PersonChange:
    """Ask the Administrators to change what `person` may do; runs in the caller's transaction.

    Neither the proposer nor the person decides. Raises PermissionMissing for a bot.
    """
    proposer = user_of(actor)
    if proposer is None:
        raise PermissionMissing("Only a signed-in person proposes this.")
    change = PersonChange(kind=kind, person=person, terms=terms, proposed_by=proposer)
    change.request = decisions.ask(
        actor=actor,
        subject_kind="person_change",
        subject_id=change.pk,
        summary=summary,
        digest=digest_of(change),
        facts={"kind": kind, "person": person.get_username()},
        quorum=1,
        group=ADMINISTRATOR,
        seconds=WAITS_SECONDS,
        excluded_user_ids={proposer.pk, person.pk},
    )
    change.save(force_insert=True)
    _record(actor, "person_change.proposed", change)
    announce(f"{proposer} proposes: {summary}. A second Administrator decides.")
    return change


def decide(*, actor: Actor, change_id: UUID, digest: str, is_yes: bool, reason: str = "") -> PersonChange:
    """An Administrator's yes or no; at the yes the change is made, told, and bars the person for a day.

    Raises NotFound, and all that cerbero.decisions raises; then nothing was changed.
    """
    with transaction.atomic(durable=True):
        change = PersonChange.objects.select_for_update().filter(pk=change_id).first()
        if change is None:
            raise NotFound(change_id=str(change_id))
        request = decisions.decide(
            actor=actor, request_id=change.request_id, digest=digest, is_yes=is_yes, reason=reason
        )
        if request.status == DecisionStatus.APPROVED:
            change.request = request
            _apply(actor, change)
    return change


def digest_of(change: PersonChange) -> str:
    """SHA-256 in hex over kind, person and terms: what was proposed is what is done."""
    body = {"kind": change.kind, "person": str(change.person_id), "terms": change.terms}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def bar(person: User, why: str) -> None:
    """No yes of this person counts on live accounts for a day. Runs in the caller's transaction."""
    LiveBar.objects.create(person=person, why=why[:100], until=Now() + BARRED_FOR)


def propose_passkey(*, actor: Actor, credential: dict[str, Any], challenge: bytes, name: str) -> PersonChange:
    """Register a passkey of one's own; it counts once an Administrator has confirmed it. Raises PasskeyRefused."""
    person = user_of(actor)
    if person is None:
        raise PermissionMissing("Only a signed-in person has passkeys.")
    with transaction.atomic(durable=True):
        key = passkeys.register(person, credential, challenge=challenge, name=name)
        terms = {"passkey": str(key.pk), "public_key": hashlib.sha256(key.public_key).hexdigest()}
        summary = f"a new passkey, {key.name}, for {person}"
        return propose(actor=actor, kind=Kind.PASSKEY, person=person, terms=terms, summary=summary)


def _apply(actor: Actor, change: PersonChange) -> None:
    decisions.consume(change.request, actor=actor, digest=digest_of(change))
    decider = user_of(actor)
    if decider is None:
        raise PermissionMissing
    _ACTS[change.kind](change, decider)
    change.applied_at = _database_now()
    change.save(update_fields=["applied_at"])
    bar(change.person, change.get_kind_display())
    _record(actor, "person_change.applied", change)
    announce(f"Done: {change}, proposed by {change.proposed_by}, confirmed by {decider}.")


def _confirm_passkey(change: PersonChange, decider: User) -> None:
    key = Passkey.objects.select_for_update().get(pk=change.terms["passkey"], person=change.person)
    if hashlib.sha256(key.public_key).hexdigest() != change.terms["public_key"]:
        raise DigestMismatch
    key.approved_by, key.usable_from = decider, _database_now()
    key.seal = passkeys.seal_of(key)
    key.save(update_fields=["approved_by", "usable_from", "seal"])


_ACTS: dict[str, Callable[[PersonChange, User], None]] = {Kind.PASSKEY: _confirm_passkey}


def _database_now() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        return cursor.fetchone()[0]


def _record(actor: Actor, event: str, change: PersonChange) -> None:
    details = {"kind": change.kind, "person": str(change.person), "summary": str(change)}
    record(event, actor=actor, subject_kind="user", subject_id=change.person_id, details=details)
