"""US futures say who sends them and whether by hand, on the way in and on a cancel (CME rule 536-B)."""

from decimal import Decimal

from django.utils import timezone

from brokers.instruments import resolve_instruments
from brokers.models import Instrument, Quote
from brokers.services import broker_for
from cerbero import access
from orders import halting, services
from orders.models import HaltMode, Order
from orders.tickets import terms_of
from tests.orders.world import until


def _future(floor) -> tuple[str, Decimal]:
    """The nearest micro future by its own name, filled in by the broker, allowed and quoted; and its bid."""
    with broker_for(floor.login) as broker:
        name = min(broker.find_instruments("MES", "future"), key=lambda each: each.expires_on).symbol
        row = Instrument.objects.create(symbol=name, asset_class="FUT", is_allowed=True)
        assert resolve_instruments(floor.login, broker, access.system("test")) == 1
        quote = broker.snapshot([row.broker_ids.get().broker_instrument_id])[0]
    now = timezone.now()
    prices = {"bid": quote.bid, "ask": quote.ask, "last": quote.bid, "availability": "live"}
    Quote.objects.create(instrument=row, received_at=now, changed_at=now, **prices)
    return name, quote.bid


def test_a_bots_future_is_previewed_placed_and_canceled(floor):
    name, bid = _future(floor)
    terms = {"symbol": name, "quantity": Decimal(1), "limit_price": bid - 40}
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


def test_a_halt_cancels_futures_whoever_placed_them(floor):
    name, bid = _future(floor)
    tickets = [floor.approved(symbol=name, quantity=Decimal(1), limit_price=bid - 40 - n) for n in range(2)]
    until(lambda: floor.turn() or {floor.order(each).status for each in tickets} == {"accepted"})
    conid = floor.order(tickets[0]).instrument.broker_ids.get().broker_instrument_id
    price = str(bid - 50)
    body = {"account": floor.account.broker_account_id, "conid": int(conid), "side": "BUY", "quantity": 1}
    floor.sim.control("POST", "/_sim/manual_order", body | {"orderType": "LMT", "price": price})
    report = halting.halt_trading(
        actor=floor.person("bob"), mode=HaltMode.STOP_AND_CANCEL_OPENING, reason="test"
    )
    assert {row["outcome"] for row in report["orders"]} == {"accepted"}
    assert len(report["orders"]) == 3


def test_shares_say_nothing_of_their_sender(floor):
    order = floor.order(floor.place())
    assert (terms_of(order, "1").manual_indicator, terms_of(order, "1").ext_operator) == (None, None)
