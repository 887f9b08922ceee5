"""Resuming where money is live: one person asks with a reason, another decides; both stand in the trail."""

import hashlib
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import transaction

from audit.services import record
from cerbero import decisions, plain
from cerbero.access import Actor, user_of
from cerbero.errors import DigestMismatch, StateConflict
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from orders import trading
from orders.models import TradingState

KIND = "resume"
GROUP = "Administrator"
SECONDS = 900


def request_resume(*, actor: Actor, scope: str, scope_id: str = "", reason: str) -> DecisionRequest:
    """Ask another person to resume a scope. A question that waits already for this state is returned as it is.

    Raises PermissionMissing, NotFound, or StateConflict when nothing holds the scope.
    """
    trading.require_permission(actor, "orders.resume_trading")
    person = user_of(actor)
    with transaction.atomic(durable=True):
        row = trading.locked(scope, scope_id)
        if row.state == TradingState.State.ACTIVE or person is None:
            raise StateConflict("Nothing holds this scope.", scope=scope, state=row.state)
        subject, digest = _subject(row), _digest(row)
        waiting = decisions.waiting(KIND).filter(subject_id=subject, digest=digest).first()
        if waiting is not None:
            return waiting
        request = decisions.ask(
            actor=actor,
            subject_kind=KIND,
            subject_id=subject,
            summary=f"Resume {row}",
            digest=digest,
            facts={"scope": scope, "scope_id": scope_id, "reason": reason[:300], **_held(row)},
            quorum=1,
            group=GROUP,
            seconds=SECONDS,
            excluded_user_ids=[person.pk],
        )
        details = {"request": str(request.pk), "reason": reason[:300]}
        record(
            "resume.requested", actor=actor, subject_kind="tradingstate", subject_id=row.pk, details=details
        )
    return request


def decide_resume(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> DecisionRequest:
    """The second person's word, or a sole operator's signed one; a yes resumes in the same transaction.

    Raises what `signing.decide` raises, and DigestMismatch when the scope was halted anew since.
    """
    trading.require_permission(actor, "orders.resume_trading")
    with transaction.atomic(durable=True):
        asked = decisions.asked(KIND, request_id)
        scope, scope_id = asked.facts["scope"], asked.facts["scope_id"]
        row = trading.locked(scope, scope_id)
        if is_yes and _digest(row) != asked.digest:
            raise DigestMismatch
        request = signing.decide(
            actor=actor,
            request_id=request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
        )
        if request.status == DecisionStatus.APPROVED:
            decisions.consume(request, actor=actor, digest=request.digest)
            trading.activate(actor, scope, scope_id, asked.facts["reason"])
    return request


def _subject(row: TradingState) -> UUID:
    return uuid5(NAMESPACE_URL, f"cerbero:tradingstate:{row.pk}")


def _held(row: TradingState) -> dict[str, Any]:
    return {
        "state": row.state,
        "changed_by": row.changed_by,
        "why": row.reason,
        "changed_at": row.changed_at.isoformat(),
    }


def _digest(row: TradingState) -> str:
    """Bound to this very hold: one that is halted anew is another question."""
    terms = {"scope": row.scope, "scope_id": row.scope_id, **_held(row)}
    return hashlib.sha256(plain.dumps(terms).encode()).hexdigest()
