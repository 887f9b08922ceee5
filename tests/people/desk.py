"""A live desk at a live simulator: people with confirmed passkeys, a cleared account, nobody barred."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group

from brokers import services as brokers
from brokers.models import LiveClearance
from cerbero import access
from cerbero.embedded import OWNER
from cerbero.models import DecisionStatus, User
from cerbero.people import changes, passkeys
from cerbero.people.models import PersonChange
from orders import services
from orders.models import Ticket
from tests.orders import world
from tests.orders.world import World, hear
from tests.people.authenticator import Authenticator
from tests.rig import Database
from tests.simulator_process import SimulatorProcess


@dataclass
class LiveDesk:
    """The orders' world, with everybody's authenticator."""

    world: World
    keys: dict[str, Authenticator]
    database: Database

    def sign(self, ticket: Ticket, who: str) -> Ticket:
        """One person's yes, as the queue page gives it."""
        return self.say_yes(ticket, who, self.keys[who].get(self.asked(ticket, who)))

    def asked(self, ticket: Ticket, who: str) -> dict[str, Any]:
        ticket.refresh_from_db()
        return services.ask_signature(
            actor=self.world.person(who), ticket_id=ticket.pk, digest=ticket.request.digest
        )

    def say_yes(self, ticket: Ticket, who: str, assertion: dict[str, Any] | None) -> Ticket:
        hear(self.world.login)
        return services.decide_ticket(
            actor=self.world.person(who),
            ticket_id=ticket.pk,
            digest=ticket.request.digest,
            is_yes=True,
            assertion=assertion,
        )

    def place(self, **changes: Any) -> Ticket:
        """A limit order at the market as it is."""
        return self.world.place(**{"limit_price": self.world.near()} | changes)

    def approved(self, **changes: Any) -> Ticket:
        """A ticket that as many people signed as it needs."""
        ticket = self.place(**changes)
        for who in ("bob", "carol"):
            ticket.refresh_from_db()
            if ticket.request.status == DecisionStatus.PENDING:
                self.sign(ticket, who)
        ticket.refresh_from_db()
        return ticket

    @contextmanager
    def as_owner(self, *tables: str) -> Iterator[Any]:
        """A connection that may do what no role of ours can: rewrite rows that triggers keep."""
        with self.database.connect(OWNER) as connection:
            for table in tables:
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            yield connection
            for table in tables:
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def a_day_later(self) -> None:
        """Everybody's bar has run out."""
        with self.as_owner("people_livebar") as connection:
            connection.execute("UPDATE people_livebar SET until = now() - interval '1 day'")


def administrators(*names: str) -> list[User]:
    """People who confirm each other's changes."""
    made = []
    for name in names:
        user = User.objects.create_user(name, is_staff=True)
        user.groups.add(Group.objects.get(name="Administrator"))
        made.append(user)
    return made


def confirmed_key(user: User, by: User, **wrong: Any) -> Authenticator:
    """A new authenticator of `user`, registered and confirmed."""
    device = Authenticator(**wrong)
    options = passkeys.registration_options(user, challenge := b"c" * 32)
    change = changes.propose_passkey(
        actor=access.person(user), credential=device.create(options), challenge=challenge, name="key"
    )
    confirm(change, by)
    return device


def confirm(change: PersonChange, by: User) -> PersonChange:
    digest = change.request.digest
    return changes.decide(actor=access.person(by), change_id=change.pk, digest=digest, is_yes=True)


def open_desk(sim: SimulatorProcess, database: Database, settings: Any) -> LiveDesk:
    """Live trading as it is in earnest, but for the servers, which the test owns."""
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    floor = world.connect(sim, environment="live")
    erin, frank = administrators("erin", "frank")
    brokers.enable_live(actor=access.person(erin), account=floor.account, checklist=LiveClearance.CHECKLIST)
    brokers.confirm_live(actor=access.person(frank), account=floor.account)
    keys = {name: confirmed_key(user, erin) for name, user in floor.people.items()}
    desk = LiveDesk(floor, keys, database)
    desk.a_day_later()
    return desk
