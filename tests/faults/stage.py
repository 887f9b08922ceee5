"""What a case may do, and what is remembered of one run."""

import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import Error, connection, connections

from tests.faults.judge import Evidence, Intent, is_settled
from tests.faults.lane import CENT, QUIET_SECONDS, SETTLE_SECONDS, ledger_of

if TYPE_CHECKING:
    from random import Random

    from tests.faults.lane import Lane


class Stage:
    """One run of one case."""

    def __init__(self, lane: "Lane", rng: "Random") -> None:
        self.lane, self.rng = lane, rng
        self.intents: list[Intent] = []
        self.manual: set[int] = set()
        self.last: dict[Any, Any] = {}
        self.is_halted = False
        self.began_ms = int(time.time() * 1000)
        self.released_at = time.monotonic()
        self.before = {row["order_id"] for row in lane.sim.book()["orders"]}

    # What a case does

    def order(self, *, approve: bool = True, fills: bool = False, side: str = "", **terms: Any) -> Intent:
        """Propose an order with terms that no other has, and let people agree to it."""
        side = side or self.rng.choice(["buy", "sell"])
        self.lane.number += 1
        number = self.lane.number
        away = (1 if side == "buy" else -1) * (Decimal("0.05") if fills else Decimal("-2"))
        price = (self.lane.ask + away).quantize(CENT) + CENT * (number // 40 % 100) * (1 if fills else -1)
        desk = self.lane.desk
        self.lane.until_up()
        ticket = desk.place(side=side, quantity=Decimal(1 + number % 40), limit_price=price, **terms)
        intent = Intent(
            ticket.pk, desk.account.broker_account_id, side, Decimal(1 + number % 40), price, approve
        )
        self.intents.append(intent)
        if approve:
            desk.decide(ticket)
        self.released_at = time.monotonic()
        return intent

    def arm(self, job: str, place: str, *, number: int = 1, how: str = "SIGKILL") -> None:
        if place:
            self.lane.children[job].arm(f"{how} {place} {number}")

    def fault(self, kind: str, path: str, method: str = "", *, times: int = 1, **details: Any) -> None:
        body = {"kind": kind, "path": path, "method": method, "times": times} | details
        self.lane.sim.control("POST", "/_sim/faults", body)

    def config(self, **changes: Any) -> None:
        self.lane.sim.config(**changes)

    def until(self, look: Any, seconds: float = 6, *, mend: bool = True) -> Any:
        """What `look` gives as soon as that is something; the dead are raised meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(Error):
                if found := look():
                    return found
            if time.monotonic() > deadline:
                raise TimeoutError(getattr(look, "__name__", "it"))
            if mend:
                self.lane.mend()
            self._breathe()

    def until_order(self, intent: Intent, *statuses: str) -> Any:
        from orders.models import Order

        rows = Order.objects.filter(ticket_id=intent.ticket_id, status__in=statuses)
        return self.until(lambda: rows.first())

    def until_stopped(self, job: str) -> None:
        self.until(lambda: self.lane.children[job].is_stopped, mend=False)

    def go_on(self, job: str) -> None:
        self.lane.children[job].tell(signal.SIGCONT)

    # What became of it

    def evidence(self) -> Evidence:
        from brokers.models import Report
        from orders.models import Ticket

        tickets = Ticket.objects.filter(pk__in=[intent.ticket_id for intent in self.intents])
        self.last = {ticket.pk: ledger_of(ticket) for ticket in tickets}
        book = self.lane.sim.book()
        return Evidence(
            intents=self.intents,
            ledgers=self.last,
            orders=[row for row in book["orders"] if row["order_id"] not in self.before],
            arrivals=[row for row in book["arrivals"] if row["at_ms"] >= self.began_ms],
            waiting=Report.objects.waiting().count(),
            manual=self.manual,
            is_halted=self.is_halted,
        )

    def settle(self) -> tuple[bool, float]:
        """Wait for rest that lasts; whether it came, and how many seconds after the release it began."""
        deadline = time.monotonic() + SETTLE_SECONDS
        since = 0.0
        while time.monotonic() < deadline:
            self.lane.mend()
            rests = False
            with suppress(Error, OSError):
                rests = is_settled(self.evidence())
            now = time.monotonic()
            since = (since or now) if rests else 0.0
            if since and now - since >= QUIET_SECONDS:
                return True, since - self.released_at
            self._breathe()
        return False, time.monotonic() - self.released_at

    def bar(self) -> None:
        """From this moment nothing may be sent that is not in flight."""
        from orders.models import Attempt

        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        flying = Attempt.objects.filter(status__in=["sent", "in_doubt"]).values_list("ticket_id", flat=True)
        for intent in self.intents:
            if intent.ticket_id not in set(flying):
                intent.barred_ms = now_ms
        self.is_halted = True

    def _breathe(self) -> None:
        time.sleep(0.08)
        if connection.connection is not None and connection.connection.broken:
            connections.close_all()
