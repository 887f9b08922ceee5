"""What a bot with the administrative scope may ask of key rotation: parse, call, return."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from brokers.generation import PublicHalf
from brokers.models import Login
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.tool import DESTRUCTIVE, READ, WRITE, Out, Params, tool
from keyrotation import services
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation
from keyrotation.next_step import next_step
from keyrotation.services import Prime

LoginName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Words = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
    ),
]


class StartRotation(Params):
    login: LoginName
    reason: Words
    kind: Kind = Kind.KEYS
    dh_prime: Prime = Prime.CURRENT


class GetRotation(Params):
    rotation_id: UUID


class AbortRotation(Params):
    rotation_id: UUID
    reason: Words


class PublicHalfOut(Out):
    """A public key as the broker's portal takes it, and the SHA-256 of its DER."""

    pem: str
    fingerprint: str


class RotationOut(Out):
    """How far it has come, who must do what next, and when Cerbero tries again by itself."""

    rotation_id: UUID
    login: str
    status: str
    kind: str
    mode: str
    problem: str
    next_actor: str
    next_step: str
    next_try_at: datetime | None


class StartedRotationOut(RotationOut):
    """The public halves for the broker's portal; none for a token alone, or while a prime is searched for."""

    signature_key: PublicHalfOut | None
    encryption_key: PublicHalfOut | None


@tool(scope=services.SCOPE, effect=WRITE)
def start_rotation(actor: Actor, params: StartRotation) -> StartedRotationOut:
    """Generate new keys for a login, not yet in use; a person registers the public halves at the broker."""
    login = Login.objects.filter(name=params.login).first()
    if login is None:
        raise NotFound(login=params.login)
    started = services.start_rotation(
        actor=actor, login_id=login.pk, reason=params.reason, kind=params.kind, prime=params.dh_prime
    )
    return StartedRotationOut(
        **_described(started.rotation),
        signature_key=_shown(started.signature),
        encryption_key=_shown(started.encryption),
    )


@tool(scope=services.SCOPE, effect=READ)
def get_rotation(actor: Actor, params: GetRotation) -> RotationOut:
    """How far a rotation has come, who must do what next, and why it waits."""
    return RotationOut(**_described(services.get_rotation(actor=actor, rotation_id=params.rotation_id)))


@tool(scope=services.SCOPE, effect=DESTRUCTIVE)
def abort_rotation(actor: Actor, params: AbortRotation) -> RotationOut:
    """End a rotation whose keys are not in use yet; the new keys are destroyed, the old ones stay in use."""
    rotation = services.abort_rotation(actor=actor, **dict(params))
    return RotationOut(**_described(rotation))


def _shown(half: PublicHalf | None) -> PublicHalfOut | None:
    return PublicHalfOut.model_validate(half) if half else None


def _described(rotation: Rotation) -> dict:
    coming = next_step(rotation)
    return {
        "rotation_id": rotation.pk,
        "login": rotation.login.name,
        "next_actor": coming.who,
        "next_step": coming.what,
        "next_try_at": coming.at,
        **{name: getattr(rotation, name) for name in ("status", "kind", "mode", "problem")},
    }
