"""Asking the broker: orders, executions, positions and money; and settling what is in doubt.

Broker truth wins for facts; nothing is invented. No finite wait proves absence, so it is asked for
several times over a grace, and then said.
"""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from brokers.accounts import store_currency
from brokers.base import Broker, OrderReport, PositionRecord
from brokers.models import Account, BrokerInstrument, Login, Report
from brokers.reports import record_reports
from cerbero.access import Actor
from cerbero.errors import PolicyRefused, PolicyUnreadable
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from orders.facts import as_seen, gather_for, leg_of
from orders.lifecycle import ATTEMPT, ORDER, TICKET, WORKING, AttemptStatus, OrderStatus, TicketStatus
from orders.models import Attempt, Balance, Order, Position
from orders.risk import check_all
from orders.tickets import ask_people, deny

log = logging.getLogger(__name__)

# Longer than the broker's worst delay between taking an order and listing it.
GRACE = timedelta(seconds=60)
ABSENT_TIMES = 3
# Whoever sent longer ago is gone, and its question with it.
CONVERSATION_MAX = timedelta(seconds=15)


def reconcile(*, actor: Actor, login: Login, broker: Broker, grace: timedelta = GRACE) -> list[OrderReport]:
    """One round for one login; returns the broker's full list of orders.

    Raises BrokerError when the broker cannot be read; then nothing is concluded.
    """
    asked_at = timezone.now()
    listed = broker.open_orders()
    executions = broker.executions()
    record_reports(login, Report.Source.POLL, [(row, None) for row in listed], as_of=asked_at)
    record_reports(login, Report.Source.POLL, [(row, None) for row in executions], as_of=asked_at)
    _ask_for_the_missing(login, broker, listed)
    for account in login.accounts.exclude(listed_at=None):
        store_positions(account, broker.positions(account.broker_account_id), asked_at)
        _store_balance(actor, account, broker, asked_at)
    settle_absent(actor, login, asked_at, grace)
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
    fields = ["symbol", "instrument", "quantity", "average_price", "market_price", "currency", "as_of"]
    positions = [
        Position(
            account=account,
            broker_instrument_id=row.broker_instrument_id,
            symbol=row.symbol[:64],
            instrument_id=ids.get(row.broker_instrument_id),
            quantity=row.quantity,
            average_price=row.average_price,
            market_price=row.market_price,
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


def _store_balance(actor: Actor, account: Account, broker: Broker, as_of: datetime) -> None:
    summary = broker.summary(account.broker_account_id)
    store_currency(account, summary.currency, actor)
    Balance.objects.update_or_create(
        account=account,
        defaults={
            "net_liquidation": summary.net_liquidation,
            "available_funds": summary.available_funds,
            "initial_margin": summary.initial_margin,
            "as_of": as_of,
        },
    )


def is_conversing(login: Login) -> bool:
    """Whether an order is being placed now: any other call about orders would void the broker's question (§6.4)."""
    recent = Now() - CONVERSATION_MAX
    return Attempt.objects.filter(
        ticket__account__login=login, status=AttemptStatus.SENT, sent_at__gt=recent
    ).exists()


def settle_absent(actor: Actor, login: Login, asked_at: datetime, grace: timedelta) -> None:
    """Count one absence for each attempt in doubt since before we asked; conclude after enough of them.

    An attempt whose order was found is settled by the reports instead, which may still wait in the inbox:
    while any of this login's do, nothing is counted.
    """
    doubted = Attempt.objects.filter(
        ticket__account__login=login, status=AttemptStatus.IN_DOUBT, sent_at__lt=asked_at
    )
    for attempt in doubted.select_related("ticket__account__login", "ticket__request"):
        if _has_reports(login, attempt):
            continue
        Attempt.objects.filter(pk=attempt.pk).update(absent_count=F("absent_count") + 1, absent_at=asked_at)
        if (
            attempt.absent_count + 1 >= ABSENT_TIMES
            and attempt.sent_at
            and asked_at - attempt.sent_at >= grace
        ):
            _never_arrived(actor, attempt)


def _has_reports(login: Login, attempt: Attempt) -> bool:
    return Report.objects.filter(login=login, record__client_order_id=attempt.client_order_id).exists()


def _never_arrived(actor: Actor, attempt: Attempt) -> None:
    ticket = attempt.ticket
    with transaction.atomic(durable=True):
        transition(
            attempt,
            AttemptStatus.SETTLED,
            moves=ATTEMPT,
            actor=actor,
            event="attempt.settled",
            outcome=attempt.outcome | {"found": False, "asked": attempt.absent_count + 1},
            settled_at=Now(),
        )
        if attempt.outcome.get("refused") and not ticket.orders.exclude(cancel_requested_at=None).exists():
            _back_to_people(actor, attempt)
        else:
            deny(actor, ticket, "never_arrived", {"client_order_id": attempt.client_order_id})


def _back_to_people(actor: Actor, attempt: Attempt) -> None:
    """We answered no to the broker's question; people see its words, and a yes answers them in advance."""
    ticket = attempt.ticket
    order = ticket.first_order
    transition(order, OrderStatus.PENDING, moves=ORDER, actor=actor, event="order.returned")
    facts = gather_for(ticket.account, order)
    checks = check_all(leg_of(order, facts.instrument), facts.market, facts.bounds)
    seen = as_seen(facts, order, checks) | {
        "questions": _all_questions(attempt),
        "asked_again": "broker_asked",
    }
    try:
        request: DecisionRequest = ask_people(actor, ticket, facts, order, seen)
    except (PolicyRefused, PolicyUnreadable) as no:
        deny(actor, ticket, no.code, no.details)
        return
    transition(
        ticket,
        TicketStatus.PROPOSED,
        moves=TICKET,
        actor=actor,
        event="ticket.proposed_again",
        details={"why": "broker_asked"},
        request=request,
        allowed_at=None,
        policy_version=ticket.policy_version,
        policy_rule=ticket.policy_rule,
    )


def _all_questions(attempt: Attempt) -> list[dict[str, str]]:
    """What the broker asked this time and before: nobody is asked the same twice for one ticket."""
    before = attempt.ticket.request.facts.get("questions", []) if attempt.ticket.request else []
    asked = {question["id"]: question for question in [*before, *attempt.outcome.get("questions", [])]}
    return list(asked.values())
