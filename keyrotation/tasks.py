"""What beat asks for: every unfinished rotation moved on by a step. A task carries no argument that could be forged."""

from celery import shared_task

from cerbero import access, leases
from keyrotation.sweep import sweep

JOB = "beat:sweep_rotations"


@shared_task(name="keyrotation.tasks.sweep_rotations")
def sweep_rotations() -> None:
    """One step for each rotation that is due, each under its own lease."""
    sweep(access.system("rotation"))
    leases.succeeded(JOB)
