"""Four eyes, once, for everything that needs it.

Each function runs inside its caller's transaction, so that a decision and what follows from it are one.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from audit.services import record
from cerbero import proofs
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Compiled, Given, Insert, together
from cerbero.errors import (
    AlreadyDecided,
    DigestMismatch,
    NotFound,
    NotProven,
    PermissionMissing,
    ReasonRequired,
    SelfApproval,
    StateConflict,
)
from cerbero.lifecycle import transition
from cerbero.models import YESES, Decision, DecisionRequest, DecisionStatus, User
from cerbero.people import profile

MOVES: dict[str, frozenset[str]] = {
    DecisionStatus.PENDING: frozenset(
        {DecisionStatus.APPROVED, DecisionStatus.REJECTED, DecisionStatus.EXPIRED, DecisionStatus.WITHDRAWN}
    ),
    DecisionStatus.APPROVED: frozenset(
        {DecisionStatus.CONSUMED, DecisionStatus.EXPIRED, DecisionStatus.WITHDRAWN}
    ),
}


_LOCKED = Compiled(lambda: DecisionRequest.objects.select_for_update().filter(pk=Given("request")))
_MEMBER = Compiled(
    lambda: Group.objects.filter(user=Given("person"), name=Given("group")).values_list("pk", flat=True)
)
_OPEN = Compiled(
    lambda: DecisionRequest.objects.open().filter(pk=Given("request")).values_list("pk", flat=True)
)
_DECIDED = Compiled(
    lambda: Decision.objects.filter(request=Given("request"), person=Given("person")).values_list(
        "pk", flat=True
    )
)
_UNEXPIRED = Q(expires_at__gt=Now())


def ask(
    *,
    actor: Actor,
    subject_kind: str,
    subject_id: UUID,
    summary: str,
    digest: str,
    facts: dict[str, Any],
    quorum: int,
    group: str,
    seconds: int,
    excluded_user_ids: Iterable[UUID],
) -> DecisionRequest:
    """Put a question to people; it expires after `seconds` by the database's clock.

    Under the sole operator's profile (people/profile.py) one yes is enough, theirs, signed and after a delay, which
    is added to the time.
    """
    asked = profile.question(subject_kind, facts, quorum, seconds, excluded_user_ids)
    request = DecisionRequest(
        subject_kind=subject_kind,
        subject_id=subject_id,
        summary=summary[:200],
        digest=digest,
        facts=asked.facts,
        quorum=asked.quorum,
        group=group,
        excluded_user_ids=list(asked.excluded),
        requested_by=actor.name,
        expires_at=Now() + timedelta(seconds=asked.seconds),
    )
    request.proof = proofs.of_request(request)
    Insert.of(request).run()
    return request


def decide(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    conditions: dict[str, str] | None = None,
    by_passkey: bool = False,
) -> DecisionRequest:
    """Take one person's yes or no, bound to the digest that was on the screen; a yes may carry conditions.

    `by_passkey` says that the caller verifies a signature in the same transaction (people/signing.py). Raises NotFound,
    PermissionMissing, SelfApproval, AlreadyDecided, DigestMismatch, NotProven, SignatureMissing, DelayRunning or
    ReasonRequired; then nothing was written. The row lock makes concurrent decisions queue; the second finds it decided.
    """
    if is_yes:
        actor.require_session()
    person = _decider(actor)
    request = _LOCKED.first(request=request_id)
    if request is None:
        raise NotFound(request_id=str(request_id))
    _hold_against(request, person, digest)
    if is_yes:
        profile.require_counts(request, person)
        profile.require_signed(request, by_passkey=by_passkey)
    if not is_yes and not reason.strip():
        raise ReasonRequired
    decision = Decision(
        request=request, person=person, is_yes=is_yes, reason=reason.strip()[:500], digest_shown=digest
    )
    decision.conditions = conditions or None
    decision.proof = proofs.of_decision(decision)
    Insert.of(decision).run()
    details = {
        "digest": digest,
        "subject": str(request.subject_id),
        "is_yes": is_yes,
        "reason": reason.strip()[:500],
        **(conditions or {}),
    }
    record(
        "decision.made", actor=actor, subject_kind="decisionrequest", subject_id=request.pk, details=details
    )
    if not is_yes:
        _move(request, DecisionStatus.REJECTED, actor, decided_at=Now())
    elif len(YESES.rows(request=request.pk)) >= request.quorum:
        _move(request, DecisionStatus.APPROVED, actor, decided_at=Now())
    return request


def asked(subject_kind: str, request_id: UUID) -> DecisionRequest:
    """A question of this kind. Raises NotFound."""
    request = DecisionRequest.objects.filter(pk=request_id, subject_kind=subject_kind).first()
    if request is None:
        raise NotFound(request_id=str(request_id))
    return request


def waiting(subject_kind: str) -> QuerySet[DecisionRequest]:
    """Questions of this kind that may still be answered, the oldest first."""
    return DecisionRequest.objects.open().filter(subject_kind=subject_kind).order_by("created_at")


def consume(request: DecisionRequest, *, actor: Actor, digest: str) -> None:
    """Use an approval, once. Raises AlreadyDecided unless it is approved and unexpired, or as `prove` does."""
    prove(request, digest=digest)
    try:
        _move(request, DecisionStatus.CONSUMED, actor, provided=_UNEXPIRED, consumed_at=Now())
    except StateConflict:
        raise AlreadyDecided(status=request.status) from None


def prove(request: DecisionRequest, *, digest: str) -> None:
    """This program asked exactly this, and took its quorum of yeses from people who were not excluded.

    Rows that were written or altered past it, with whatever rights at the database, do not count. Raises
    DigestMismatch or NotProven.
    """
    if request.digest != digest:
        raise DigestMismatch(approved=request.digest, wanted=digest)
    if not proofs.holds_request(request):
        raise NotProven
    people = proven_people(request)
    if len(people) < request.quorum:
        raise NotProven(proven=len(people), quorum=request.quorum)


def proven_people(request: DecisionRequest) -> set[UUID]:
    """Whose yes this program took, and who was not excluded."""
    yeses = [each for each in request.yeses if proofs.holds_decision(each, request)]
    return {each.person_id for each in yeses} - set(request.excluded_user_ids)


def withdraw(request: DecisionRequest, *, actor: Actor) -> None:
    """Take the question back, waiting or approved; does nothing when it has ended."""
    request.refresh_from_db(fields=["status"])
    if DecisionStatus.WITHDRAWN in MOVES.get(request.status, frozenset()):
        _move(request, DecisionStatus.WITHDRAWN, actor)


def expire(request: DecisionRequest, *, actor: Actor) -> None:
    _move(request, DecisionStatus.EXPIRED, actor)


def why_not(request: DecisionRequest, person: User) -> str:
    """Why this person cannot decide, as a sentence for the page; empty when they can."""
    if person.pk in request.excluded_user_ids:
        return SelfApproval.__doc__ or ""
    if not person.groups.filter(name=request.group).exists():
        return f"Only members of {request.group} decide on this."
    if request.decisions.filter(person=person).exists():
        return "You have decided; another person must, too."
    return profile.why_not(request, person)


def _decider(actor: Actor) -> User:
    """Only a person decides, whatever a token's scopes say (gates.md G7)."""
    person = user_of(actor)
    if person is None:
        raise PermissionMissing("Only a signed-in person decides.")
    return person


def _hold_against(request: DecisionRequest, person: User, digest: str) -> None:
    if person.pk in request.excluded_user_ids:
        raise SelfApproval
    named = {"request": request.pk, "person": person.pk}
    is_member, is_open, has_decided = together(
        _MEMBER.asked(group=request.group, **named), _OPEN.asked(**named), _DECIDED.asked(**named)
    )
    if not is_member:
        raise PermissionMissing(group=request.group)
    if not is_open or has_decided:
        raise AlreadyDecided(status=request.status)
    if digest != request.digest:
        raise DigestMismatch
    if not proofs.holds_request(request):
        raise NotProven


def _move(request: DecisionRequest, to: str, actor: Actor, **changes: Any) -> None:
    transition(
        request,
        to,
        moves=MOVES,
        actor=actor,
        event=f"approval.{to}",
        details={"subject": str(request.subject_id)},
        **changes,
    )
