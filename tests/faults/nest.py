"""Where a lane's processes come from: forked ready-made, each with its job, its times and its defects.

A process is armed by a signal (`arm`): its own `FAIL_POINT` is read again, so that one that already runs
can be told where to end. Times are shortened here and nowhere else; the code under test is the product's.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

# A busy machine takes its time, and everything here takes as much more: tests.faults.driver says how much.
PATIENCE = float(os.environ.get("FAULTS_PATIENCE", "1"))
GRACE_SECONDS, READ_SECONDS, LEASE_SECONDS = 1.5 * PATIENCE, 0.4 * PATIENCE, 1.2 * PATIENCE
ROUND_SECONDS = 0.3 * PATIENCE
ROTATION_SECONDS = 4.0 * PATIENCE


@dataclass
class Nest:
    """The forking process: it has everything imported, and neither threads nor connections."""

    pid: int
    link: socket.socket
    folder: Path

    @classmethod
    def build(cls, folder: Path) -> "Nest":
        """Fork it off, before this process has connections of its own."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            try:
                _hatch(theirs, folder)
            finally:
                os._exit(0)
        theirs.close()
        return cls(pid, ours, folder)

    def start(self, job: str, *, mutant: str = "", fail_point: str = "", **details: Any) -> "Child":
        order = {"job": job, "mutant": mutant, "fail_point": fail_point, "details": details}
        self.link.sendall(json.dumps(order).encode() + b"\n")
        return Child(job, int(self.link.recv(64)), self.folder)

    def close(self) -> None:
        self.link.close()
        os.waitpid(self.pid, 0)


@dataclass
class Child:
    """One process of the product."""

    job: str
    pid: int
    folder: Path
    stood_still: bool = False

    @property
    def is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def is_stopped(self) -> bool:
        try:
            words = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        self.stood_still |= words.rpartition(")")[2].split()[0] == "T"
        return words.rpartition(")")[2].split()[0] == "T"

    def arm(self, fail_point: str) -> None:
        """End, or stand still, at that place from now on."""
        told = self.folder / f"fail-point-{self.pid}"
        told.write_text(fail_point)
        deadline = time.monotonic() + 20
        while told.exists() and self.is_alive and time.monotonic() < deadline:
            # Seldom: each signal makes the driver's wait for the database begin anew.
            self.tell(signal.SIGUSR1)
            patience = time.monotonic() + 0.5
            while told.exists() and self.is_alive and time.monotonic() < patience:
                time.sleep(0.01)

    def tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, number: int = signal.SIGKILL) -> None:
        self.tell(number)
        deadline = time.monotonic() + 5
        while self.is_alive and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.is_alive:
            self.tell(signal.SIGKILL)


def _hatch(link: socket.socket, folder: Path) -> None:
    # Whoever ends needs no burial, and all end with this one.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    _warm()
    # What is not looked at by the collector is not copied at its first look.
    gc.collect()
    gc.freeze()
    children = []
    for line in link.makefile():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            link.close()
            _live(order, folder)
        children.append(pid)
        link.sendall(str(pid).encode())
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _live(order: dict[str, Any], folder: Path) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(folder / f"{order['job']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _obey(order["fail_point"], folder)
        from tests.faults import jobs, mutants

        if order["mutant"]:
            mutants.plant(order["mutant"])
        # So that `ps` and `top` tell them apart.
        Path("/proc/self/comm").write_text(order["job"])
        getattr(jobs, order["job"])(**order["details"])
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _warm() -> None:
    """Import whatever a job needs, once: a process of ours starts in milliseconds then."""
    from brokers.management.commands import run_relay  # noqa: F401
    from orders import halting, services  # noqa: F401
    from orders.management.commands import run_orders  # noqa: F401
    from tests.faults import jobs, mutants  # noqa: F401

    shorten()


def _obey(fail_point: str, folder: Path) -> None:
    from django.conf import settings

    from cerbero import failpoints

    settings.FAIL_POINT = fail_point

    def read_again(*_: object) -> None:
        told = folder / f"fail-point-{os.getpid()}"
        failpoints._times.clear()
        with contextlib.suppress(FileNotFoundError):
            settings.FAIL_POINT = told.read_text()
            told.unlink()

    signal.signal(signal.SIGUSR1, read_again)


def shorten() -> None:
    """Seconds in place of minutes; every proportion stays."""
    import httpx

    from brokers import pacing, primes, relay, sessions
    from brokers.generation import GROUP_14_PRIME
    from brokers.ibkr import client, snapshots, wire
    from keyrotation import proving, swapping, sweep
    from orders import canceling, cancels, doubts, halting, loop, models, reconciliation, tasks
    from orders.notices import watching

    wire.TIMEOUT = httpx.Timeout(connect=0.3, read=READ_SECONDS, write=READ_SECONDS, pool=0.3)
    client.BRING_UP_WAIT_SECONDS = snapshots.WAIT_SECONDS = client.ORDERS_WAIT_SECONDS = 0.03
    pacing.REQUESTS_PER_SECOND = 200
    pacing.COOLING_SECONDS, pacing.COOLING_TICKLE_SECONDS = 0.4, 0.1
    sessions.RETRY_SECONDS_MAX = sessions.COMPETING_RETRY_SECONDS = 0.2
    sessions.LEASE_SECONDS = tasks.LEASE_SECONDS = LEASE_SECONDS
    loop.POLL_SECONDS, loop.LEASE_SECONDS = 0.4 * PATIENCE, LEASE_SECONDS
    watching.LOOK_SECONDS = 1.0 * PATIENCE
    relay.LOOK_SECONDS, relay.LEASE_SECONDS, relay.BACKOFF_SECONDS_MAX = 0.2, LEASE_SECONDS, 0.5
    primes.search = lambda seconds: (int(GROUP_14_PRIME, 16), 1)
    sweep.LEASE_SECONDS, swapping.TURN_SECONDS = 1.4 * ROTATION_SECONDS, 1.2 * ROTATION_SECONDS
    swapping.DRAIN_SECONDS = 0.3 * ROTATION_SECONDS
    swapping.HOLD_SECONDS, swapping.PROOF_SECONDS = ROTATION_SECONDS, 0.6 * ROTATION_SECONDS
    sweep.UNEXPECTED_SECONDS = swapping.RETRY_SECONDS = swapping.BREATHER_SECONDS = 0.5
    proving.FIRST_WAIT_SECONDS = proving.WAIT_SECONDS_MAX = 0.5
    halting.LIST_SECONDS, halting.ROUND_SECONDS = 0.2, 0.05
    reconciliation.CONVERSATION_MAX = timedelta(seconds=LEASE_SECONDS)
    canceling.SENDING_MAX = timedelta(seconds=LEASE_SECONDS)
    cancels.AGAIN = models.CANCEL_AGAIN = timedelta(seconds=0.6 * PATIENCE)
    grace = timedelta(seconds=GRACE_SECONDS)
    doubts.GRACE = grace
    doubts.settle_absent.__defaults__ = (grace,)
    for asking in (reconciliation.reconcile, reconciliation.reconcile_account):
        asking.__kwdefaults__["grace"] = grace
