"""What beat asks for: waiting decisions become deliveries, and deliveries leave."""

from celery import shared_task

from cerbero import access, leases
from cerbero.errors import LeaseLost
from orders.notices import announcing, sending, watching
from orders.notices.sending import DELIVER

ANNOUNCE, WATCH = "beat:announce_decisions", "beat:watch_outages"
WATCHER = watching.Watcher()
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
    if sending.deliver_alone(actor=access.system("notices")):
        leases.succeeded(DELIVER)


@shared_task(name="orders.notices.tasks.watch_outages")
def watch_outages() -> None:
    """Also the orders process looks, by itself; here is who sees that it is silent."""
    WATCHER.look()
    leases.succeeded(WATCH)
