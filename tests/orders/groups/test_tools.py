"""The tools of groups, as bots call them: proposing, looking, canceling a set."""

from decimal import Decimal
from typing import Any

import pytest

from cerbero.errors import BadInput, GroupImpossible, ImpossibleOrder, NotFound
from orders import countering, queue
from orders.models import Order, Ticket
from orders.tools import groups as tools
from orders.tools import orders as single
from tests.orders.groups.looks import legs, look, near, state, statuses
from tests.orders.world import until


def _bracket(desk: Any, **changes: Any) -> tools.PlaceBracket:
    fields: dict[str, Any] = {
        "account": desk.account.broker_account_id,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "10",
        "limit_price": "190.00",
        "take_profit_price": "200.00",
        "stop_loss_price": "180.00",
        "idempotency_key": f"set-{next(desk.keys)}",
    }
    return tools.PlaceBracket(**fields | changes)


def test_a_bracket_is_told_with_each_orders_part(desk):
    told = tools.place_bracket_order(desk.scanner, _bracket(desk, stop_loss_limit_price="179.50"))
    assert (told.group, told.status, told.is_naked, told.open_quantity) == ("bracket", "proposed", False, 0)
    assert [(each.role, each.order_type, each.side) for each in told.orders] == [
        ("entry", "limit", "buy"),
        ("take_profit", "limit", "sell"),
        ("stop_loss", "stop_limit", "sell"),
    ]
    assert tools.get_order_set(desk.scanner, tools.TicketId(ticket_id=told.ticket_id)) == told
    stop = single.get_order(desk.scanner, single.OrderId(order_id=told.orders[2].order_id))
    assert (stop.role, stop.stop_price) == ("stop_loss", Decimal(180))


def test_a_stop_loss_may_trail_from_where_it_begins(desk):
    told = tools.place_bracket_order(desk.scanner, _bracket(desk, stop_loss_trailing_amount="6.00"))
    stop = told.orders[2]
    assert (stop.order_type, stop.stop_price, stop.trailing_amount) == ("trailing_stop", 180, 6)
    fill = _bracket(desk, stop_loss_price=None, stop_loss_trailing_percent="2")
    assert tools.place_bracket_order(desk.scanner, fill).orders[2].stop_price is None
    both = {"stop_loss_trailing_percent": "2", "stop_loss_trailing_amount": "6"}
    with pytest.raises(ImpossibleOrder):
        tools.place_bracket_order(desk.scanner, _bracket(desk, **both))
    with pytest.raises(GroupImpossible):
        tools.place_bracket_order(desk.scanner, _bracket(desk, stop_loss_price=None))


def test_an_oto_and_an_oco_are_placed_and_one_order_is_no_set(desk):
    shared = {"account": desk.account.broker_account_id, "symbol": "AAPL", "quantity": "10"}
    oto = tools.PlaceOto(
        **shared, side="buy", limit_price="190", exit_stop_price="180", idempotency_key="oto-1"
    )
    assert [each.role for each in tools.place_oto_order(desk.scanner, oto).orders] == ["entry", "exit"]
    oco = tools.PlaceOco(**shared, side="buy", limit_price="188", stop_price="192", idempotency_key="oco-1")
    told = tools.place_oco_order(desk.scanner, oco)
    assert {each.role for each in told.orders} == {"alternative"}
    # The dearer of the two counts.
    assert told.notional is not None
    assert told.notional >= Decimal(1920)
    alone = desk.place()
    with pytest.raises(NotFound):
        tools.get_order_set(desk.scanner, tools.TicketId(ticket_id=alone.pk))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stop_loss_price": "195"}, "below the entry's price"),
        ({"exit_time_in_force": "ioc"}, "must rest"),
    ],
)
def test_a_bracket_that_cannot_be_is_refused_in_words(desk, changes, words):
    with pytest.raises(GroupImpossible) as refused:
        tools.place_bracket_order(desk.scanner, _bracket(desk, **changes))
    assert words in " ".join(refused.value.details["problems"])


@pytest.mark.parametrize(
    "changes", [{"limit_price": None}, {"order_type": "market"}, {"stop_price": "191.00"}]
)
def test_each_order_of_a_group_takes_the_prices_that_its_type_takes(desk, changes):
    with pytest.raises(ImpossibleOrder):
        tools.place_bracket_order(desk.scanner, _bracket(desk, **changes))


def test_canceling_a_set_that_waits_withdraws_all_of_it(desk):
    told = tools.place_bracket_order(desk.scanner, _bracket(desk))
    after = tools.cancel_order_set(desk.scanner, tools.TicketId(ticket_id=told.ticket_id))
    assert after.status == "withdrawn"
    assert {each.status for each in after.orders} == {"canceled"}


def test_the_card_shows_every_leg_with_its_part_and_offers_no_other_terms(desk):
    tools.place_bracket_order(desk.scanner, _bracket(desk))
    (card,) = queue.waiting_cards(desk.people["bob"])
    assert [leg.role for leg in card.legs] == ["", "take profit", "stop loss"]
    assert "take profit: Sell 10 AAPL limit 200.00 day; stop loss: Sell" in card.sentence
    ticket = Ticket.objects.get()
    with pytest.raises(BadInput):
        countering.counter_ticket(
            actor=desk.person("bob"),
            ticket_id=ticket.pk,
            digest=ticket.request.digest,
            reason="smaller",
            quantity=Decimal(1),
        )


def test_canceling_a_working_set_ends_all_of_it_and_a_canceled_stop_leaves_it_naked(known):
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.turn()
    tools.cancel_order_set(known.scanner, tools.TicketId(ticket_id=ticket.pk))
    until(lambda: look(known) or statuses(ticket) == ("canceled",) * 3)
    assert state(ticket) == "settled"
    filled = known.decide(known.place_group(known.bracket(near(known, "1.01"))))
    until(lambda: look(known) or statuses(filled)[0] == "filled")
    told = tools.cancel_order_set(known.scanner, tools.TicketId(ticket_id=filled.pk))
    assert (told.is_naked, told.open_quantity) == (True, 10)
    until(lambda: look(known) or state(filled) == "naked")
    assert Order.objects.filter(ticket=filled).count() == 3
    assert statuses(filled) == ("filled", "canceled", "canceled")
    assert not [leg for leg in legs(filled) if leg.status == "rejected"]
