"""Drift is adopted or ignored by a person with a reason; on a live account another person decides on it.

Adopted: the broker's fact is ours from now on, and stays never approved. Ignored: it is left out of further
comparisons. Neither makes an order, a fill or an approval that there was not, and neither resumes an account.
"""

import hashlib
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero import decisions, plain
from cerbero.access import Actor, user_of
from cerbero.errors import DigestMismatch, NotFound, PermissionMissing, ReasonRequired, StateConflict
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest, DecisionStatus, User
from cerbero.people import profile, signing
from orders.lifecycle import DRIFT, ORDER, WORKING, OrderStatus
from orders.models import Drift, Order
from orders.reports import end_or_revive_ticket
from orders.trading import must_be_signed, require_permission

KIND = "drift"
GROUP = "Approver"
SECONDS = 3600
PERMISSION = "orders.settle_drift"


def settle_drift(*, actor: Actor, drift_id: UUID, wanted: str, reason: str) -> Drift:
    """Adopt or ignore one case; on a live account this asks another person, and `request` says which question.

    Raises PermissionMissing, ReasonRequired, NotFound, or StateConflict when it is settled or asked already.
    """
    person = _person(actor)
    if wanted not in {Drift.Status.ADOPTED, Drift.Status.IGNORED}:
        raise StateConflict("A case is adopted or ignored.", wanted=wanted)
    if not reason.strip():
        raise ReasonRequired
    with transaction.atomic(durable=True):
        case = _locked(drift_id)
        if case.status != Drift.Status.OPEN:
            raise StateConflict("This case is settled.", status=case.status)
        if not takes_two(case):
            _settle(actor, case, wanted, reason, person)
        else:
            _ask(actor, case, wanted, reason, person)
    return case


def decide_drift(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> DecisionRequest:
    """The second person's word; a yes settles in the same transaction, in the first one's name.

    Raises what `signing.decide` raises, and DigestMismatch when the difference is another by now.
    """
    _person(actor)
    with transaction.atomic(durable=True):
        asked = decisions.asked(KIND, request_id)
        case = _locked(asked.subject_id)
        wanted = asked.facts["wanted"]
        if is_yes and _digest(case, wanted, asked.facts["reason"]) != asked.digest:
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
            (first,) = User.objects.filter(pk__in=profile.excluded_by(request))
            _settle(actor, case, wanted, asked.facts["reason"], first)
    return request


def reaffirm_order(*, actor: Actor, order_id: UUID, reason: str) -> Order:
    """Say that a resting GTC order shall go on. Raises PermissionMissing, ReasonRequired, NotFound, StateConflict."""
    _person(actor)
    if not reason.strip():
        raise ReasonRequired
    with transaction.atomic(durable=True):
        order = Order.objects.select_for_update().filter(pk=order_id).first()
        if order is None:
            raise NotFound(order_id=str(order_id))
        if order.status not in WORKING:
            raise StateConflict("This order does not rest any more.", status=order.status)
        Order.objects.filter(pk=order.pk).update(reaffirmed_at=Now())
        details = {"reason": reason.strip()[:500]}
        record("order.reaffirmed", actor=actor, subject_kind="order", subject_id=order.pk, details=details)
    return order


def takes_two(case: Drift) -> bool:
    """Whether another person must decide: wherever the account is not known to be paper."""
    return case.account is not None and must_be_signed(case.account)


def _ask(actor: Actor, case: Drift, wanted: str, reason: str, person: User) -> None:
    if case.request is not None and decisions.waiting(KIND).filter(pk=case.request.pk).exists():
        raise StateConflict("Another person is being asked about this case.", request=str(case.request.pk))
    account = case.account
    case.request = decisions.ask(
        actor=actor,
        subject_kind=KIND,
        subject_id=case.pk,
        summary=f"{'Adopt' if wanted == Drift.Status.ADOPTED else 'Ignore'} {case} on {account}",
        digest=_digest(case, wanted, reason),
        facts={
            "wanted": wanted,
            "reason": reason,
            "environment": account.environment if account else "",
            **_terms(case),
        },
        quorum=1,
        group=GROUP,
        seconds=SECONDS,
        excluded_user_ids=[person.pk],
    )
    Drift.objects.filter(pk=case.pk).update(request=case.request)
    details = {"wanted": wanted, "reason": reason[:500], "request": str(case.request.pk)}
    record("drift.asked", actor=actor, subject_kind="drift", subject_id=case.pk, details=details)


def _settle(actor: Actor, case: Drift, wanted: str, reason: str, person: User) -> None:
    transition(
        case,
        wanted,
        moves=DRIFT,
        actor=actor,
        event=f"drift.{wanted}",
        details=_terms(case) | {"reason": reason.strip()[:500], "approved": False},
        settled_by=person,
        settled_at=Now(),
        reason=reason.strip()[:500],
    )
    if case.kind == Drift.Kind.ORDER_MISSING and wanted == Drift.Status.ADOPTED:
        _end_missing(actor, case)


def _end_missing(actor: Actor, case: Drift) -> None:
    """The broker knows no such order, and a person takes its word: it rests nowhere."""
    rows = Order.objects.select_for_update(of=("self",)).select_related("ticket")
    order = rows.filter(drifts=case).first()
    if order is not None and order.status in WORKING:
        transition(
            order,
            OrderStatus.CANCELED,
            moves=ORDER,
            actor=actor,
            event="order.canceled",
            details={"drift": str(case.pk)},
            text="not known to the broker any more; ended by a person",
        )
        end_or_revive_ticket(actor, order)


def _locked(drift_id: UUID) -> Drift:
    rows = Drift.objects.select_for_update(of=("self",)).select_related("account__login", "request")
    case = rows.filter(pk=drift_id).first()
    if case is None:
        raise NotFound(drift_id=str(drift_id))
    return case


def _person(actor: Actor) -> User:
    require_permission(actor, PERMISSION)
    person = user_of(actor)
    if person is None:
        raise PermissionMissing(permission=PERMISSION)
    return person


def _terms(case: Drift) -> dict[str, Any]:
    return {
        "kind": case.kind,
        "subject": case.subject,
        "about": case.about,
        "amount": None if case.amount is None else plain.text(case.amount),
    }


def _digest(case: Drift, wanted: str, reason: str) -> str:
    """Bound to the difference as it is now: one that grew is another question."""
    terms = {"id": str(case.pk), "wanted": wanted, "reason": reason, **_terms(case)}
    return hashlib.sha256(plain.dumps(dict(sorted(terms.items()))).encode()).hexdigest()
