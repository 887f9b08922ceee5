"""Differences between the broker and us: recorded once each, loudly, for a person."""

import logging
from decimal import Decimal
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.base import ExecutionReport, OrderReport, OrderType
from brokers.models import Account, BrokerInstrument, Report
from cerbero import plain as json_form
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given
from cerbero.errors import StateConflict
from cerbero.lifecycle import transition
from cerbero.models import Environment
from orders import guessing, trading
from orders.canonical import plain
from orders.groups.wire import may_shrink
from orders.lifecycle import DRIFT
from orders.models import Drift, Execution, Order, TradingState
from orders.notices.alerting import alert
from orders.order_types import FIELDS, FORMS

log = logging.getLogger(__name__)

# What a report that shows the approved terms explains, and our instrument by the broker's own id.
_EXPLAINED = Compiled(
    lambda: Drift.objects.filter(
        order=Given("order"),
        kind__in=(Drift.Kind.TERMS_DIFFER, Drift.Kind.ORDER_MISSING),
        status=Drift.Status.OPEN,
    )
)
_OURS = Compiled(
    lambda: BrokerInstrument.objects.filter(
        broker=Given("broker"), broker_instrument_id=Given("theirs")
    ).values_list("instrument_id", flat=True)
)

# What takes a live account to reducing: units that nobody here can explain.
RESTRAINING = (Drift.Kind.UNKNOWN_EXECUTION, Drift.Kind.LIQUIDATION_TRADE, Drift.Kind.POSITION_DIFFERENCE)
_UNRESTRAINED = Compiled(
    lambda: (
        Drift.objects.filter(
            status=Drift.Status.OPEN, kind__in=RESTRAINING, restrained_at=None, account__isnull=False
        )
        .exclude(account__environment=Environment.PAPER)
        .select_related("account")
    )
)
PAGE = "/admin/drift/"


def found(
    actor: Actor,
    kind: str,
    subject: str,
    *,
    evidence: dict[str, Any],
    account: Account | None = None,
    **more: Any,
) -> Drift:
    """Keep one case a subject and tell people; seeing it again changes nothing. Within the caller's transaction."""
    defaults = {"account": account, "evidence": evidence, **more}
    case, is_new = Drift.objects.get_or_create(kind=kind, subject=subject[:64], defaults=defaults)
    if is_new:
        log.warning("drift", extra={"kind": kind, "subject": subject})
        details = {"kind": kind, "cause": case.cause, "amount": plain(case.amount)}
        record("drift.found", actor=actor, subject_kind="drift", subject_id=subject[:64], details=details)
        _tell(case)
    return case


def resolve(actor: Actor, case: Drift, why: str) -> None:
    """A later fact explains it: nothing is left for a person to decide."""
    transition(
        case,
        Drift.Status.RESOLVED,
        moves=DRIFT,
        actor=actor,
        event="drift.resolved",
        details={"why": why},
        settled_at=Now(),
        reason=why[:500],
    )


def restrain(actor: Actor) -> int:
    """Let a live account with unexplained units do no more than reduce; once a case, a person puts it back."""
    cases = _UNRESTRAINED.rows()
    for case in cases:
        with transaction.atomic(durable=True):
            _reduce(actor, case)
            Drift.objects.filter(pk=case.pk).update(restrained_at=Now())
    return len(cases)


def compare_terms(actor: Actor, order: Order, fact: OrderReport) -> None:
    """What the broker works against what was approved: instrument, side, size, prices, time (gates.md §8)."""
    differs = {
        name: {"ours": str(ours), "theirs": str(theirs)}
        for name, (ours, theirs) in _terms(order, fact).items()
        if theirs is not None and ours != theirs
    }
    if differs:
        digest = sha256(json_form.dumps(differs).encode()).hexdigest()[:20]
        found(
            actor,
            Drift.Kind.TERMS_DIFFER,
            f"{order.pk}:{digest}",
            account=order.ticket.account,
            order=order,
            cause=Drift.Cause.MADE_ELSEWHERE,
            evidence={"differs": differs, "broker_order_id": order.broker_order_id},
        )
    elif fact.total_quantity is not None:
        for case in _EXPLAINED.rows(order=order.pk):
            resolve(actor, case, "the broker shows the order with the approved terms")


def record_execution(actor: Actor, execution: Execution, report: Report, fact: ExecutionReport) -> None:
    """Enter a fill into the trail; one that no order of ours explains, or that the broker forced, is drift."""
    details = {
        "execution_id": execution.execution_id,
        "side": execution.side,
        "quantity": plain(execution.quantity),
        "price": plain(execution.price),
        "source": report.source,
    }
    record(
        "execution.recorded", actor=actor, subject_kind="execution", subject_id=execution.pk, details=details
    )
    if execution.order_id is not None and not fact.is_liquidation:
        return
    forced = fact.is_liquidation
    cause = Drift.Cause.LIQUIDATION if forced else guessing.of_stranger(fact.client_order_id)
    found(
        actor,
        Drift.Kind.LIQUIDATION_TRADE if forced else Drift.Kind.UNKNOWN_EXECUTION,
        execution.execution_id,
        account=execution.account,
        order=execution.order,
        execution=execution,
        cause=cause,
        about=execution.broker_instrument_id,
        amount=execution.quantity if execution.side == "buy" else -execution.quantity,
        evidence={"record": report.record},
    )


def _terms(order: Order, fact: OrderReport) -> dict[str, tuple[Any, Any]]:
    """Ours and theirs by name; theirs is None where a row does not say."""
    instrument: Any = fact.broker_instrument_id
    if instrument is not None:
        known = _OURS.first(broker=order.ticket.account.login.broker, theirs=instrument)
        instrument = known or instrument
    return {
        "instrument": (order.instrument_id, instrument),
        "side": (order.side, fact.side),
        "quantity": (order.quantity, _total(order, fact)),
        "order_type": (order.order_type, _type(order, fact.order_type)),
        **_prices(order, fact),
        "time_in_force": (order.time_in_force, fact.time_in_force),
        "outside_hours": (order.outside_hours, fact.outside_hours),
    }


def _total(order: Order, fact: OrderReport) -> Decimal | None:
    """Of two orders of which one cancels the other the broker takes off what the other filled: that is as approved."""
    total = fact.total_quantity
    return None if total is not None and may_shrink(order) and total < order.quantity else total


def _prices(order: Order, fact: OrderReport) -> dict[str, tuple[Any, Any]]:
    """What the broker moves with the market is not held against what was approved; how far it trails is."""
    moves = {"limit_price", "stop_price"} if FORMS[OrderType(order.order_type)].moves else set()
    return {
        name: (ours, _price(ours, getattr(fact, name)))
        for name in FIELDS
        if name not in moves
        for ours in (getattr(order, name),)
    }


def _type(order: Order, theirs: str | None) -> str | None:
    """None for a word of the broker's that we do not know, and for what a triggered order became."""
    known = theirs in {kind.value for kind in OrderType}
    return theirs if known and theirs != FORMS[OrderType(order.order_type)].becomes else None


def _price(ours: Decimal | None, theirs: Decimal | None) -> Decimal | None:
    """A row that carries a price where we have none shows it for the market's sake."""
    return theirs if ours is not None else None


def _reduce(actor: Actor, case: Drift) -> None:
    account = case.account
    reason = f"drift: {case.get_kind_display()} {case.subject}, not explained yet"
    try:
        trading.reduce_within(actor, TradingState.Scope.ACCOUNT, str(case.account_id), reason)
    except StateConflict:
        # Halted already, which is stricter.
        return
    alert(
        f"reduced:{case.pk}",
        f"{account} may only reduce: {case.get_kind_display()}",
        f"{reason}. Adopt or ignore it, then resume the account.",
        path=PAGE,
        is_urgent=True,
    )


def _tell(case: Drift) -> None:
    where = case.account or "an account that is not known"
    alert(
        f"drift:{case.pk}",
        f"Drift on {where}: {case.get_kind_display()} {case.subject}",
        f"It looks like: {case.get_cause_display()}.\nAdopt it or ignore it, with a reason.",
        path=f"{PAGE}#d-{case.pk}",
        is_urgent=case.kind == Drift.Kind.LIQUIDATION_TRADE,
    )
