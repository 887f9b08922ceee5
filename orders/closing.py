"""Closing what the broker says that we hold: no approval, never more than the position. Services and doors call it."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from brokers.base import Broker, OrderType, Side
from brokers.models import Account
from brokers.reports import notify_orders
from cerbero import proofs
from cerbero.access import Actor
from cerbero.errors import BrokerError, NothingToClose, PositionUnknown
from orders import trading
from orders.books import agrees
from orders.canonical import plain
from orders.facts import Facts, find_account
from orders.groups.verdicts import open_quantity
from orders.lifecycle import WORKING, Group, OrderStatus, TicketStatus
from orders.models import Order, Ticket
from orders.tickets import Proposal, build, insert, once, require_live


def positions_now(broker: Broker, account: Account) -> dict[str, Decimal]:
    """What the broker holds at this moment, by its ids; negative is short. Raises PositionUnknown."""
    try:
        rows = broker.positions(account.broker_account_id)
    except BrokerError as problem:
        raise PositionUnknown(broker=problem.code) from problem
    held: dict[str, Decimal] = {}
    for row in rows:
        held[row.broker_instrument_id] = held.get(row.broker_instrument_id, Decimal(0)) + row.quantity
    return {broker_instrument_id: quantity for broker_instrument_id, quantity in held.items() if quantity}


def may_close(actor: Actor, account: str) -> Account:
    """The account, where this actor may close now. Raises PermissionMissing, NotFound, TradingHalted, LiveTradingDenied."""
    if actor.is_person:
        trading.require_permission(actor, "orders.close_position")
    row = find_account(actor, account)
    state = trading.worst_state(row, actor.id if actor.is_bot else None)
    trading.require_open(state, reduce_only=True, by_person=actor.is_person)
    require_live(row, is_persons_close=actor.is_person)
    return row


def close_held(
    *,
    actor: Actor,
    facts: Facts,
    held: Decimal,
    idempotency_key: str,
    quantity: Decimal | None = None,
    reason: str = "",
) -> Ticket:
    """Close what the broker just said is held of one instrument; the same key returns the same ticket."""
    account, symbol = facts.account, facts.instrument.symbol
    proposal = Proposal(
        account=account.broker_account_id,
        symbol=symbol,
        side=Side.SELL if held > 0 else Side.BUY,
        quantity=None,
        order_type=OrderType.MARKET,
        idempotency_key=idempotency_key,
        reason=reason,
    )

    def allow() -> Ticket:
        left = closable(account, facts, held)
        size = left if quantity is None else min(left, quantity)
        if size <= 0:
            raise NothingToClose(position=plain(held), symbol=symbol)
        return _allow_close(actor, replace(facts, position=held), replace(proposal, quantity=size))

    return once(actor, account, proposal, allow)


def closable(account: Account, facts: Facts, held: Decimal, *, but: UUID | None = None) -> Decimal:
    """How much may still be closed: the position less exits that are working or in doubt (gates.md §8).

    Exits whose entry has not filled reserve nothing, where our book and the broker agree that it has not.
    """
    exits = Order.objects.filter(
        Q(status__in=[*WORKING, OrderStatus.SUBMITTED])
        | Q(status=OrderStatus.PENDING, ticket__reduce_only=True),
        ticket__account=account,
        instrument=facts.instrument,
        side=Side.SELL if held > 0 else Side.BUY,
    )
    if but is not None:
        exits = exits.exclude(ticket_id=but)
    reserved: dict[UUID, Decimal] = {}
    for order in exits.select_related("ticket"):
        left = order.quantity - order.filled_quantity
        # Of a group's exits one cancels the other.
        before = reserved.get(order.ticket_id, Decimal(0))
        reserved[order.ticket_id] = max(before, left) if order.ticket.group else before + left
    opened = _opened(reserved) if reserved and agrees(account, facts.broker_instrument_id, held) else {}
    reserved |= {pk: min(reserved[pk], quantity) for pk, quantity in opened.items()}
    return abs(held) - sum(reserved.values(), Decimal(0))


def _opened(tickets: Iterable[UUID]) -> dict[UUID, Decimal]:
    """What the entry of each of these groups has opened and no exit of it has closed."""
    led = Ticket.objects.filter(pk__in=list(tickets), group__in=[Group.BRACKET, Group.OTO])
    return {
        ticket.pk: max(open_quantity(list(ticket.orders.all())), Decimal(0))
        for ticket in led.prefetch_related("orders")
    }


def proof_of(ticket: Ticket, broker_instrument_id: str) -> str:
    """That this program made the close, for whom, and of what at the broker: a row written past it sends nothing."""
    body = {
        "ticket": str(ticket.pk),
        "digest": ticket.digest,
        "proposer": [str(ticket.bot_id or ""), str(ticket.person_id or "")],
        "broker_instrument_id": broker_instrument_id,
    }
    return proofs.of_body("close", body)


def _allow_close(actor: Actor, facts: Facts, proposal: Proposal) -> Ticket:
    ticket, _ = build(actor, facts, proposal, reduce_only=True)
    ticket.proof = proof_of(ticket, facts.broker_instrument_id)
    with transaction.atomic(durable=True):
        ticket.status, ticket.allowed_at = TicketStatus.ALLOWED, Now()
        insert(actor, ticket, "ticket.allowed")
        notify_orders()
    return ticket
