"""One function turns the broker's reports into order states, by whatever way they came.

The broker's facts are never refused: what cannot be explained is recorded, and becomes drift.
"""

import logging
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Sum
from django.db.models.functions import Now

from brokers.base import BrokerOrderState, ExecutionReport, OrderReport
from brokers.models import Account, BrokerInstrument, Login, Report
from brokers.reports import parse
from cerbero import decisions, failpoints
from cerbero.access import Actor
from cerbero.database.compiled import Asked, Compiled, CompiledUpdate, Given, together
from cerbero.lifecycle import transition
from orders import amended, canceling, days, drift, guessing
from orders.groups import wire
from orders.groups.wire import may_shrink
from orders.lifecycle import ATTEMPT, ENDED, ORDER, TICKET, WORKING, AttemptStatus, OrderStatus, TicketStatus
from orders.models import Attempt, Drift, Execution, Order, Ticket

log = logging.getLogger(__name__)

BATCH = 200
# One drain at a time: two processes applying one order's reports could swap them.
_DRAIN_LOCK = 0x0CE5BE50

# An order by each of the ways in which a report names it, and then locked: rows that only name it, such as those of a
# halt, need not wait.
_OF_LEG = Compiled(
    lambda: Order.objects.filter(sendings__client_order_id=Given("client_order_id")).only("ticket")
)
_OF_ATTEMPT = Compiled(
    lambda: Order.objects.filter(ticket__attempts__client_order_id=Given("client_order_id"), number=1).only(
        "ticket"
    )
)
_BY_THEIR_ID = Compiled(
    lambda: (
        Order.objects.filter(broker_order_id=Given("broker_order_id"), ticket__account__login=Given("login"))
        .only("ticket")
        .order_by("pk")[:1]
    )
)
_LOCKED_TICKET = Compiled(
    lambda: (
        Ticket.objects.select_for_update(no_key=True).filter(pk=Given("ticket")).values_list("pk", flat=True)
    )
)
_LOCKED = Compiled(
    lambda: (
        Order.objects.select_for_update(of=("self",), no_key=True)
        .select_related("ticket__account__login", "instrument")
        .defer(*(f"ticket__account__login__{name}" for name in Login.OF_ITS_CALLS))
        .filter(pk=Given("order"), ticket__account__login=Given("login"))
    )
)
_IN_DOUBT = Compiled(
    lambda: Attempt.objects.filter(ticket=Given("ticket"), status=AttemptStatus.IN_DOUBT).order_by("pk")
)
_STATUS = Compiled(lambda: Ticket.objects.only("status", "request").filter(pk=Given("ticket")))
_LOCK: Asked[Any] = Asked("SELECT pg_try_advisory_xact_lock(%s)", (_DRAIN_LOCK,))
_WAITING = Compiled(lambda: Report.objects.waiting().select_related("login")[:BATCH])
_APPLIED = "UPDATE brokers_report SET applied_at = statement_timestamp() WHERE id = ANY(%s)"
_NAME = CompiledUpdate(
    lambda: Order.objects.filter(pk=Given("order")), broker_order_id=Given("broker_order_id")
)
_LEFT = Compiled(
    lambda: (
        Order.objects.filter(ticket=Given("ticket")).exclude(status__in=ENDED).values_list("pk", flat=True)
    )
)


STATES = {
    BrokerOrderState.ACCEPTED: OrderStatus.ACCEPTED,
    BrokerOrderState.PENDING_CANCEL: OrderStatus.PENDING_CANCEL,
    BrokerOrderState.FILLED: OrderStatus.FILLED,
    BrokerOrderState.CANCELED: OrderStatus.CANCELED,
    BrokerOrderState.EXPIRED: OrderStatus.EXPIRED,
    BrokerOrderState.REJECTED: OrderStatus.REJECTED,
}


def drain(actor: Actor) -> int:
    """Apply what waits in the inbox, in order. Returns how many reports were applied."""
    count = 0
    while True:
        with transaction.atomic(durable=True):
            ((is_ours,),), waiting = together(_LOCK, _WAITING.asked())
            if not is_ours:
                return count
            applied = [report.pk for report in waiting if _apply_one(actor, report)]
            if applied:
                with connection.cursor() as cursor:
                    cursor.execute(_APPLIED, [applied])
                failpoints.around_commit("reports.applied")
        count += len(applied)
        if len(applied) < BATCH:
            return count


def _apply_one(actor: Actor, report: Report) -> bool:
    """True when the report is dealt with; False leaves it for the next drain."""
    try:
        with transaction.atomic():
            return apply(actor, report)
    except (OperationalError, InterfaceError):
        # A database that is away, or that ended a deadlock, says nothing of the report.
        raise
    except Exception as problem:
        log.exception("report cannot be applied", extra={"report": report.pk})
        Report.objects.filter(pk=report.pk).update(problem=f"{type(problem).__name__}"[:300])
        drift.found(
            actor, Drift.Kind.IMPOSSIBLE_REPORT, f"report:{report.pk}", evidence={"record": report.record}
        )
        return True


def apply(actor: Actor, report: Report) -> bool:
    """Bring one fact into the ledger. False while it may belong to an attempt that is still on its way."""
    fact = parse(report)
    if isinstance(fact, ExecutionReport):
        return _apply_execution(actor, report, fact)
    return _apply_order(actor, report, fact)


def _apply_order(actor: Actor, report: Report, fact: OrderReport) -> bool:
    order = _find_order(report, fact.broker_order_id, fact.client_order_id) or _find_exit(report, fact)
    if order is None:
        return _unmatched_order(actor, report, fact)
    if _is_another(order, fact):
        _second_order(actor, order, report, fact)
        return True
    if not order.broker_order_id and fact.broker_order_id not in {"", "-1"}:
        _NAME.run(order=order.pk, broker_order_id=fact.broker_order_id)
        order.broker_order_id = fact.broker_order_id
    _settle_attempt(actor, order)
    filled = max(order.filled_quantity, fact.filled_quantity or Decimal(0))
    if fact.state == BrokerOrderState.FILLED and not may_shrink(order):
        filled = max(filled, fact.filled_quantity or order.quantity)
    if not amended.hear(actor, order, fact, report.as_of):
        drift.compare_terms(actor, order, fact)
    wanted = _wanted(order, fact, filled)
    if wanted == OrderStatus.CANCELED:
        wanted = days.end_of(order, report.as_of, fact.text)
    _move(actor, order, wanted, filled, report, fact)
    return True


def _wanted(order: Order, fact: OrderReport, filled: Decimal) -> str | None:
    """The state that this report proves; None where it proves no change."""
    total = amended.most(order)
    if fact.state is None:
        return OrderStatus.PARTIALLY_FILLED if order.filled_quantity < filled < total else None
    state = STATES[fact.state]
    if state == OrderStatus.ACCEPTED and filled > 0:
        return OrderStatus.PARTIALLY_FILLED if filled < total else OrderStatus.FILLED
    return state


def _move(
    actor: Actor, order: Order, wanted: str | None, filled: Decimal, report: Report, fact: OrderReport
) -> None:
    changes: dict[str, Any] = {}
    if filled > order.filled_quantity:
        changes["filled_quantity"], changes["filled_at"] = filled, Now()
    if fact.average_price is not None:
        changes["average_price"] = fact.average_price
    if fact.text:
        changes["text"] = fact.text[:300]
    before = order.status
    if wanted and wanted != before and not _is_stale(actor, order, wanted, report):
        transition(
            order,
            wanted,
            moves=ORDER,
            actor=actor,
            event=f"order.{wanted}",
            details={"source": report.source, "report": report.pk},
            reported_at=report.as_of,
            **changes,
        )
        end_or_revive_ticket(actor, order)
        canceling.settle_ended(actor, order)
        if before not in WORKING and wanted in WORKING:
            canceling.cancel_unwanted(actor, order, fact)
    elif changes:
        Order.objects.filter(pk=order.pk).update(**changes)


def _is_stale(actor: Actor, order: Order, wanted: str, report: Report) -> bool:
    """An older fact that arrives late proves nothing; one that revives an ended order is drift, too."""
    older = order.reported_at is not None and report.as_of < order.reported_at
    if older:
        # Not the newest word any more: the same fact, told later, must not pass for a repetition.
        Report.objects.filter(pk=report.pk).update(problem="older than what is known")
        return True
    said_more = (order.status, wanted) == (OrderStatus.CANCELED, OrderStatus.EXPIRED)
    if said_more or order.status not in ENDED | {OrderStatus.PENDING}:
        return False
    if report.source == Report.Source.REPLY or order.status == OrderStatus.FILLED:
        return True
    evidence = {"from": order.status, "to": wanted, "record": report.record}
    drift.found(
        actor,
        Drift.Kind.IMPOSSIBLE_REPORT,
        f"order:{order.pk}:{order.status}-{wanted}",
        account=order.ticket.account,
        order=order,
        evidence=evidence,
    )
    return False


def _apply_execution(actor: Actor, report: Report, fact: ExecutionReport) -> bool:
    account = Account.objects.filter(login=report.login, broker_account_id=fact.broker_account_id).first()
    if account is None:
        raise LookupError("execution of an account that this login does not list")
    order = _find_order(report, fact.broker_order_id or "", fact.client_order_id)
    if order is None and (_something_is_on_its_way(report) or wire.may_be_an_exits(account, fact)):
        return False
    known = BrokerInstrument.objects.filter(
        broker=report.login.broker, broker_instrument_id=fact.broker_instrument_id
    ).first()
    execution, is_new = Execution.objects.get_or_create(
        account=account,
        execution_id=fact.execution_id,
        defaults={
            "order": order,
            "instrument_id": known.instrument_id if known else None,
            "broker_instrument_id": fact.broker_instrument_id,
            "side": fact.side,
            "quantity": fact.quantity,
            "price": fact.price,
            "commission": fact.commission,
            "executed_at": fact.executed_at,
        },
    )
    if fact.commission is not None and execution.commission != fact.commission:
        Execution.objects.filter(pk=execution.pk).update(commission=fact.commission)
    if is_new:
        drift.record_execution(actor, execution, report, fact)
        _after_execution(actor, report, execution, order)
    return True


def _after_execution(actor: Actor, report: Report, execution: Execution, order: Order | None) -> None:
    if order is None:
        return
    _settle_attempt(actor, order)
    total = order.executions.aggregate(total=Sum("quantity"))["total"] or Decimal(0)
    if total <= order.filled_quantity and order.status == OrderStatus.FILLED:
        return
    filled = max(total, order.filled_quantity)
    wanted = OrderStatus.FILLED if filled >= amended.most(order) else OrderStatus.PARTIALLY_FILLED
    if order.status in {OrderStatus.PENDING_CANCEL, *ENDED} and wanted == OrderStatus.PARTIALLY_FILLED:
        Order.objects.filter(pk=order.pk).update(filled_quantity=filled, filled_at=Now())
        return
    fact = OrderReport(broker_order_id=order.broker_order_id, state=None)
    _move(actor, order, wanted, filled, report, fact)


def _find_order(report: Report, broker_order_id: str, client_order_id: str | None) -> Order | None:
    """By our own id first, then by the broker's. An order that was sent alone has its attempt's id."""
    login = report.login_id
    if client_order_id:
        ours = {"client_order_id": client_order_id}
        of_leg, of_attempt = together(_OF_LEG.asked(**ours), _OF_ATTEMPT.asked(**ours))
        for found in (*of_leg, *of_attempt):
            return _locked(login, found)
    if broker_order_id in {"", "-1"}:
        return None
    by_theirs = _BY_THEIR_ID.first(login=login, broker_order_id=broker_order_id)
    return _locked(login, by_theirs) if by_theirs is not None else None


def _locked(login_id: UUID, order: Order) -> Order | None:
    """It as it is now, its ticket locked before it as everybody does, so that no cancel ends in a deadlock."""
    _, rows = together(
        _LOCKED_TICKET.asked(ticket=order.ticket_id), _LOCKED.asked(order=order.pk, login=login_id)
    )
    return rows[0] if rows else None


def _find_exit(report: Report, fact: OrderReport) -> Order | None:
    """An exit that waits for its entry carries no id of ours: it is known by its parent and its terms."""
    if fact.client_order_id or not fact.parent_order_id:
        return None
    entry = _find_order(report, fact.parent_order_id, None)
    leg = wire.leg_of(fact, wire.exits_of(entry)) if entry is not None and entry.ticket.group else None
    return _locked(report.login_id, leg) if leg is not None else None


def _unmatched_order(actor: Actor, report: Report, fact: OrderReport) -> bool:
    if _something_is_on_its_way(report) or (fact.parent_order_id and wire.is_any_in_doubt(report.login_id)):
        return False
    # A bare delta says nothing of the order; the next poll brings its full row (ibkr-web-api.md §7.3).
    if report.source == Report.Source.POLL or fact.total_quantity is not None:
        account = Account.objects.filter(
            login=report.login, broker_account_id=fact.broker_account_id or ""
        ).first()
        drift.found(
            actor,
            Drift.Kind.UNKNOWN_ORDER,
            f"{report.login_id}:{fact.broker_order_id}",
            account=account,
            cause=guessing.of_stranger(fact.client_order_id),
            evidence={"record": report.record},
        )
    return True


def _something_is_on_its_way(report: Report) -> bool:
    """An attempt of this login is with the broker: its first reports may be ahead of its answer."""
    return Attempt.objects.filter(ticket__account__login=report.login, status=AttemptStatus.SENT).exists()


def _settle_attempt(actor: Actor, order: Order) -> None:
    """A report about an order settles the attempt that was in doubt about it; about a group, when none is missing."""
    attempt = _IN_DOUBT.first(ticket=order.ticket_id)
    if attempt is not None and not wire.missing(attempt).exclude(pk=order.pk).exists():
        transition(
            attempt,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.settled",
            outcome=attempt.outcome | {"found": True},
            settled_at=Now(),
        )


def end_or_revive_ticket(actor: Actor, order: Order) -> None:
    """Bring a ticket to what its orders say, within the caller's transaction."""
    ticket = order.ticket
    (now,), left = together(_STATUS.asked(ticket=ticket.pk), _LEFT.asked(ticket=ticket.pk))
    ticket.status, ticket.request_id = now.status, now.request_id
    is_over = not left
    lives = not is_over or order.status == OrderStatus.FILLED
    if ticket.status != TicketStatus.SENT and lives and not (is_over and ticket.status == TicketStatus.DONE):
        if ticket.request is not None:
            decisions.withdraw(ticket.request, actor=actor)
        transition(
            ticket, TicketStatus.SENT, moves=TICKET, actor=actor, event="ticket.revived", ended_at=None
        )
    if is_over and ticket.status == TicketStatus.SENT:
        transition(ticket, TicketStatus.DONE, moves=TICKET, actor=actor, event="ticket.ended", ended_at=Now())


def _is_another(order: Order, fact: OrderReport) -> bool:
    """A ticket's earlier sending may go live beside its later one; the row speaks for one of them."""
    theirs = fact.broker_order_id not in {"", "-1"} and bool(order.broker_order_id)
    return theirs and fact.broker_order_id != order.broker_order_id


def _second_order(actor: Actor, order: Order, report: Report, fact: OrderReport) -> None:
    drift.found(
        actor,
        Drift.Kind.UNKNOWN_ORDER,
        f"{report.login_id}:{fact.broker_order_id}",
        account=order.ticket.account,
        order=order,
        evidence={"record": report.record, "beside": order.broker_order_id},
    )
