"""US futures say who sends them and whether by hand, on the way in and on a cancel (CME rule 536-B)."""

from decimal import Decimal

from django.utils import timezone

from brokers.models import BrokerInstrument, Instrument, Quote
from brokers.services import broker_for
from orders import services
from orders.models import Order
from orders.tickets import terms_of
from tests.orders.world import until


def _future(floor) -> Decimal:
    """The nearest micro future, known, allowed and quoted; returns its bid."""
    with broker_for(floor.login) as broker:
        found = broker.find_instruments("MES", "future")[0]
        quote = broker.snapshot([found.broker_instrument_id])[0]
    row = Instrument.objects.create(
        symbol="MES1",
        asset_class="FUT",
        multiplier=found.multiplier,
        price_increment=found.price_increment,
        is_allowed=True,
    )
    BrokerInstrument.objects.create(
        instrument=row, broker="ibkr", broker_instrument_id=found.broker_instrument_id
    )
    now = timezone.now()
    prices = {"bid": quote.bid, "ask": quote.ask, "last": quote.bid, "availability": "live"}
    Quote.objects.create(instrument=row, received_at=now, changed_at=now, **prices)
    return quote.bid


def test_a_bots_future_is_previewed_placed_and_canceled(floor):
    bid = _future(floor)
    terms = {"symbol": "MES1", "quantity": Decimal(1), "limit_price": bid - 40}
    _, preview = services.preview_order(actor=floor.scanner, proposal=floor.proposal(**terms))
    assert preview.error is None
    ticket = floor.approved(**terms)
    floor.turn()
    order = until(lambda: floor.turn() or Order.objects.filter(ticket=ticket, status="accepted").first())
    assert terms_of(order, "1").manual_indicator is False
    assert terms_of(order, "1").ext_operator == "scanner-alpha"
    services.cancel_order(actor=floor.person("bob"), order_id=order.pk)
    canceled = Order.objects.filter(pk=order.pk, status="canceled")
    until(lambda: floor.reconcile() or floor.turn() or canceled.exists())


def test_shares_say_nothing_of_their_sender(floor):
    order = floor.order(floor.place())
    assert (terms_of(order, "1").manual_indicator, terms_of(order, "1").ext_operator) == (None, None)
