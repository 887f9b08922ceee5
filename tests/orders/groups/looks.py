"""A group as the ledger has it."""

from decimal import Decimal
from typing import Any

from orders.models import Order, Ticket


def legs(ticket: Ticket) -> list[Order]:
    return list(Order.objects.filter(ticket=ticket).order_by("number"))


def statuses(ticket: Ticket) -> tuple[str, ...]:
    return tuple(leg.status for leg in legs(ticket))


def state(ticket: Ticket) -> str:
    ticket.refresh_from_db()
    return ticket.group_state


def near(floor: Any, factor: str = "0.98") -> Decimal:
    """A limit below the market, so that it rests; above it with a factor above 1."""
    return (floor.near() * Decimal(factor)).quantize(Decimal("0.01"))


def look(floor: Any) -> None:
    """One pass of the loop with the broker asked before and after."""
    floor.turn()
    floor.reconcile()
    floor.turn()
