"""A small desk in real rows: alice owns the bot, bob and carol approve, one paper account, two instruments."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from brokers.base import OrderType, Side, TimeInForce
from brokers.credentials import store_credential
from brokers.models import Account, BrokerInstrument, Instrument, Login, Quote, SessionState, Subscription
from brokers.services import broker_for
from brokers.sessions import keep_session
from cerbero import access, leases
from cerbero.access import Actor
from cerbero.errors import LeaseLost
from cerbero.models import Bot, User
from orders import loop, policies, reconciliation, services, trading
from orders.models import Attempt, Balance, Limits, Order, PolicyVersion, Ticket
from orders.submission import Hold
from orders.tickets import GroupProposal, Proposal
from tests.simulator_process import SimulatorProcess

PERMISSIONS = (
    "decide_ticket",
    "cancel_order",
    "close_position",
    "halt_trading",
    "resume_trading",
    "view_ticket",
    "take_duty",
)
ROOMY: dict[str, Any] = {
    "repeats_max": 10_000,
    "orders_per_minute_max": 10_000,
    "messages_per_minute_max": 10_000,
    "daily_orders_max": 10_000,
    "working_orders_per_side_max": 1_000,
    "asset_classes": ["STK", "ETF", "FUT"],
    "allows_short_sale": True,
}
AAPL, SPY = "265598", "756733"


@dataclass
class World:
    """Everything that a test of orders stands on."""

    people: dict[str, User]
    bot: Bot
    login: Login
    account: Account
    aapl: Instrument
    keys: Any
    sim: SimulatorProcess | None = None

    @property
    def scanner(self) -> Actor:
        """The bot, as its token would make it."""
        return Actor(
            kind="bot",
            id=self.bot.pk,
            name=self.bot.name,
            scopes=frozenset(access.DEFAULT_SCOPES),
            environment=self.bot.environment,
            owner_id=self.bot.owner_id,
            tag="test-1",
        )

    def person(self, name: str) -> Actor:
        return access.person(self.people[name])

    def proposal(self, **changes: Any) -> Proposal:
        """A limit order to buy 10 AAPL at 190.00, inside every limit, with a key of its own."""
        fields: dict[str, Any] = {
            "account": self.account.broker_account_id,
            "symbol": "AAPL",
            "side": Side.BUY,
            "quantity": Decimal(10),
            "order_type": OrderType.LIMIT,
            "limit_price": Decimal("190.00"),
            "time_in_force": TimeInForce.DAY,
            "idempotency_key": f"key-{next(self.keys)}",
        }
        return Proposal(**fields | changes)

    def place(self, **changes: Any) -> Ticket:
        return services.place_order(actor=self.scanner, proposal=self.proposal(**changes))

    def group(self, kind: str, *legs: dict[str, Any], **shared: Any) -> GroupProposal:
        """Orders to propose as one, each a change of the usual order; the first carries the key."""
        key = f"key-{next(self.keys)}"
        shared = {"idempotency_key": key} | shared
        return GroupProposal(kind, tuple(self.proposal(**shared | leg) for leg in legs))

    def bracket(self, at: str | Decimal = "190.00", size: int = 10, **shared: Any) -> GroupProposal:
        """Buy `size` with a limit, take the profit 5 % above and stop 5 % below."""
        price = Decimal(at)
        up, down = ((price * each).quantize(Decimal("0.01")) for each in (Decimal("1.05"), Decimal("0.95")))
        sale: dict[str, Any] = {"side": Side.SELL, "limit_price": None}
        return self.group(
            "bracket",
            {"limit_price": price},
            sale | {"limit_price": up},
            sale | {"order_type": OrderType.STOP, "stop_price": down},
            quantity=Decimal(size),
            **shared,
        )

    def place_group(self, group: GroupProposal) -> Ticket:
        return services.place_order(actor=self.scanner, proposal=group)

    def decide(self, ticket: Ticket, who: str = "bob", *, is_yes: bool = True, reason: str = "") -> Ticket:
        ticket.refresh_from_db()
        hear(self.login)
        return services.decide_ticket(
            actor=self.person(who),
            ticket_id=ticket.pk,
            digest=ticket.request.digest,
            is_yes=is_yes,
            reason=reason,
        )

    def approved(self, **changes: Any) -> Ticket:
        return self.decide(self.place(**changes))

    def order(self, ticket: Ticket) -> Order:
        return Order.objects.select_related("ticket").get(ticket=ticket, number=1)

    def quote(self, bid: str, ask: str, **changes: Any) -> None:
        """The newest stored quote of AAPL, of this moment unless told otherwise."""
        now = timezone.now()
        fields = {"bid": Decimal(bid), "ask": Decimal(ask), "last": Decimal(bid), "availability": "live"}
        fields |= {"received_at": now, "changed_at": now}
        Quote.objects.update_or_create(instrument=self.aapl, defaults=fields | changes)

    def administrator(self, name: str) -> Actor:
        person, _ = User.objects.get_or_create(username=name, defaults={"is_staff": True})
        person.groups.add(Group.objects.get(name="Administrator"))
        return access.person(person)

    def activate(self, rules: list[dict[str, Any]]) -> PolicyVersion:
        """A policy of these rules, then a refusal: proposed by dora, activated by egon."""
        last = {"name": "otherwise", "then": {"do": "refuse", "reason": "nothing else"}}
        dora, egon = self.administrator("dora"), self.administrator("egon")
        version = policies.propose_policy(actor=dora, rules=[*rules, last], reason="a test's")
        return policies.decide_policy(actor=egon, version_id=version.pk, digest=version.digest, is_yes=True)

    # With a broker only.

    def turn(self, holder: str = "orders-1") -> None:
        """One pass of the orders loop, as a process of that name would do it."""
        holds = self.__dict__.setdefault("_holds", {}).setdefault(holder, {})
        loop.turn(access.system("orders"), holder, holds)

    def release(self, holder: str = "orders-1") -> None:
        """That process is gone and its lease has run out."""
        for hold in self.__dict__.get("_holds", {}).pop(holder, {}).values():
            leases.release(hold.name, hold.fence)

    def hold(self) -> Hold:
        name = f"place:{self.login.pk}"
        return Hold(name, leases.hold(name, "test", 30))

    def reconcile(self, **options: Any) -> None:
        with broker_for(self.login) as broker:
            reconciliation.reconcile(
                actor=access.system("reconciliation"), login=self.login, broker=broker, **options
            )

    def near(self) -> Decimal:
        """AAPL's ask at the simulator, as a limit that fills at once would have it."""
        with broker_for(self.login) as broker:
            for _ in range(20):
                rows = broker.snapshot([AAPL])
                if rows and rows[0].ask:
                    self.quote(str(rows[0].bid), str(rows[0].ask))
                    return rows[0].ask
        raise AssertionError("the simulator quotes nothing")

    def at_broker(self) -> list[dict[str, Any]]:
        """Every order that the simulator ever accepted: the judge's truth."""
        assert self.sim is not None
        return self.sim.book()["orders"]


def hear(login: Login) -> None:
    """The relay has just heard the feed, as it says of itself."""
    Login.objects.filter(pk=login.pk).update(feed_alive_at=timezone.now())


def put_order(
    desk: World, *, sent_ago: timedelta | None = None, person: User | None = None, **fields: Any
) -> Order:
    """An order as an earlier life of the desk left it: its rows alone, in whatever state."""
    number = next(desk.keys)
    status = fields.pop("status", "accepted")
    ticket = Ticket.objects.create(
        account=desk.account,
        bot=None if person else desk.bot,
        person=person,
        idempotency_key=f"put-{number}",
        digest="d",
        # An attempt begins while its ticket is allowed, and only a close is allowed from the start.
        status="allowed" if sent_ago is not None else "proposed",
        reduce_only=True,
        notional=fields.pop("notional", Decimal(1)),
    )
    terms: dict[str, Any] = {"side": "buy", "quantity": Decimal(10), "limit_price": Decimal(100)}
    terms |= {"order_type": "limit", "time_in_force": "day"}
    order = Order.objects.create(ticket=ticket, instrument=desk.aapl, status=status, **terms | fields)
    if sent_ago is not None:
        words = {"client_order_id": f"put-{number}", "digest": "d", "fence": 1}
        Attempt.objects.create(ticket=ticket, number=1, prepared_at=timezone.now() - sent_ago, **words)
    return order


def build(
    login: Login | None = None, broker_account_id: str = "DU1234567", environment: str = "paper"
) -> World:
    people = {
        name: User.objects.create_user(name, password=None, is_staff=True)
        for name in ("alice", "bob", "carol")
    }
    approvers, _ = Group.objects.get_or_create(name="Approver")
    approvers.permissions.add(*Permission.objects.filter(codename__in=PERMISSIONS))
    for person in people.values():
        person.groups.add(approvers)
    bot = Bot.objects.create(name="scanner-alpha", owner=people["alice"], environment=environment)
    login = login or Login.objects.create(
        name="desk-1", environment="paper", is_paper=True, state=SessionState.UP
    )
    account, _ = Account.objects.update_or_create(
        login=login,
        broker_account_id=broker_account_id,
        defaults={"environment": environment, "listed_at": timezone.now()},
    )
    # Tests ask for the same order many times over; those of the throttles set their own.
    Limits.objects.create(account=account, **ROOMY)
    rich = Decimal(1_000_000)
    Balance.objects.create(account=account, net_liquidation=rich, day_start=rich, as_of=timezone.now())
    trading.ensure_states(account, bot)
    aapl = Instrument.objects.create(
        symbol="AAPL", name="APPLE INC", price_increment=Decimal("0.01"), multiplier=1, is_allowed=True
    )
    BrokerInstrument.objects.create(instrument=aapl, broker="ibkr", broker_instrument_id=AAPL)
    world = World(people, bot, login, account, aapl, itertools.count(1))
    world.quote("189.98", "190.02")
    hear(login)
    return world


def connect(sim: SimulatorProcess, environment: str = "paper") -> World:
    """The same desk with its session up at a simulator."""
    login = login_at(sim, "desk-1", environment)
    world = build(login, sim.credentials["accounts"][0], environment)
    Subscription.objects.create(login=login, instrument=world.aapl)
    open_session(login)
    world.account.refresh_from_db()
    world.sim = sim
    return world


def login_at(sim: SimulatorProcess, name: str, environment: str) -> Login:
    """A login with a simulator's keys, its session not up yet."""
    keys = sim.credentials
    login = Login.objects.create(name=name, environment=environment, base_url=sim.base_url, ws_url=sim.ws_url)
    store_credential(
        actor=access.system("test"),
        login=login,
        consumer_key=keys["consumer_key"],
        access_token=keys["access_token"],
        access_token_secret=keys["access_token_secret"],
        dh_prime=keys["dh_prime"],
        signature_key_pem=Path(keys["signature_key_path"]).read_bytes(),
        encryption_key_pem=Path(keys["encryption_key_path"]).read_bytes(),
        status="active",
    )
    return login


def open_session(login: Login) -> None:
    assert until(lambda: _keep_session(login) == SessionState.UP)
    login.refresh_from_db()


def _keep_session(login: Login) -> str:
    """By this process, or by a desk's own that was quicker."""
    try:
        return keep_session(login, access.system("test"))
    except LeaseLost:
        login.refresh_from_db()
        return login.state


def until(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` returns as soon as that is something."""
    import time

    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
