"""One lane of `make rotation-faults`: an installation in which rotations are played, each with its kill, one after the other.

`python -m tests.keyrotation.fault_lane` reads what to play from its standard input, a line of JSON each, and answers so.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.faults.lane import Lane, serve
from tests.faults.nest import PATIENCE, shorten
from tests.keyrotation.fault_cases import CASES, MODES, Case

ORDERS_PER_SECOND = 2.0
PROBE_SECONDS = 0.1
# Without any progress: a machine under load is slow, which loses nothing.
CASE_SECONDS, QUEUE_SECONDS = 45.0 * PATIENCE, 30.0 * PATIENCE
# Enough to see that something does not come.
MUTANT_SECONDS = 15.0 * PATIENCE
PLAIN = {"activation_seconds": 0, "save_replaces": False, "mint_ends_session": False}
ABORTABLE = {"requested", "generated", "registered", "proven"}


@dataclass
class Watch:
    """What goes on beside a rotation: orders, and the question whether the login is usable."""

    lane: Lane
    seconds: float = QUEUE_SECONDS
    stop: threading.Event = field(default_factory=threading.Event)
    tickets: dict[Any, float] = field(default_factory=dict)
    dark: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    probes: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self.threads = [threading.Thread(target=each, daemon=True) for each in (self._trade, self._probe)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _trade(self) -> None:
        from django.db import connections

        from tests.orders.world import hear

        desk = self.lane.desk
        while not self.stop.wait(1 / ORDERS_PER_SECOND):
            self.lane.number += 1
            price = self.lane.ask - 2 - Decimal(self.lane.number % 300) / 100
            try:
                desk.quote(str(self.lane.ask - Decimal("0.02")), str(self.lane.ask))
                hear(desk.login)
                ticket = desk.place(limit_price=price, quantity=Decimal(1 + self.lane.number % 40))
                desk.decide(ticket)
            except Exception as refusal:
                self.refused[getattr(refusal, "code", repr(refusal))] += 1
            else:
                self.tickets[ticket.pk] = time.time() * 1000
        connections.close_all()

    def _probe(self) -> None:
        from django.db import connections

        since = 0.0
        while not self.stop.wait(PROBE_SECONDS):
            self.probes += 1
            # Two rows are read, and a swap may come between: only what fails again and again is dark.
            opens = any(self._opens() for _ in range(3))
            if not opens and not since:
                since = time.time()
            elif opens and since:
                self.dark.append(time.time() - since)
                since = 0.0
        if since:
            self.dark.append(time.time() - since)
        connections.close_all()

    def _opens(self) -> bool:
        from brokers.proving import set_in_use_opens
        from cerbero.errors import CerberoError

        try:
            return set_in_use_opens(self.lane.desk.login)
        except CerberoError:
            # It could not be asked: that says nothing about the keys.
            return True

    # What became of the orders, by the broker's book

    def judged(self) -> dict[str, Any]:
        """Wait until nothing is on its way any more, for as long as anything still moves; then hold it against the book."""
        from orders.models import Attempt, Ticket

        self._until_sent()
        book = self.lane.sim.book()
        arrived = {c: each["at_ms"] for each in book["arrivals"] for c in each["cOIDs"]}
        held = Counter(each["cOID"] for each in book["orders"])
        rows = {row.pk: row for row in Ticket.objects.filter(pk__in=self.tickets)}
        lost: Counter[str] = Counter()
        told, duplicated, delays = 0, 0, []
        for pk, at_ms in self.tickets.items():
            attempts = Attempt.objects.filter(ticket_id=pk).order_by("number")
            ids = list(attempts.values_list("client_order_id", flat=True))
            there = sum(held[each] for each in ids)
            duplicated += there > 1
            delays += [arrived[each] - at_ms for each in ids[:1] if each in arrived]
            if there == 0 and rows[pk].refusal_code == "never_arrived":
                told += 1
            elif there == 0:
                lost[" ".join((rows[pk].status, rows[pk].refusal_code or rows[pk].held_for)).strip()] += 1
        return {
            "orders": len(self.tickets),
            "lost": lost.total(),
            "lost_as": dict(lost),
            "never_arrived": told,
            "duplicated": duplicated,
            "delays": delays,
        }

    def _until_sent(self) -> None:
        from orders.models import Attempt, Ticket

        waiting = Ticket.objects.filter(pk__in=self.tickets, status="allowed")
        unsettled = Attempt.objects.filter(
            ticket_id__in=self.tickets, status__in=["prepared", "sent", "in_doubt"]
        )
        left, deadline = -1, time.monotonic() + self.seconds
        while (now := waiting.count() + unsettled.count()) and time.monotonic() < deadline:
            if now != left:
                left, deadline = now, time.monotonic() + self.seconds
            self.lane.mend()
            self.lane.desk.quote(str(self.lane.ask - Decimal("0.02")), str(self.lane.ask))
            time.sleep(0.1)


class Play:
    """One rotation with one kill."""

    def __init__(self, lane: Lane, case: Case, mutant: str = "") -> None:
        self.lane, self.case, self.words, self.mutant = lane, case, MODES[case.mode], mutant
        self.seconds = MUTANT_SECONDS if mutant else CASE_SECONDS
        self.killed = False
        self.why: list[str] = []

    def run(self) -> dict[str, Any]:
        from keyrotation.models import Rotation

        self.lane.want("orders", "keeper")
        self.lane.sim.config(**PLAIN | self.words.get("config", {}))
        self.lane.until_up()
        began = time.monotonic()
        with Watch(self.lane, min(self.seconds, QUEUE_SECONDS)) as watch:
            self._start_sweeper()
            rotation = self._walk()
            end = Rotation.objects.select_related("login", "request").get(pk=rotation.pk)
            is_right = self._is_right(end)
            self._end(end)
        seconds = round(time.monotonic() - began, 1)
        row = {"mode": self.case.mode, "process": self.case.job, "place": self.case.place, "ends": end.status}
        row |= {"missed": int(not self.killed), "is_right": is_right, "seconds": seconds}
        row |= {"probes": watch.probes, "dark": watch.dark, "refused": dict(watch.refused)}
        row |= {"back": self._way_back(end)} | watch.judged()
        return row | {"took": round(time.monotonic() - began, 1), "why": self.why + self._problems(row)}

    def _walk(self) -> Any:
        """What people do, one after the other, each asked again where its process died."""
        from keyrotation.models import Rotation

        opened = Rotation.objects.open
        login, kind = str(self.lane.desk.login.pk), self.words.get("kind", "keys")
        begin = {"login_id": login, "reason": "the harness", "kind": kind}
        begin |= {"prime": prime} if (prime := self.words.get("prime")) else {}
        self._door("start_rotation", lambda: opened().exists(), **begin)
        rotation = opened().get()
        row = Rotation.objects.filter(pk=rotation.pk)
        self._until(lambda: row.get().status == "generated")
        if self.case.mode == "aborted":
            about = {"rotation_id": str(rotation.pk), "reason": "wrong day"}
            self._door("abort_rotation", lambda: row.get().status == "aborted", **about)
            return rotation
        shown = {"rotation_id": str(rotation.pk), **self._upload(rotation)}
        self._door("register_rotation", lambda: row.get().status != "generated", **shown)
        self._until(lambda: self._follow(rotation.pk))
        if self.case.job == "sweeper" and not self.killed:
            self._until(lambda: self.killed, 10 * PATIENCE)
        return rotation

    def _upload(self, rotation: Any) -> dict[str, str]:
        from tests.keyrotation.portal import Portal

        dora = self.lane.desk.administrator("dora")
        portal = Portal(self.lane.sim, self.lane.desk.login, dora, dora)
        return portal.upload(rotation, **self.words.get("keys", {}))

    def _follow(self, rotation_id: Any) -> bool:
        """Play the people and the night; true when the rotation has come where it should."""
        from keyrotation.models import Rotation

        found = Rotation.objects.filter(pk=rotation_id)
        row = found.select_related("request").get()
        if row.status == "registered" and row.failures >= 2:
            if self.case.mode == "waiting for the broker":
                return self.killed
            self.lane.sim.control("POST", "/_sim/night_reset", {})
        elif row.status == "proven" and row.request and row.request.status == "pending":
            is_said = lambda: found.get().request.status != "pending"  # noqa: E731
            about = {"request_id": str(row.request_id), "digest": row.request.digest, "is_yes": True}
            self._door("decide_rotation", is_said, **about)
        elif row.status == "active" and row.settled_at and self.case.mode == "put back by a person":
            about = {"rotation_id": str(rotation_id), "reason": "the desk asked"}
            self._door("roll_back_rotation", lambda: found.get().status == "rolled_back", **about)
        elif row.status == "active" and row.settled_at and row.retire_at > row.settled_at:
            found.update(retire_at=row.settled_at)
        return row.status in self.words["ends"] - {"registered"}

    def _door(self, step: str, is_done: Callable[[], bool], **details: Any) -> None:
        """A person's step; one that died in it is asked for again, as a person would until it is done."""
        from django.db import connections

        deadline = time.monotonic() + self.seconds
        while not is_done() and time.monotonic() < deadline:
            point = self._point(step)
            child = self.lane.nest.start("rotate", step=step, person="dora", fail_point=point, **details)
            while child.is_alive and time.monotonic() < deadline:
                time.sleep(0.02)
            self.killed = self.killed or bool(point)
            connections.close_all()
        if not is_done():
            said = (self.lane.folder / "rotate.log").read_text()[-500:]
            self.why.append(f"{step} was not done: {said}")

    def _point(self, job: str) -> str:
        return f"SIGKILL {self.case.place} 1" if self.case.job == job and not self.killed else ""

    def _start_sweeper(self) -> None:
        self.lane.start("sweeper", fail_point=self._point("sweeper"), defect=self.mutant)

    def _until(self, look: Callable[[], bool], seconds: float = CASE_SECONDS) -> None:
        deadline = time.monotonic() + min(seconds, self.seconds)
        while not look() and time.monotonic() < deadline:
            if not self.lane.children["sweeper"].is_alive:
                self.killed = True
                self._start_sweeper()
            self.lane.mend()
            time.sleep(0.05)

    def _is_right(self, end: Any) -> bool:
        """It came where it should, nobody is asked for help, what waits says until when, and the session is up."""
        from brokers.models import Login
        from keyrotation.next_step import next_step

        login = Login.objects.filter(pk=end.login_id)
        self._until(lambda: login.get().state == "up")
        waits = end.status != "registered" or next_step(end).at is not None
        return end.status in self.words["ends"] and not end.stopped_at and waits and login.get().state == "up"

    def _way_back(self, end: Any) -> float | None:
        """How long the set that did not hold was in use."""
        is_back = end.status == "rolled_back" and self.case.mode == "fails after the proof"
        return (end.ended_at - end.swapped_at).total_seconds() if is_back else None

    def _problems(self, row: dict[str, Any]) -> list[str]:
        found = []
        if not row["is_right"]:
            found.append(f"ended {row['ends']}")
        if row["dark"] and self.case.mode != "blackout":
            found.append(f"locked out for {max(row['dark']):.1f} s")
        found += [f"lost: {count} {how}" for how, count in row["lost_as"].items()]
        found += [f"{row['duplicated']} sent twice"] if row["duplicated"] else []
        return found

    def _end(self, rotation: Any) -> None:
        """Leave nothing open for the next case."""
        from cerbero.models import Lease
        from keyrotation import services

        self.lane.children.pop("sweeper").end()
        if rotation.status in ABORTABLE:
            dora = self.lane.desk.administrator("dora")
            services.abort_rotation(actor=dora, rotation_id=rotation.pk, reason="the next case")
        Lease.objects.filter(name__startswith="rotation:").delete()


def play(lane: Lane, wanted: dict[str, Any]) -> dict[str, Any]:
    """Play one case; what got stuck leaves its installation behind."""
    shorten()
    row = Play(lane, CASES[wanted["case"]], mutant := wanted.get("mutant", "")).run()
    repeats = f"make rotation-faults CASE='{wanted['case']}'"
    told = {"case": wanted["case"], "mutant": mutant, "again": repeats}
    return row | told | {"stuck": int(bool(row["why"] or mutant))}


if __name__ == "__main__":
    serve(play)
