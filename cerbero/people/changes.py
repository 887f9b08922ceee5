"""Who may do what is changed by two: one proposes, a second Administrator decides, everybody is told.

Whoever is changed is barred from live approvals for a day (gates.md §8): one person alone cannot make a second.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero import access, decisions
from cerbero.access import Actor, user_of
from cerbero.encryption import decrypt, encrypt, identity
from cerbero.errors import BadInput, DigestMismatch, NotFound, PermissionMissing, StateConflict
from cerbero.models import Bot, DecisionRequest, DecisionStatus, User
from cerbero.people import codes, passkeys, profile, sessions, signing
from cerbero.people.announcing import announce
from cerbero.people.models import LiveBar, Passkey, PersonChange

ADMINISTRATOR = "Administrator"
WAITS_SECONDS = 86_400
BARRED_FOR = timedelta(hours=24)
# What a grant may set besides groups, and how it is said.
FLAGS = {"is_active": "active again", "is_staff": "able to sign in"}

Kind = PersonChange.Kind


def propose(*, actor: Actor, kind: str, person: User, terms: dict[str, Any], summary: str) -> PersonChange:
    """Ask the Administrators to change what `person` may do; runs in the caller's transaction.

    Neither the proposer nor the person decides. Raises PermissionMissing for a bot; the server's own command
    proposes as nobody, and an Administrator decides on that, too.
    """
    proposer = user_of(actor)
    if proposer is None and actor != access.SERVER:
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
        excluded_user_ids={person.pk} | ({proposer.pk} if proposer else set()),
    )
    change.save(force_insert=True)
    _record(actor, "person_change.proposed", change)
    decides = (
        "The sole operator decides after the delay" if profile.sole() else "A second Administrator decides"
    )
    announce(f"{change.proposer} proposes: {summary}. {decides}.")
    return change


def decide(
    *,
    actor: Actor,
    change_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> PersonChange:
    """An Administrator's yes or no; at the yes the change is made, told, and bars the person for a day.

    Raises NotFound, and all that `signing.decide` raises; then nothing was changed.
    """
    with transaction.atomic(durable=True):
        change = PersonChange.objects.select_for_update().filter(pk=change_id).first()
        if change is None:
            raise NotFound(change_id=str(change_id))
        request = signing.decide(
            actor=actor,
            request_id=change.request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
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


def propose_grant(
    *, actor: Actor, person: User, groups: Iterable[str] = (), flags: Iterable[str] = ()
) -> PersonChange:
    """Ask to put `person` into groups, and to set `is_active` or `is_staff`. In the caller's transaction."""
    terms = {"groups": sorted(groups), "flags": sorted(flags)}
    if unknown := set(terms["flags"]) - FLAGS.keys():
        raise BadInput(unknown=sorted(unknown))
    words = [*terms["groups"], *(FLAGS[name] for name in terms["flags"])]
    summary = f"{person} becomes {', '.join(words)}"
    return propose(actor=actor, kind=Kind.GRANT, person=person, terms=terms, summary=summary)


def propose_password(*, actor: Actor, person: User, password: str) -> PersonChange:
    """Ask to replace a person's password; its hash waits encrypted. In the caller's transaction."""
    sealed = encrypt(make_password(password).encode(), _password_of(person)).hex()
    summary = f"a new password for {person}"
    return propose(
        actor=actor, kind=Kind.PASSWORD, person=person, terms={"password": sealed}, summary=summary
    )


def propose_owner(*, actor: Actor, bot: Bot, owner: User) -> PersonChange:
    """Ask to give a bot to another person, who then cannot decide on what it proposes."""
    terms = {"bot": str(bot.pk), "from": str(bot.owner_id)}
    summary = f"{owner} becomes the owner of {bot} instead of {bot.owner}"
    return propose(actor=actor, kind=Kind.OWNER, person=owner, terms=terms, summary=summary)


def propose_reset(*, actor: Actor, person: User) -> PersonChange:
    """Ask to forget a person's code app, as an Administrator. Raises PermissionMissing."""
    proposer = user_of(actor)
    if proposer is None or not proposer.has_perm("cerbero.change_user"):
        raise PermissionMissing
    summary = f"the code app of {person} is forgotten"
    with transaction.atomic():
        return propose(actor=actor, kind=Kind.CODES, person=person, terms={}, summary=summary)


def confirm_first_passkey(*, operator: User) -> Passkey:
    """The server's word in place of a signature, for a sole operator who has no passkey to sign with.

    Raises StateConflict for anybody else, and unless exactly one passkey waits.
    """
    if not profile.is_operator(operator) or operator.passkeys.usable().exists():
        raise StateConflict("Only a sole operator without a passkey that counts is confirmed by the server.")
    with transaction.atomic(durable=True):
        waiting = PersonChange.objects.select_for_update(of=("self",)).filter(
            kind=Kind.PASSKEY, person=operator, request__in=DecisionRequest.objects.open()
        )
        if len(found := list(waiting.select_related("request"))) != 1:
            raise StateConflict("Register exactly one passkey first, on the page Your sign-in.")
        decisions.withdraw(found[0].request, actor=access.SERVER)
        key = _confirm_passkey(found[0], None)
        _finish(access.SERVER, found[0], "the server's command")
    return key


def set_password_of_operator(*, operator: User, password: str) -> None:
    """The server's word for a sole operator who cannot sign in, and whom nobody else could let in."""
    if not profile.is_operator(operator):
        raise StateConflict("Where two people decide, an Administrator confirms a new password.")
    with transaction.atomic(durable=True):
        User.objects.filter(pk=operator.pk).update(password=make_password(password))
        sessions.shut_out(actor=access.SERVER, person=operator)
        bar(operator, Kind.PASSWORD.label)
        details = {"kind": Kind.PASSWORD, "person": str(operator)}
        record(
            "person_change.applied",
            actor=access.SERVER,
            subject_kind="user",
            subject_id=operator.pk,
            details=details,
        )
        announce(f"Done: a new password for {operator}, by the server's command.")


def _apply(actor: Actor, change: PersonChange) -> None:
    decisions.consume(change.request, actor=actor, digest=digest_of(change))
    decider = user_of(actor)
    if decider is None:
        raise PermissionMissing
    _ACTS[change.kind](change, decider)
    _finish(actor, change, str(decider))


def _finish(actor: Actor, change: PersonChange, confirmed_by: str) -> None:
    change.applied_at = _database_now()
    change.save(update_fields=["applied_at"])
    bar(change.person, change.get_kind_display())
    _record(actor, "person_change.applied", change)
    announce(f"Done: {change}, proposed by {change.proposer}, confirmed by {confirmed_by}.")


def _confirm_passkey(change: PersonChange, decider: User | None) -> Passkey:
    key = Passkey.objects.select_for_update().get(pk=change.terms["passkey"], person=change.person)
    if hashlib.sha256(key.public_key).hexdigest() != change.terms["public_key"]:
        raise DigestMismatch
    key.approved_by, key.usable_from = decider, _database_now()
    key.seal = passkeys.seal_of(key)
    key.save(update_fields=["approved_by", "usable_from", "seal"])
    return key


def _grant(change: PersonChange, decider: User) -> None:
    groups = Group.objects.filter(name__in=change.terms["groups"])
    if groups.count() != len(change.terms["groups"]):
        raise StateConflict("One of these groups is gone.")
    change.person.groups.add(*groups)
    if flags := dict.fromkeys(change.terms["flags"], True):
        User.objects.filter(pk=change.person_id).update(**flags)


def _set_password(change: PersonChange, decider: User) -> None:
    sealed = bytes.fromhex(change.terms["password"])
    hashed = decrypt(sealed, _password_of(change.person)).decode()
    User.objects.filter(pk=change.person_id).update(password=hashed)
    sessions.shut_out(actor=access.person(decider), person=change.person)


def _give_bot(change: PersonChange, decider: User) -> None:
    before = User.objects.get(pk=change.terms["from"])
    given = Bot.objects.filter(pk=change.terms["bot"], owner=before).update(owner=change.person)
    if given != 1:
        raise StateConflict("The bot has another owner by now.")
    # Whoever owned it may decide on its next tickets from now on: that, too, waits a day.
    bar(before, change.get_kind_display())


def _password_of(person: User) -> str:
    return identity("person_change", person.pk, "password")


_ACTS: dict[str, Callable[[PersonChange, User], object]] = {
    Kind.PASSKEY: _confirm_passkey,
    Kind.GRANT: _grant,
    Kind.PASSWORD: _set_password,
    Kind.OWNER: _give_bot,
    Kind.CODES: lambda change, _: codes.reset(change.person),
}


def _database_now() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        return cursor.fetchone()[0]


def _record(actor: Actor, event: str, change: PersonChange) -> None:
    details = {"kind": change.kind, "person": str(change.person), "summary": str(change)}
    record(event, actor=actor, subject_kind="user", subject_id=change.person_id, details=details)
