"""A counter is a no with better terms: the bot is told, and somebody else must approve them."""

from decimal import Decimal

import pytest

from audit.models import Entry
from brokers.base import OrderType, Side
from cerbero.errors import (
    AlreadyDecided,
    BadInput,
    DigestMismatch,
    PermissionMissing,
    ReasonRequired,
    RiskRefused,
    SelfApproval,
)
from orders import services
from orders.countering import counter_ticket
from orders.models import Limits, Ticket
from tests.orders import world as worlds
from tests.orders.test_policy_gate import _prepare
from tests.rig import run_together

SMALLER = {"quantity": Decimal(4)}


def _counter(desk, ticket, who="bob", **changes):
    ticket.refresh_from_db()
    said = {"digest": ticket.request.digest, "reason": "half is enough", **SMALLER} | changes
    return counter_ticket(actor=desk.person(who), ticket_id=ticket.pk, **said)


def test_the_first_is_denied_and_the_second_waits_with_another_digest(desk):
    ticket = desk.place()
    made = _counter(desk, ticket)
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "countered")
    assert ticket.refusal["counter_ticket_id"] == str(made.pk)
    assert (ticket.refusal["quantity"], ticket.refusal["reason"]) == ("4", "half is enough")
    made.refresh_from_db()
    assert (made.status, made.counter_of, made.person.username) == ("proposed", ticket, "bob")
    assert made.digest != ticket.digest
    assert desk.order(made).quantity == 4


def test_nobody_who_had_a_part_in_it_approves_the_counter(desk):
    made = _counter(desk, desk.place())
    for who in ("alice", "bob"):
        with pytest.raises(SelfApproval):
            desk.decide(made, who)
    assert desk.decide(made, "carol").status == "allowed"
    assert _prepare(desk, made) is not None


def test_a_counter_small_enough_for_the_policy_still_asks_somebody(desk):
    assert _counter(desk, desk.place(), quantity=Decimal(1)).status == "proposed"


def test_the_bot_sees_and_withdraws_the_counter_of_its_order(desk):
    made = _counter(desk, desk.place())
    order = services.visible_orders(desk.scanner).get(ticket=made)
    services.cancel_order(actor=desk.scanner, order_id=order.pk)
    made.refresh_from_db()
    assert made.status == "withdrawn"


def test_a_better_price_is_lower_for_a_buy_and_higher_for_a_sale(desk):
    bought, sold = desk.place(), desk.place(side=Side.SELL)
    made = _counter(desk, bought, quantity=None, limit_price=Decimal("189.50"))
    assert desk.order(made).limit_price == Decimal("189.50")
    made = _counter(desk, sold, quantity=None, limit_price=Decimal("190.50"))
    assert desk.order(made).limit_price == Decimal("190.50")


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal(11)},
        {"quantity": Decimal(0)},
        {"quantity": Decimal(10)},
        {"quantity": None},
        {"limit_price": Decimal("190.01")},
        {"limit_price": Decimal(-1)},
    ],
)
def test_worse_terms_or_the_same_are_refused(desk, changes):
    ticket = desk.place()
    with pytest.raises(BadInput):
        _counter(desk, ticket, **changes)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert Entry.objects.filter(event="decision.refused", subject_id=str(ticket.pk)).count() == 1


def test_a_price_for_an_order_without_one_is_refused(desk):
    ticket = desk.place(order_type=OrderType.MARKET, limit_price=None)
    with pytest.raises(BadInput):
        _counter(desk, ticket, limit_price=Decimal(100))


def test_who_may_not_decide_may_not_counter(desk):
    ticket = desk.place()
    for who, error, changes in [
        ("alice", SelfApproval, {}),
        ("bob", DigestMismatch, {"digest": "0" * 64}),
        ("bob", ReasonRequired, {"reason": " "}),
    ]:
        with pytest.raises(error):
            _counter(desk, ticket, who, **changes)
    with pytest.raises(PermissionMissing):
        counter_ticket(
            actor=desk.scanner, ticket_id=ticket.pk, digest=ticket.request.digest, reason="x", **SMALLER
        )
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert Ticket.objects.count() == 1


def test_a_counter_is_held_to_the_limits(desk):
    ticket = desk.place()
    Limits.objects.update(quantity_max=Decimal(3))
    with pytest.raises(RiskRefused):
        _counter(desk, ticket)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"


def test_a_counter_and_a_yes_at_once_are_one_or_the_other(fresh_database):
    desk = worlds.build()
    for _ in range(5):
        ticket = desk.place()
        results = run_together(
            lambda ticket=ticket: _counter(desk, ticket, "bob"),
            lambda ticket=ticket: desk.decide(Ticket.objects.get(pk=ticket.pk), "carol"),
        )
        assert [type(each) for each in results].count(AlreadyDecided) == 1
        ticket.refresh_from_db()
        countered = Ticket.objects.filter(counter_of=ticket).count()
        assert (ticket.status, countered) in {("allowed", 0), ("denied", 1)}


# How far the price may drift


def test_an_approver_lets_the_price_of_one_ticket_drift_further(desk):
    wide, usual = desk.place(), desk.place()
    for ticket, percent in ((wide, Decimal(4)), (usual, None)):
        _approve(desk, ticket, percent)
    desk.quote("185.00", "185.04")
    assert _prepare(desk, usual) is None
    assert _prepare(desk, wide) is not None


def test_of_two_approvers_the_stricter_counts(desk):
    desk.activate([{"name": "two", "then": {"do": "people", "quorum": 2}}])
    ticket = desk.place()
    _approve(desk, ticket, Decimal(4))
    _approve(desk, ticket, None, "carol")
    desk.quote("185.00", "185.04")
    assert _prepare(desk, ticket) is None


@pytest.mark.parametrize("percent", ["0", "-1", "10.01", "NaN"])
def test_beyond_the_cap_no_drift_is_taken(desk, percent):
    ticket = desk.place()
    with pytest.raises(BadInput):
        _approve(desk, ticket, Decimal(percent))
    ticket.refresh_from_db()
    assert ticket.status == "proposed"


def test_to_let_the_price_drift_further_than_the_limit_takes_a_reason(desk):
    ticket = desk.place()
    with pytest.raises(ReasonRequired):
        _approve(desk, ticket, Decimal("2.1"), reason=" ")
    _approve(desk, ticket, Decimal("2.1"))
    entry = Entry.objects.get(event="decision.made")
    assert (entry.actor_name, entry.details["drift_percent"], entry.details["reason"]) == (
        "bob",
        "2.1",
        "thin market",
    )


def _approve(desk, ticket, percent, who="bob", reason="thin market"):
    return services.decide_ticket(
        actor=desk.person(who),
        ticket_id=ticket.pk,
        digest=ticket.request.digest,
        is_yes=True,
        drift_percent=percent,
        reason=reason,
    )
