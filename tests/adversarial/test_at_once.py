"""Everything at once: threads that race for one ticket, one key, one position, one halt."""

import threading
from collections import Counter
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import connections

from cerbero import access
from cerbero.errors import CerberoError
from cerbero.models import Decision, DecisionRequest
from orders import halting, services, trading
from orders.models import Attempt, Order, Ticket
from tests.adversarial.siege import turn_once
from tests.orders.world import until
from tests.rig import run_together

ME = access.system("orders")


def _client_ids(siege: Any, *tickets: Ticket) -> list[str]:
    ours = set(Attempt.objects.filter(ticket__in=tickets).values_list("client_order_id", flat=True))
    return [row["cOID"] for row in siege.desk.at_broker() if row["cOID"] in ours]


def test_one_key_proposed_fifty_times_at_once(siege, attempt):
    siege.quote()
    proposal = siege.desk.proposal(limit_price=siege.resting)
    place = partial(services.place_order, actor=siege.desk.scanner, proposal=proposal)
    results = [result for _ in range(5) for result in run_together(*[place] * 10)]
    assert {result.pk for result in results} == {
        Ticket.objects.get(idempotency_key=proposal.idempotency_key).pk
    }
    attempt.told("ticket.proposed")


def test_yes_no_withdrawal_expiry_and_sending_at_once(siege, attempt):
    """Whatever wins, what was sent was approved, and what was rejected or withdrawn was not sent."""
    tickets = [siege.place(quantity=1 + index) for index in range(8)]
    for ticket in tickets:
        order = siege.desk.order(ticket)
        run_together(
            partial(siege.desk.decide, ticket, "bob"),
            partial(siege.desk.decide, ticket, "carol", is_yes=False, reason="no"),
            partial(services.cancel_order, actor=siege.desk.scanner, order_id=order.pk),
            partial(services.expire_overdue, actor=ME),
            partial(turn_once, siege.desk, "orders-1"),
        )
    siege.turn()
    sent = set()
    for ticket in tickets:
        ticket.refresh_from_db()
        if _client_ids(siege, ticket):
            sent.add(ticket.pk)
            assert DecisionRequest.objects.get(ticket=ticket).status == "consumed"
    attempt.expects = len(sent)
    refused = Ticket.objects.filter(pk__in=[each.pk for each in tickets], status__in=["withdrawn"])
    assert not sent & set(refused.values_list("pk", flat=True))
    assert (
        Decision.objects.filter(request__ticket__in=tickets, is_yes=False, request__status="consumed").count()
        == 0
    )
    attempt.told("decision.refused")


def test_two_orders_processes_send_each_ticket_once(siege, attempt):
    tickets = [siege.approved(quantity=1 + index) for index in range(4)]
    run_together(*(partial(turn_once, siege.desk, f"orders-{number}") for number in range(4)))
    siege.turn()
    found = Counter(_client_ids(siege, *tickets))
    assert set(found.values()) <= {1}
    attempt.expects = len(found)
    attempt.told("attempt.sent")


def test_many_closes_at_once_never_turn_the_position(siege, attempt):
    """Each is sized by the whole position; together they close it once."""
    siege.sim.config(fills="immediate")
    siege.approved(quantity=10, limit_price=siege.ask + 1)
    siege.turn()
    siege.desk.reconcile()
    siege.turn()
    held = _held(siege)
    assert held >= 10
    close = partial(
        services.close_position,
        actor=siege.desk.scanner,
        account=siege.desk.account.broker_account_id,
        symbol="AAPL",
    )
    results = run_together(*(partial(close, idempotency_key=f"close-{number}-{held}") for number in range(4)))
    closes = [result for result in results if isinstance(result, Ticket)]

    def closed() -> bool:
        siege.turn()
        siege.desk.reconcile()
        return _held(siege) == 0

    until(closed)
    siege.turn()
    assert _held(siege) == 0
    attempt.expects = 1 + len(_client_ids(siege, *closes))
    assert attempt.expects == 2
    attempt.told("ticket.denied", code="position_changed") if len(closes) > 1 else attempt.told(
        "ticket.allowed"
    )


def _held(siege: Any) -> Decimal:
    accounts = siege.sim.book()["accounts"]
    return Decimal(accounts[siege.desk.account.broker_account_id]["positions"].get("265598", "0"))


def test_nothing_leaves_after_a_halt_returned(siege, attempt):
    """What leaves later than that was in flight, and the halt listed it."""
    for index in range(5):
        siege.approved(quantity=1 + index)
    stop, known = threading.Event(), set(trading.in_flight("1-everything", ""))

    def work() -> None:
        while not stop.is_set():
            turn_once(siege.desk, "orders-1")
            siege.desk.release("orders-1")
        connections.close_all()

    working = threading.Thread(target=work)
    working.start()
    threading.Event().wait(0.3)
    halted = halting.halt_trading(mode="stop_new", actor=ME, reason="attack")
    before = attempt.sent()
    threading.Event().wait(0.7)
    stop.set()
    working.join(20)
    after = attempt.sent()
    assert after - before <= len(set(halted["in_flight"]) - known) <= 1
    attempt.expects = after
    attempt.told("trading.halted")


def test_decisions_and_turns_race_over_many_tickets(siege, attempt):
    tickets = [siege.place(quantity=1 + index) for index in range(6)]
    results = run_together(
        *(partial(siege.desk.decide, ticket, who) for ticket in tickets for who in ("bob", "carol"))
    )
    refused = [result for result in results if isinstance(result, CerberoError)]
    assert len(refused) == len(tickets)
    assert Order.objects.filter(ticket__in=tickets, ticket__status="allowed").count() == len(tickets)
    attempt.told("decision.refused", code="already_decided")
