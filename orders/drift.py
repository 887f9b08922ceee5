"""Differences between the broker and us: recorded once each, loudly, for a person."""

import logging
from typing import Any

from audit.services import record
from brokers.base import OrderReport
from brokers.models import Account, Report
from cerbero.access import Actor
from orders.canonical import plain
from orders.models import Drift, Execution, Order

log = logging.getLogger(__name__)


def found(
    actor: Actor,
    kind: str,
    subject: str,
    *,
    evidence: dict[str, Any],
    account: Account | None = None,
    order: Order | None = None,
) -> None:
    """Keep one case a subject; seeing it again changes nothing."""
    _, is_new = Drift.objects.get_or_create(
        kind=kind, subject=subject[:64], defaults={"account": account, "order": order, "evidence": evidence}
    )
    if is_new:
        log.warning("drift", extra={"kind": kind, "subject": subject})
        record(
            "drift.found", actor=actor, subject_kind="drift", subject_id=subject[:64], details={"kind": kind}
        )


def compare_terms(actor: Actor, order: Order, fact: OrderReport) -> None:
    """What the broker works against what was approved: side, size and prices (gates.md §8)."""
    pairs = {
        "side": (order.side, fact.side),
        "quantity": (order.quantity, fact.total_quantity),
        "limit_price": (order.limit_price, fact.limit_price if order.limit_price is not None else None),
    }
    differs = {
        name: {"ours": str(ours), "theirs": str(theirs)}
        for name, (ours, theirs) in pairs.items()
        if theirs is not None and ours != theirs
    }
    if differs:
        subject = f"{order.pk}:{'/'.join(sorted(differs))}"
        evidence = {"differs": differs, "broker_order_id": order.broker_order_id}
        found(
            actor,
            Drift.Kind.TERMS_DIFFER,
            subject,
            account=order.ticket.account,
            order=order,
            evidence=evidence,
        )


def record_execution(actor: Actor, execution: Execution, report: Report) -> None:
    """Enter a fill into the trail; one that no order of ours explains is drift."""
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
    if execution.order_id is None:
        found(
            actor,
            Drift.Kind.UNKNOWN_EXECUTION,
            execution.execution_id,
            account=execution.account,
            evidence={"record": report.record},
        )
