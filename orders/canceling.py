"""Cancels as attempts: the asking is a row before the wire, and what came of it after.

A cancel may be asked for again, each time by a row of its own; the one before is settled by that. What became of the
order only its reports say.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from audit.services import record
from brokers.base import Broker, BrokerOrderState, OrderReport
from brokers.models import Account, Login, Report
from brokers.reports import record_reports
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given, together
from cerbero.errors import BrokerError, BrokerRejected, CerberoError, OutcomeUnknown, ProcessDied
from cerbero.lifecycle import transition
from cerbero.models import DecisionStatus
from orders.lifecycle import ATTEMPT, ENDED, AttemptStatus, OrderStatus
from orders.models import Attempt, ChangeAttempt, Inquiry, Order, Ticket
from orders.notices.alerting import alert
from orders.presentation import sentence

Kind = ChangeAttempt.Kind
# Every order of an account, in the broker's own word for it.
EVERY_ORDER = "-1"
# Whoever sent longer ago is gone: longer than a cancel may wait for the request budget.
SENDING_MAX = timedelta(seconds=90)
HEARD = {BrokerOrderState.PENDING_CANCEL, BrokerOrderState.CANCELED, BrokerOrderState.EXPIRED}
HEARD |= {BrokerOrderState.FILLED, BrokerOrderState.REJECTED}


def ask_cancel(
    actor: Actor, account: Account, broker_order_id: str, send: Callable[[], None], order: Order | None = None
) -> CerberoError | None:
    """Ask for a cancel by calling `send`, once; returns what kept it from being taken, None when it was.

    The broker's refusal is an answer: the order may have ended, or filled first.
    """
    row = _begin(actor, account, broker_order_id, order)
    try:
        send()
    except BrokerRejected as no:
        _end(actor, row, AttemptStatus.ANSWERED, no, refused=str(no.details.get("broker_says", ""))[:300])
        return no
    except OutcomeUnknown as problem:
        _end(actor, row, AttemptStatus.IN_DOUBT, problem)
        return problem
    except CerberoError as problem:
        _not_sent(actor, row, problem)
        return problem
    except BaseException:
        _end(actor, row, AttemptStatus.IN_DOUBT, OutcomeUnknown())
        raise
    _end(actor, row, AttemptStatus.ANSWERED, None)
    return None


def unsettled_cancels() -> Any:
    rows = ChangeAttempt.objects.filter(kind=Kind.CANCEL)
    return rows.filter(status__in=[AttemptStatus.PREPARED, AttemptStatus.SENT, AttemptStatus.IN_DOUBT])


_ABANDONED = Compiled(
    lambda: unsettled_cancels().filter(
        account__login=Given("login"), status=AttemptStatus.SENT, sent_at__lt=Now() - SENDING_MAX
    )
)
_OVER = Compiled(
    lambda: (
        unsettled_cancels()
        .filter(account__login=Given("login"), status=AttemptStatus.IN_DOUBT, order__status__in=ENDED)
        .select_related("order")
    )
)
_ATTEMPTS = Compiled(lambda: Attempt.objects.filter(ticket=Given("ticket")).order_by("number"))
_WITHDRAWN = Compiled(
    lambda: Ticket.objects.filter(pk=Given("ticket"), request__status=DecisionStatus.WITHDRAWN).values_list(
        "pk", flat=True
    )
)
_IN_DOUBT = Compiled(lambda: unsettled_cancels().filter(order=Given("order"), status=AttemptStatus.IN_DOUBT))


def look_after(actor: Actor, order: Order, broker: Broker) -> bool:
    """Whether a cancel in doubt was heard, by the order's own status; then it need not be asked for again."""
    doubted = unsettled_cancels().filter(order=order, status=AttemptStatus.IN_DOUBT).last()
    if doubted is None:
        return False
    asked_at = timezone.now()
    inquiry = Inquiry(change=doubted, asked_at=asked_at, looked_in="order status", had_session=True)
    try:
        row = broker.order(order.broker_order_id)
    except BrokerError as problem:
        inquiry.had_session, inquiry.result, inquiry.text = False, Inquiry.Result.FAILED, problem.code
        inquiry.save(force_insert=True)
        return False
    is_heard = row is not None and row.state in HEARD
    inquiry.result = Inquiry.Result.FOUND if is_heard else Inquiry.Result.ABSENT
    inquiry.text = row.state if row is not None and row.state else ""
    inquiry.save(force_insert=True)
    if row is not None:
        record_reports(order.ticket.account.login, Report.Source.POLL, [(row, None)], as_of=asked_at)
    if is_heard:
        settle(actor, doubted, heard=True)
    return is_heard


def settle_ended(actor: Actor, order: Order) -> None:
    """What the broker says of the order settles whatever cancel of it is in doubt. In the caller's transaction."""
    if order.status in ENDED | {OrderStatus.PENDING_CANCEL}:
        for row in _IN_DOUBT.rows(order=order.pk):
            settle(actor, row, order=order.status)


def cancel_unwanted(actor: Actor, order: Order, fact: OrderReport) -> None:
    """It works at the broker although our last word was no, or after it was withdrawn: it is canceled, and said."""
    attempts, withdrawn = together(
        _ATTEMPTS.asked(ticket=order.ticket_id), _WITHDRAWN.asked(ticket=order.ticket_id)
    )
    named = [each for each in attempts if each.client_order_id == fact.client_order_id]
    refused = any(each.outcome.get("refused", False) for each in (named or attempts)[-1:])
    if not refused and not withdrawn:
        return
    Order.objects.filter(pk=order.pk, cancel_requested_at=None).update(cancel_requested_at=Now())
    details = {"refused": refused, "broker_order_id": fact.broker_order_id}
    record("cancel.requested", actor=actor, subject_kind="order", subject_id=order.pk, details=details)
    alert(
        f"unwanted:{order.pk}:{fact.broker_order_id}",
        f"An order lives against our word and is being canceled: {sentence(order)}",
        "We said no to the broker's question about it." if refused else "It was withdrawn.",
        path=f"/admin/orders/order/{order.pk}/change/",
        is_urgent=True,
    )


def settle_foreign(actor: Actor, account: Account, working: set[str]) -> None:
    """Cancels in doubt of orders that were not placed here, by a full list of what still works."""
    rows = unsettled_cancels().filter(account=account, order=None, status=AttemptStatus.IN_DOUBT)
    for row in rows:
        if row.broker_order_id not in working and not (row.broker_order_id == EVERY_ORDER and working):
            with transaction.atomic(durable=True):
                settle(actor, row, order="not working")


def doubt_abandoned(actor: Actor, login: Login) -> None:
    """Whoever asked is gone: it may have been heard. Of an order that has ended no report comes any more."""
    abandoned, over = together(_ABANDONED.asked(login=login.pk), _OVER.asked(login=login.pk))
    for row in abandoned:
        _end(actor, row, AttemptStatus.IN_DOUBT, ProcessDied())
    for row in over:
        with transaction.atomic(durable=True):
            settle_ended(actor, row.order)


def _begin(actor: Actor, account: Account, broker_order_id: str, order: Order | None) -> ChangeAttempt:
    before = unsettled_cancels().filter(account=account, broker_order_id=broker_order_id)
    with transaction.atomic(durable=True):
        for row in before.filter(status=AttemptStatus.IN_DOUBT).select_for_update():
            settle(actor, row, asked_again=True)
        row = ChangeAttempt(kind=Kind.CANCEL, account=account, order=order, asked_by=actor.name)
        row.broker_order_id = broker_order_id
        row.save(force_insert=True)
        transition(row, AttemptStatus.SENT, moves=ATTEMPT, actor=actor, event="cancel.asked", sent_at=Now())
    return row


def _end(actor: Actor, row: ChangeAttempt, to: str, problem: CerberoError | None, **more: Any) -> None:
    changes: dict[str, Any] = {"outcome": {"why": problem.code, **more} if problem else {"accepted": True}}
    if to == AttemptStatus.ANSWERED:
        changes["answered_at"] = Now()
    event = "cancel.answered" if to == AttemptStatus.ANSWERED else "cancel.doubted"
    with transaction.atomic(durable=True):
        transition(row, to, moves=ATTEMPT, actor=actor, event=event, details=changes["outcome"], **changes)


def _not_sent(actor: Actor, row: ChangeAttempt, problem: CerberoError) -> None:
    why = {"why": problem.code}
    with transaction.atomic(durable=True):
        transition(
            row, AttemptStatus.PREPARED, moves=ATTEMPT, actor=actor, event="cancel.not_sent", details=why
        )
        settle(actor, row, sent=False, **why)


def settle(actor: Actor, row: ChangeAttempt, **found: Any) -> None:
    """What became of one asking; the order itself is moved by its reports alone. In the caller's transaction."""
    transition(
        row,
        AttemptStatus.SETTLED,
        moves=ATTEMPT,
        actor=actor,
        event="cancel.settled",
        details=found,
        outcome=row.outcome | found,
        settled_at=Now(),
    )
