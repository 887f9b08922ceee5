"""What the processes of a lane do: the product's own commands and tasks, each in a process of its own."""

import contextlib
import time

from django.core.management import call_command
from django.db import Error, connections
from redis import RedisError

from tests.faults.nest import ROUND_SECONDS


def orders() -> None:
    """The orders process."""
    call_command("run_orders")


def relay() -> None:
    """The relay process."""
    call_command("run_relay")


def keeper() -> None:
    """What beat asks of the worker, without a queue between: sessions kept, accounts reconciled."""
    from brokers.tasks import keep_sessions
    from orders.tasks import reconcile_accounts

    while True:
        with contextlib.suppress(Error, RedisError):
            keep_sessions()
            reconcile_accounts()
        connections.close_all()
        time.sleep(ROUND_SECONDS)


def cancel(order_id: str, person: str) -> None:
    """A person's request to cancel, as the web process serves it."""
    from cerbero import access
    from cerbero.models import User
    from orders import services

    services.cancel_order(actor=access.person(User.objects.get(username=person)), order_id=order_id)


def halt(person: str, mode: str) -> None:
    """A person's halt of everything, as the web process serves it."""
    from cerbero import access
    from cerbero.models import User
    from orders import halting

    actor = access.person(User.objects.get(username=person))
    halting.halt_trading(actor=actor, mode=mode, reason="the harness", wait_seconds=1)


def sweeper(defect: str = "") -> None:
    """What beat asks of the worker for rotations, without a queue between."""
    from cerbero import access
    from keyrotation.sweep import sweep
    from tests.keyrotation.fault_mutants import MUTANTS

    if defect:
        MUTANTS[defect].breaks()
    while True:
        with contextlib.suppress(Error, RedisError):
            sweep(access.system("rotation"))
        connections.close_all()
        time.sleep(ROUND_SECONDS)


def rotate(step: str, person: str, **details: str | bool) -> None:
    """A person's step of a rotation, as the web process serves it."""
    from cerbero import access
    from cerbero.models import User
    from keyrotation import services, swapping

    actor = access.person(User.objects.get(username=person))
    act = getattr(services, step, None) or getattr(swapping, step)
    act(actor=actor, **details)
