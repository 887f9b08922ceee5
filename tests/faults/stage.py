"""What a case may do, and what is remembered of one run."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import Error, connection, connections

from tests.faults.judge import Evidence, Intent, is_settled, judge
from tests.faults.lane import CENT, QUIET_SECONDS, ledger_of, unlimited
from tests.faults.nest import PATIENCE

if TYPE_CHECKING:
    from random import Random

    from tests.faults.lane import Lane
    from tests.faults.nest import Child


class Stage:
    """One run of one case."""

    def __init__(self, lane: "Lane", rng: "Random") -> None:
        self.lane, self.rng = lane, rng
        self.intents: list[Intent] = []
        self.manual: set[int] = set()
        self.armed: list[Child] = []
        self.last: dict[Any, Any] = {}
        self.is_halted = self.must_end = False
        self.began_ms = int(time.time() * 1000)
        self.released_at = time.monotonic()
        self.before = {row["order_id"] for row in lane.sim.book()["orders"]}

    # What a case does

    def order(self, *, approve: bool = True, fills: bool = False, side: str = "", **terms: Any) -> Intent:
        """Propose an order with terms that no other has, and let people agree to it."""
        side = side or self.rng.choice(["buy", "sell"])
        quantity, price = self._unique(side, fills)
        desk = self.lane.desk
        ticket = desk.place(side=side, quantity=quantity, limit_price=price, **terms)
        account = terms.get("account", desk.account.broker_account_id)
        intent = Intent(ticket.pk, account, side, quantity, price, approve)
        self._release(ticket, intent)
        return intent

    def bracket(self, *, fills: bool = False, **terms: Any) -> Intent:
        """The same with a bracket: its entry, which is returned, its take profit and its stop."""
        quantity, price = self._unique("buy", fills)
        desk = self.lane.desk
        ticket = desk.place_group(desk.bracket(price, size=int(quantity), **terms))
        entry, profit, stop = (
            Intent(
                ticket.pk,
                desk.account.broker_account_id,
                leg.side,
                quantity,
                leg.limit_price or leg.stop_price,
                is_approved=True,
                number=leg.number,
                order_type="LMT" if leg.limit_price else "STP",
            )
            for leg in ticket.orders.order_by("number")
        )
        self._release(ticket, entry, profit, stop)
        return entry

    def cover_shorts(self) -> None:
        """What earlier plays sold short is gone: else the broker would hold nothing for an exit to close."""
        from tests.orders.world import AAPL

        account = self.lane.desk.account.broker_account_id
        held = Decimal(self.lane.sim.book()["accounts"][account]["positions"].get(AAPL, "0"))
        if held < 0:
            units = {"account": account, "conid": int(AAPL), "quantity": str(-held)}
            self.lane.sim.control("POST", "/_sim/position", units)

    def completion(self, entry: Intent) -> None:
        """The stop of a bracket is sent again for the one that its entry opened: that, too, people approved."""
        from orders.models import Order

        again = Order.objects.filter(ticket_id=entry.ticket_id, number=4)
        row = self.until(again.first)
        terms = (Decimal(1), row.stop_price, True)
        intent = Intent(entry.ticket_id, entry.account, row.side, *terms, number=4, order_type="STP")
        intent.accepted = set(entry.accepted)
        self.intents.append(intent)

    def _unique(self, side: str, fills: bool) -> tuple[Decimal, Decimal]:
        """A quantity and a price that no other order of this lane has together."""
        self.lane.number += 1
        number = self.lane.number
        away = (1 if side == "buy" else -1) * (Decimal("0.05") if fills else Decimal("-2"))
        price = (self.lane.ask + away).quantize(CENT) + CENT * (number // 40 % 100) * (1 if fills else -1)
        self.lane.until_up()
        return Decimal(2 + number % 40), price

    def _release(self, ticket: Any, *intents: Intent) -> None:
        for intent in intents:
            intent.accepted = set(ticket.account.allowed_question_ids)
            self.intents.append(intent)
        if intents[0].is_approved:
            self.lane.desk.decide(ticket)
        self.released_at = time.monotonic()

    def arm(self, job: str, place: str, *, number: int = 1, how: str = "SIGKILL") -> None:
        if place:
            self.lane.children[job].arm(f"{how} {place} {number}")
            self.armed.append(self.lane.children[job])

    def fault(self, kind: str, path: str, method: str = "", *, times: int = 1, **details: Any) -> None:
        for name in {"seconds", "lasts_seconds"} & details.keys():
            details[name] *= PATIENCE
        body = {"kind": kind, "path": path, "method": method, "times": times} | details
        self.lane.sim.control("POST", "/_sim/faults", body)

    def shut_the_door(self, seconds: float) -> None:
        """Nobody can connect to the broker, from now on and for so long."""
        from brokers.services import broker_for
        from cerbero.errors import BrokerError

        self.fault("refuse", "/iserver/auth/status", seconds=seconds)
        with suppress(BrokerError), broker_for(self.lane.desk.login) as broker:
            broker.session_status()

    def fill(self, order: Any, **terms: Any) -> None:
        """The broker fills it: whole, or `quantity` of it at `price`."""
        self.lane.sim.control("POST", "/_sim/fill", {"order_id": int(order.broker_order_id)} | terms)

    def config(self, **changes: Any) -> None:
        self.lane.sim.config(**changes)

    def until(self, look: Any, seconds: float = 25 * PATIENCE, *, mend: bool = True) -> Any:
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

        rows = Order.objects.filter(ticket_id=intent.ticket_id, number=intent.number, status__in=statuses)

        def look() -> Any:
            return rows.first()

        # What a run that breaks here says that it waited for.
        look.__name__ = f"order {intent.number} to be {' or '.join(statuses)}"
        return self.until(look)

    def approve(self, intent: Intent) -> None:
        """People agree, to the broker's questions too that were asked meanwhile."""
        from orders.models import Ticket

        ticket = Ticket.objects.get(pk=intent.ticket_id)
        self.lane.until_up()
        intent.accepted |= {row["id"] for row in ticket.request.facts.get("questions", [])}
        self.lane.desk.decide(ticket)
        intent.is_approved = True

    def allow_questions(self, *ids: str) -> None:
        """The account's list of questions that are answered yes unasked."""
        from brokers.models import Account

        Account.objects.update(allowed_question_ids=list(ids))

    def cancel(self, intent: Intent, fail_point: str = "") -> None:
        """A person cancels, through a process of its own."""
        from orders.models import Order

        order = Order.objects.get(ticket_id=intent.ticket_id, number=intent.number)
        child = self.lane.start("cancel", fail_point=fail_point, order_id=str(order.pk), person="bob")
        if fail_point:
            self.armed.append(child)
        self.until(lambda: not child.is_alive)

    def amend(self, intent: Intent, *, tightens: bool = True) -> None:
        """Ask for another price; what only tightens passes by itself, the rest is asked of people."""
        from orders import amending
        from orders.models import Order

        order = Order.objects.get(ticket_id=intent.ticket_id, number=intent.number)
        away = Decimal(-1 if intent.side == "buy" else 1)
        intent.amended_price = intent.price + away * (2 if tightens else -1)
        desk = self.lane.desk
        asked = amending.amend_order(actor=desk.scanner, order_id=order.pk, limit_price=intent.amended_price)
        if asked.request is not None:
            digest = asked.request.digest
            amending.decide_amendment(
                actor=desk.person("bob"), amendment_id=asked.pk, digest=digest, is_yes=True
            )
        self.released_at = time.monotonic()

    def halt(self, mode: str = "stop_new") -> None:
        """A person halts everything, through a process of its own; afterwards nothing new may leave."""
        child = self.lane.start("halt", person="bob", mode=mode)
        self.until(lambda: not child.is_alive, mend=False)
        self.must_end = mode == "cancel_all"
        self.bar()

    def withdraw_all(self) -> None:
        """Nothing of this run may be sent after it; a group is canceled as one."""
        from cerbero import access
        from orders import services
        from orders.groups import sets
        from orders.lifecycle import ENDED

        actor = access.system("harness")
        living = self._orders().exclude(status__in=ENDED)
        for ticket_id in living.exclude(ticket__group="").values_list("ticket_id", flat=True).distinct():
            sets.cancel(actor=actor, ticket_id=ticket_id)
        for order in living.filter(ticket__group=""):
            services.cancel_order(actor=actor, order_id=order.pk)

    def is_over(self, seconds: float = 20 * PATIENCE) -> bool:
        """Whether every order of this run ends in time."""
        from orders.lifecycle import ENDED

        with suppress(TimeoutError):
            return self.until(lambda: not self._orders().exclude(status__in=ENDED).exists(), seconds)
        return False

    def _orders(self) -> Any:
        from orders.models import Order

        return Order.objects.filter(ticket_id__in=[intent.ticket_id for intent in self.intents])

    def sql(self, words: str, *values: Any) -> None:
        """What somebody with the application's password can say."""
        with connection.cursor() as cursor:
            cursor.execute(words, values)

    def until_stopped(self, job: str) -> None:
        self.until(lambda: self.lane.children[job].is_stopped, mend=False)

    def tell(self, job: str, number: int) -> None:
        self.lane.children[job].tell(number)

    def until_taken_over(self) -> None:
        """The second orders process holds the login's lease."""
        from cerbero.leases import database_now
        from cerbero.models import Lease

        lease = Lease.objects.filter(name=f"place:{self.lane.desk.login.pk}")
        pid = str(self.lane.children["orders-2"].pid)
        mine = lease.filter(holder__contains=f":{pid}:")
        # One who holds the lease's row in an open transaction is ended by the database, after five seconds.
        self.until(lambda: mine.filter(expires_at__gt=database_now()).exists(), mend=False)

    def until_heard(self) -> None:
        """The relay listens to the broker's stream."""
        from brokers.models import Login

        self.lane.until_up()
        since = datetime.now(UTC)
        heard = Login.objects.filter(pk=self.lane.desk.login.pk, feed_alive_at__gt=since)
        self.until(heard.exists)

    def other_account(self) -> str:
        """The login's second account, ready for orders."""
        from brokers.models import Account
        from orders import trading
        from orders.models import Limits

        desk = self.lane.desk
        row = Account.objects.exclude(pk=desk.account.pk).get(login=desk.login)
        Limits.objects.update_or_create(account=row, defaults=unlimited())
        trading.ensure_states(row, desk.bot)
        return row.broker_account_id

    # What became of it

    def evidence(self) -> Evidence:
        from brokers.models import Report
        from orders.models import Ticket

        tickets = Ticket.objects.filter(pk__in=[intent.ticket_id for intent in self.intents])
        found = {ticket.pk: ticket for ticket in tickets}
        keys = [intent.key for intent in self.intents if intent.ticket_id in found]
        self.last = {(pk, number): ledger_of(found[pk], number) for pk, number in keys}
        book = self.lane.sim.book()
        return Evidence(
            intents=self.intents,
            ledgers=self.last,
            orders=[row for row in book["orders"] if row["order_id"] not in self.before],
            arrivals=[row for row in book["arrivals"] if row["at_ms"] >= self.began_ms],
            waiting=Report.objects.waiting().count(),
            manual=self.manual,
            is_halted=self.is_halted,
            must_end=self.must_end,
        )

    def settle(self, seconds: float, sees: str = "") -> tuple[bool, float]:
        """Wait for rest that lasts, or for what a planted defect shows.

        Returns whether rest came, and how many seconds after the release it began.
        """
        deadline = time.monotonic() + seconds
        since = 0.0
        while time.monotonic() < deadline:
            self.lane.mend()
            rests = False
            with suppress(Error, OSError):
                if sees not in {"", "stuck"} and getattr(judge(self.evidence(), settled=True), sees):
                    break
                rests = self._may_rest() and is_settled(self.evidence())
            now = time.monotonic()
            since = (since or now) if rests else 0.0
            if since and now - since >= QUIET_SECONDS:
                return True, since - self.released_at
            self._breathe()
        return False, time.monotonic() - self.released_at

    def _may_rest(self) -> bool:
        """A look that costs little, before the one that costs more."""
        from brokers.models import Report
        from orders.models import Attempt

        mine = Attempt.objects.filter(ticket_id__in=[intent.ticket_id for intent in self.intents])
        flying = mine.filter(status__in=["sent", "in_doubt"]).exists()
        return not flying and not Report.objects.waiting().exists()

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
        time.sleep(0.08 * PATIENCE)
        if connection.connection is not None and connection.connection.broken:
            connections.close_all()
