"""A database that was restored starts halted: what was sent after the backup is still at the broker (gates.md §8).

Its own rows know nothing of it; the anchor outside does. Reconciliation then shows what the broker has as drift,
people adopt it by reference, and two of them resume.
"""

import logging
from pathlib import Path

from django.db import transaction

from audit.models import Entry
from audit.restored import Lost, lost_head
from audit.services import record
from cerbero.access import Actor
from orders import trading
from orders.models import TradingState
from orders.notices.alerting import alert

log = logging.getLogger(__name__)

EVENT = "restore.found"


def hold_if_behind(actor: Actor, anchor: Path) -> Lost | None:
    """Halt everything, once for each head that was lost; returns that head. Before anything may be sent.

    Raises OSError when the anchor is there and cannot be read.
    """
    lost = lost_head(anchor)
    if lost is None or Entry.objects.filter(event=EVENT, details__digest=lost.digest).exists():
        return None
    everything = TradingState.Scope.EVERYTHING
    reason = f"restored: the database does not hold the anchored head {lost.position}"
    log.error(reason)
    trading.ensure_states()
    with transaction.atomic(durable=True):
        trading.stop_new(actor=actor, scope=everything, scope_id="", reason=reason)
        TradingState.objects.filter(scope=everything).update(needs_two=True)
        details = {"position": lost.position, "digest": lost.digest}
        record(EVENT, actor=actor, subject_kind="tradingstate", subject_id=everything, details=details)
        alert(
            f"restored:{lost.digest[:32]}",
            "Everything is halted: the database was restored or cut",
            f"{reason}. Look at the drift, adopt what the broker shows; two people resume.",
            path="/admin/drift/",
            is_urgent=True,
        )
    return lost
