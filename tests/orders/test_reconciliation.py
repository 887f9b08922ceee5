"""What the broker holds is what we show; what we did not do is drift."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account
from brokers.services import broker_for
from brokers.tools import activity
from cerbero import access, leases
from cerbero.errors import BrokerError
from cerbero.leases import ClockTime
from orders import submission
from orders.models import Attempt, Balance, Drift, Execution, Position
from orders.reconciliation import is_conversing
from orders.tasks import reconcile_accounts
from orders.tickets import terms_of
from tests.orders.world import AAPL, until

SYSTEM = access.system("test")


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


def test_the_accounts_currency_is_the_brokers_word_and_a_change_is_on_record(floor):
    Account.objects.filter(pk=floor.account.pk).update(currency="EUR")
    for _ in range(2):
        floor.reconcile()
    floor.account.refresh_from_db()
    assert floor.account.currency == "USD"
    entry = Entry.objects.get(event="account.currency_changed")
    assert (entry.details["from"], entry.details["to"]) == ("EUR", "USD")


def test_no_poll_speaks_of_orders_while_one_is_being_placed(floor):
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    with broker_for(floor.login) as broker:
        hold = floor.hold()
        moment = submission.read_moment(ticket, ticket.orders.get(), broker)
        attempt = submission.prepare(SYSTEM, ticket, ticket.orders.get(), moment, hold)
        assert submission.arm(SYSTEM, attempt, hold)
    as_of = Balance.objects.get().as_of
    assert is_conversing(floor.login)
    reconcile_accounts()
    assert Balance.objects.get().as_of == as_of
    Attempt.objects.update(sent_at=ClockTime() - timedelta(seconds=20))
    reconcile_accounts()
    assert Balance.objects.get(account=floor.account).as_of > as_of, "whoever sent it so long ago is gone"


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
    as_of = Balance.objects.get().as_of
    floor.sim.fault("status", status=503, path="account/orders", method="GET", times=10)
    with pytest.raises(BrokerError):
        floor.reconcile()
    assert Balance.objects.get().as_of == as_of


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
        until(lambda: keep_session(floor.login, access.system("test")) == "up")
        reconcile_accounts()
        floor.turn()
        assert floor.order(ticket).status == "accepted"
        assert not Drift.objects.exists()
    finally:
        floor.sim.stop()


def test_a_dead_senders_order_that_was_reported_before_anybody_doubted_it_is_settled(floor):
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    hold, order = floor.hold(), ticket.orders.get()
    with broker_for(floor.login) as broker:
        moment = submission.read_moment(ticket, order, broker)
        attempt = submission.prepare(SYSTEM, ticket, order, moment, hold)
        assert submission.arm(SYSTEM, attempt, hold)
        terms = terms_of(order, AAPL)
        terms = replace(terms, client_order_id=attempt.client_order_id)
        broker.place(floor.account.broker_account_id, [terms])
    leases.release(hold.name, hold.fence)
    floor.reconcile()
    floor.turn()
    attempt.refresh_from_db()
    assert (floor.order(ticket).status, attempt.status) == ("accepted", "in_doubt")
    floor.reconcile()
    attempt.refresh_from_db()
    assert (attempt.status, attempt.outcome["found"]) == ("settled", True)


def test_bots_read_orders_and_fills_as_reconciliation_read_them_with_its_time(floor):
    """The broker gives these lists once in five seconds: a bot's question never takes reconciliation's turn."""
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    floor.turn()
    floor.reconcile()
    for path in ("/account/orders", "/account/trades"):
        floor.sim.fault("status", status=503, path=path, method="GET", times=99)
    before = timezone.now()
    which = {"account": floor.account.broker_account_id}
    told = activity.get_open_orders(floor.scanner, activity.OfAccount(**which))
    assert [row.broker_order_id for row in told.orders] == [floor.order(ticket).broker_order_id]
    fills = activity.get_activities(floor.scanner, activity.OfActivities(**which))
    assert told.as_of == fills.as_of < before
