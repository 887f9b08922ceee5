"""Ticks on demand: who wants which stream, what gives way, and when it ends."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from cerbero.errors import NotFound, QuoteMissing, SubscriptionLimit
from tests.brokers.tools.conftest import AAPL


def known(symbol: str, broker_id: str):
    from brokers.models import BrokerInstrument, Instrument

    instrument = Instrument.objects.create(symbol=symbol)
    BrokerInstrument.objects.create(instrument=instrument, broker="ibkr", broker_instrument_id=broker_id)
    return instrument


def test_reading_a_tick_subscribes_and_the_relay_is_told_which(ask, login) -> None:
    from brokers.models import Instrument, Quote
    from brokers.wishes import wanted

    aapl = Instrument.objects.get()
    assert wanted(login) == {}
    with pytest.raises(QuoteMissing) as early:
        ask("get_tick", symbol="AAPL")
    assert early.value.retryable
    assert wanted(login) == {AAPL: aapl.pk}
    now = timezone.now()
    Quote.objects.create(
        instrument=aapl, bid="250.10", ask="250.12", availability="live", received_at=now, changed_at=now
    )
    tick = ask("get_tick", symbol="AAPL")
    assert (tick["symbol"], tick["availability"], tick["is_halted"]) == ("AAPL", "live", False)
    assert tick["ends_at"] > tick["received_at"]


def test_a_stream_goes_on_while_anybody_wants_it_and_ends_by_itself(ask, login) -> None:
    from brokers import wishes
    from brokers.models import Instrument, TickWish

    aapl = Instrument.objects.get()
    told = ask("subscribe_tick", symbol="AAPL")
    assert (told["lines_used"], told["lines_max"]) == (1, 80)
    wishes.want(login, aapl, "another-bot")
    assert ask("unsubscribe", symbol="AAPL")["ends_at"] is None
    assert AAPL in wishes.wanted(login)
    TickWish.objects.update(wanted_until=timezone.now() - timedelta(seconds=1))
    assert wishes.wanted(login) == {}
    ask("subscribe_tick", symbol="AAPL")
    assert TickWish.objects.count() == 1, "what ended is swept away"


def test_the_least_wanted_gives_way_and_what_people_watch_never(ask, login, monkeypatch) -> None:
    from brokers import wishes
    from brokers.models import Instrument, Subscription

    monkeypatch.setattr(wishes, "LINES_MAX", 2)
    aapl, ibm, msft = Instrument.objects.get(), known("IBM", "8314"), known("MSFT", "272093")
    Subscription.objects.create(login=login, instrument=aapl)
    wishes.want(login, ibm, "one")
    wishes.want(login, msft, "one")
    assert set(wishes.wanted(login)) == {AAPL, "272093"}
    wishes.want(login, ibm, "two")
    assert set(wishes.wanted(login)) == {AAPL, "8314"}
    assert set(wishes.wanted(login, {msft.pk})) == {AAPL, "272093"}, "people decide on it now"
    Subscription.objects.create(login=login, instrument=ibm)
    with pytest.raises(SubscriptionLimit):
        ask("subscribe_tick", symbol="MSFT")
    assert ask("subscribe_tick", symbol="AAPL")["lines_used"] == 2, "it is streamed already"


def test_only_what_cerbero_knows_is_streamed(ask) -> None:
    with pytest.raises(NotFound):
        ask("get_tick", broker_instrument_id="8314")


def test_a_book_is_asked_for_and_told_while_it_is_news(ask, login, simulator) -> None:
    from brokers import wishes
    from brokers.read_records import DepthLevel, DepthRecord

    account = simulator.credentials["accounts"][0]
    with pytest.raises(QuoteMissing):
        ask("get_depth", account=account, symbol="AAPL")
    assert wishes.books(login) == {account: AAPL}
    assert wishes.wanted(login) == {}, "a book takes no line of the quotes"
    ask("unsubscribe", symbol="AAPL")
    assert wishes.books(login) == {}, "a book is left by the same word"
    levels = (DepthLevel(Decimal("250.12"), ask_size=Decimal(300)), DepthLevel(Decimal("250.10")))
    book = DepthRecord(account, AAPL, timezone.now(), levels)
    wishes.BOOKS.keep(login, wishes.book_key(book), book)
    told = ask("get_depth", account=account, symbol="AAPL")
    assert [(each["price"], each["ask_size"]) for each in told["levels"]] == [
        ("250.12", "300"),
        ("250.10", None),
    ]
    old = replace(book, received_at=timezone.now() - timedelta(seconds=11))
    wishes.BOOKS.keep(login, wishes.book_key(old), old)
    with pytest.raises(QuoteMissing):
        ask("get_depth", account=account, symbol="AAPL")
