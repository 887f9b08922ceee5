"""Why an allowed ticket does not leave yet: said once, on the ticket and in the trail, and not every second."""

from django.db import transaction
from django.db.models import Q

from audit.services import record
from brokers.models import Login
from cerbero.access import Actor
from orders.lifecycle import AttemptStatus, TicketStatus
from orders.models import Ticket


def hold_back(actor: Actor, ticket: Ticket, why: str) -> None:
    """Note what keeps a ticket from leaving; the same reason again changes nothing. It is tried again all the same."""
    if ticket.held_for == why:
        return
    with transaction.atomic():
        rows = Ticket.objects.filter(pk=ticket.pk).exclude(held_for=why)
        if rows.update(held_for=why) == 1:
            details = {"code": why}
            record("ticket.held", actor=actor, subject_kind="ticket", subject_id=ticket.pk, details=details)
    ticket.held_for = why


def hold_all(actor: Actor, login: Login, why: str) -> None:
    """The same for everything that waits for a login which cannot be served."""
    waits = Q(status=TicketStatus.ALLOWED) | Q(attempts__status=AttemptStatus.PREPARED)
    for ticket in Ticket.objects.filter(waits, account__login=login).exclude(held_for=why):
        hold_back(actor, ticket, why)
