"""`make rotation-faults`: every step of a rotation killed before and after its commit, with orders flowing.

A table, and last one line of JSON. The processes are the product's own (tests/faults/nest.py); a probe asks the
broker all the while whether the login is usable, and the broker's book says what became of the orders.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.rig import Servers

ORDERS_PER_SECOND = 2.0
PROBE_SECONDS = 0.1
# Without any progress: a machine under load is slow, which loses nothing.
CASE_SECONDS, QUEUE_SECONDS = 60.0, 30.0

# Where a process ends: in the transaction that records the event, and right after its commit.
DOORS = {
    "start_rotation": ("rotation.requested", "rotation.generated"),
    "register_rotation": ("credential.completed", "rotation.registered"),
    "decide_rotation": ("decision.made",),
}
SWEEP = (
    "rotation.proven",
    "login.held",
    "credential.retired",
    "rotation.activated",
    "rotation.settled",
    "login.released",
)
MODES: dict[str, dict[str, Any]] = {
    "overlap": {"sweep": (*SWEEP, "rotation.retired"), "ends": {"retired"}},
    "token only": {"kind": "token", "sweep": ("rotation.proven", "rotation.activated"), "ends": {"retired"}},
    "fails after the proof": {
        "keys": {"refuses": "/iserver/|/tickle"},
        "sweep": ("rotation.activated", "rotation.rolled_back", "login.released"),
        "ends": {"rolled_back"},
    },
    "waiting for the broker": {
        "config": {"activation_seconds": 3600},
        "sweep": ("rotation.not_proven",),
        "ends": {"registered"},
    },
    "blackout": {
        "config": {"activation_seconds": 3600, "save_replaces": True},
        "sweep": ("rotation.went_dark", "rotation.proven", "rotation.activated", "rotation.settled"),
        "ends": {"retired"},
    },
}


@dataclass(frozen=True)
class Case:
    """One kill: in which mode, in which process, at which place."""

    mode: str
    job: str
    place: str


def cases() -> Iterator[Case]:
    for mode, words in MODES.items():
        doors = DOORS if mode == "overlap" else {}
        for job, events in (*doors.items(), ("sweeper", words["sweep"])):
            for event in events:
                yield from (Case(mode, job, f"{event}{after}") for after in ("", ".committed"))


@dataclass
class Watch:
    """What goes on beside the rotations: orders, and the question whether the login is usable."""

    lane: Any
    stop: threading.Event = field(default_factory=threading.Event)
    tickets: list[Any] = field(default_factory=list)
    dark: list[tuple[float, float]] = field(default_factory=list)
    probes: int = 0

    def run(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=each, daemon=True) for each in (self._trade, self._probe)]
        for thread in threads:
            thread.start()
        return threads

    def _trade(self) -> None:
        from django.db import connections

        from tests.orders.world import hear

        desk, number = self.lane.desk, 0
        while not self.stop.wait(1 / ORDERS_PER_SECOND):
            number += 1
            with contextlib.suppress(Exception):
                desk.quote(str(self.lane.ask - Decimal("0.02")), str(self.lane.ask))
                hear(desk.login)
                price = self.lane.ask - 2 - Decimal(number % 300) / 100
                ticket = desk.place(limit_price=price, quantity=Decimal(1 + number % 40))
                desk.decide(ticket)
                self.tickets.append((ticket.pk, time.time() * 1000))
        connections.close_all()

    def _probe(self) -> None:
        from django.db import connections

        since = 0.0
        while not self.stop.wait(PROBE_SECONDS):
            self.probes += 1
            # Two rows are read, and a swap may come between: only what fails twice in a row is dark.
            opens = any(self._opens() for _ in range(3))
            if not opens and not since:
                since = time.time()
            elif opens and since:
                self.dark.append((since, time.time()))
                since = 0.0
        if since:
            self.dark.append((since, time.time()))
        connections.close_all()

    def _opens(self) -> bool:
        from brokers.proving import set_in_use_opens
        from cerbero.errors import CerberoError

        try:
            return set_in_use_opens(self.lane.desk.login)
        except CerberoError:
            # It could not be asked: that says nothing about the keys.
            return True


class Play:
    """One rotation with one kill."""

    def __init__(self, lane: Any, case: Case) -> None:
        self.lane, self.case, self.words = lane, case, MODES[case.mode]
        self.killed = False

    def run(self) -> dict[str, Any]:
        from brokers.models import Login
        from keyrotation.models import Rotation

        began = time.time()
        plain = {"activation_seconds": 0, "save_replaces": False, "mint_ends_session": False}
        self.lane.sim.config(**plain | self.words.get("config", {}))
        self._until(lambda: Login.objects.get(pk=self.lane.desk.login.pk).state == "up")
        self._start("sweeper")
        self._door("start_rotation", lambda: Rotation.objects.open().exists(), **self._begin())
        rotation = Rotation.objects.open().get()
        shown = self._upload(rotation)
        self._door(
            "register_rotation",
            lambda: Rotation.objects.get(pk=rotation.pk).status != "generated",
            rotation_id=str(rotation.pk),
            **shown,
        )
        self._follow(rotation.pk)
        if self.case.job == "sweeper" and not self.killed:
            self._until(lambda: self.killed, 10)
        end = Rotation.objects.get(pk=rotation.pk)
        row = {"mode": self.case.mode, "process": self.case.job, "place": self.case.place, "end": end.status}
        row |= {"killed": self.killed, "began": began, "ended": time.time()}
        row["is_right"] = end.status in self.words["ends"] and not end.stopped_at and self._is_up()
        self._end(end)
        return row

    def _begin(self) -> dict[str, Any]:
        return {
            "login_id": str(self.lane.desk.login.pk),
            "reason": "the harness",
            "kind": self.words.get("kind", "keys"),
        }

    def _upload(self, rotation: Any) -> dict[str, str]:
        from cerbero import access
        from cerbero.models import User
        from tests.keyrotation.portal import Portal

        person = access.person(User.objects.get(username="dora"))
        portal = Portal(self.lane.sim, self.lane.desk.login, person, person)
        return portal.upload(rotation, **self.words.get("keys", {}))

    def _follow(self, rotation_id: Any) -> None:
        """Play the people and the night until the rotation has come where it should."""
        from keyrotation.models import Rotation

        def step() -> bool:
            row = Rotation.objects.select_related("request").get(pk=rotation_id)
            if row.status == "registered" and row.failures >= 2:
                if self.case.mode == "waiting for the broker":
                    return self.killed
                self.lane.sim.control("POST", "/_sim/night_reset", {})
            elif row.status == "proven" and row.request and row.request.status == "pending":
                is_said = lambda: Rotation.objects.get(pk=rotation_id).request.status != "pending"  # noqa: E731
                about = {"request_id": str(row.request_id), "digest": row.request.digest, "is_yes": True}
                self._door("decide_rotation", is_said, **about)
            elif row.status == "active" and row.settled_at and row.retire_at > row.settled_at:
                Rotation.objects.filter(pk=rotation_id).update(retire_at=row.settled_at)
            return row.status in self.words["ends"] - {"registered"}

        self._until(step)

    def _door(self, step: str, is_done: Any, **details: Any) -> None:
        """A person's step; one that died in it is asked for again, as a person would."""
        from django.db import connections

        for _ in range(3):
            point = self.case.place if self.case.job == step and not self.killed else ""
            child = self.lane.nest.start(
                "rotate",
                step=step,
                person="dora",
                fail_point=f"SIGKILL {point} 1" if point else "",
                **details,
            )
            deadline = time.monotonic() + 20
            while child.is_alive and time.monotonic() < deadline:
                time.sleep(0.02)
            self.killed = self.killed or bool(point)
            connections.close_all()
            if is_done():
                return
        said = (self.lane.folder / "rotate.log").read_text()[-1500:]
        sys.stderr.write(f"{self.case}: {step} was not done: {said}\n")

    def _start(self, job: str) -> None:
        point = self.case.place if self.case.job == job and not self.killed else ""
        self.lane.children[job] = self.lane.nest.start(job, fail_point=f"SIGKILL {point} 1" if point else "")

    def _until(self, look: Any, seconds: float = CASE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not look():
            if time.monotonic() > deadline:
                return
            child = self.lane.children.get("sweeper")
            if child is not None and not child.is_alive:
                self.killed = True
                self._start("sweeper")
            supervise(self.lane)
            time.sleep(0.1)

    def _is_up(self) -> bool:
        from brokers.models import Login

        row = Login.objects.get(pk=self.lane.desk.login.pk)
        self._until(lambda: Login.objects.get(pk=row.pk).state == "up")
        return Login.objects.get(pk=row.pk).state == "up"

    def _end(self, rotation: Any) -> None:
        """Leave nothing open for the next case."""
        from cerbero import access
        from cerbero.models import User
        from keyrotation import services

        self.lane.children.pop("sweeper").end()
        if rotation.status in {"requested", "generated", "registered", "proven"}:
            person = access.person(User.objects.get(username="dora"))
            services.abort_rotation(actor=person, rotation_id=rotation.pk, reason="the next case")
        from cerbero.models import Lease

        Lease.objects.filter(name__startswith="rotation:").delete()


def supervise(lane: Any) -> None:
    """Start again what a machine under load has ended, as a supervisor would."""
    for job in ("orders", "keeper"):
        if not lane.children[job].is_alive:
            sys.stderr.write(f"{job} had ended and was started again\n")
            lane.start(job)


def judged(lane: Any, watch: Watch) -> dict[str, Any]:
    """What became of the orders, by the broker's book."""
    from orders.models import Attempt, Ticket

    keys = [pk for pk, _ in watch.tickets]
    waiting = Ticket.objects.filter(pk__in=keys, status__in=["allowed"])
    doubted = Attempt.objects.filter(ticket_id__in=keys, status__in=["prepared", "sent", "in_doubt"])
    left, deadline = -1, time.monotonic() + QUEUE_SECONDS
    while (now := waiting.count() + doubted.count()) and time.monotonic() < deadline:
        if now != left:
            left, deadline = now, time.monotonic() + QUEUE_SECONDS
        supervise(lane)
        time.sleep(0.3)
    book = lane.sim.book()
    arrived = {c: each["at_ms"] for each in book["arrivals"] for c in each["cOIDs"]}
    held = [each["cOID"] for each in book["orders"]]
    lost = duplicated = denied = 0
    delays = []
    for pk, at_ms in watch.tickets:
        ids = list(Attempt.objects.filter(ticket_id=pk).values_list("client_order_id", flat=True))
        there = sum(held.count(each) for each in ids)
        duplicated += there > 1
        if there == 0:
            is_denied = Ticket.objects.get(pk=pk).status == "denied"
            denied += is_denied
            lost += not is_denied
        delays += [arrived[each] - at_ms for each in ids[:1] if each in arrived]
    return {"orders": len(keys), "lost": lost, "duplicated": duplicated, "denied": denied, "delays": delays}


def report(rows: list[dict[str, Any]], watch: Watch, orders: dict[str, Any]) -> int:
    """The table, the sentences, and the line of JSON."""
    say = lambda line: sys.stdout.write(f"{line}\n")  # noqa: E731
    blackouts = [(row["began"], row["ended"]) for row in rows if row["mode"] == "blackout"]
    planned = [each for each in watch.dark if any(a <= each[0] <= b for a, b in blackouts)]
    locked_out = len(watch.dark) - len(planned)
    say(f"{'mode':24}{'process':20}{'killed at':34}{'end':14}{'s':>6}")
    for row in rows:
        mark = (
            "" if row["is_right"] and row["killed"] else "  WRONG" if not row["is_right"] else "  not reached"
        )
        say(
            f"{row['mode']:24}{row['process']:20}{row['place']:34}{row['end']:14}{row['ended'] - row['began']:>6.1f}{mark}"
        )
    dark = [b - a for a, b in planned]
    if dark:
        say(
            f"dark in blackout mode: median {statistics.median(dark):.1f} s, longest {max(dark):.1f} s, as the harness's night fell"
        )
    if orders["delays"]:
        middle, longest = statistics.median(orders["delays"]), max(orders["delays"])
        say(
            f"{orders['orders']} orders: median {middle:.0f} ms to the broker, longest {longest / 1000:.1f} s; {orders['denied']} denied"
        )
    say(f"{watch.probes} probes of the login")
    wrong = sum(not row["is_right"] for row in rows)
    say(
        json.dumps(
            {
                "cases": len(rows),
                "locked_out": locked_out,
                "orders_lost": orders["lost"],
                "orders_duplicated": orders["duplicated"],
                "wrong_end_state": wrong,
            }
        )
    )
    return int(bool(locked_out or orders["lost"] or orders["duplicated"] or wrong))


def main() -> int:
    words = argparse.ArgumentParser(prog="make rotation-faults", description=__doc__)
    words.add_argument(
        "--case",
        default="",
        help="only cases whose mode, process and place contain one of these, separated by commas",
    )
    given = words.parse_args()
    servers, folder = Servers.start(), Path(tempfile.mkdtemp(prefix="cerbero-rotation-"))
    try:
        servers.migrate_template()
        database = servers.create_database()
        os.environ.update(database.environment(LOG_LEVEL="ERROR"))
        from tests.faults.lane import Lane

        lane = Lane.open(folder)
        with contextlib.closing(lane):
            parts = given.case.split(",")
            named = ((each, f"{each.mode} {each.job} {each.place}") for each in cases())
            return _play(lane, [each for each, name in named if any(part in name for part in parts)])
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _play(lane: Any, wanted: list[Case]) -> int:
    from tests.faults.nest import shorten

    shorten()
    lane.want("orders", "keeper")
    watch = Watch(lane)
    threads = watch.run()
    rows = []
    for case in wanted:
        rows.append(Play(lane, case).run())
        sys.stderr.write(f"{case.mode} {case.place}: {rows[-1]['end']} {rows[-1]['is_right']}\n")
    watch.stop.set()
    for thread in threads:
        thread.join(10)
    return report(rows, watch, judged(lane, watch))


if __name__ == "__main__":
    sys.exit(main())
