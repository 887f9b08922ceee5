"""Any order of proposals, decisions, cancels, halts, turns and faults: the simulator's own book is the judge.

(I1) at most one broker order for each attempt; (I2) what the ledger calls refused is not on the book; (I3) each
order there has a used approval of exactly those terms; (I4) nothing new after a halt returned (gates.md §6).
"""

import os
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cerbero.errors import CerberoError
from orders import halting, services, trading
from orders.canonical import ticket_digest
from orders.models import Attempt, Order, Ticket

# Few in the suite; many for a night.
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "10"))
ALIVE = {"Submitted", "PreSubmitted", "Filled"}
SIDES = {"BUY": "buy", "SELL": "sell"}


class Desk(RuleBasedStateMachine):
    """One desk under whatever people, bots and the network do to it."""

    siege: Any = None

    @initialize()
    def begin(self) -> None:
        self.siege.put_in_order()
        self.tickets: list[Ticket] = []
        self.known = {row["cOID"] for row in self.siege.desk.at_broker()}
        # The client order ids that may still arrive while everything is halted.
        self.in_flight: set[str] | None = None

    def _pick(self, number: int) -> Ticket | None:
        return self.tickets[number % len(self.tickets)] if self.tickets else None

    def _try(self, act: Any, *words: Any, **named: Any) -> Any:
        try:
            return act(*words, **named)
        except CerberoError as refusal:
            return refusal

    @rule(quantity=st.integers(1, 20), side=st.sampled_from(["buy", "sell"]))
    def place(self, quantity: int, side: str) -> None:
        self.siege.quote()
        price = self.siege.resting if side == "buy" else self.siege.ask * Decimal("1.02")
        placed = self._try(
            self.siege.place, quantity=quantity, side=side, limit_price=price.quantize(Decimal("0.01"))
        )
        if isinstance(placed, Ticket):
            self.tickets.append(placed)

    @rule(number=st.integers(0, 50), who=st.sampled_from(["alice", "bob", "carol"]), is_yes=st.booleans())
    def decide(self, number: int, who: str, is_yes: bool) -> None:
        if ticket := self._pick(number):
            self._try(self.siege.desk.decide, ticket, who, is_yes=is_yes, reason="no")

    @rule(number=st.integers(0, 50))
    def approve(self, number: int) -> None:
        self.decide(number, "bob", True)

    @rule(quantity=st.integers(1, 20), side=st.sampled_from(["buy", "sell"]))
    def place_and_approve(self, quantity: int, side: str) -> None:
        self.place(quantity, side)
        self.decide(len(self.tickets) - 1, "bob", True)

    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        if ticket := self._pick(number):
            order = self.siege.desk.order(ticket)
            self._try(services.cancel_order, actor=self.siege.desk.person("carol"), order_id=order.pk)

    @rule()
    def halt(self) -> None:
        halted = halting.halt_trading(mode="stop_new", actor=self.siege.desk.person("bob"), reason="property")
        if self.in_flight is None:
            self.in_flight = self._booked().keys() | set(halted["in_flight"])

    @rule()
    def resume(self) -> None:
        self._try(trading.resume_trading, actor=self.siege.desk.person("carol"), reason="property")
        if trading.worst_state(self.siege.desk.account, self.siege.desk.bot.pk) == "active":
            self.in_flight = None

    @rule(holder=st.sampled_from(["orders-1", "orders-2"]))
    def turn(self, holder: str) -> None:
        self.siege.turn(holder)

    @rule()
    def crash(self) -> None:
        """The process is gone, its lease has run out, and another goes on."""
        self.siege.desk.release("orders-1")
        self.siege.turn("orders-2")

    @rule(kind=st.sampled_from(["drop_before", "drop_after", "empty_200"]))
    def fault(self, kind: str) -> None:
        self.siege.sim.fault(kind, path="/orders$", method="POST", times=1)

    @rule()
    def reconcile(self) -> None:
        self._try(self.siege.desk.reconcile)

    def _booked(self) -> dict[str, dict[str, Any]]:
        """What came to the book in this run, by client order id."""
        rows = [row for row in self.siege.desk.at_broker() if row["cOID"] not in self.known]
        found = {row["cOID"]: row for row in rows}
        assert len(found) == len(rows), "one attempt is two orders at the broker (I1)"
        return found

    @invariant()
    def the_book_holds_nothing_but_what_was_approved(self) -> None:
        booked = self._booked()
        attempts = Attempt.objects.select_related("ticket__account", "ticket__request")
        by_id = {each.client_order_id: each for each in attempts.filter(client_order_id__in=booked)}
        assert by_id.keys() == booked.keys(), "an order that no attempt explains (I3)"
        for client_order_id, row in booked.items():
            self._holds(by_id[client_order_id], row)
        if self.in_flight is not None:
            assert booked.keys() <= self.in_flight, "something left after the halt returned (I4)"

    def _holds(self, attempt: Attempt, row: dict[str, Any]) -> None:
        ticket, order = attempt.ticket, Order.objects.get(ticket=attempt.ticket)
        assert ticket.request is not None
        assert ticket.request.status == "consumed"
        assert ticket.request.digest == ticket_digest(ticket, ticket.account, [order]) == attempt.digest
        sent = (SIDES[row["side"]], Decimal(str(row["quantity"])), Decimal(str(row["limit_price"])))
        assert sent == (order.side, order.quantity, order.limit_price), "other terms than were approved (I3)"
        if order.status == "rejected" or ticket.status in {"denied", "withdrawn"}:
            assert row["status"] not in ALIVE, "refused in the ledger and alive at the broker (I2)"


@pytest.mark.usefixtures("attempt")
def test_whatever_happens_the_book_holds_only_what_was_approved(siege, attempt):
    Desk.siege = siege
    run_state_machine_as_test(
        Desk,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Each arrival was explained above, order by order.
    attempt.expects = len(siege.arrivals()) - attempt.arrived
    assert attempt.expects > 0, "nothing was ever sent: the machine proves nothing"
    attempt.told("decision.refused")
