"""A doubt settled by a person, with a reason: alone on paper, by two where money is live (gates.md §3).

Nothing is invented: of whatever is said to have arrived the broker's own row is read, and must show it.
"""

from typing import Any
from uuid import UUID

from django.db import transaction

from audit.services import record
from brokers.models import Account
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.errors import NotFound, ReasonRequired, StateConflict
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from orders import hand_evidence, trading
from orders.canonical import digest_of
from orders.hand_evidence import Doubted, Verdict
from orders.lifecycle import AttemptStatus
from orders.models import Attempt, ChangeAttempt
from orders.notices.alerting import alert

KIND = "settle"
GROUP = "Approver"
SECONDS = 900
PERMISSION = "orders.decide_ticket"


def settle_doubt(
    *, actor: Actor, attempt_id: UUID, verdict: Verdict, reason: str, broker_order_id: str = ""
) -> DecisionRequest | None:
    """Settle one sending, cancel or amendment in doubt; on a live account this asks another person, and returns the question.

    `broker_order_id` names the order of a sending that arrived. Raises PermissionMissing, NotFound, StateConflict,
    ReasonRequired, BadInput (the broker's row shows something else) or BrokerError.
    """
    actor.require_session()
    trading.require_permission(actor, PERMISSION)
    row = _doubted(attempt_id)
    if not reason.strip():
        raise ReasonRequired("Say how you know; it stands in the trail.")
    evidence = hand_evidence.read(row, verdict, broker_order_id)
    account = _account(row)
    if not trading.must_be_signed(account):
        _settle(actor, row, verdict, reason.strip()[:300], evidence)
        return None
    facts = {"verdict": verdict, "reason": reason.strip()[:300], "environment": account.environment}
    facts |= hand_evidence.known_by(row, broker_order_id)
    person = user_of(actor)
    with transaction.atomic(durable=True):
        return decisions.ask(
            actor=actor,
            subject_kind=KIND,
            subject_id=row.pk,
            summary=f"Settle as {verdict.replace('_', ' ')}: {hand_evidence.told(row)}",
            digest=digest_of({"attempt": str(row.pk), **facts}),
            facts=facts,
            quorum=1,
            group=GROUP,
            seconds=SECONDS,
            excluded_user_ids=[person.pk] if person else [],
        )


def decide_settling(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> DecisionRequest:
    """The second person's word; a yes settles it. Raises as `signing.decide` and `settle_doubt` do."""
    actor.require_session()
    trading.require_permission(actor, PERMISSION)
    asked = decisions.asked(KIND, request_id)
    said = asked.facts
    evidence = None
    if is_yes:
        evidence = hand_evidence.read(_doubted(asked.subject_id), said["verdict"], said["broker_order_id"])
    with transaction.atomic(durable=True):
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
    if request.status == DecisionStatus.CONSUMED:
        _settle(actor, _doubted(asked.subject_id), said["verdict"], said["reason"], evidence)
    return request


def _doubted(row_id: UUID) -> Doubted:
    sendings = Attempt.objects.select_related("ticket__account__login", "ticket__request")
    changes = ChangeAttempt.objects.select_related(
        "account__login", "order__ticket__account__login", "order__instrument", "amendment__request"
    )
    row: Doubted | None = sendings.filter(pk=row_id).first() or changes.filter(pk=row_id).first()
    if row is None:
        raise NotFound(attempt_id=str(row_id))
    if row.status != AttemptStatus.IN_DOUBT:
        raise StateConflict("This is not in doubt any more.", status=row.status)
    return row


def _account(row: Doubted) -> Account:
    return row.ticket.account if isinstance(row, Attempt) else row.account


def _settle(actor: Actor, row: Doubted, verdict: str, reason: str, evidence: Any) -> None:
    details = {"verdict": verdict, "reason": reason, "what": hand_evidence.told(row)}
    kind = "attempt" if isinstance(row, Attempt) else "change"
    with transaction.atomic(durable=True):
        record(f"{kind}.settled_by_hand", actor=actor, subject_kind=kind, subject_id=row.pk, details=details)
        alert(
            f"by-hand:{row.pk}",
            f"{actor.name} settled as {verdict.replace('_', ' ')}: {hand_evidence.told(row)}",
            reason,
            path="/admin/doubts/",
        )
        if verdict == "arrived":
            hand_evidence.arrived(actor, row, evidence, reason)
    if verdict == "never_arrived":
        hand_evidence.never_arrived(actor, row, reason)
