"""What the broker holds is what we show; what we did not do is drift."""

from decimal import Decimal

import pytest

from cerbero.errors import BrokerError
from orders.models import Balance, Drift, Execution, Position
from tests.orders.world import AAPL, until


def test_positions_and_money_are_the_brokers(floor):
    floor.sim.control(
        "POST",
        "/_sim/manual_order",
        {
            "account": floor.account.broker_account_id,
            "conid": int(AAPL),
            "side": "BUY",
            "quantity": 7,
            "orderType": "MKT",
        },
    )
    until(lambda: floor.reconcile() or Position.objects.filter(symbol="AAPL", quantity=7).exists())
    position = Position.objects.get(account=floor.account)
    assert position.instrument == floor.aapl
    balance = Balance.objects.get(account=floor.account)
    assert balance.net_liquidation > 0


def test_a_manual_trade_is_drift(floor):
    floor.sim.control(
        "POST",
        "/_sim/manual_order",
        {
            "account": floor.account.broker_account_id,
            "conid": int(AAPL),
            "side": "BUY",
            "quantity": 7,
            "orderType": "MKT",
        },
    )
    until(
        lambda: floor.reconcile() or floor.turn() or Drift.objects.filter(kind="unknown_execution").exists()
    )
    assert Execution.objects.get().order is None
    assert Drift.objects.filter(kind="unknown_order").exists()


def test_a_broker_that_cannot_be_read_concludes_nothing(floor):
    floor.near()
    floor.sim.fault("status", status=503, path="account/orders", method="GET", times=10)
    with pytest.raises(BrokerError):
        floor.reconcile()
    assert not Balance.objects.exists()


def test_a_restart_of_the_broker_loses_nothing(floor):
    from tests.simulator_process import start_simulator

    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    floor.turn()
    floor.sim.kill()
    floor.sim = start_simulator(floor.sim.state_dir)
    try:
        from brokers.models import Login
        from brokers.sessions import keep_session
        from cerbero import access
        from orders.tasks import reconcile_accounts

        reconcile_accounts()
        assert Login.objects.get().state == "expired", "whoever meets a dead session says so"
        until(lambda: keep_session(floor.login, access.system("test")) == "up", 20)
        reconcile_accounts()
        floor.turn()
        assert floor.order(ticket).status == "accepted"
        assert not Drift.objects.exists()
    finally:
        floor.sim.stop()
