"""What beat asks for: waiting decisions become deliveries, and deliveries leave."""

from celery import shared_task

from cerbero import access, leases
from cerbero.errors import LeaseLost
from orders.notices import announcing, sending

ANNOUNCE, DELIVER = "beat:announce_decisions", "beat:deliver_notices"
# Longer than a round can take; a worker that died frees it by the clock.
LEASE_SECONDS = 30


@shared_task(name="orders.notices.tasks.announce_decisions")
def announce_decisions() -> None:
    """Tell of everything that waits; whoever was told is not told again."""
    try:
        with leases.lease(ANNOUNCE, LEASE_SECONDS):
            announcing.announce_waiting()
    except LeaseLost:
        return
    leases.succeeded(ANNOUNCE)


@shared_task(name="orders.notices.tasks.deliver_notices")
def deliver_notices() -> None:
    """One round of sending, by one worker at a time."""
    try:
        with leases.lease(DELIVER, LEASE_SECONDS):
            sending.deliver_due(actor=access.system("notices"))
    except LeaseLost:
        return
    leases.succeeded(DELIVER)
