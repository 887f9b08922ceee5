"""What people and the administrative scope may do with a rotation. The slow steps are the sweep's (sweep.py).

Until the swap the new keys are staged and used by nobody; each function is one transaction of its own, and a crash
before its commit leaves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from brokers.credentials import (
    Entered,
    complete_credential,
    destroy_credential,
    load_credentials,
    mistakes_in,
    open_credential,
    store_credential,
)
from brokers.generation import GROUP_14_PRIME, KeyPair, PublicHalf, new_pair, prime_pem, public_half
from brokers.models import Credential, Login
from brokers.proving import set_in_use_opens
from cerbero import decisions
from cerbero.access import Actor, system, user_of
from cerbero.errors import (
    BadInput,
    BrokerUnavailable,
    EnvironmentMismatch,
    NotFound,
    RotationOpen,
    StateConflict,
)
from cerbero.models import DecisionRequest, DecisionStatus, Environment
from cerbero.people import signing
from cerbero.people.signing import require_unbarred
from keyrotation.lifecycle import OPEN, Kind, RotationStatus
from keyrotation.models import Rotation
from keyrotation.rows import enter, go_on, locked, move
from orders.trading import require_permission

SCOPE = "rotation:admin"
PERMISSION = "keyrotation.rotate_keys"
REASON_MAX = 300
PUBLIC_FILES = {
    "signature": "public_signature.pem",
    "encryption": "public_encryption.pem",
    "dhparam": "dhparam.pem",
}
# The calendar starts what is due; nothing of it is in use before people have registered and confirmed it.
PROPOSER = system("calendar")
Status = RotationStatus
LAST_SET = (
    "The broker takes the old set no longer: this one is the only one that can open the login again, and is kept. "
    "Confirm it, or enter it again."
)


class Prime(StrEnum):
    """Where the new set's Diffie-Hellman prime comes from. It is no secret half: a known one serves as well."""

    CURRENT = "current"
    GROUP_14 = "rfc3526_group_14"
    OWN = "own"


@dataclass(frozen=True)
class StartedRotation:
    """A rotation and what a person registers at the broker; nothing yet while a prime is searched for."""

    rotation: Rotation
    signature: PublicHalf | None = None
    encryption: PublicHalf | None = None


def start_rotation(
    *, actor: Actor, login_id: UUID, reason: str, kind: Kind = Kind.KEYS, prime: Prime = Prime.CURRENT
) -> StartedRotation:
    """Stage a new set for a login, encrypted and not in use; returns the public halves.

    For a token alone the keys are the ones in use. With a prime of our own the set is made by the sweep, once
    the prime is found. Raises NotFound, PermissionMissing or ScopeMissing, EnvironmentMismatch, BadInput (no
    reason), RotationOpen, or CredentialMissing or CannotDecrypt, since there must be a set to replace.
    """
    _require_right(actor)
    login = Login.objects.filter(pk=login_id).first()
    if login is None:
        raise NotFound(login_id=str(login_id))
    _require_environment(actor, login)
    rotation = Rotation(
        login=login, kind=kind, reason=reason_of(reason), requested_by=actor.name, asked_by_ids=_behind(actor)
    )
    current = load_credentials(login)
    if Rotation.objects.open().filter(login=login).exists():
        raise RotationOpen(login=login.name)
    pairs = None if kind == Kind.TOKEN or prime == Prime.OWN else (new_pair(), new_pair())
    with transaction.atomic(durable=True):
        _request(actor, rotation)
        if kind == Kind.TOKEN:
            _stage(actor, rotation, current.signature_key_pem, current.encryption_key_pem, current.dh_prime)
        elif pairs:
            known = current.dh_prime if prime == Prime.CURRENT else int(GROUP_14_PRIME, 16)
            return stage_pairs(actor, rotation, pairs, known)
    return StartedRotation(rotation)


def stage_pairs(
    actor: Actor, rotation: Rotation, pairs: tuple[KeyPair, KeyPair], prime: int
) -> StartedRotation:
    """Keep new pairs as the staged set, in the caller's transaction."""
    signature, encryption = pairs
    _stage(actor, rotation, signature.private_pem, encryption.private_pem, prime)
    return StartedRotation(rotation, signature.public, encryption.public)


def register_rotation(
    *,
    actor: Actor,
    rotation_id: UUID,
    access_token: str,
    access_token_secret: str,
    consumer_key: str = "",
) -> Rotation:
    """Enter what the broker issued for the new set; may be entered again until it is proven.

    A token alone keeps its consumer key. Raises PermissionMissing or SignInRequired, NotFound, StateConflict,
    or BadInput, whose details name each field with what looks wrong in it.
    """
    actor.require_session()
    require_permission(actor, PERMISSION)
    with transaction.atomic(durable=True):
        rotation = locked(rotation_id)
        if rotation.status not in {Status.GENERATED, Status.REGISTERED} or rotation.credential is None:
            raise StateConflict(kind="rotation", id=str(rotation.pk), status=rotation.status)
        if rotation.kind == Kind.TOKEN:
            consumer_key = load_credentials(rotation.login).consumer_key
        issued = {
            "consumer_key": consumer_key.strip(),
            "access_token": access_token.strip(),
            "access_token_secret": "".join(access_token_secret.split()),
        }
        staged = Credential.objects.select_related("login").get(pk=rotation.credential.pk)
        if wrong := mistakes_in(staged, Entered(**issued)):
            raise BadInput("What was entered cannot be right; the details say why.", fields=wrong)
        complete_credential(staged, actor=actor, **issued)
        _stand_behind(rotation, actor)
        if rotation.status == Status.GENERATED:
            move(actor, rotation, Status.REGISTERED, registered_at=Now())
        else:
            # The broker may take as long over this entry as over the first.
            Rotation.objects.filter(pk=rotation.pk).update(registered_at=Now())
            go_on(actor, rotation)
    return _fresh(rotation)


def decide_rotation(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> DecisionRequest:
    """A person's word on swapping a proven set in; the sweep swaps after a yes, a no aborts.

    On a live login whoever started or registered it cannot decide. Raises what `signing.decide` raises,
    LiveBarred, NotFound, or StateConflict when the rotation has moved on, or a no would destroy the last set.
    """
    actor.require_session()
    require_permission(actor, PERMISSION)
    asked = Rotation.objects.select_related("login").filter(request_id=request_id).first()
    if asked is None:
        raise NotFound(request_id=str(request_id))
    if not is_yes:
        _require_another_set(asked)
    with transaction.atomic(durable=True):
        rotation = locked(asked.pk)
        _require_proven(rotation)
        person = user_of(actor)
        if is_yes and rotation.login.environment == Environment.LIVE and person is not None:
            require_unbarred(person)
        request = signing.decide(
            actor=actor,
            request_id=request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
        )
        if request.status == DecisionStatus.REJECTED:
            _abort(actor, rotation, reason)
        else:
            Rotation.objects.filter(pk=rotation.pk).update(next_try_at=Now(), problem="")
    return request


def ask_signature(*, actor: Actor, request_id: UUID, digest: str) -> dict[str, Any]:
    """What a sole operator's passkey is to sign for a yes to a swap. Raises as `signing.ask` does."""
    actor.require_session()
    require_permission(actor, PERMISSION)
    with transaction.atomic(durable=True):
        return signing.ask(actor=actor, request_id=request_id, digest=digest, is_live=False)


def abort_rotation(*, actor: Actor, rotation_id: UUID, reason: str) -> Rotation:
    """End a rotation whose keys are not in use, and destroy its private halves; the old set stays as it is.

    Raises NotFound, PermissionMissing or ScopeMissing, EnvironmentMismatch, BadInput (no reason), or StateConflict
    when its keys are in use, it has ended, or the new set is the last that the broker may take.
    """
    seen = get_rotation(actor=actor, rotation_id=rotation_id)
    words = reason_of(reason)
    _require_another_set(seen)
    with transaction.atomic(durable=True):
        rotation = locked(rotation_id)
        if rotation.status != seen.status:
            # It has come further since the broker was asked: whether this set is the last one is not known.
            raise StateConflict(kind="rotation", id=str(rotation.pk), status=rotation.status)
        _abort(actor, rotation, words)
    return _fresh(rotation)


def retry_rotation(*, actor: Actor, rotation_id: UUID) -> Rotation:
    """A person has looked at why it stopped: try the next step again, now.

    Raises PermissionMissing or SignInRequired, NotFound, or StateConflict when it has ended.
    """
    actor.require_session()
    require_permission(actor, PERMISSION)
    with transaction.atomic(durable=True):
        rotation = locked(rotation_id)
        if rotation.status not in OPEN | {Status.ACTIVE}:
            raise StateConflict(kind="rotation", id=str(rotation.pk), status=rotation.status)
        go_on(actor, rotation)
    return _fresh(rotation)


def get_rotation(*, actor: Actor, rotation_id: UUID) -> Rotation:
    """One rotation to read. Raises NotFound, ScopeMissing, PermissionMissing or EnvironmentMismatch."""
    _require_right(actor)
    rotation = (
        Rotation.objects.select_related("login", "credential", "request").filter(pk=rotation_id).first()
    )
    if rotation is None:
        raise NotFound(rotation_id=str(rotation_id))
    _require_environment(actor, rotation.login)
    return rotation


def public_halves(rotation: Rotation) -> dict[str, str]:
    """What a person uploads for a staged set, by its name in PUBLIC_FILES; nothing for a token alone, or before it is made."""
    staged = Credential.objects.select_related("login").filter(rotation=rotation, status="staged").first()
    if staged is None or rotation.kind != Kind.KEYS:
        return {}
    keys = open_credential(staged)
    halves = (public_half(keys.signature_key_pem).pem, public_half(keys.encryption_key_pem).pem)
    return dict(zip(PUBLIC_FILES, (*halves, prime_pem(keys.dh_prime)), strict=True))


def _require_proven(rotation: Rotation) -> None:
    if rotation.status != Status.PROVEN:
        raise StateConflict(kind="rotation", id=str(rotation.pk), status=rotation.status)


def _require_another_set(rotation: Rotation) -> None:
    """A registered set is not destroyed while the one in use opens nothing, until it has stopped as hopeless.

    Raises StateConflict.
    """
    if rotation.status not in {Status.REGISTERED, Status.PROVEN} or rotation.stopped_at:
        return
    try:
        another = set_in_use_opens(rotation.login)
    except BrokerUnavailable:
        another = rotation.dark_since is None
    if not another:
        raise StateConflict(LAST_SET, id=str(rotation.pk), status=rotation.status)


def _require_right(actor: Actor) -> None:
    if actor.is_bot:
        actor.require(SCOPE)
    elif actor != PROPOSER:
        require_permission(actor, PERMISSION)


def _require_environment(actor: Actor, login: Login) -> None:
    """A bot's token reaches the logins of its own environment only; people's permissions reach all."""
    if actor.is_bot and actor.environment != login.environment:
        raise EnvironmentMismatch(token=actor.environment, login=login.environment)


def reason_of(reason: str) -> str:
    """A reason as it is stored. Raises BadInput for none."""
    if not reason.strip():
        raise BadInput("Say why; it stands in the audit trail.")
    return reason.strip()[:REASON_MAX]


def _behind(actor: Actor) -> list[UUID]:
    """The person who stands behind an actor: oneself, or the bot's owner."""
    person = actor.id if actor.is_person else actor.owner_id
    return [person] if person else []


def _stand_behind(rotation: Rotation, actor: Actor) -> None:
    people = sorted({*rotation.asked_by_ids, *_behind(actor)})
    Rotation.objects.filter(pk=rotation.pk).update(asked_by_ids=people)


def _request(actor: Actor, rotation: Rotation) -> None:
    try:
        with transaction.atomic():
            rotation.save(force_insert=True)
    except IntegrityError:
        raise RotationOpen(login=rotation.login.name) from None
    enter(actor, rotation, "rotation.requested", {"reason": rotation.reason, "kind": str(rotation.kind)})


def _stage(actor: Actor, rotation: Rotation, signature_pem: bytes, encryption_pem: bytes, prime: int) -> None:
    credential = store_credential(
        actor=actor,
        login=rotation.login,
        signature_key_pem=signature_pem,
        encryption_key_pem=encryption_pem,
        dh_prime=f"{prime:x}",
        status=Credential.Status.STAGED,
    )
    details: Mapping[str, Any] = {
        "signature_fingerprint": credential.signature_fingerprint,
        "encryption_fingerprint": credential.encryption_fingerprint,
    }
    move(actor, rotation, Status.GENERATED, dict(details), credential=credential)


def _abort(actor: Actor, rotation: Rotation, reason: str) -> None:
    move(actor, rotation, Status.ABORTED, {"reason": reason}, ended_at=Now())
    if rotation.credential is not None:
        destroy_credential(rotation.credential, actor=actor)
    if rotation.request is not None:
        decisions.withdraw(rotation.request, actor=actor)


def _fresh(rotation: Rotation) -> Rotation:
    return Rotation.objects.select_related("login", "credential", "request").get(pk=rotation.pk)
