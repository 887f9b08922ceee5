"""Redis carries hints and beat's wake-ups, and no order: with it gone everything that people and bots decide goes on."""

from decimal import Decimal

import pytest

from brokers import sessions
from brokers.sessions import keep_session
from cerbero import access, embedded
from cerbero.leases import ClockTime
from orders import halting, services
from tests.orders.world import until


@pytest.fixture
def without_redis(servers):
    """The run's Redis is stopped, and comes back for the next test."""
    servers.redis.stop()
    yield
    servers.redis = embedded.start_redis(servers.root)


def test_an_order_is_proposed_approved_sent_and_canceled_and_trading_halted(floor, without_redis):
    type(floor.login).objects.update(tickled_at=ClockTime() - sessions.TICKLE_EVERY)
    assert keep_session(floor.login, access.system("session")) == "up"
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    floor.turn()
    order = until(lambda: floor.turn() or ticket.orders.filter(status="accepted").first())
    assert len(floor.at_broker()) == 1
    services.cancel_order(actor=floor.scanner, order_id=order.pk)
    until(lambda: floor.reconcile() or floor.turn() or ticket.orders.filter(status="canceled").exists())
    waiting = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    halting.halt_trading(mode="stop_new", actor=access.system("test"), reason="a drill")
    floor.turn()
    waiting.refresh_from_db()
    assert (waiting.status, len(floor.at_broker())) == ("allowed", 1)
