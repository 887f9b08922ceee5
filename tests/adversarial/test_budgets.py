"""Policies and mandates: edited, revoked, widened and overspent, between the yes and the wire or all at once."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Entry
from cerbero import access
from cerbero.errors import AlreadyDecided, CerberoError
from cerbero.models import Decision
from orders import mandates, services
from orders.models import Allowance, Mandate, Position, Ticket
from tests.adversarial.hands import bearer, place
from tests.orders import budgets
from tests.rig import run_together

ME = access.system("orders")
ONE = {"name": "one", "then": {"do": "people", "quorum": 1}}
MANDATE = {"name": "mandate", "then": {"do": "mandate"}}
PAIRS = 200
WIDE = {"order_notional_max": Decimal(100_000), "notional_max": Decimal(10_000_000), "count_max": 1000}


@pytest.fixture
def ruled(siege) -> Iterator[Callable[..., Any]]:
    """Put other rules in force; the siege's own come back."""
    yield lambda *rules: siege.desk.activate(list(rules))
    siege.desk.activate([ONE])


@pytest.mark.parametrize(
    ("then", "event", "told"),
    [
        ({"do": "people", "quorum": 2}, "ticket.proposed_again", {"why": "policy_stricter"}),
        ({"do": "refuse", "reason": "not any more"}, "ticket.denied", {"code": "policy_refused"}),
        ({"do": "mandate"}, "ticket.denied", {"code": "policy_refused"}),
    ],
)
def test_the_policy_is_edited_between_the_approval_and_the_sending(siege, attempt, ruled, then, event, told):
    ticket = attempt.on(siege.approved())
    ruled({"name": "edited", "then": then})
    siege.turn()
    ticket.refresh_from_db()
    assert ticket.status in {"proposed", "denied"}
    attempt.told(event, **told)


def test_a_policy_that_the_owner_rewrote_allows_nothing(siege, attempt, ruled):
    """The rules in force are what two people settled, or there are none."""
    ticket = attempt.on(siege.approved())
    rules = (
        '[{"name": "all", "when": {"environments": ["paper"], "notional_max": "999999"}, "then": {"do": "allow"}}, '
        '{"name": "otherwise", "then": {"do": "refuse", "reason": "nothing else"}}]'
    )
    words = "UPDATE orders_policyversion SET rules = %s::jsonb WHERE status = 'active'"
    switch = "ALTER TABLE orders_policyversion {} TRIGGER USER"
    siege.as_owner((switch.format("DISABLE"), []), (words, [rules]), (switch.format("ENABLE"), []))
    headers = bearer(siege)
    assert place(headers, siege).json()["error"]["code"] == "policy_unreadable"
    attempt.told("tool.called", outcome="policy_unreadable")
    siege.turn()
    attempt.denied(ticket, "policy_unreadable")


def test_a_position_is_reduced_twice_under_a_rule_for_reductions(siege, attempt, ruled):
    """What the first of them sells is not there for the second, whether it works or was filled since."""
    attempt.expects = 1
    when = {"environments": ["paper"], "effects": ["reducing"], "notional_max": "100000"}
    ruled({"name": "reduces", "when": when, "then": {"do": "allow"}}, ONE)
    words = {"account": siege.desk.account, "instrument": siege.desk.aapl, "broker_instrument_id": "held"}
    held = Position.objects.create(
        **words, symbol="AAPL", currency="USD", quantity=10, market_value=2500, as_of=timezone.now()
    )
    try:
        sale = {"side": "sell", "limit_price": (siege.ask * Decimal("1.02")).quantize(Decimal("0.01"))}
        first = siege.place(**sale)
        siege.turn()
        assert siege.desk.order(first).status == "accepted"
        again = attempt.on(siege.place(**sale))
        assert again.policy_rule == "one"
        siege.turn()
        attempt.ran_out(again)
    finally:
        held.delete()


def test_a_mandate_is_revoked_between_the_order_and_its_sending(siege, attempt, ruled):
    ruled(MANDATE, ONE)
    mandate = budgets.signed(siege.desk, **WIDE)
    ticket = siege.place()
    assert Allowance.objects.filter(ticket=ticket).exists()
    mandates.revoke_mandate(actor=siege.desk.person("carol"), mandate_id=mandate.pk, reason="enough")
    ticket.refresh_from_db()
    attempt.on(ticket)
    siege.turn()
    attempt.told("ticket.proposed_again", why="policy_stricter")


def test_fifty_orders_at_once_do_not_overspend_a_mandate_for_ten(siege, attempt, ruled):
    ruled(MANDATE, ONE)
    mandate = budgets.signed(siege.desk, **WIDE | {"count_max": 10})
    siege.quote()
    proposals = [siege.desk.proposal(limit_price=siege.resting, quantity=Decimal(1)) for _ in range(50)]
    placed = run_together(
        *(partial(services.place_order, actor=siege.desk.scanner, proposal=each) for each in proposals)
    )
    assert not [each for each in placed if isinstance(each, Exception)]
    tickets = [Ticket.objects.get(pk=each.pk) for each in placed]
    attempt.on(*(each for each in tickets if each.status == "proposed"))
    assert (len(attempt.tickets), Mandate.objects.get(pk=mandate.pk).used_count) == (40, 10)
    siege.turn()
    attempt.expects = 10
    attempt.told("mandate.used")
    attempt.ran_out(tickets[min(range(50), key=lambda number: tickets[number].status != "proposed")])


def test_two_hundred_pairs_of_approvals_at_once_are_no_double(siege, attempt):
    """Of two people who say yes at one moment to a ticket that needs one, one does (gates.md G4)."""
    results: list[Any] = []
    tickets = []
    for _ in range(PAIRS):
        siege.quote()
        tickets.append(siege.place(quantity=1))
    for start in range(0, PAIRS, 20):
        pairs = [(ticket, who) for ticket in tickets[start : start + 20] for who in ("bob", "carol")]
        results += run_together(*(partial(siege.desk.decide, ticket, who) for ticket, who in pairs))
    refused = [each for each in results if isinstance(each, CerberoError)]
    assert {type(each) for each in refused} == {AlreadyDecided}
    assert (len(results) - len(refused), len(refused)) == (PAIRS, PAIRS)
    assert Decision.objects.filter(request__ticket__in=tickets).count() == PAIRS
    allowed = Entry.objects.filter(event="ticket.allowed", subject_id__in=[str(each.pk) for each in tickets])
    assert allowed.count() == PAIRS
    attempt.told("decision.refused", code="already_decided")
