"""An option from its OCC symbol to its end: named, resolved, bought through the gate, sold by closing."""

from decimal import Decimal

import pytest
from django.utils import timezone

from brokers.instruments import resolve_instruments
from brokers.models import Instrument, Quote
from brokers.services import broker_for
from cerbero import access
from cerbero.errors import RiskRefused
from orders import services
from orders.models import Limits
from orders.tools.orders import ClosePosition, close_position
from tests.orders.world import AAPL, until


def _named(floor) -> tuple[Instrument, str]:
    """A call a month ahead and near the money, which the broker filled in, with a quote of this moment; and its ask."""
    Limits.objects.update(asset_classes=["STK", "OPT"])
    with broker_for(floor.login) as broker:
        month = next(s.months[1] for row in broker.reads.search("AAPL") for s in row.sections if s.months)
        (call,) = [
            each
            for each in broker.reads.option_contracts("AAPL", AAPL, month, Decimal(255))
            if each.right == "call"
        ]
        symbol = f"AAPL  {call.expires_on:%y%m%d}C00255000"
        row = Instrument.objects.create(symbol=symbol, asset_class="OPT", is_allowed=True)
        assert resolve_instruments(floor.login, broker, access.system("test")) == 1
        quote = until(lambda: next((q for q in broker.snapshot([call.broker_instrument_id]) if q.ask), None))
    row.refresh_from_db()
    now = timezone.now()
    prices = {"bid": quote.bid, "ask": quote.ask, "last": quote.ask, "availability": "live"}
    Quote.objects.create(instrument=row, received_at=now, changed_at=now, **prices)
    return row, symbol


def test_an_option_is_bought_and_closed_by_its_occ_symbol(floor):
    floor.near()
    row, symbol = _named(floor)
    ask = row.quote.ask
    assert row.price_bands == [["0.0", "0.01"], ["3.0", "0.05"]]
    with pytest.raises(RiskRefused) as between:
        floor.place(symbol=symbol, quantity=Decimal(1), limit_price=ask + Decimal("0.22"))
    assert [each["code"] for each in between.value.details["checks"]] == ["price_increment"], (
        "five cents from three on"
    )
    terms = {"symbol": symbol.replace(" ", ""), "quantity": Decimal(1), "limit_price": ask + Decimal("0.20")}
    _, preview = services.preview_order(actor=floor.scanner, proposal=floor.proposal(**terms))
    assert preview.error is None
    assert preview.commission == 1
    ticket = floor.approved(**terms)
    until(lambda: floor.turn() or floor.reconcile() or floor.order(ticket).status == "filled")
    paid = floor.order(ticket).average_price
    assert abs(paid - ask) < 2
    floor.reconcile()
    account = floor.account.broker_account_id
    closing = ClosePosition(account=account, symbol=symbol.lower(), idempotency_key="out")
    assert close_position(floor.scanner, closing).symbol == symbol
    held = floor.sim.book
    until(lambda: floor.turn() or not held()["accounts"][account]["positions"])
