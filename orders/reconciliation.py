"""Asking the broker: orders, executions, positions and money.

Broker truth wins for facts; nothing is invented. What is in doubt is settled by each round (orders/doubts.py).
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from brokers.answers import EXECUTIONS, ORDERS
from brokers.base import Broker, OrderReport, PositionRecord
from brokers.models import Account, BrokerInstrument, Login, Report
from brokers.reports import record_reports
from cerbero import failpoints
from cerbero.access import Actor
from orders import books, breaches, doubts, drift
from orders.books import Said
from orders.doubts import GRACE
from orders.figures import CODES, store_figures
from orders.lifecycle import WORKING, AttemptStatus
from orders.limits import reread
from orders.models import Attempt, Book, ChangeAttempt, Drift, Order, Position

log = logging.getLogger(__name__)

# Whoever sent longer ago is gone, and its question with it.
CONVERSATION_MAX = timedelta(seconds=15)
# How old the broker's word may get while nothing is open.
IDLE = timedelta(seconds=120)


def reconcile(
    *,
    actor: Actor,
    login: Login,
    broker: Broker,
    grace: timedelta = GRACE,
    keep: Callable[[], None] = lambda: None,
) -> list[OrderReport]:
    """One round over every account of a login; returns the broker's full list of orders.

    `keep` is called after each account: many of them take longer than a lease lasts. Raises BrokerError when
    the broker cannot be read; then nothing is concluded.
    """
    listed: list[OrderReport] = []
    for account in login.accounts.exclude(listed_at=None).order_by("broker_account_id"):
        listed += reconcile_account(actor=actor, account=account, broker=broker, grace=grace)
        keep()
    return listed


def reconcile_account(
    *, actor: Actor, account: Account, broker: Broker, grace: timedelta = GRACE, days: int = 1
) -> list[OrderReport]:
    """Orders, executions of the last `days`, holdings and money of one account, against ours.

    Returns the broker's list of its orders. Raises BrokerError; then nothing is concluded.
    """
    login, asked_at = account.login, timezone.now()
    failpoints.reach("reconcile.before_asking")
    with doubts.failures_kept(account):
        listed = broker.open_orders(account.broker_account_id)
        executions = broker.executions(days, account.broker_account_id)
    failpoints.reach("reconcile.listed")
    # Bots' reads of these are answered with this, and its time: asking beside us would only cost us our turn.
    ORDERS.keep(login, account.broker_account_id, listed, asked_at)
    EXECUTIONS.keep(login, f"{account.broker_account_id}:{days}", executions, asked_at)
    record_reports(login, Report.Source.POLL, [(row, None) for row in listed], as_of=asked_at)
    record_reports(login, Report.Source.POLL, [(row, None) for row in executions], as_of=asked_at)
    _ask_for_the_missing(actor, account, broker, listed)
    said = Said(broker.positions(account.broker_account_id), broker.cash(account.broker_account_id), asked_at)
    store_positions(account, said.positions, asked_at)
    store_figures(actor, account, broker, asked_at)
    breaches.watch_day(reread(account))
    books.compare(actor, account, said)
    doubts.settle_absent(actor, account, broker, asked_at, grace)
    doubts.settle_changes(actor, account, broker, listed, grace)
    Book.objects.filter(account=account).update(asked_at=asked_at, session_at=login.state_changed_at)
    return listed


def _ask_for_the_missing(actor: Actor, account: Account, broker: Broker, listed: list[OrderReport]) -> None:
    """A working order that the day's list lacks is asked for by its id (gates.md §8, overnight).

    At once in each session and where something is new; else every few minutes, since GTC orders rest for weeks.
    """
    seen, now = {row.broker_order_id for row in listed}, timezone.now()
    working = Order.objects.filter(ticket__account=account, status__in=WORKING).exclude(broker_order_id="")
    missing = working.exclude(broker_order_id__in=seen).select_related("ticket__account")
    book = Book.objects.filter(account=account).first()
    if book and book.missing_at and book.session_at == account.login.state_changed_at:
        is_new = Q(reported_at__gt=book.missing_at) | Q(cancel_requested_at__isnull=False)
        missing = missing.filter(is_new) if now - book.missing_at < IDLE else missing
    for order in missing:
        asked_at = timezone.now()
        row = broker.order(order.broker_order_id)
        if row is not None:
            record_reports(account.login, Report.Source.POLL, [(row, None)], as_of=asked_at)
        elif (order.reported_at is None or asked_at - order.reported_at > GRACE) and not _is_told_of(order):
            _unknown_to_the_broker(actor, order)
    Book.objects.filter(account=account).update(missing_at=now)


def _is_told_of(order: Order) -> bool:
    """Whether the inbox holds a word of its end that the ledger has not read yet."""
    rows = Report.objects.filter(login=order.ticket.account.login, kind=Report.Kind.ORDER)
    return rows.filter(subject=order.broker_order_id).waiting().exists()


def _unknown_to_the_broker(actor: Actor, order: Order) -> None:
    """Neither listed nor known by its id: no end is proven, so a person says what it is."""
    with transaction.atomic():
        drift.found(
            actor,
            Drift.Kind.ORDER_MISSING,
            f"{order.pk}:missing",
            account=order.ticket.account,
            order=order,
            evidence={"broker_order_id": order.broker_order_id, "status": order.status},
        )


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
