"""Other terms for one order of a group: it stays the group that was approved, and only one order of it moves at a time."""

from decimal import Decimal

from cerbero.errors import GroupImpossible, StateConflict
from orders import amended
from orders.amended import Terms
from orders.groups.relations import problems
from orders.lifecycle import ENDED, AttemptStatus, Group, GroupState, TicketStatus
from orders.models import Amendment, Order, Ticket

_OPEN = (TicketStatus.PROPOSED, TicketStatus.ALLOWED, TicketStatus.SENT)
_UNSETTLED = (AttemptStatus.PREPARED, AttemptStatus.SENT, AttemptStatus.IN_DOUBT)


def hold(ticket: Ticket) -> None:
    """Nobody else amends an order of this group until the caller's transaction ends; taken before an order's own lock."""
    if ticket.group:
        Ticket.objects.select_for_update(of=("self",)).get(pk=ticket.pk)


def require_alone(order: Order) -> None:
    """Within `hold`. Raises StateConflict while the group is made safe, not known whole, or another order of it is being amended."""
    if not order.ticket.group:
        return
    ticket = Ticket.objects.get(pk=order.ticket_id)
    others = Amendment.objects.filter(order__ticket=ticket, status__in=_OPEN).exclude(order=order)
    if ticket.group_state != GroupState.WATCHED:
        raise StateConflict("This group is being made safe, or is over.", group_state=ticket.group_state)
    if ticket.attempts.filter(status__in=_UNSETTLED).exists():
        raise StateConflict("It is not known yet what the broker took of this group.")
    if others.exists():
        raise StateConflict("Another order of this group is being amended; wait for it.")


def require_fits(order: Order, wanted: Terms) -> None:
    """Raises GroupImpossible with a sentence for each reason why the group could not be this one on these terms."""
    if order.ticket.group and (found := _problems(order, wanted)):
        raise GroupImpossible(problems=found)


def _problems(order: Order, wanted: Terms) -> list[str]:
    ticket, changed = order.ticket, amended.amended(order, wanted)
    # What was sent again stands in the place of what it stands for.
    places = {
        amended.place_of(each): each for each in ticket.orders.select_related("completes").order_by("number")
    }
    legs = [changed if place == changed.number else places[place] for place in sorted(places)]
    if ticket.group == Group.OCO:
        return problems(ticket.group, legs)
    entry = legs[0]
    if entry.status in ENDED:
        # It opened no more than this; exits that are not amended were approved for all of it.
        most = entry.filled_quantity
        legs = [leg if leg is changed else _at_most(leg, most) for leg in legs]
    # Once it has opened, a stop may follow the price beyond the entry's.
    return problems(ticket.group, legs, is_open=entry.filled_quantity > 0)


def _at_most(leg: Order, quantity: Decimal) -> Order:
    return amended.amended(leg, {"quantity": min(leg.quantity, quantity)})
