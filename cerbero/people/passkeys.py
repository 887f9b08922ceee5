"""Passkeys (WebAuthn level 2): registering one, and checking what one signed. No session, no request.

The library checks signature, origin, relying party, presence and verification; the challenge is ours. It is imported
by whoever needs it first: that takes a tenth of a process's start, and most processes never do.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from audit.services import record
from cerbero.access import Actor, user_of
from cerbero.encryption import holds_mac, identity, mac
from cerbero.errors import NotFound, PasskeyRefused, PermissionMissing, StateConflict
from cerbero.models import User
from cerbero.people.models import Passkey

KEYS_MAX = 10
TIMEOUT_MILLISECONDS = 120_000
SEAL = b"cerbero passkey seal"

if TYPE_CHECKING:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor


def relying_party() -> str:
    """The host that passkeys belong to: PUBLIC_URL's."""
    return urlsplit(settings.PUBLIC_URL).hostname or "localhost"


def origin() -> str:
    parts = urlsplit(settings.PUBLIC_URL)
    return f"{parts.scheme}://{parts.netloc}"


def registration_options(user: User, challenge: bytes) -> dict[str, Any]:
    """What `navigator.credentials.create` is given, as JSON."""
    import webauthn
    from webauthn.helpers import structs

    options = webauthn.generate_registration_options(
        rp_id=relying_party(),
        rp_name="Cerbero",
        user_name=user.get_username(),
        user_id=user.pk.bytes,
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.PREFERRED,
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=_descriptors(user.passkeys.filter(revoked_at=None)),
    )
    return json.loads(webauthn.options_to_json(options))


def assertion_options(user: User, challenge: bytes) -> dict[str, Any]:
    """What `navigator.credentials.get` is given, as JSON. Raises PasskeyRefused for a person without one."""
    import webauthn
    from webauthn.helpers import structs

    keys = _descriptors(user.passkeys.usable())
    if not keys:
        raise PasskeyRefused("You have no passkey that is confirmed; add one on your sign-in page first.")
    options = webauthn.generate_authentication_options(
        rp_id=relying_party(),
        challenge=challenge,
        timeout=TIMEOUT_MILLISECONDS,
        allow_credentials=keys,
        user_verification=structs.UserVerificationRequirement.REQUIRED,
    )
    return json.loads(webauthn.options_to_json(options))


def register(user: User, credential: dict[str, Any], *, challenge: bytes, name: str) -> Passkey:
    """A row for a new key, of no use until it is confirmed. Runs in the caller's transaction.

    Raises PasskeyRefused for anything but a fresh key, made here, with the person verified.
    """
    import webauthn
    from webauthn.helpers import parse_registration_credential_json
    from webauthn.helpers.exceptions import WebAuthnException

    try:
        verified = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=relying_party(),
            expected_origin=origin(),
            require_user_verification=True,
        )
        transports = parse_registration_credential_json(credential).response.transports or []
    except (WebAuthnException, ValueError, TypeError, KeyError):
        raise PasskeyRefused from None
    if user.passkeys.filter(revoked_at=None).count() >= KEYS_MAX:
        raise PasskeyRefused("You have as many passkeys as there may be; revoke one first.", most=KEYS_MAX)
    if Passkey.objects.filter(credential_id=verified.credential_id).exists():
        raise PasskeyRefused("This passkey is registered already.")
    return Passkey.objects.create(
        person=user,
        name=name.strip()[:64] or "passkey",
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        transports=[each.value for each in transports],
    )


def check(key: Passkey, assertion: dict[str, Any], challenge: bytes, *, sign_count: int = 0) -> int:
    """Whether this key signed exactly this challenge, here, the person verified; returns the new count.

    With `sign_count` an assertion must be newer than that. Raises PasskeyRefused.
    """
    import webauthn
    from webauthn.helpers.exceptions import WebAuthnException

    if not is_sealed(key):
        raise PasskeyRefused("This passkey was not confirmed by a second Administrator.")
    try:
        _refuse_framed(assertion)
        verified = webauthn.verify_authentication_response(
            credential=assertion,
            expected_challenge=challenge,
            expected_rp_id=relying_party(),
            expected_origin=origin(),
            credential_public_key=bytes(key.public_key),
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError):
        raise PasskeyRefused from None
    if verified.credential_id != bytes(key.credential_id):
        raise PasskeyRefused
    return verified.new_sign_count


def use(user: User, assertion: dict[str, Any], challenge: bytes) -> Passkey:
    """Check an assertion of one of `user`'s usable keys, and note its count. Raises PasskeyRefused."""
    key = user.passkeys.usable().select_for_update().filter(credential_id=_credential_id(assertion)).first()
    if key is None:
        raise PasskeyRefused("This passkey is not one of yours that count.")
    count = check(key, assertion, challenge, sign_count=key.sign_count)
    Passkey.objects.filter(pk=key.pk).update(sign_count=count, last_used_at=Now())
    return key


def answered(words: str) -> dict[str, Any] | None:
    """The authenticator's answer as a page posted it; None when it is none."""
    try:
        told = json.loads(words)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def challenge_in(assertion: dict[str, Any]) -> bytes:
    """The challenge that an assertion says it answers, unchecked. Raises PasskeyRefused."""
    try:
        told = json.loads(_decoded(assertion["response"]["clientDataJSON"]))
        return _decoded(told["challenge"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise PasskeyRefused from None


def revoke(*, actor: Actor, passkey_id: UUID) -> Passkey:
    """End a key at once: one's own, or anybody's as an Administrator.

    Raises NotFound, PermissionMissing or StateConflict.
    """
    user, key = user_of(actor), Passkey.objects.select_related("person").filter(pk=passkey_id).first()
    if key is None:
        raise NotFound(passkey_id=str(passkey_id))
    if user is None or not (key.person_id == user.pk or user.has_perm("cerbero.change_user")):
        raise PermissionMissing
    if Passkey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()) != 1:
        raise StateConflict(kind="passkey", id=str(key.pk))
    details = {"name": key.name, "person": str(key.person)}
    record("passkey.revoked", actor=actor, subject_kind="passkey", subject_id=key.pk, details=details)
    return key


def is_sealed(key: Passkey) -> bool:
    """Whether our process confirmed this key as it stands, and not somebody who can write rows."""
    return key.seal is not None and holds_mac(SEAL, _sealed_words(key), bytes(key.seal))


def seal_of(key: Passkey) -> bytes:
    """The MAC over whose key it is, since when, and by whose yes."""
    return mac(SEAL, _sealed_words(key))


def _sealed_words(key: Passkey) -> bytes:
    since = key.usable_from.isoformat() if key.usable_from else ""
    parts = (key.pk, key.person_id, bytes(key.credential_id).hex(), bytes(key.public_key).hex())
    return identity("passkey", *parts, since, key.approved_by_id).encode()


def _decoded(text: str) -> bytes:
    # WebAuthn leaves the padding out, and too much of it is ignored.
    return urlsafe_b64decode(f"{text}===")


def _credential_id(assertion: dict[str, Any]) -> bytes:
    try:
        return _decoded(assertion["id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PasskeyRefused from None


def _refuse_framed(assertion: dict[str, Any]) -> None:
    told = json.loads(_decoded(assertion["response"]["clientDataJSON"]))
    if told.get("crossOrigin"):
        raise PasskeyRefused("The passkey was asked from inside another site's page.")


def _descriptors(keys: Iterable[Passkey]) -> "list[PublicKeyCredentialDescriptor]":
    from webauthn.helpers import structs

    known = {each.value for each in structs.AuthenticatorTransport}
    return [
        structs.PublicKeyCredentialDescriptor(
            id=bytes(key.credential_id),
            transports=[structs.AuthenticatorTransport(each) for each in key.transports if each in known],
        )
        for key in keys
    ]
