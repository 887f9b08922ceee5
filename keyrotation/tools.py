"""What a bot with the administrative scope may ask of key rotation: parse, call, return."""

from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from brokers.models import Login
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.tool import DESTRUCTIVE, WRITE, Out, Params, tool
from keyrotation import services
from keyrotation.models import Rotation
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
    dh_prime: Prime = Prime.CURRENT


class AbortRotation(Params):
    rotation_id: UUID
    reason: Words


class PublicHalfOut(Out):
    """A public key as the broker's portal takes it, and the SHA-256 of its DER."""

    pem: str
    fingerprint: str


class RotationOut(Out):
    rotation_id: UUID
    login: str
    status: str


class StartedRotationOut(RotationOut):
    signature_key: PublicHalfOut
    encryption_key: PublicHalfOut


@tool(scope=services.SCOPE, effect=WRITE)
def start_rotation(actor: Actor, params: StartRotation) -> StartedRotationOut:
    """Generate new keys for a login, not yet in use; a person registers the public halves at the broker."""
    login = Login.objects.filter(name=params.login).first()
    if login is None:
        raise NotFound(login=params.login)
    started = services.start_rotation(
        actor=actor, login_id=login.pk, reason=params.reason, prime=params.dh_prime
    )
    return StartedRotationOut(
        **_described(started.rotation),
        signature_key=PublicHalfOut.model_validate(started.signature),
        encryption_key=PublicHalfOut.model_validate(started.encryption),
    )


@tool(scope=services.SCOPE, effect=DESTRUCTIVE)
def abort_rotation(actor: Actor, params: AbortRotation) -> RotationOut:
    """End a rotation whose keys are not in use yet; the new keys are destroyed, the old ones stay in use."""
    rotation = services.abort_rotation(actor=actor, **dict(params))
    return RotationOut(**_described(rotation))


def _described(rotation: Rotation) -> dict:
    return {"rotation_id": rotation.pk, "login": rotation.login.name, "status": rotation.status}
