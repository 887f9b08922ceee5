"""The judge of the property machine: a record of its own of who allowed what, held against the simulator's book.

Of our rows it reads only which ticket an order at the broker belongs to; whether that was allowed it knows itself.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from orders.canonical import decision_digest
from orders.models import Allowance, Amendment, Attempt, Order, Ticket

ALIVE = {"Submitted", "PreSubmitted", "Filled", "PendingCancel"}
SIDES = {"BUY": "buy", "SELL": "sell"}
PEOPLE = {"name": "one", "then": {"do": "people", "quorum": 1}}
SMALL = Decimal(1000)
# Versions of the policy, by what people call them.
POLICIES: dict[str, list[dict[str, Any]]] = {
    "one": [PEOPLE],
    "two": [{"name": "two", "then": {"do": "people", "quorum": 2}}],
    "mandate": [{"name": "mandate", "then": {"do": "mandate"}}, PEOPLE],
    "small": [
        {
            "name": "small",
            "when": {"environments": ["paper"], "notional_max": str(SMALL)},
            "then": {"do": "allow"},
        },
        PEOPLE,
    ],
    "nothing": [],
}
ACTIVE, REDUCING, HALTED = "active", "reducing", "halted"
# Total and limit price, as the broker's book names them.
Terms = tuple[Decimal, Decimal | None]


@dataclass
class Budget:
    """A mandate as it was signed."""

    left: int
    order_max: Decimal
    expires_at: float
    is_revoked: bool = False


@dataclass
class Oracle:
    """What people really said, and what may be at the broker because of it."""

    siege: Any
    known: set[str]
    policy: str = "one"
    state: str = ACTIVE
    quantity_max: Decimal = Decimal(10_000)
    # By ticket: every terms that it may have, with the names of those who said yes to just these.
    said: dict[UUID, dict[Terms, set[str]]] = field(default_factory=dict)
    budgets: dict[UUID, Budget] = field(default_factory=dict)
    closes: dict[UUID, str] = field(default_factory=dict)
    # What may still arrive, and how much was changed, since everything was stopped.
    in_flight: set[str] = field(default_factory=set)
    modified: int = 0
    seen: dict[str, Terms] = field(default_factory=dict)
    looked_at: float = field(default_factory=time.time)
    counts: Counter[str] = field(default_factory=Counter)

    def booked(self) -> dict[str, dict[str, Any]]:
        """What came to the book in this run, by client order id."""
        rows = [row for row in self.siege.desk.at_broker() if row["cOID"] not in self.known]
        found = {row["cOID"]: row for row in rows}
        assert len(found) == len(rows), "one attempt is two orders at the broker (I1)"
        return found

    def proposed(self, ticket: Ticket) -> None:
        """Somebody asked for it; where it passes without people, a rule or a budget must say so."""
        order = Order.objects.get(ticket=ticket)
        self.said[ticket.pk] = {(order.quantity, order.limit_price): set()}
        use = Allowance.objects.filter(ticket=ticket).exclude(mandate=None).first()
        if use is not None and use.mandate_id is not None:
            budget = self.budgets[use.mandate_id]
            budget.left -= 1
            assert budget.left >= 0, "a mandate was overspent (I3)"
            assert not budget.is_revoked
            assert budget.expires_at > self.looked_at, "an expired mandate let an order pass (I3)"
            assert _value((order.quantity, order.limit_price)) <= budget.order_max
            self.counts["passed under a mandate"] += 1
        elif ticket.status == "allowed":
            assert self._passes_alone(ticket, (order.quantity, order.limit_price)), "nobody allowed this (I3)"

    def decided(self, ticket_id: UUID, who: str, terms: Terms) -> None:
        self.said[ticket_id].setdefault(terms, set()).add(who)

    def asked_again(self, ticket_id: UUID) -> None:
        """It went back to people: what they said before of its first terms counts no more."""
        next(iter(self.said[ticket_id].values())).clear()

    def stopped(self, state: str, in_flight: set[str]) -> None:
        if self.state != HALTED:
            self.in_flight = self.booked().keys() | in_flight
            self.modified = self._modifications()
            self.state = state

    def judge(self) -> None:
        """The four invariants of gates.md §6, from the book."""
        booked = self.booked()
        attempts = Attempt.objects.select_related("ticket__request").filter(client_order_id__in=booked)
        by_id = {each.client_order_id: each for each in attempts}
        assert by_id.keys() == booked.keys(), "an order that no attempt explains (I3)"
        for client_order_id, row in booked.items():
            self._judge_row(by_id[client_order_id], row)
        if self.state == HALTED:
            assert self._modifications() == self.modified, "an order was changed after the halt (I4)"
        self.looked_at = time.time()

    def _judge_row(self, attempt: Attempt, row: dict[str, Any]) -> None:
        ticket, order = attempt.ticket, Order.objects.get(ticket=attempt.ticket_id)
        terms: Terms = (Decimal(row["quantity"]), row["limit_price"] and Decimal(row["limit_price"]))
        before = self.seen.get(row["cOID"])
        assert SIDES[row["side"]] == order.side
        assert Decimal(row["filled"]) <= terms[0]
        if terms != before:
            self._may_be_at_the_broker(ticket, attempt, terms, before)
        self.seen[row["cOID"]] = terms
        if order.status == "rejected" or ticket.status in {"denied", "withdrawn"}:
            assert row["status"] not in ALIVE, "refused in the ledger and alive at the broker (I2)"

    def _may_be_at_the_broker(
        self, ticket: Ticket, attempt: Attempt, terms: Terms, before: Terms | None
    ) -> None:
        is_new, name = before is None, self.closes.get(ticket.pk)
        if name is not None:
            assert terms in self.said[ticket.pk], "a close of another size (I3)"
            assert name == "person" or self.state != HALTED or attempt.client_order_id in self.in_flight
            self.counts["closes"] += 1
            return
        assert terms in self.said[ticket.pk], f"terms that nobody was asked about: {terms} (I3)"
        if before is not None and terms[0] <= before[0]:
            self.counts["tightened"] += 1
        elif attempt.client_order_id not in self.in_flight or not is_new:
            assert self.state == ACTIVE, "something left after the halt returned (I4)"
            assert terms[0] <= self.quantity_max, "sent above its limit"
            self._is_allowed(ticket, terms)
            assert _is_used(ticket, terms, is_new), "no used approval or mandate (I3)"
            self.counts["sent" if is_new else "widened"] += 1

    def _is_allowed(self, ticket: Ticket, terms: Terms) -> None:
        """By as many people as the policy of this moment asks for, or by a rule or a budget that needs nobody."""
        people = self.said[ticket.pk][terms]
        needed = 2 if self.policy == "two" else 1
        assert self.policy != "nothing", "sent where the policy refuses"
        assert len(people) >= needed or self._passes_alone(ticket, terms), f"{people} of {needed} (I3)"

    def _passes_alone(self, ticket: Ticket, terms: Terms) -> bool:
        if self.policy == "small" and _value(terms) <= SMALL:
            return True
        use = Allowance.objects.filter(ticket=ticket).exclude(mandate=None).first()
        if self.policy != "mandate" or use is None or use.mandate_id is None:
            return False
        budget = self.budgets[use.mandate_id]
        return not budget.is_revoked and budget.expires_at > self.looked_at

    def _modifications(self) -> int:
        return sum(row["modifications"] for row in self.booked().values())


def _is_used(ticket: Ticket, terms: Terms, is_new: bool) -> bool:
    """What the ledger says of it: the approval of the ticket or of the amendment, or the budget, is used up."""
    if not is_new:
        fitting = Amendment.objects.filter(order__ticket=ticket, quantity=terms[0], limit_price=terms[1])
        return fitting.filter(request__status="consumed").exists()
    if ticket.request is not None:
        return ticket.request.status == "consumed" and ticket.request.digest == decision_digest(
            ticket.digest, ticket.request.facts
        )
    return Allowance.objects.filter(ticket=ticket, digest=ticket.digest).exclude(consumed_at=None).exists()


def _value(terms: Terms) -> Decimal:
    assert terms[1] is not None
    return terms[0] * terms[1]
