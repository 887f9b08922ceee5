"""Everything at once: canceling all orders, closing all positions."""

from decimal import Decimal
from typing import Any

import pytest

from brokers.models import BrokerInstrument, Instrument
from cerbero.errors import BadInput, PositionUnknown, TradingHalted
from orders import halting, reducing
from orders.models import Order, Ticket
from orders.tools import reducing as tools
from tests.orders.world import AAPL, SPY, put_order, until


def _close_all(floor: Any, actor: Any = None, key: str = "all-1") -> tools.AllClosedOut:
    params = tools.CloseAll(account=floor.account.broker_account_id, idempotency_key=key)
    return tools.close_all_positions(actor or floor.scanner, params)


def _held(floor: Any) -> dict[str, str]:
    return floor.sim.book()["accounts"][floor.account.broker_account_id]["positions"]


@pytest.fixture
def holding(floor):
    """Ten AAPL long and four SPY short at the broker, and one thing that Cerbero does not know."""
    spy = Instrument.objects.create(symbol="SPY", price_increment=Decimal("0.01"), multiplier=1)
    BrokerInstrument.objects.create(instrument=spy, broker="ibkr", broker_instrument_id=SPY)
    for conid, quantity in ((AAPL, 10), (SPY, -4), ("8314", 3)):
        floor.sim.control("POST", "/_sim/position", {"conid": int(conid), "quantity": quantity})
    floor.near()
    floor.reconcile()
    return floor


def test_all_that_is_held_is_closed_each_by_a_ticket_of_its_own(holding):
    told = {each.broker_instrument_id: each for each in _close_all(holding).positions}
    assert {name: each.held for name, each in told.items()} == {AAPL: 10, SPY: -4, "8314": 3}
    assert (told[AAPL].order.side, told[AAPL].order.quantity) == ("sell", 10)
    assert (told[SPY].order.side, told[SPY].order.quantity) == ("buy", 4)
    assert (told["8314"].order, told["8314"].refusal_code) == (None, "not_found")
    tickets = Ticket.objects.all()
    assert {each.idempotency_key for each in tickets} == {f"all-1.{AAPL}", f"all-1.{SPY}"}
    assert all(each.reduce_only and each.request_id is None for each in tickets)
    again = {each.broker_instrument_id: each for each in _close_all(holding).positions}
    assert again[AAPL].order.order_id == told[AAPL].order.order_id, "the same key closes once"
    other = {each.broker_instrument_id: each for each in _close_all(holding, key="all-2").positions}
    assert other[AAPL].refusal_code == "nothing_to_close", "a close that works already counts"
    until(lambda: holding.turn() or set(_held(holding)) == {"8314"})


def test_an_unreadable_broker_closes_nothing_and_says_so(holding):
    holding.sim.fault("status", status=503, path="positions", times=5)
    with pytest.raises(PositionUnknown):
        _close_all(holding)
    assert not Ticket.objects.exists()


def test_while_halted_people_close_all_and_bots_do_not(holding):
    halting.halt_trading(mode="stop_new", actor=holding.person("bob"), reason="test")
    with pytest.raises(TradingHalted):
        _close_all(holding)
    account = holding.account.broker_account_id
    done = reducing.close_all_positions(actor=holding.person("bob"), account=account, idempotency_key="b")
    assert [each.refusal is None for each in done] == [True, True, False]
    until(lambda: holding.turn() or set(_held(holding)) == {"8314"})


def test_a_key_leaves_room_for_the_brokers_ids():
    with pytest.raises((BadInput, ValueError)):
        tools.CloseAll(account="DU1", idempotency_key="k" * 49)


def test_a_bot_cancels_all_of_its_own_and_nothing_of_others(desk):
    waiting, bracket = desk.place(), desk.place_group(desk.bracket())
    theirs = put_order(desk, person=desk.people["bob"], broker_order_id="")
    told = tools.cancel_all_orders(desk.scanner, tools.CancelAll())
    assert [each.order.ticket_id for each in told.orders] == [waiting.pk] + [bracket.pk] * 3
    assert {each.order.status for each in told.orders} == {"canceled"}
    theirs.refresh_from_db()
    assert theirs.status == "accepted"
    assert tools.cancel_all_orders(desk.scanner, tools.CancelAll()).orders == []
    account = tools.CancelAll(account=desk.account.broker_account_id)
    desk.place()
    assert len(tools.cancel_all_orders(desk.scanner, account).orders) == 1


def test_what_works_at_the_broker_is_asked_for_entry_first(floor):
    floor.sim.config(fills="never", price_limit_percent=90)
    ticket = floor.approved(limit_price=floor.near() - 5)
    floor.turn()
    until(lambda: floor.turn() or Order.objects.filter(ticket=ticket, status="accepted").exists())
    (told,) = tools.cancel_all_orders(floor.scanner, tools.CancelAll()).orders
    assert (told.order.status, told.refusal_code) == ("pending_cancel", "")
    assert told.order.cancel_requested_at
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "canceled")
