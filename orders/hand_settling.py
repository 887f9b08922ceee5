"""A doubt settled by a person, with a reason: alone on paper, by two where money is live (gates.md §3).

Nothing is invented: who says that it arrived names the broker's order, whose own row is then read and compared.
"""

from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from audit.services import record
from brokers.base import OrderReport
from brokers.models import Report
from brokers.reports import record_reports
from brokers.services import broker_for
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.errors import BadInput, NotFound, ReasonRequired, StateConflict
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from orders import amended, doubts, tickets, trading
from orders.canonical import digest_of
from orders.groups import wire
from orders.lifecycle import AttemptStatus
from orders.models import Attempt, Order
from orders.notices.alerting import alert

KIND = "settle"
GROUP = "Approver"
SECONDS = 900
PERMISSION = "orders.decide_ticket"
Verdict = Literal["arrived", "never_arrived"]


def settle_doubt(
    *, actor: Actor, attempt_id: UUID, verdict: Verdict, reason: str, broker_order_id: str = ""
) -> DecisionRequest | None:
    """Settle one attempt in doubt; on a live account this asks another person, and returns the question.

    Raises PermissionMissing, NotFound, StateConflict, ReasonRequired, BadInput (the broker's order is another one)
    or BrokerError.
    """
    trading.require_permission(actor, PERMISSION)
    attempt = _attempt(attempt_id)
    if not reason.strip():
        raise ReasonRequired("Say how you know; it stands in the trail.")
    row = _theirs(attempt, broker_order_id) if verdict == "arrived" else None
    if not trading.must_be_signed(attempt.ticket.account):
        _settle(actor, attempt, verdict, reason.strip()[:300], row)
        return None
    facts = {"verdict": verdict, "reason": reason.strip()[:300], "broker_order_id": broker_order_id}
    facts |= {"client_order_id": attempt.client_order_id, "environment": attempt.ticket.account.environment}
    person = user_of(actor)
    with transaction.atomic(durable=True):
        return decisions.ask(
            actor=actor,
            subject_kind=KIND,
            subject_id=attempt.pk,
            summary=f"Settle as {verdict.replace('_', ' ')}: {tickets.told(attempt.ticket)}",
            digest=digest_of({"attempt": str(attempt.pk), **facts}),
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
    trading.require_permission(actor, PERMISSION)
    asked = DecisionRequest.objects.filter(pk=request_id, subject_kind=KIND).first()
    if asked is None:
        raise NotFound(request_id=str(request_id))
    said = asked.facts
    row = None
    if is_yes and said["verdict"] == "arrived":
        row = _theirs(_attempt(asked.subject_id), said["broker_order_id"])
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
        _settle(actor, _attempt(asked.subject_id), said["verdict"], said["reason"], row)
    return request


def open_requests() -> QuerySet[DecisionRequest]:
    """Doubts that wait for a second person."""
    return DecisionRequest.objects.open().filter(subject_kind=KIND).order_by("created_at")


def expire_overdue(*, actor: Actor) -> None:
    """End the questions that nobody answered in time."""
    for request in DecisionRequest.objects.overdue().filter(subject_kind=KIND, status=DecisionStatus.PENDING):
        with transaction.atomic(durable=True):
            decisions.expire(request, actor=actor)


def _attempt(attempt_id: UUID) -> Attempt:
    rows = Attempt.objects.select_related("ticket__account__login", "ticket__request")
    attempt = rows.filter(pk=attempt_id).first()
    if attempt is None:
        raise NotFound(attempt_id=str(attempt_id))
    if attempt.status != AttemptStatus.IN_DOUBT:
        raise StateConflict("This is not in doubt any more.", status=attempt.status)
    return attempt


def _theirs(attempt: Attempt, broker_order_id: str) -> OrderReport:
    """The broker's own row, which must be of this account and these terms."""
    account = attempt.ticket.account
    if not (broker_order_id.isascii() and broker_order_id.isdecimal()):
        raise BadInput("Name the broker's order by its number.", broker_order_id=broker_order_id[:32])
    with broker_for(account.login) as broker:
        row = broker.order(broker_order_id)
    order = _meant(attempt, row) if row is not None else None
    if row is None or order is None or row.broker_account_id not in {None, account.broker_account_id}:
        raise BadInput("The broker's order of this number is not this one.", broker_order_id=broker_order_id)
    return replace(row, client_order_id=_own_id(attempt, order))


def _meant(attempt: Attempt, row: OrderReport) -> Order | None:
    """Which order of the sending has these terms; of a group only what the broker has not named yet."""
    left = wire.missing(attempt) if attempt.ticket.group else attempt.carried
    fitting = [
        order
        for order in left
        if row.side == order.side and amended.has(row, {name: getattr(order, name) for name in amended.TERMS})
    ]
    return fitting[0] if len(fitting) == 1 else None


def _own_id(attempt: Attempt, order: Order) -> str:
    leg = attempt.legs.filter(order=order).first()
    return leg.client_order_id if leg else attempt.client_order_id


def _settle(actor: Actor, attempt: Attempt, verdict: str, reason: str, row: OrderReport | None) -> None:
    told: dict[str, Any] = {"verdict": verdict, "reason": reason, "ticket": str(attempt.ticket_id)}
    with transaction.atomic(durable=True):
        record(
            "attempt.settled_by_hand",
            actor=actor,
            subject_kind="attempt",
            subject_id=attempt.pk,
            details=told,
        )
        alert(
            f"by-hand:{attempt.pk}",
            f"{actor.name} settled as {verdict.replace('_', ' ')}: {tickets.told(attempt.ticket)}",
            reason,
            path="/admin/doubts/",
        )
        if row is not None:
            # The report does the rest, as any report of this order would.
            record_reports(
                attempt.ticket.account.login, Report.Source.POLL, [(row, None)], as_of=timezone.now()
            )
    if row is None:
        doubts.never_arrived(actor, attempt, by=actor.name, reason=reason)
