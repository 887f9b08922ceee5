"""Closing: sized by the broker, no approval, never more than is held."""

from decimal import Decimal

import pytest

from brokers.models import Instrument
from cerbero.errors import (
    IdempotencyConflict,
    NothingToClose,
    PermissionMissing,
    PositionUnknown,
    TradingHalted,
)
from orders import halting, services
from orders.models import TradingState
from tests.orders.world import until


@pytest.fixture
def long(floor):
    """Ten shares bought through the gate."""
    ticket = floor.approved(limit_price=floor.near() + 1)
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "filled")
    return floor


def _close(world, actor=None, **changes):
    fields = {"account": world.account.broker_account_id, "symbol": "AAPL", "idempotency_key": "close-1"}
    return services.close_position(actor=actor or world.scanner, **fields | changes)


def test_a_bot_closes_without_an_approval(long):
    ticket = _close(long)
    assert (ticket.status, ticket.reduce_only, ticket.request_id) == ("allowed", True, None)
    long.turn()
    until(lambda: long.reconcile() or long.turn() or long.order(ticket).status == "filled")
    assert long.order(ticket).side == "sell"
    until(lambda: long.reconcile() or not long.account.positions.exclude(quantity=0).exists())


def test_the_key_of_a_close_serves_no_other_order(long):
    ticket = _close(long)
    assert _close(long).pk == ticket.pk
    with pytest.raises(IdempotencyConflict) as refusal:
        long.place(idempotency_key="close-1")
    assert refusal.value.details["differs"] == ["reduce_only"]
    Instrument.objects.create(symbol="MSFT")
    with pytest.raises(IdempotencyConflict):
        _close(long, symbol="MSFT")


def test_a_close_is_never_more_than_what_is_held(long):
    assert long.order(_close(long, quantity=Decimal(50))).quantity == Decimal(10)


def test_a_second_close_counts_the_first(long):
    _close(long, quantity=Decimal(6))
    assert long.order(_close(long, idempotency_key="close-2")).quantity == Decimal(4)
    with pytest.raises(NothingToClose):
        _close(long, idempotency_key="close-3")


def test_nothing_held_is_nothing_to_close(floor):
    floor.near()
    with pytest.raises(NothingToClose):
        _close(floor)


def test_an_unreadable_position_refuses(long):
    long.sim.fault("status", status=503, path="positions", times=5)
    with pytest.raises(PositionUnknown):
        _close(long)


def test_while_reducing_a_close_passes(long):
    TradingState.objects.filter(scope=TradingState.Scope.EVERYTHING).update(state="reducing")
    ticket = _close(long)
    long.turn()
    assert long.order(ticket).status != "pending"


def test_while_halted_a_person_closes_and_a_bot_does_not(long):
    halting.halt_trading(mode="stop_new", actor=long.person("bob"), reason="test")
    with pytest.raises(TradingHalted):
        _close(long)
    ticket = _close(long, long.person("bob"))
    long.turn()
    until(lambda: long.reconcile() or long.turn() or long.order(ticket).status == "filled")


def test_a_person_needs_the_permission(long):
    long.people["bob"].groups.clear()
    with pytest.raises(PermissionMissing):
        _close(long, long.person("bob"))


def test_a_position_that_went_before_the_sending_is_not_flipped(long):
    ticket = _close(long)
    long.sim.control(
        "POST",
        "/_sim/manual_order",
        {
            "account": long.account.broker_account_id,
            "conid": 265598,
            "side": "SELL",
            "quantity": 10,
            "orderType": "MKT",
        },
    )
    until(lambda: long.reconcile() or not long.account.positions.exclude(quantity=0).exists())
    long.turn()
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "position_changed")
