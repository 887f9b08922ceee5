"""Decisions that only a passkey can make: what is signed, taking it, and checking it at the moment of sending.

    challenge = SHA-256( digest ‖ request ‖ person ‖ nonce ‖ canonical facts )

The first four have fixed lengths, so no two lists of parts give the same bytes. Request and person stand in it
beside what gates.md asks for: a signature is of no use for the same terms another day, nor for another person.
"""

import hashlib
import json
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from audit.services import record
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Compiled, Given
from cerbero.errors import (
    AlreadyDecided,
    DigestMismatch,
    LiveBarred,
    PasskeyRefused,
    PermissionMissing,
    SignatureMissing,
)
from cerbero.models import Decision, DecisionRequest, User
from cerbero.people import passkeys, profile
from cerbero.people.models import DecisionChallenge, LiveBar, Passkey, Signature

CHALLENGE_SECONDS = 120
NONCE_BYTES = 32
_ASKED = Compiled(lambda: DecisionRequest.objects.filter(pk=Given("request")))


def challenge_of(request: DecisionRequest, person_id: UUID, nonce: bytes) -> bytes:
    """The 32 bytes that an authenticator signs for one person's yes to one request."""
    facts = json.dumps(request.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    fixed = bytes.fromhex(request.digest) + request.pk.bytes + person_id.bytes + bytes(nonce)
    return hashlib.sha256(fixed + facts.encode()).digest()


def decide(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    conditions: dict[str, str] | None = None,
    assertion: dict[str, Any] | None = None,
    is_live: bool = False,
) -> DecisionRequest:
    """One person's yes or no. A yes is signed where money is live, and wherever one person stands for two.

    In the caller's transaction; raises what cerbero.decisions.decide and `sign` raise.
    """
    asked = _ASKED.first(request=request_id)
    is_signed = is_yes and (is_live or (asked is not None and profile.is_sole(asked)))
    request = decisions.decide(
        actor=actor,
        request_id=request_id,
        digest=digest,
        is_yes=is_yes,
        reason=reason,
        conditions=conditions,
        by_passkey=is_signed,
    )
    if is_signed:
        sign(actor=actor, request=request, assertion=assertion, is_live=is_live)
    return request


def ask(*, actor: Actor, request_id: UUID, digest: str, is_live: bool = True) -> dict[str, Any]:
    """Options for `navigator.credentials.get`, their challenge bound to what stands on the screen.

    Raises PermissionMissing, AlreadyDecided, DigestMismatch, DelayRunning, LiveBarred or PasskeyRefused.
    """
    person = _person(actor)
    request = DecisionRequest.objects.open().filter(pk=request_id).first()
    if request is None:
        raise AlreadyDecided
    if request.digest != digest:
        raise DigestMismatch
    if why := decisions.why_not(request, person):
        raise PermissionMissing(why)
    profile.require_counts(request, person)
    if is_live:
        require_unbarred(person)
    nonce = secrets.token_bytes(NONCE_BYTES)
    options = passkeys.assertion_options(person, challenge_of(request, person.pk, nonce))
    DecisionChallenge.objects.create(
        request=request, person=person, nonce=nonce, expires_at=Now() + timedelta(seconds=CHALLENGE_SECONDS)
    )
    return options


def sign(
    *, actor: Actor, request: DecisionRequest, assertion: dict[str, Any] | None, is_live: bool = True
) -> Signature:
    """Keep the signature of the yes that `actor` gave in this transaction; its challenge is used up.

    Raises SignatureMissing without an assertion, LiveBarred, or PasskeyRefused; the caller rolls back then.
    """
    person = _person(actor)
    if not assertion:
        raise SignatureMissing
    if is_live:
        require_unbarred(person)
    decision = Decision.objects.get(request=request, person=person, is_yes=True)
    nonce = _claim(DecisionRequest.objects.get(pk=request.pk), person, assertion)
    key = passkeys.use(person, assertion, challenge_of(request, person.pk, nonce))
    signature = Signature.objects.create(
        decision=decision, passkey=key, nonce=nonce, assertion=_kept(assertion)
    )
    details = {"request": str(request.pk), "passkey": str(key.pk), "digest": request.digest}
    record("decision.signed", actor=actor, subject_kind="decision", subject_id=decision.pk, details=details)
    return signature


def require_signed(request: DecisionRequest, *, is_live: bool = True) -> None:
    """Every counted yes again, from what cannot be written into rows. Raises SignatureMissing with what is wrong.

    As many different people as the quorum must have signed exactly this digest and these facts, with a passkey
    that was theirs then and still is, each still active, of the group, and, where money is live, not barred.
    """
    wrong: dict[str, str] = {}
    signed = set()
    rows = request.decisions.filter(is_yes=True).select_related("person", "signature__passkey")
    for decision in rows:
        if why := _why_uncounted(request, decision, is_live=is_live):
            wrong[str(decision.person)] = why
        else:
            signed.add(decision.person_id)
    if len(signed) < request.quorum:
        raise SignatureMissing(signed=len(signed), needed=request.quorum, wrong=wrong)


def why_unsigned(request: DecisionRequest, person_id: UUID) -> str:
    """Why one person's yes on a live account does not count at the moment of sending; empty when it does."""
    rows = request.decisions.filter(is_yes=True, person=person_id).select_related(
        "person", "signature__passkey"
    )
    decision = rows.first()
    return "not signed" if decision is None else _why_uncounted(request, decision, is_live=True)


def barred(person: User) -> LiveBar | None:
    """The bar that keeps a person from live approvals now, by the database's clock."""
    return LiveBar.objects.filter(person=person, until__gt=Now()).order_by("-until").first()


def require_unbarred(person: User) -> None:
    """Raises LiveBarred while what this person may do was changed too recently."""
    if bar := barred(person):
        raise LiveBarred(until=f"{bar.until:%Y-%m-%d %H:%M} UTC", why=bar.why)


def _person(actor: Actor) -> User:
    person = user_of(actor)
    if person is None:
        raise PermissionMissing("Only a signed-in person decides.")
    return person


def _claim(request: DecisionRequest, person: User, assertion: dict[str, Any]) -> bytes:
    """The nonce of the open challenge that this assertion answers, used up. Raises PasskeyRefused."""
    answered = passkeys.challenge_in(assertion)
    mine = DecisionChallenge.objects.filter(
        request=request, person=person, used_at=None, expires_at__gt=Now()
    )
    for row in mine.order_by("-created_at")[:10]:
        is_it = challenge_of(request, person.pk, bytes(row.nonce)) == answered
        if is_it and mine.filter(pk=row.pk).update(used_at=Now()) == 1:
            return bytes(row.nonce)
    raise PasskeyRefused(
        "This was not signed for what stands here now, or too long ago; reload and sign again."
    )


def _kept(assertion: dict[str, Any]) -> dict[str, Any]:
    """What verifies it again, and nothing else that a caller sent."""
    names = ("clientDataJSON", "authenticatorData", "signature")
    response = {name: assertion["response"][name] for name in names}
    return {
        "id": assertion["id"],
        "rawId": assertion["rawId"],
        "type": assertion["type"],
        "response": response,
    }


def _why_uncounted(request: DecisionRequest, decision: Decision, *, is_live: bool) -> str:
    """Why a yes does not count at the moment of sending; empty when it does."""
    signature = getattr(decision, "signature", None)
    if signature is None:
        return "not signed"
    key: Passkey = signature.passkey
    if key.person_id != decision.person_id or key.revoked_at is not None:
        return "passkey not theirs any more"
    if key.usable_from is None or key.usable_from > decision.decided_at:
        return "passkey not confirmed then"
    person = decision.person
    if person.pk in request.excluded_user_ids or not person.is_active:
        return "may not decide"
    if not person.groups.filter(name=request.group).exists():
        return f"not of {request.group} any more"
    if is_live and LiveBar.objects.filter(person=person, until__gt=decision.decided_at).exists():
        return "barred"
    try:
        passkeys.check(key, signature.assertion, challenge_of(request, person.pk, bytes(signature.nonce)))
    except PasskeyRefused:
        return "signature does not hold"
    return ""
