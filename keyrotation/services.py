"""Starting and aborting a rotation. Until a later step swaps them in, the new keys are staged and used by nobody."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.credentials import destroy_credential, load_credentials, store_credential
from brokers.models import Credential, Login
from cerbero.access import Actor
from cerbero.errors import BadInput, EnvironmentMismatch, NotFound, RotationOpen
from cerbero.lifecycle import transition
from keyrotation.generation import GROUP_14_PRIME, KeyPair, PublicHalf, new_pair
from keyrotation.lifecycle import MOVES, OPEN, RotationStatus
from keyrotation.models import Rotation
from orders.trading import require_permission

SCOPE = "rotation:admin"
PERMISSION = "keyrotation.rotate_keys"
REASON_MAX = 300


class Prime(StrEnum):
    """Where the new set's Diffie-Hellman prime comes from. It is no secret half: a known one serves as well."""

    CURRENT = "current"
    GROUP_14 = "rfc3526_group_14"


@dataclass(frozen=True)
class StartedRotation:
    """A rotation and what a person registers at the broker."""

    rotation: Rotation
    signature: PublicHalf
    encryption: PublicHalf


def start_rotation(
    *, actor: Actor, login_id: UUID, reason: str, prime: Prime = Prime.CURRENT
) -> StartedRotation:
    """Generate a new set of keys for a login, encrypted and not in use; returns the public halves.

    One transaction holds all of it: a crash before its commit leaves nothing. Raises NotFound,
    PermissionMissing or ScopeMissing, EnvironmentMismatch, BadInput (no reason), RotationOpen, or
    CredentialMissing or CannotDecrypt, since there must be a set to replace.
    """
    _require_right(actor)
    login = Login.objects.filter(pk=login_id).first()
    if login is None:
        raise NotFound(login_id=str(login_id))
    _require_environment(actor, login)
    words = _reason(reason)
    current = load_credentials(login)
    if Rotation.objects.filter(login=login, status__in=OPEN).exists():
        raise RotationOpen(login=login.name)
    signature, encryption = new_pair(), new_pair()
    dh_prime = f"{current.dh_prime:x}" if prime == Prime.CURRENT else GROUP_14_PRIME
    with transaction.atomic(durable=True):
        rotation = _request(actor, login, words)
        _stage(actor, rotation, signature, encryption, dh_prime)
    return StartedRotation(rotation, signature.public, encryption.public)


def abort_rotation(*, actor: Actor, rotation_id: UUID, reason: str) -> Rotation:
    """End a rotation whose keys are not in use, and destroy its private halves; the old set stays as it is.

    Raises NotFound, PermissionMissing or ScopeMissing, EnvironmentMismatch, BadInput (no reason), or
    StateConflict when its keys are in use or it has ended.
    """
    _require_right(actor)
    words = _reason(reason)
    with transaction.atomic(durable=True):
        rows = Rotation.objects.select_related("login").select_for_update(of=("self",))
        rotation = rows.filter(pk=rotation_id).first()
        if rotation is None:
            raise NotFound(rotation_id=str(rotation_id))
        _require_environment(actor, rotation.login)
        details = {"login": rotation.login.name, "reason": words}
        _move(actor, rotation, RotationStatus.ABORTED, details, ended_at=Now())
        if rotation.credential_id:
            destroy_credential(Credential.objects.get(pk=rotation.credential_id), actor=actor)
    rotation.refresh_from_db()
    return rotation


def _require_right(actor: Actor) -> None:
    if actor.is_bot:
        actor.require(SCOPE)
    else:
        require_permission(actor, PERMISSION)


def _require_environment(actor: Actor, login: Login) -> None:
    """A bot's token reaches the logins of its own environment only; people's permissions reach all."""
    if actor.is_bot and actor.environment != login.environment:
        raise EnvironmentMismatch(token=actor.environment, login=login.environment)


def _reason(reason: str) -> str:
    if not reason.strip():
        raise BadInput("Say why; it stands in the audit trail.")
    return reason.strip()[:REASON_MAX]


def _request(actor: Actor, login: Login, reason: str) -> Rotation:
    rotation = Rotation(login=login, reason=reason, requested_by=actor.name)
    try:
        with transaction.atomic():
            rotation.save(force_insert=True)
    except IntegrityError:
        raise RotationOpen(login=login.name) from None
    details = {"login": login.name, "reason": reason}
    record(
        "rotation.requested", actor=actor, subject_kind="rotation", subject_id=rotation.pk, details=details
    )
    return rotation


def _stage(actor: Actor, rotation: Rotation, signature: KeyPair, encryption: KeyPair, dh_prime: str) -> None:
    credential = store_credential(
        actor=actor,
        login=rotation.login,
        signature_key_pem=signature.private_pem,
        encryption_key_pem=encryption.private_pem,
        dh_prime=dh_prime,
        status=Credential.Status.STAGED,
    )
    details = {
        "login": rotation.login.name,
        "signature_fingerprint": signature.public.fingerprint,
        "encryption_fingerprint": encryption.public.fingerprint,
    }
    _move(actor, rotation, RotationStatus.GENERATED, details, credential=credential)


def _move(
    actor: Actor, rotation: Rotation, to: RotationStatus, details: dict[str, str], **changes: object
) -> None:
    transition(rotation, to, moves=MOVES, actor=actor, event=f"rotation.{to}", details=details, **changes)
