"""Asking the broker: orders, executions, positions and money.

Broker truth wins for facts; nothing is invented. What is in doubt is settled by each round (orders/doubts.py).
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from brokers.base import Broker, OrderReport, PositionRecord
from brokers.models import Account, BrokerInstrument, Login, Report
from brokers.reports import record_reports
from cerbero import failpoints
from cerbero.access import Actor
from orders import breaches, doubts
from orders.doubts import GRACE
from orders.figures import CODES, store_figures
from orders.lifecycle import WORKING, AttemptStatus
from orders.limits import reread
from orders.models import Attempt, ChangeAttempt, Order, Position

log = logging.getLogger(__name__)

# Whoever sent longer ago is gone, and its question with it.
CONVERSATION_MAX = timedelta(seconds=15)


def reconcile(*, actor: Actor, login: Login, broker: Broker, grace: timedelta = GRACE) -> list[OrderReport]:
    """One round for one login; returns the broker's full list of orders.

    Raises BrokerError when the broker cannot be read; then nothing is concluded.
    """
    asked_at = timezone.now()
    failpoints.reach("reconcile.before_asking")
    with doubts.failures_kept(login):
        listed = broker.open_orders()
        executions = broker.executions()
    failpoints.reach("reconcile.listed")
    record_reports(login, Report.Source.POLL, [(row, None) for row in listed], as_of=asked_at)
    record_reports(login, Report.Source.POLL, [(row, None) for row in executions], as_of=asked_at)
    _ask_for_the_missing(login, broker, listed)
    for account in login.accounts.exclude(listed_at=None):
        store_positions(account, broker.positions(account.broker_account_id), asked_at)
        store_figures(actor, account, broker, asked_at)
        breaches.watch_day(reread(account))
    doubts.settle_absent(actor, login, broker, asked_at, grace)
    doubts.settle_changes(actor, login, broker, listed, grace)
    return listed


def _ask_for_the_missing(login: Login, broker: Broker, listed: list[OrderReport]) -> None:
    """A working order that the day's list lacks is asked for by its id (gates.md §8, overnight)."""
    seen = {row.broker_order_id for row in listed}
    working = Order.objects.filter(ticket__account__login=login, status__in=WORKING).exclude(
        broker_order_id=""
    )
    for broker_order_id in working.exclude(broker_order_id__in=seen).values_list(
        "broker_order_id", flat=True
    ):
        asked_at = timezone.now()
        row = broker.order(broker_order_id)
        if row is not None:
            record_reports(login, Report.Source.POLL, [(row, None)], as_of=asked_at)


def store_positions(account: Account, rows: list[PositionRecord], as_of: datetime) -> None:
    """Replace what we knew of an account's holdings by what the broker says, in one transaction."""
    broker = account.login.broker
    ids = dict(
        BrokerInstrument.objects.filter(
            broker=broker, broker_instrument_id__in=[row.broker_instrument_id for row in rows]
        ).values_list("broker_instrument_id", "instrument_id")
    )
    fields = ["symbol", "instrument", "quantity", "average_price", "market_price", "market_value"]
    fields += ["asset_class", "currency", "as_of"]
    positions = [
        Position(
            account=account,
            broker_instrument_id=row.broker_instrument_id,
            symbol=row.symbol[:64],
            instrument_id=ids.get(row.broker_instrument_id),
            quantity=row.quantity,
            average_price=row.average_price,
            market_price=row.market_price,
            market_value=row.market_value,
            asset_class=CODES.get(row.asset_class, row.asset_class[:8]),
            currency=row.currency,
            as_of=as_of,
        )
        for row in rows
    ]
    with transaction.atomic():
        account.positions.exclude(
            broker_instrument_id__in=[row.broker_instrument_id for row in rows]
        ).delete()
        Position.objects.bulk_create(
            positions,
            update_conflicts=True,
            unique_fields=["account", "broker_instrument_id"],
            update_fields=fields,
        )


def is_conversing(login: Login) -> bool:
    """Whether an order is being placed now: any other call about orders would void the broker's question (§6.4)."""
    recent = Now() - CONVERSATION_MAX
    sending = {"status": AttemptStatus.SENT, "sent_at__gt": recent}
    amends = ChangeAttempt.objects.filter(account__login=login, kind=ChangeAttempt.Kind.AMEND, **sending)
    return Attempt.objects.filter(ticket__account__login=login, **sending).exists() or amends.exists()
