"""Closing what the broker says that we hold: no approval, never more than the position."""

from decimal import Decimal
from uuid import UUID

from django.db.models import Q

from brokers.base import Broker, Side
from brokers.models import Account
from cerbero import proofs
from cerbero.errors import BrokerError, PositionUnknown
from orders.facts import Facts
from orders.lifecycle import WORKING, OrderStatus
from orders.models import Order, Ticket


def position_now(broker: Broker, account: Account, broker_instrument_id: str) -> Decimal:
    """The broker's position at this moment; negative is short. Raises PositionUnknown."""
    try:
        positions = broker.positions(account.broker_account_id)
    except BrokerError as problem:
        raise PositionUnknown(broker=problem.code) from problem
    held = (row.quantity for row in positions if row.broker_instrument_id == broker_instrument_id)
    return sum(held, Decimal(0))


def closable(account: Account, facts: Facts, held: Decimal, *, but: UUID | None = None) -> Decimal:
    """How much may still be closed: the position less exits that are working or in doubt (gates.md §8)."""
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
    return abs(held) - sum(reserved.values(), Decimal(0))


def proof_of(ticket: Ticket, broker_instrument_id: str) -> str:
    """That this program made the close, for whom, and of what at the broker: a row written past it sends nothing."""
    body = {
        "ticket": str(ticket.pk),
        "digest": ticket.digest,
        "proposer": [str(ticket.bot_id or ""), str(ticket.person_id or "")],
        "broker_instrument_id": broker_instrument_id,
    }
    return proofs.of_body("close", body)
