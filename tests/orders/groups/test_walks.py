"""Walks of groups: an OTO, a half filled bracket, a doubt about half of one settled by hand, and what limits count of them."""

from datetime import timedelta
from decimal import Decimal

import pytest

from brokers.base import BrokerOrderState, OrderReport
from brokers.reports import record_reports
from cerbero import access
from cerbero.errors import BadInput, GroupImpossible, RiskRefused
from cerbero.leases import ClockTime
from cerbero.models import User
from orders import hand_settling, services
from orders.closing import closable
from orders.facts import gather
from orders.groups import amends, safety, sets
from orders.models import Amendment, Attempt, Limits, Order, Ticket, TradingState
from orders.notices.models import Delivery
from orders.tools import groups as tools
from tests.orders.groups.looks import legs, look, near, state, statuses
from tests.orders.world import AAPL, put_order, until

SALE = {"side": "sell", "limit_price": None, "order_type": "stop"}


def _fill(floor, order, quantity=None):
    body = {"order_id": int(order.broker_order_id)} | ({"quantity": quantity} if quantity else {})
    floor.sim.control("POST", "/_sim/fill", body)


def test_an_oto_waits_for_its_entry_and_its_exit_closes_it(known):
    price = near(known)
    stop = SALE | {"stop_price": (price * Decimal("0.9")).quantize(Decimal("0.01"))}
    ticket = known.decide(known.place_group(known.group("oto", {"limit_price": price}, stop)))
    known.turn()
    assert statuses(ticket) == ("accepted", "accepted")
    entry, exit_ = legs(ticket)
    _fill(known, entry)
    until(lambda: look(known) or statuses(ticket) == ("filled", "accepted"))
    told = sets.find(known.scanner, ticket.pk)
    assert (told.open_quantity, told.is_naked) == (Decimal(10), False)
    _fill(known, exit_)
    until(lambda: look(known) or state(ticket) == "settled")
    ticket.refresh_from_db()
    assert (statuses(ticket), ticket.status) == (("filled", "filled"), "done")
    assert not ticket.account.drifts.exists()


# The market is at 250, then 253, 249.50 and 247.50; where each exit must have filled.
EXITS = {
    "limit": ({"exit_limit_price": "252"}, "253"),
    "trail": ({"exit_trailing_amount": "3", "exit_stop_price": "246"}, "249.50"),
    "trail percent": ({"exit_trailing_percent": "1.2"}, "249.50"),
    "trail limit": (
        {"exit_trailing_amount": "3", "exit_stop_price": "246", "exit_limit_price": "245"},
        "249.50",
    ),
    "stop": ({"exit_stop_price": "248"}, "247.50"),
    "stop limit": ({"exit_stop_price": "248", "exit_limit_price": "246"}, "247.50"),
}


def test_every_type_that_may_be_an_exit_closes_what_its_entry_opened(known):
    """One market for all of them: each exit waits for its entry, fires where it must, and its group is over."""
    known.sim.config(freeze=True)
    _market(known, "250")
    known.near()
    tickets = {name: _opened(known, tools.PlaceOto, name, exit_) for name, (exit_, _) in EXITS.items()}
    bracket = {"take_profit_price": "260", "stop_loss_trailing_amount": "3"}
    tickets["bracket"] = _opened(known, tools.PlaceBracket, "bracket", bracket)
    until(lambda: look(known) or all(statuses(each)[0] == "filled" for each in tickets.values()))
    ends = {name: price for name, (_, price) in EXITS.items()} | {"bracket": "249.50"}
    for price in ("253", "249.50", "247.50"):
        _market(known, price)
        done = {name for name, at in ends.items() if at == price}
        until(
            lambda wanted=done: look(known) or all(state(tickets[each]) == "settled" for each in wanted), 30
        )
    assert {statuses(tickets[name]) for name in EXITS} == {("filled", "filled")}
    assert statuses(tickets["bracket"]) == ("filled", "canceled", "filled")
    assert known.sim.book()["accounts"][known.account.broker_account_id]["positions"] == {}


def _opened(floor, params, name, exits):
    shared = {"account": floor.account.broker_account_id, "symbol": "AAPL", "side": "buy", "quantity": "1"}
    place = tools.place_oto_order if params is tools.PlaceOto else tools.place_bracket_order
    told = place(
        floor.scanner, params(**shared, **exits, limit_price="250.50", idempotency_key=name.replace(" ", "-"))
    )
    ticket = Ticket.objects.get(pk=told.ticket_id)
    return floor.decide(ticket) if ticket.request else ticket


def _market(floor, price):
    floor.sim.control("POST", "/_sim/price", {"conid": int(AAPL), "price": price})


def test_a_half_filled_entry_gets_its_stop_for_what_is_open_alone(known):
    known.sim.config(refused_in_groups=["STP"], fills="never")
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.turn()
    _fill(known, legs(ticket)[0], 4)
    known.reconcile()
    until(lambda: look(known) or len(legs(ticket)) == 4)
    until(lambda: look(known) or statuses(ticket) == ("canceled", "canceled", "rejected", "accepted"))
    assert (legs(ticket)[0].filled_quantity, legs(ticket)[3].quantity) == (Decimal(4), Decimal(4))
    told = sets.find(known.scanner, ticket.pk)
    assert (told.open_quantity, told.is_naked) == (Decimal(4), False)


def _half_filled(floor):
    """A bracket of which four of ten filled; whose exits go when its entry is canceled."""
    floor.sim.config(fills="never")
    ticket = floor.decide(floor.place_group(floor.bracket(near(floor))))
    floor.turn()
    _fill(floor, legs(ticket)[0], 4)
    until(lambda: look(floor) or legs(ticket)[0].filled_quantity == 4)
    return ticket


def test_exits_that_went_with_the_cancel_of_a_half_filled_entry_come_back_as_a_stop_for_what_is_open(known):
    ticket = _half_filled(known)
    services.cancel_order(actor=known.scanner, order_id=legs(ticket)[0].pk)
    until(lambda: look(known) or statuses(ticket) == (*["canceled"] * 3, "accepted"))
    stop, again = legs(ticket)[2:]
    assert (again.completes, again.quantity, again.stop_price) == (stop, Decimal(4), stop.stop_price)
    assert {attempt.digest for attempt in Attempt.objects.all()} == {ticket.digest}
    _fill(known, again)
    until(lambda: look(known) or state(ticket) == "settled")
    assert not ticket.account.drifts.exists()


def test_what_was_closed_by_other_ways_meanwhile_gets_no_stop_again(known):
    ticket = _half_filled(known)
    TradingState.objects.filter(scope="3-account").update(state="halted")
    services.cancel_order(actor=known.scanner, order_id=legs(ticket)[0].pk)
    until(lambda: look(known) or state(ticket) == "completing")
    sale = {"account": known.account.broker_account_id, "conid": int(AAPL), "side": "SELL"}
    known.sim.config(fills="normal")
    known.sim.control("POST", "/_sim/manual_order", sale | {"quantity": 4, "orderType": "MKT"})
    until(lambda: not known.sim.book()["accounts"][known.account.broker_account_id]["positions"])
    TradingState.objects.filter(scope="3-account").update(state="active")
    known.turn()
    assert (len(legs(ticket)), state(ticket)) == (3, "completing"), "the broker holds nothing to protect"
    Order.objects.filter(ticket=ticket).update(reported_at=ClockTime() - timedelta(minutes=1))
    until(lambda: look(known) or state(ticket) == "settled")
    assert len(legs(ticket)) == 3


def test_a_set_that_is_canceled_as_one_gets_nothing_back(known):
    ticket = _half_filled(known)
    asked = sets.cancel(actor=known.scanner, ticket_id=ticket.pk)
    assert all(order.cancel_requested_at for order in asked.orders)
    until(lambda: look(known) or state(ticket) == "naked")
    look(known)
    assert statuses(ticket) == ("canceled",) * 3


def test_an_exit_whose_entry_rests_keeps_no_position_from_being_closed(known):
    """Another ten were bought before: they may be closed, though a bracket to buy more rests."""
    first = known.approved(limit_price=near(known, "1.01"))
    until(lambda: look(known) or known.order(first).status == "filled")
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    facts = gather(known.account, "AAPL", None)
    until(lambda: look(known) or closable(known.account, facts, Decimal(10)) == 10)
    assert set(statuses(ticket)) == {"accepted"}
    record_reports(known.login, "stream", [(OrderReport("77", None), None)])
    assert closable(known.account, facts, Decimal(10)) == 0, "what waits may say that the entry filled"
    known.turn()
    assert closable(known.account, facts, Decimal(14)) == 4, "the broker holds more than our book explains"


def test_a_group_of_which_half_arrived_is_settled_order_by_order_by_hand(known):
    known.sim.config(refused_in_groups=["STP"], fills="never")
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.sim.fault("drop_after", path="/orders", method="POST", times=1)
    known.turn()
    attempt = Attempt.objects.get()
    assert (attempt.status, set(statuses(ticket))) == ("in_doubt", {"submitted"})

    def settle(verdict, number=""):
        words = {"verdict": verdict, "reason": "seen in TWS", "broker_order_id": number}
        hand_settling.settle_doubt(actor=known.person("bob"), attempt_id=attempt.pk, **words)
        known.turn()

    entry, profit = sorted(known.at_broker(), key=lambda row: row["parent_id"] is not None)
    settle("arrived", str(entry["order_id"]))
    with pytest.raises(BadInput):
        settle("arrived", str(entry["order_id"]))
    settle("arrived", str(profit["order_id"]))
    assert statuses(ticket) == ("accepted", "accepted", "submitted")
    settle("never_arrived")
    attempt.refresh_from_db()
    assert (attempt.status, attempt.outcome["by"]) == ("settled", "bob")
    # A stop that never arrived takes its resting entry with it.
    until(lambda: look(known) or statuses(ticket) == ("canceled",) * 3)
    assert state(ticket) == "settled"


def _refused(desk, **changes):
    with pytest.raises(RiskRefused) as refused:
        desk.place(**changes)
    return {check["code"] for check in refused.value.details["checks"]}


def _works(ticket):
    for status in ("submitted", "accepted"):
        Order.objects.filter(ticket=ticket).update(status=status)


def test_of_a_working_bracket_the_entry_counts_and_its_exits_reserve_once(desk):
    Limits.objects.update(position_max=Decimal(20))
    ticket = desk.place_group(desk.bracket())
    _works(ticket)
    assert desk.place(quantity=Decimal(10)).status in {"proposed", "allowed"}
    assert _refused(desk, quantity=Decimal(11)) == {"position_max"}
    Order.objects.filter(ticket=ticket, number=1).update(status="filled", filled_quantity=Decimal(10))
    facts = gather(desk.account, "AAPL", None)
    assert closable(desk.account, facts, Decimal(15)) == Decimal(5), "two exits for ten, of which one fills"


def test_of_an_oco_only_the_larger_can_fill(desk):
    Limits.objects.update(position_max=Decimal(20))
    high = {"order_type": "stop", "limit_price": None, "stop_price": Decimal(192)}
    _works(desk.place_group(desk.group("oco", {"limit_price": Decimal(188)}, high)))
    assert desk.place(quantity=Decimal(10)).status in {"proposed", "allowed"}
    assert _refused(desk, quantity=Decimal(11)) == {"position_max"}


def test_an_exit_that_stays_larger_than_its_half_filled_entry_is_said_and_amended_to_what_is_open(
    desk, settings
):
    settings.EMAIL_IS_ON = True
    User.objects.filter(username="bob").update(email="bob@desk.example")
    ticket = desk.decide(desk.place_group(desk.bracket()))
    _works(ticket)
    Order.objects.filter(ticket=ticket, number=3).update(broker_order_id="73")
    Ticket.objects.filter(pk=ticket.pk).update(status="sent")
    for total, seconds, told in ((4, 20, 0), (10, 5, 0), (10, 20, 1)):
        ended = {
            "status": "canceled",
            "filled_quantity": 4,
            "reported_at": ClockTime() - timedelta(seconds=seconds),
        }
        Order.objects.filter(ticket=ticket, number=1).update(**ended)
        row = OrderReport("73", BrokerOrderState.ACCEPTED, total_quantity=Decimal(total))
        record_reports(desk.login, "poll", [(row, None)])
        safety.watch(access.system("orders"), desk.login)
        assert Delivery.objects.filter(subject__contains="An exit is larger").count() == told
    stop = legs(ticket)[2]
    with pytest.raises(GroupImpossible):
        amends.require_fits(stop, {"quantity": Decimal(5), "stop_price": stop.stop_price})
    amends.require_fits(stop, {"quantity": Decimal(4), "stop_price": stop.stop_price})


def test_an_amendment_on_its_way_counts_as_taken_where_it_is_larger(desk):
    Limits.objects.update(position_max=Decimal(30))
    order = put_order(desk)
    was = {"was_quantity": 10, "was_limit_price": 100, "filled_quantity": 0, "limit_price": 100}
    row = Amendment.objects.create(order=order, quantity=20, tightens=False, digest="d" * 64, **was)
    assert desk.place(quantity=Decimal(20)).status in {"proposed", "allowed"}
    for status in ("allowed", "sent"):
        Amendment.objects.filter(pk=row.pk).update(status=status)
    assert _refused(desk, quantity=Decimal(11)) == {"position_max"}
