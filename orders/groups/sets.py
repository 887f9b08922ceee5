"""A group as its proposer sees it: every order with its part, whether it is naked, and one cancel for all of it."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db.models.functions import Now

from cerbero.access import Actor
from cerbero.errors import NotFound
from orders import services, trading
from orders.groups.verdicts import guard_of, open_quantity
from orders.lifecycle import ENDED, OPEN, Group, OrderStatus
from orders.models import Order, Ticket


@dataclass(frozen=True)
class OrderSet:
    """`open_quantity` is what its entry opened and none of its exits has closed; `is_naked` that no exit protects it."""

    ticket: Ticket
    orders: tuple[Order, ...]
    open_quantity: Decimal
    is_naked: bool


def find(actor: Actor, ticket_id: UUID) -> OrderSet:
    """A group of one's own; people see all. Raises NotFound, for a ticket of one order too."""
    mine = services.visible_orders(actor).filter(ticket_id=ticket_id).exclude(ticket__group="")
    rows = mine.select_related("instrument", "completes", "ticket__account", "ticket__request")
    orders = tuple(rows.order_by("number"))
    if not orders:
        raise NotFound(ticket_id=str(ticket_id))
    return _known(orders[0].ticket, orders)


def of(ticket: Ticket) -> OrderSet:
    """A group whose ticket is known, by the orders that were read with it."""
    return _known(ticket, tuple(sorted(ticket.orders.all(), key=lambda each: each.number)))


def _known(ticket: Ticket, orders: tuple[Order, ...]) -> OrderSet:
    if ticket.group == Group.OCO:
        return OrderSet(ticket, orders, Decimal(0), is_naked=False)
    left, guard = max(open_quantity(orders), Decimal(0)), guard_of(ticket.group, orders)
    protects = [each for each in orders if guard.pk in {each.pk, each.completes_id} and _works(each)]
    return OrderSet(ticket, orders, left, is_naked=left > 0 and not protects)


def cancel(*, actor: Actor, ticket_id: UUID) -> OrderSet:
    """Cancel what is left of a group, the entry first. What it opened stays open, and is said to be naked.

    Raises NotFound or PermissionMissing; each cancel is asked for again until the broker says that it is done.
    """
    found = find(actor, ticket_id)
    if actor.is_person:
        trading.require_permission(actor, "orders.cancel_order")
    # All at once: an exit that goes with its entry before its own turn comes is not sent again.
    living = found.ticket.orders.filter(status__in=OPEN, cancel_requested_at=None)
    living.update(cancel_requested_at=Now())
    for order in found.orders:
        if Order.objects.filter(pk=order.pk).exclude(status__in=ENDED).exists():
            services.cancel_order(actor=actor, order_id=order.pk)
    return find(actor, ticket_id)


def _works(order: Order) -> bool:
    return order.status not in ENDED | {OrderStatus.PENDING, OrderStatus.PENDING_CANCEL}
