"""The desk under attack, the attacker's hands at the database, and the judge."""

import re
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
from orders import loop, services, submission
from orders.lifecycle import TicketStatus
from orders.models import Attempt as Sending
from orders.models import Balance, Limits, LimitSet, Order, Ticket, TradingState
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
        TradingState.objects.update(state="active")
        Login.objects.update(
            is_enabled=True, state=SessionState.UP, cooling_until=None, feed_alive_at=timezone.now()
        )
        Account.objects.filter(pk=self.desk.account.pk).update(environment="paper", allowed_question_ids=[])
        Limits.objects.all().delete()
        LimitSet.objects.all().delete()
        # What earlier attempts left resting must not be why this one is refused.
        much = {"position_max": 10**9, "gross_exposure_max": 10**9, "daily_turnover_max": 10**9}
        Limits.objects.create(account=self.desk.account, leverage_max=1000, **world.ROOMY, **much)
        Balance.objects.update(as_of=timezone.now())
        Instrument.objects.update(is_allowed=True, multiplier=1, currency="USD")
        BrokerInstrument.objects.filter(instrument=self.desk.aapl).update(broker_instrument_id=world.AAPL)
        User.objects.update(is_active=True, is_superuser=False)
        Bot.objects.update(is_active=True, owner=self.desk.people["alice"])
        for person in self.desk.people.values():
            person.groups.set(Group.objects.filter(name="Approver"))
        unsent = Q(ticket__status__in=["proposed", "allowed"]) | Q(ticket__attempts__status="prepared")
        for order in Order.objects.filter(unsent):
            services.cancel_order(actor=ME, order_id=order.pk)
        Lease.objects.filter(name__startswith="place:").update(expires_at=timezone.now() - timedelta(days=1))
        self.desk.__dict__.pop("_holds", None)
        self.quote()

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

    def hold(self) -> Hold:
        name = f"place:{self.desk.login.pk}"
        return Hold(name, leases.hold(name, "test", 30))

    def prepared(self, ticket: Ticket) -> tuple[Sending, Order, Any, Hold]:
        """The ticket as a process leaves it that prepared and did not arm."""
        hold, order = self.hold(), self.desk.order(ticket)
        fresh = Ticket.objects.select_related(*submission.TICKET_ROWS).get(pk=ticket.pk)
        with broker_for(self.desk.login) as broker:
            moment = submission.read_moment(fresh, order, broker)
        sending = submission.prepare(ME, fresh, order, moment, hold)
        assert sending is not None
        return sending, order, moment, hold

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

    def arrivals(self) -> list[Any]:
        return self.sim.book()["arrivals"]

    def server_log(self) -> str:
        return (self.database.servers.root / "logs" / "postgres.log").read_text(errors="replace")


@dataclass
class Attempt:
    """One attempt to pass. `expects` is what may rightly reach the broker meanwhile."""

    siege: Siege
    name: str
    expects: int = 0
    tickets: dict[Any, tuple[str, int]] = field(default_factory=dict)
    told_by: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        newest = Entry.objects.order_by("-id").first()
        self.since = newest.pk if newest else 0
        self.arrived = len(self.siege.arrivals())
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

    def told(self, event: str, **details: Any) -> None:
        """The trail has this entry since the attempt began."""
        entries = Entry.objects.filter(pk__gt=self.since, event=event)
        found = [each for each in entries if details.items() <= each.details.items()]
        seen = list(Entry.objects.filter(pk__gt=self.since).values_list("event", "details"))
        assert found, f"no entry {event} with {details}; there are {seen}"
        self.told_by.append(event)

    def told_by_server(self, words: str) -> None:
        """The database refused it, and its log says so: an entry would be rolled back with what it tells of."""
        assert re.search(words, self.siege.server_log()[self.logged :])
        self.told_by.append("the database's log")

    def refused_by_database(self, words: str, *values: Any, says: str) -> None:
        with pytest.raises(psycopg.Error, match=says):
            self.siege.sql(words, *values)
        self.told_by_server(says)

    def denied(self, ticket: Ticket, code: str) -> None:
        ticket.refresh_from_db()
        assert (ticket.status, ticket.refusal_code) == ("denied", code)
        self.told("ticket.denied", code=code)

    def judge(self) -> dict[str, Any]:
        opened = sum(self._was_opened(pk, *before) for pk, before in self.tickets.items())
        sent = len(self.siege.arrivals()) - self.arrived - self.expects
        told_by = ", ".join(dict.fromkeys(self.told_by))
        return {"name": self.name, "opened": opened, "sent": sent, "told_by": told_by}

    def _was_opened(self, pk: Any, status: str, armed: int) -> bool:
        now = Ticket.objects.get(pk=pk).status
        return (status not in ON_ITS_WAY and now in ON_ITS_WAY) or self._armed(pk) > armed

    def _armed(self, pk: Any) -> int:
        return Sending.objects.filter(ticket_id=pk, status__in=ARMED).count()


def turn_once(desk: world.World, holder: str) -> None:
    """One pass in a thread of its own, with holds of its own."""
    loop.turn(ME, holder, {})
