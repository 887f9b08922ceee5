"""The desk under attack, the attacker's hands at the database, and the judge."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account, BrokerInstrument, Instrument, Login, SessionState
from brokers.services import broker_for
from cerbero import access, leases
from cerbero.embedded import APP, OWNER
from cerbero.models import Bot, Lease, User
from orders import halting, loop, services, submission
from orders.halt_models import Halt
from orders.lifecycle import WORKING, OrderStatus, TicketStatus
from orders.models import TICKET_ROWS, Balance, Limits, LimitSet, Order, Ticket, TradingState
from orders.models import Attempt as Sending
from orders.submission import Hold
from tests.orders import world
from tests.rig import Database
from tests.simulator_process import SimulatorProcess

ME = access.system("orders")
ON_ITS_WAY = {TicketStatus.ALLOWED, TicketStatus.SENT, TicketStatus.DONE}
ARMED = ("sent", "in_doubt", "answered")


@dataclass
class Siege:
    """One desk and its broker. Prices stand still, orders rest, and nothing is asked."""

    desk: world.World
    database: Database
    ask: Decimal

    @classmethod
    def lay(cls, sim: SimulatorProcess, database: Database) -> "Siege":
        desk = world.connect(sim)
        # One person for whatever adds risk, so that there is a gate to pass; closes need nobody.
        desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
        sim.config(freeze=True, fill_delay=[0.01, 0.02], per_side_limit=10_000)
        return cls(desk, database, desk.near())

    def put_in_order(self) -> None:
        """As at the start: active, everybody in office, nothing waiting, no faults."""
        connection.close()
        self.sim.control("DELETE", "/_sim/faults")
        self.sim.config(questions=[], fills="normal", freeze=True)
        self.disarm()
        for row in TradingState.objects.all():
            if row.effective != "active" or row.needs_two:
                row.state, row.needs_two = "active", False
                row.save()
        Login.objects.update(
            is_enabled=True, state=SessionState.UP, cooling_until=None, feed_alive_at=timezone.now()
        )
        Account.objects.filter(pk=self.desk.account.pk).update(environment="paper", allowed_question_ids=[])
        if LimitSet.objects.exists():
            self.as_owner(("DELETE FROM orders_limitset", []))
        # What earlier attempts left resting must not be why this one is refused.
        much = {"position_max": 10**9, "gross_exposure_max": 10**9, "daily_turnover_max": 10**9}
        Limits(account=self.desk.account, leverage_max=1000, **world.ROOMY, **much).save()
        Balance.objects.update(as_of=timezone.now())
        Instrument.objects.update(is_allowed=True, multiplier=1, currency="USD")
        BrokerInstrument.objects.filter(instrument=self.desk.aapl).update(broker_instrument_id=world.AAPL)
        User.objects.update(is_active=True, is_superuser=False)
        Bot.objects.update(is_active=True, owner=self.desk.people["alice"])
        people = [person.pk for person in self.desk.people.values()]
        memberships = User.groups.through.objects.filter(user__in=people)
        if list(memberships.values_list("group__name", flat=True)) != ["Approver"] * len(people):
            for person in self.desk.people.values():
                person.groups.set(Group.objects.filter(name="Approver"))
        unsent = Q(ticket__status__in=["proposed", "allowed"]) | Q(ticket__attempts__status="prepared")
        for order in Order.objects.filter(unsent | Q(amendments__status__in=["proposed", "allowed"])):
            services.cancel_order(actor=ME, order_id=order.pk)
        sells = Order.objects.filter(side="sell", status__in=[*WORKING, OrderStatus.SUBMITTED])
        if left := list(sells.values_list("pk", flat=True)):
            # A sale that still rests, or that nobody knows of, would be met by the next purchase.
            self.as_owner(("UPDATE orders_order SET status = 'canceled' WHERE id = ANY(%s)", [left]))
        Lease.objects.filter(name__startswith="place:").update(expires_at=timezone.now() - timedelta(days=1))
        self.desk.__dict__.pop("_holds", None)
        self.quote()

    def disarm(self) -> None:
        """No halt of an earlier attempt goes on canceling what comes."""
        Halt.objects.armed().update(released_at=timezone.now())
        for thread in halting._aside.values():
            thread.join(20)

    @property
    def sim(self) -> SimulatorProcess:
        assert self.desk.sim is not None
        return self.desk.sim

    def quote(self) -> None:
        """The relay would store one every second."""
        self.desk.quote(str(self.ask - Decimal("0.02")), str(self.ask))

    @property
    def resting(self) -> Decimal:
        return (self.ask * Decimal("0.98")).quantize(Decimal("0.01"))

    def place(self, **changes: Any) -> Ticket:
        terms = {"limit_price": self.resting} | changes
        return self.desk.place(**terms | {"quantity": Decimal(terms.get("quantity", 10))})

    def approved(self, **changes: Any) -> Ticket:
        return self.desk.decide(self.place(**changes))

    def turn(self, holder: str = "orders-1") -> None:
        self.desk.turn(holder)

    def process(self, act: Callable[[], Any] | None = None, rounds: int = 5) -> None:
        """The orders process as it runs, for some rounds; it does `act` where it would look for work."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "POLL_SECONDS", 0.001)
            if act is not None:
                patch.setattr(loop, "turn", lambda *_: act())
            loop.run(Rounds(rounds))  # type: ignore[arg-type]

    def time_passes(self, ticket: Ticket) -> None:
        """As long as people had for this ticket, and then some."""
        words = "UPDATE cerbero_decisionrequest SET expires_at = now() - interval '1 second' WHERE id = %s"
        self.as_owner((words, [ticket.request_id]))

    def hold(self) -> Hold:
        name = f"place:{self.desk.login.pk}"
        return Hold(name, leases.hold(name, "test", 30))

    def prepared(self, ticket: Ticket) -> tuple[Sending, Order, Any, Hold]:
        """The ticket as a process leaves it that prepared and did not arm."""
        sending, *rest = self.prepares(ticket)
        assert sending is not None
        return sending, *rest

    def prepares(self, ticket: Ticket) -> tuple[Sending | None, Order, Any, Hold]:
        """The transaction that looks at everything again, and what came of it."""
        hold, order = self.hold(), self.desk.order(ticket)
        fresh = Ticket.objects.select_related(*TICKET_ROWS).get(pk=ticket.pk)
        with broker_for(self.desk.login) as broker:
            moment = submission.read_moment(fresh, order, broker)
        return submission.prepare(ME, fresh, order, moment, hold), order, moment, hold

    def sql(self, words: str, *values: Any, role: str = APP) -> Any:
        """What somebody with a database password can say; psycopg's error when the database refuses."""
        with self.database.connect(role) as link:
            cursor = link.execute(words, values)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else cursor.rowcount

    def as_owner(self, *statements: tuple[str, list[Any]]) -> None:
        """Statements of the tables' owner, who can switch triggers off."""
        tables = (
            "orders_ticket",
            "orders_order",
            "cerbero_decisionrequest",
            "cerbero_decision",
            "orders_attempt",
            "orders_tradingstate",
            "orders_limits",
            "orders_limitset",
            "orders_amendment",
            "orders_allowance",
        )
        with psycopg.connect(self.database.url(OWNER)) as link:
            for table in tables:
                link.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for words, values in statements:
                link.execute(words, values)  # type: ignore[arg-type]
            # What a foreign key still has to look at keeps a table from being altered.
            link.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in tables:
                link.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def heard(self) -> int:
        """How much the broker was told to do: placements, accepted or not, and changes of what works."""
        book = self.sim.book()
        return len(book["arrivals"]) + sum(order["modifications"] for order in book["orders"])

    def server_log(self) -> str:
        return (self.database.servers.root / "logs" / "postgres.log").read_text(errors="replace")


class Rounds:
    """In the place of the event that ends a process: it ends after so many looks, and nobody waits for it."""

    def __init__(self, count: int) -> None:
        self.left = count

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0

    def wait(self, seconds: float) -> None:
        return None


@dataclass
class Attempt:
    """One attempt to pass. `expects` is what may rightly reach the broker meanwhile."""

    siege: Siege
    name: str
    expects: int = 0
    tickets: dict[Any, tuple[str, int]] = field(default_factory=dict)
    entries: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    log_lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        newest = Entry.objects.order_by("-id").first()
        self.since = newest.pk if newest else 0
        self.heard = self.siege.heard()
        self.logged = len(self.siege.server_log())

    def on(self, *tickets: Ticket) -> Ticket:
        """The tickets that are attacked, as they stand before it."""
        for ticket in tickets:
            ticket.refresh_from_db()
            self.watch(ticket.pk, ticket.status)
        return tickets[0]

    def watch(self, pk: Any, status: str) -> None:
        """The same, for a row whose status was forged."""
        self.tickets[pk] = (status, self._armed(pk))

    def sent(self) -> int:
        """What the broker was told to do since the attempt began."""
        return self.siege.heard() - self.heard

    def told(self, event: str, **details: Any) -> None:
        """Whoever reads the trail learns of it by this entry, made since the attempt began."""
        self.entries.append((event, details))
        seen = list(Entry.objects.filter(pk__gt=self.since).values_list("event", "details"))
        assert self._is_entered(event, details), f"no entry {event} with {details}; there are {seen}"

    def told_by_server(self, words: str) -> None:
        """The database refused it, and its log says so: an entry would be rolled back with what it tells of."""
        self.log_lines.append(words)
        assert self._is_logged(words), f"nothing in the database's log says: {words}"

    def refused_by_database(self, words: str, *values: Any, says: str) -> None:
        with pytest.raises(psycopg.Error, match=says):
            self.siege.sql(words, *values)
        self.told_by_server(says)

    def denied(self, ticket: Ticket, code: str) -> None:
        ticket.refresh_from_db()
        assert (ticket.status, ticket.refusal_code) == ("denied", code)
        self.told("ticket.denied", code=code)

    def held(self, ticket: Ticket, *codes: str) -> None:
        """It is allowed, waits, and says why; nothing of it has been armed."""
        ticket.refresh_from_db()
        assert ticket.status in {"allowed", "sent"}
        assert ticket.held_for in codes
        assert not Sending.objects.filter(ticket=ticket).exclude(status="prepared").exists()
        self.told("ticket.held", code=ticket.held_for)

    def ran_out(self, ticket: Ticket) -> None:
        """Nothing that was tried let it pass, until its time was up."""
        assert Ticket.objects.get(pk=ticket.pk).status == "proposed"
        self.siege.time_passes(ticket)
        self.siege.turn()
        self.denied(ticket, "approval_expired")

    def judge(self) -> dict[str, Any]:
        """What became of it, from the rows, the simulator's book, the trail and the database's log alone."""
        opened = sum(self._was_opened(pk, *before) for pk, before in self.tickets.items())
        sent = self.sent() - self.expects
        missing = [event for event, details in self.entries if not self._is_entered(event, details)]
        missing += [words for words in self.log_lines if not self._is_logged(words)]
        told_by = [event for event, _ in self.entries] + ["the database's log"] * bool(self.log_lines)
        words = "" if missing else ", ".join(dict.fromkeys(told_by))
        return {"name": self.name, "opened": opened, "sent": sent, "told_by": words}

    def _is_entered(self, event: str, details: dict[str, Any]) -> bool:
        entries = Entry.objects.filter(pk__gt=self.since, event=event)
        return any(details.items() <= each.details.items() for each in entries)

    def _is_logged(self, words: str) -> bool:
        return re.search(words, self.siege.server_log()[self.logged :]) is not None

    def _was_opened(self, pk: Any, status: str, armed: int) -> bool:
        now = Ticket.objects.get(pk=pk).status
        return (status not in ON_ITS_WAY and now in ON_ITS_WAY) or self._armed(pk) > armed

    def _armed(self, pk: Any) -> int:
        return Sending.objects.filter(ticket_id=pk, status__in=ARMED).count()


def turn_once(desk: world.World, holder: str) -> None:
    """One pass in a thread of its own, with holds of its own."""
    loop.turn(ME, holder, {})
