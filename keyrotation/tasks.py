"""What beat asks for: every unfinished rotation moved on by a step. A task carries no argument that could be forged."""

from celery import shared_task

from cerbero import access, leases
from cerbero.errors import LeaseLost
from keyrotation.calendar import watch
from keyrotation.sweep import sweep

JOB, WATCH = "beat:sweep_rotations", "beat:watch_secrets"
WATCH_LEASE_SECONDS = 110


@shared_task(name="keyrotation.tasks.sweep_rotations")
def sweep_rotations() -> None:
    """One step for each rotation that is due, each under its own lease."""
    sweep(access.system("rotation"))
    leases.succeeded(JOB)


@shared_task(name="keyrotation.tasks.watch_secrets")
def watch_secrets() -> None:
    """Remind of what comes due, propose what is due, page what waits for a person."""
    try:
        with leases.lease(WATCH, WATCH_LEASE_SECONDS):
            watch(access.system("calendar"))
    except LeaseLost:
        return
    leases.succeeded(WATCH)
