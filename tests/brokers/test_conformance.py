"""What every broker adapter must hold, numbered, over the wire against the simulator.

S session, I instruments, Q quotes, P portfolio, T stream; O orders and F faults stand in
test_conformance_orders.py. An adapter joins by an entry in `desk.ADAPTERS`; nothing here knows any
broker's words.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from brokers.base import (
    Availability,
    BrokerOrderState,
    ListedAccounts,
    OrderReport,
    QuoteRecord,
    QuoteSource,
    SessionStatus,
    Side,
)
from brokers.read_records import DepthRecord
from cerbero.errors import BrokerRejected, SessionExpired, StreamLost
from tests.brokers.desk import AAPL, eventually, market, order

# Session


def test_s01_a_token_is_minted_validated_and_not_shown(own):
    token = own.connect().mint()
    assert token.expires_at > datetime.now(UTC) + timedelta(hours=1)
    assert len(token.secret) >= 16
    assert token.secret.hex() not in repr(token)
    assert repr(token.secret) not in repr(token)


def test_s02_wrong_keys_are_an_expired_session(own):
    with pytest.raises(SessionExpired):
        own.connect(**own.adapter.wrong_keys).mint()


def test_s03_without_a_token_nothing_is_asked(own):
    with pytest.raises(SessionExpired):
        own.connect().tickle()


def test_s04_a_wrong_token_is_an_expired_session(own):
    with pytest.raises(SessionExpired):
        own.connect(b"\x01" * 20).tickle()


def test_s05_orders_need_a_brokerage_session(own):
    broker = own.connect()
    broker.mint()
    assert not broker.session_status().is_up
    with pytest.raises(SessionExpired):
        broker.open_orders()
    with pytest.raises(SessionExpired):
        broker.place(own.account, [order()])


def test_s06_a_session_comes_up_although_the_link_takes_a_moment(own):
    own.sim.config(bring_up=0.7)
    broker = own.signed_in()
    assert broker.open_orders() == []
    assert broker.executions() == []


def test_s07_another_platform_is_only_evicted_on_purpose(own):
    broker = own.connect()
    broker.mint()
    own.sim.fault("competing")
    status = broker.open_session(compete=False)
    assert status.competing
    assert not status.is_up
    assert broker.open_session(compete=True).is_up


def test_s08_a_tickle_gives_the_sockets_id_and_the_status(desk):
    socket_id, status = desk.broker.tickle()
    assert socket_id
    assert status.is_up


def test_s09_the_broker_lists_its_accounts_and_calls_them_paper(desk):
    listed = desk.broker.listed_accounts()
    assert list(listed.broker_account_ids) == desk.sim.credentials["accounts"]
    assert listed.is_paper is True


def test_s10_a_live_login_is_called_live(live):
    assert live.signed_in().listed_accounts().is_paper is False


def test_s11_a_lost_brokerage_session_is_said_and_found_again(own):
    broker = own.signed_in()
    own.sim.control("POST", "/_sim/session", {"drop": "brokerage"})
    assert not broker.session_status().is_up
    with pytest.raises(SessionExpired):
        broker.open_orders()
    assert broker.open_session().is_up
    assert broker.open_orders() == []


def test_s12_a_lost_sign_in_is_said_and_another_works(own):
    broker = own.signed_in()
    own.sim.control("POST", "/_sim/session", {"drop": "outer"})
    with pytest.raises(SessionExpired):
        broker.tickle()
    assert own.signed_in().tickle()[1].is_up


# Instruments


def test_i01_a_stock_is_found_with_all_that_an_order_needs(desk):
    found = next(i for i in desk.broker.find_instruments("aapl", "stock") if i.is_us)
    assert (found.broker_instrument_id, found.symbol, found.asset_class) == (AAPL, "AAPL", "stock")
    assert (found.currency, found.exchange) == ("USD", "NASDAQ")
    assert (found.multiplier, found.price_increment) == (1, Decimal("0.01"))
    assert "APPLE" in found.name.upper()


@pytest.mark.parametrize("asset_class", ["stock", "future", "index", "fx"])
def test_i02_an_unknown_symbol_is_nothing(desk, asset_class):
    assert desk.broker.find_instruments("NOSUCH", asset_class) == []


def test_i03_a_future_has_its_multiplier_and_step(desk):
    found = desk.broker.find_instruments("ES", "future")
    assert len(found) >= 2
    assert {i.asset_class for i in found} == {"future"}
    assert {(i.multiplier, i.price_increment) for i in found} == {(Decimal(50), Decimal("0.25"))}
    assert len({i.broker_instrument_id for i in found}) == len(found)


def test_i04_an_index_is_found(desk):
    (found,) = desk.broker.find_instruments("SPX", "index")
    assert (found.broker_instrument_id, found.asset_class) == ("416904", "index")


def test_i05_a_currency_pair_is_found(desk):
    (found,) = desk.broker.find_instruments("EUR.USD", "fx")
    assert (found.broker_instrument_id, found.currency, found.asset_class) == ("12087792", "USD", "fx")


def test_i06_what_a_symbol_may_mean_is_listed_and_nothing_is_guessed(desk):
    """Two contract months of one root differ in their day alone, pence are told from pounds."""
    found = desk.broker.find_instruments("ES", "future")
    assert len({i.expires_on for i in found}) == len(found) >= 2
    (london,) = [i for i in desk.broker.find_instruments("VOD", "stock") if not i.is_us]
    assert (london.currency, london.price_magnifier) == ("GBP", 100)


# Quotes


def test_q01_a_snapshot_is_two_sided_and_says_how_fresh_it_is(desk):
    (quote,) = desk.broker.snapshot([AAPL])
    assert quote.broker_instrument_id == AAPL
    assert 0 < quote.bid < quote.ask
    assert quote.availability is Availability.LIVE
    assert datetime.now(UTC) - quote.received_at < timedelta(seconds=5)
    assert not quote.is_halted


@pytest.mark.parametrize(
    ("letters", "availability"),
    [
        ("DPB", Availability.DELAYED),
        ("ZB", Availability.FROZEN),
        ("YB", Availability.FROZEN),
        ("N", Availability.NONE),
    ],
)
def test_q02_prices_that_are_not_live_are_called_what_they_are(desk, letters, availability):
    desk.sim.config(availability=letters)
    (quote,) = desk.broker.snapshot([AAPL])
    assert quote.availability is availability


def test_q03_an_unknown_instrument_has_no_quote(desk):
    assert [q.broker_instrument_id for q in desk.broker.snapshot([AAPL, "1"])] == [AAPL]


# Portfolio


def test_p01_a_summary_is_in_the_accounts_currency(desk):
    summary = desk.broker.summary(desk.account)
    assert summary.currency == "USD"
    assert summary.net_liquidation > 0
    assert summary.available_funds > 0


def test_p02_an_account_that_is_not_ours_is_rejected_and_the_session_stays(desk):
    with pytest.raises(BrokerRejected):
        desk.broker.summary("DU0000000")
    with pytest.raises(BrokerRejected):
        desk.broker.positions("DU0000000")
    assert desk.broker.session_status().is_up


def test_p03_a_short_position_is_negative(desk):
    terms = market(broker_instrument_id="8314", side=Side.SELL, quantity=Decimal(4))
    (row,) = desk.broker.place(desk.account, [terms]).orders
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.FILLED)
    held = {p.broker_instrument_id: p for p in desk.broker.positions(desk.account)}["8314"]
    assert (held.quantity, held.currency, held.symbol) == (-4, "USD", "IBM")
    assert held.average_price > 0


def test_p04_positions_are_read_to_the_last_page_however_sparse_the_first_read_is(own):
    held = own.hold_many(130)
    broker = own.signed_in()
    for _ in range(2):
        found = {p.broker_instrument_id: p for p in broker.positions(own.account)}
        assert found.keys() == held
        assert {p.quantity for p in found.values()} == {2}
        assert all(p.symbol and p.currency and p.asset_class for p in found.values())


# Stream


async def first_of(source: QuoteSource, wanted: Callable[[Any], bool], seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        async for event, raw in source.events():
            assert isinstance(raw, dict)
            if wanted(event):
                return event


def test_t01_quotes_arrive_whole_and_keep_coming(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await source.subscribe([AAPL])
            seen = [await first_of(source, lambda e: isinstance(e, QuoteRecord)) for _ in range(3)]
            assert all(q.bid and q.ask and q.availability is Availability.LIVE for q in seen)

    asyncio.run(scene())


def test_t02_an_order_and_its_fill_arrive(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await first_of(source, lambda e: isinstance(e, ListedAccounts))
            terms = market()
            (row,) = desk.broker.place(desk.account, [terms]).orders
            await first_of(
                source,
                lambda e: (
                    isinstance(e, OrderReport)
                    and (e.broker_order_id, e.state) == (row.broker_order_id, BrokerOrderState.FILLED)
                ),
            )

    asyncio.run(scene())


def test_t03_the_stream_tells_the_session_and_the_environment(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            listed = await first_of(source, lambda e: isinstance(e, ListedAccounts))
            assert listed.is_paper is True
            assert list(listed.broker_account_ids) == desk.sim.credentials["accounts"]
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            assert (await first_of(source, lambda e: isinstance(e, SessionStatus))).is_up

    asyncio.run(scene())


def test_t04_a_silent_stream_is_lost(desk):
    async def scene():
        desk.sim.fault("stalled_stream", seconds=60)
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0], heartbeat=0.5) as source:
            await first_of(source, lambda e: False)

    with pytest.raises(StreamLost):
        asyncio.run(scene())


def test_t05_binary_frames_are_read_alike(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await source.subscribe([AAPL])
            assert await first_of(source, lambda e: isinstance(e, QuoteRecord))

    desk.sim.config(binary_frames=True)
    try:
        asyncio.run(scene())
    finally:
        desk.sim.config(binary_frames=False)


def test_t06_a_book_comes_for_one_account_and_another_takes_its_place(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            for wanted in (AAPL, "8314"):
                await source.show_depth({desk.account: wanted})
                book = await first_of(source, lambda e: isinstance(e, DepthRecord))
                assert (book.broker_account_id, book.broker_instrument_id) == (desk.account, wanted)
                prices = [level.price for level in book.levels]
                assert prices == sorted(prices, reverse=True)
                assert [level for level in book.levels if level.bid_size]
                assert [level for level in book.levels if level.ask_size]

    asyncio.run(scene())


def test_t07_a_cancel_is_streamed_until_it_is_proven(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await first_of(source, lambda e: isinstance(e, ListedAccounts))
            (row,) = desk.broker.place(desk.account, [order()]).orders
            desk.broker.cancel(desk.account, row.broker_order_id)
            ended = (row.broker_order_id, BrokerOrderState.CANCELED)
            await first_of(
                source, lambda e: isinstance(e, OrderReport) and (e.broker_order_id, e.state) == ended
            )

    asyncio.run(scene())


def test_t08_a_broken_stream_is_lost_and_another_takes_its_place(desk):
    async def scene():
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await first_of(source, lambda e: isinstance(e, ListedAccounts))
            desk.sim.control("POST", "/_sim/session", {"drop": "streams"})
            with pytest.raises(StreamLost):
                await first_of(source, lambda e: False)
        async with desk.adapter.stream(desk.sim, desk.broker.tickle()[0]) as source:
            await source.subscribe([AAPL])
            assert await first_of(source, lambda e: isinstance(e, QuoteRecord))

    asyncio.run(scene())
