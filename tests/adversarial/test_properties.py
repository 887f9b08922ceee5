"""Any order of proposals, decisions, counters, amendments, closes, mandates, policies, limits, clocks, cancels, halts,
turns and faults: the simulator's own book is the judge (oracle.py), beside what people said.

(I1) at most one broker order for each attempt; (I2) what the ledger calls refused is not on the book; (I3) each
order there has as many yeses, or a mandate, as the policy wanted, for exactly its terms, or closes what was held;
(I4) nothing but people's closes is new after a halt returned (gates.md §6). And people cancel and close always.
"""

import os
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from brokers.base import Side
from cerbero.errors import CerberoError, NothingToClose
from cerbero.models import DecisionRequest
from orders import amending, countering, halting, mandates, services, trading
from orders.halt_models import HaltMode
from orders.lifecycle import ENDED
from orders.models import Amendment, Limits, Mandate, Order, Ticket
from tests.adversarial.oracle import ACTIVE, ALIVE, HALTED, POLICIES, REDUCING, Budget, Oracle
from tests.orders import budgets, world

# Few in the suite; many for a night.
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "3"))
STEPS = 16

NUMBER, QUANTITY = st.integers(0, 50), st.integers(1, 20)
MODES = [HaltMode.STOP_NEW, HaltMode.STOP_AND_CANCEL_OPENING, HaltMode.CANCEL_ALL]
WHO = st.sampled_from(["alice", "bob", "carol"])


class Desk(RuleBasedStateMachine):
    """One desk under whatever people, bots and the network do to it."""

    siege: Any = None

    @initialize()
    def begin(self) -> None:
        self.siege.put_in_order()
        self.siege.desk.activate(POLICIES["one"])
        self.tickets: list[Ticket] = []
        self.oracle = Oracle(self.siege, {row["cOID"] for row in self.siege.desk.at_broker()})
        self._revoke()
        # Something is held and something rests, so that there is what to close and to amend.
        self.fill(5)
        self.place(10, "buy", is_sent=True)

    def _pick(self, number: int) -> Ticket | None:
        return self.tickets[number % len(self.tickets)] if self.tickets else None

    def _try(self, act: Any, *words: Any, **named: Any) -> Any:
        try:
            return act(*words, **named)
        except CerberoError as refusal:
            return refusal

    def _take(self, placed: Any) -> Ticket | None:
        if not isinstance(placed, Ticket):
            return None
        self.oracle.proposed(placed)
        self.tickets.append(placed)
        return placed

    # What bots and people ask for.

    @rule(quantity=QUANTITY, side=st.sampled_from(["buy", "sell"]), is_sent=st.booleans())
    def place(self, quantity: int, side: str, is_sent: bool) -> None:
        ticket = self._place(quantity, side)
        if ticket and is_sent:
            self._decide(ticket, "bob", is_yes=True)
            self._decide(ticket, "carol", is_yes=True)
            self.siege.turn()

    def _place(self, quantity: int, side: str = "buy") -> Ticket | None:
        self.siege.quote()
        price = self.siege.resting if side == "buy" else self.siege.ask * Decimal("1.02")
        terms = {"quantity": quantity, "side": side, "limit_price": price.quantize(Decimal("0.01"))}
        return self._take(self._try(self.siege.place, **terms))

    @rule(quantity=QUANTITY)
    def fill(self, quantity: int) -> None:
        """What is marketable fills at once from now on; the rest rests."""
        self.siege.sim.config(fills="immediate")
        self.siege.quote()
        placed = self._try(self.siege.place, quantity=quantity, limit_price=self.siege.ask + 1)
        if ticket := self._take(placed):
            self._decide(ticket, "bob", is_yes=True)
            self._hear()

    def _hear(self) -> None:
        """What waits goes out, and its fill is known."""
        self.siege.turn()
        self._try(self.siege.desk.reconcile)
        self.siege.turn()

    @rule(number=NUMBER, quantity=QUANTITY)
    def counter(self, number: int, quantity: int) -> None:
        """Carol's no with a smaller size, or with a larger one, which is refused."""
        if not (ticket := self._pick(number)) or (asked := self._asked(ticket)) is None:
            return
        words = {"ticket_id": ticket.pk, "digest": asked.digest, "reason": "less"}
        carol = self.siege.desk.person("carol")
        self._take(self._try(countering.counter_ticket, actor=carol, quantity=Decimal(quantity), **words))

    @rule(number=NUMBER, quantity=QUANTITY, yeses=st.sets(st.sampled_from(["bob", "carol"])))
    def amend(self, number: int, quantity: int, yeses: set[str]) -> None:
        """More or less of what works; what adds is asked of people, who may say nothing."""
        working = [each for each in self.tickets if self.siege.desk.order(each).status == "accepted"]
        if not working:
            return
        ticket = working[number % len(working)]
        order = self.siege.desk.order(ticket)
        wanted = {"quantity": Decimal(quantity), "quantity_is": "total"}
        self.siege.quote()
        asked = self._try(amending.amend_order, actor=self.siege.desk.scanner, order_id=order.pk, **wanted)
        if not isinstance(asked, Amendment):
            return
        assert (asked.request is None) == (quantity < order.quantity), "what adds passes unasked"
        terms = Decimal(quantity), order.limit_price
        self.oracle.said[ticket.pk].setdefault(terms, set())
        for who in sorted(yeses) if asked.request else ():
            self._decide_amendment(asked, ticket, terms, who)
        self.siege.turn()

    def _decide_amendment(self, asked: Amendment, ticket: Ticket, terms: Any, who: str) -> None:
        assert asked.request is not None
        said = {"digest": asked.request.digest, "is_yes": True, "amendment_id": asked.pk}
        taken = self._try(amending.decide_amendment, actor=self.siege.desk.person(who), **said)
        if isinstance(taken, Amendment):
            self.oracle.decided(ticket.pk, who, terms)

    # What people say.

    @rule(number=NUMBER, who=WHO, is_yes=st.booleans())
    def decide(self, number: int, who: str, is_yes: bool) -> None:
        if ticket := self._pick(number):
            self._decide(ticket, who, is_yes=is_yes)

    def _decide(self, ticket: Ticket, who: str, *, is_yes: bool) -> None:
        asked = self._asked(ticket)
        if asked is None:
            return
        taken = self._try(self.siege.desk.decide, ticket, who, is_yes=is_yes, reason="property")
        if isinstance(taken, Ticket) and is_yes:
            assert who != "alice", "the bot's owner said yes"
            order = Order.objects.get(ticket=ticket)
            self.oracle.decided(ticket.pk, who, (order.quantity, order.limit_price))

    def _asked(self, ticket: Ticket) -> DecisionRequest | None:
        """The question that is open; one that was asked anew forgets who said yes to the last."""
        ticket.refresh_from_db()
        asked = ticket.request
        if asked is not None and not asked.decisions.exists():
            self.oracle.asked_again(ticket.pk)
        return asked

    @rule(name=st.sampled_from(sorted(POLICIES)))
    def rule_otherwise(self, name: str) -> None:
        self.siege.desk.activate(POLICIES[name])
        self.oracle.policy = name

    @rule(most=st.sampled_from([3, 10, 10_000]))
    def limit(self, most: int) -> None:
        row = Limits.objects.get(account=self.siege.desk.account)
        row.quantity_max = Decimal(most)
        row.save()
        self.oracle.quantity_max = Decimal(most)

    @rule(count=st.integers(1, 2), how=st.sampled_from(["used up", "over", "revoked"]))
    def mandate(self, count: int, how: str) -> None:
        """A budget that is used up and one order more, or is over or revoked between its orders and their sending."""
        if self.oracle.policy == "nothing":
            return
        self.rule_otherwise("mandate")
        ends = timezone.now() + timedelta(seconds=0.3 if how == "over" else 3600)
        most = {"count_max": count, "order_notional_max": Decimal(2_000)}
        signed = self._try(budgets.signed, self.siege.desk, expires_at=ends, **most)
        if not isinstance(signed, Mandate):
            return
        self.oracle.budgets[signed.pk] = Budget(count, Decimal(2_000), ends.timestamp())
        for _ in range(count + 1):
            self._place(2)
        if how == "revoked":
            self._revoke()
        elif how == "over":
            world.until(lambda: time.time() > ends.timestamp())
            self.oracle.looked_at = time.time()
        self.siege.turn()

    def _revoke(self) -> None:
        for each in Mandate.objects.filter(status__in=["proposed", "active"]):
            carol = self.siege.desk.person("carol")
            mandates.revoke_mandate(actor=carol, mandate_id=each.pk, reason="enough")
            if each.pk in self.oracle.budgets:
                self.oracle.budgets[each.pk].is_revoked = True

    # What reduces risk: for people it is always there.

    @rule(number=NUMBER)
    def cancel(self, number: int) -> None:
        if ticket := self._pick(number):
            pk = self.siege.desk.order(ticket).pk
            order = services.cancel_order(actor=self.siege.desk.person("carol"), order_id=pk)
            assert order.cancel_requested_at is not None or order.status in ENDED

    @rule(is_persons=st.booleans())
    def close(self, is_persons: bool) -> None:
        desk = self.siege.desk
        actor = desk.person("carol") if is_persons else desk.scanner
        words = {"account": desk.account.broker_account_id, "symbol": "AAPL"}
        held = self._held()
        made = self._try(
            services.close_position, actor=actor, idempotency_key=f"c-{next(desk.keys)}", **words
        )
        if isinstance(made, Ticket):
            order = Order.objects.get(ticket=made)
            assert order.quantity <= abs(held), "a close of more than was held"
            assert order.side == (Side.SELL if held > 0 else Side.BUY)
            self.oracle.said[made.pk] = {(order.quantity, None): set()}
            self.oracle.closes[made.pk] = "person" if is_persons else "bot"
            self.tickets.append(made)
            self._hear()
        elif is_persons:
            assert isinstance(made, NothingToClose), f"a person may not close: {made.code}"
            assert held == 0 or self._exits(held), "nothing closes it, and a person may not"

    def _held(self) -> Decimal:
        accounts = self.siege.sim.book()["accounts"]
        held = accounts[self.siege.desk.account.broker_account_id]["positions"]
        return Decimal(held.get(world.AAPL, "0"))

    def _exits(self, held: Decimal) -> bool:
        side = Side.SELL if held > 0 else Side.BUY
        return Order.objects.filter(side=side).exclude(status__in=ENDED).exists()

    @rule(mode=st.sampled_from(MODES), is_whole=st.booleans())
    def halt(self, mode: str, is_whole: bool) -> None:
        bob = self.siege.desk.person("bob")
        halted = halting.halt_trading(mode=mode, actor=bob, reason="property", **self._scope(is_whole))
        self.oracle.stopped(HALTED, set(halted["in_flight"]))

    @rule(is_whole=st.booleans(), is_resumed=st.booleans())
    def reduce_or_resume(self, is_whole: bool, is_resumed: bool) -> None:
        carol, scope = self.siege.desk.person("carol"), self._scope(is_whole)
        act = trading.resume_trading if is_resumed else trading.reduce_trading
        refused = self._try(act, actor=carol, reason="property", **scope)
        if is_resumed and trading.worst_state(self.siege.desk.account, self.siege.desk.bot.pk) == ACTIVE:
            self.oracle.state = ACTIVE
        elif not is_resumed and refused is None:
            self.oracle.stopped(REDUCING, set(trading.in_flight("1-everything", "")))

    def _scope(self, is_whole: bool) -> dict[str, str]:
        account = str(self.siege.desk.account.pk)
        return {"scope": "1-everything"} if is_whole else {"scope": "3-account", "scope_id": account}

    # Time, processes and the network.

    @rule(number=NUMBER)
    def run_out(self, number: int) -> None:
        """The time that people had for it is over, whether they used it or not."""
        if (ticket := self._pick(number)) and ticket.request_id:
            self.siege.time_passes(ticket)
            self.oracle.asked_again(ticket.pk)

    @rule(hours=st.sampled_from([0, 0, 0, -30, 30]), is_another=st.booleans())
    def turn(self, hours: int, is_another: bool) -> None:
        """The process, or another after its lease has run out; its clock may be wrong."""
        if is_another:
            self.siege.desk.release("orders-1")
        with pytest.MonkeyPatch.context() as patch:
            now = timezone.now
            patch.setattr(timezone, "now", lambda: now() + timedelta(hours=hours))
            self.siege.turn("orders-2" if is_another else "orders-1")

    @rule(kind=st.sampled_from(["drop_before", "drop_after", "empty_200"]))
    def fault(self, kind: str) -> None:
        self.siege.sim.fault(kind, path="/orders$", method="POST", times=1)

    @rule()
    def reconcile(self) -> None:
        self._try(self.siege.desk.reconcile)

    @invariant()
    def the_book_holds_nothing_but_what_was_allowed(self) -> None:
        self.oracle.judge()

    def teardown(self) -> None:
        """Halted or not, people get everything off the book."""
        self.siege.sim.control("DELETE", "/_sim/faults")
        for ticket in self.tickets:
            self.cancel(self.tickets.index(ticket))
        world.until(self._is_swept)
        self.oracle.judge()

    def _is_swept(self) -> bool:
        if not any(row["status"] in ALIVE - {"Filled"} for row in self.oracle.booked().values()):
            return True
        self.siege.desk.reconcile()
        self.siege.turn()
        return False


def _tour() -> Oracle:
    """One walk past everything that the machine can do, so that what it finds nothing wrong with did happen."""
    desk = Desk()
    desk.begin()
    desk.the_book_holds_nothing_but_what_was_allowed()
    for step in (
        lambda: desk.amend(0, 12, {"bob"}),
        lambda: desk.amend(0, 6, set()),
        lambda: desk.close(is_persons=False),
        lambda: desk.mandate(2, "used up"),
        lambda: desk.counter(len(desk.tickets) - 1, 1),
        lambda: desk.halt(HaltMode.STOP_NEW, is_whole=True),
        lambda: desk.turn(0, is_another=True),
        lambda: desk.reduce_or_resume(is_whole=True, is_resumed=True),
    ):
        step()
        desk.the_book_holds_nothing_but_what_was_allowed()
    desk.teardown()
    return desk.oracle


def test_a_tour_past_all_that_may_happen_leaves_only_what_was_allowed(siege, attempt):
    Desk.siege = siege
    happened = _tour().counts.keys()
    assert happened == {"sent", "widened", "tightened", "closes", "passed under a mandate"}
    _end(siege, attempt)


# Walks of their own, so that several workers go them at once.
@pytest.mark.parametrize("number", range(3))
def test_whatever_happens_the_book_holds_only_what_was_allowed(siege, attempt, number):
    Desk.siege = siege
    run_state_machine_as_test(
        seed(number)(type("Walk", (Desk,), {})),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # What fails is found again from its seed; to shorten it takes many minutes at a broker.
            phases=[Phase.generate],
        ),
    )
    _end(siege, attempt)


def _end(siege: Any, attempt: Any) -> None:
    siege.desk.activate(POLICIES["one"])
    # Each arrival was explained above, order by order.
    attempt.expects = attempt.sent()
    attempt.told("decision.refused")
