"""What every broker adapter must hold, numbered, over the wire against the simulator.

S session · I instruments · Q quotes · O orders · F faults · P portfolio · T stream. An adapter joins
by an entry in ADAPTERS; nothing below knows any broker's words.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokers.base import (
    Answer,
    Availability,
    Broker,
    BrokerOrderState,
    ListedAccounts,
    OrderReport,
    OrderTerms,
    OrderType,
    QuoteRecord,
    QuoteSource,
    SessionStatus,
    Side,
    TimeInForce,
)
from brokers.ibkr.auth import IbkrCredentials
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.stream import IbkrStream, Timing
from cerbero.errors import BrokerRejected, BrokerUnavailable, OutcomeUnknown, SessionExpired, StreamLost
from tests.simulator_process import SimulatorProcess, start_simulator

AAPL, FAR_BELOW = "265598", Decimal("250.00")


def ibkr_credentials(stored: dict[str, Any]) -> IbkrCredentials:
    return IbkrCredentials(
        consumer_key=stored["consumer_key"],
        access_token=stored["access_token"],
        access_token_secret=stored["access_token_secret"],
        dh_prime=int(stored["dh_prime"], 16),
        signature_key_pem=Path(stored["signature_key_path"]).read_bytes(),
        encryption_key_pem=Path(stored["encryption_key_path"]).read_bytes(),
    )


def ibkr_broker(sim: SimulatorProcess, session_token: bytes | None = None, **changes: Any) -> IbkrClient:
    return IbkrClient(sim.base_url, replace(ibkr_credentials(sim.credentials), **changes), session_token)


def ibkr_stream(sim: SimulatorProcess, socket_id: str, heartbeat: float = 30) -> IbkrStream:
    return IbkrStream(
        sim.ws_url, sim.credentials["access_token"], socket_id, timing=Timing(heartbeat=heartbeat)
    )


@dataclass(frozen=True)
class Adapter:
    """How to reach one broker; `wrong_keys` are changes to credentials that no exchange can survive."""

    broker: Callable[..., Broker]
    stream: Callable[..., QuoteSource]
    wrong_keys: dict[str, Any] = field(default_factory=dict)


ADAPTERS = {"ibkr": Adapter(ibkr_broker, ibkr_stream, {"dh_prime": 2**255 - 19})}


@dataclass
class Desk:
    """One adapter with its simulator."""

    adapter: Adapter
    sim: SimulatorProcess
    broker: Broker

    @property
    def account(self) -> str:
        return self.sim.credentials["accounts"][0]

    def arrivals(self, client_order_id: str | None) -> int:
        return sum(client_order_id in arrival["cOIDs"] for arrival in self.sim.book()["arrivals"])

    def find(self, client_order_id: str | None) -> OrderReport | None:
        return next((o for o in self.broker.open_orders() if o.client_order_id == client_order_id), None)


@pytest.fixture(scope="module", params=ADAPTERS)
def running(request, tmp_path_factory) -> Iterator[tuple[Adapter, SimulatorProcess, bytes]]:
    """One simulator for the module, and one session token: minting is slow."""
    adapter = ADAPTERS[request.param]
    sim = start_simulator(tmp_path_factory.mktemp("broker"))
    broker = adapter.broker(sim)
    token = broker.mint().secret
    broker.close()
    yield adapter, sim, token
    sim.stop()


@pytest.fixture
def desk(running) -> Iterator[Desk]:
    """An open session, no faults, quick fills."""
    adapter, sim, token = running
    sim.control("DELETE", "/_sim/faults")
    sim.config(
        fills="normal", fill_delay=[0.01, 0.02], questions=[], price_limit_percent=30, availability="RpB"
    )
    broker = adapter.broker(sim, token)
    assert broker.open_session(compete=True).is_up
    yield Desk(adapter, sim, broker)
    # A broker takes only so many working orders of one kind.
    sim.control("DELETE", "/_sim/faults")
    for report in broker.open_orders():
        if report.state is BrokerOrderState.ACCEPTED:
            broker.cancel(report.broker_account_id, report.broker_order_id)
    broker.close()


@dataclass
class Own:
    """A simulator of the test's own; what `connect` opened is closed at the end."""

    adapter: Adapter
    sim: SimulatorProcess
    opened: list[Broker] = field(default_factory=list)

    def connect(self, session_token: bytes | None = None, **changes: Any) -> Broker:
        self.opened.append(self.adapter.broker(self.sim, session_token, **changes))
        return self.opened[-1]

    def signed_in(self) -> Broker:
        broker = self.connect()
        broker.mint()
        assert broker.open_session().is_up
        return broker

    @property
    def account(self) -> str:
        return self.sim.credentials["accounts"][0]

    def close(self) -> None:
        for broker in self.opened:
            broker.close()
        self.sim.stop()


@pytest.fixture(params=ADAPTERS)
def own(request, tmp_path) -> Iterator[Own]:
    opened = Own(ADAPTERS[request.param], start_simulator(tmp_path / "broker"))
    yield opened
    opened.close()


@pytest.fixture(params=ADAPTERS)
def live(request, tmp_path) -> Iterator[Own]:
    opened = Own(ADAPTERS[request.param], start_simulator(tmp_path / "broker", "--live"))
    yield opened
    opened.close()


def order(**changes: Any) -> OrderTerms:
    """A limit that rests, with an id of its own."""
    fields: dict[str, Any] = {
        "broker_instrument_id": AAPL,
        "side": Side.BUY,
        "quantity": Decimal(1),
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.DAY,
        "limit_price": FAR_BELOW * Decimal("0.8"),
        "client_order_id": uuid.uuid4().hex,
    }
    return OrderTerms(**{**fields, **changes})


def market(**changes: Any) -> OrderTerms:
    return order(order_type=OrderType.MARKET, limit_price=None, **changes)


def eventually(look: Callable[[], Any], seconds: float = 5) -> Any:
    """What `look` returns, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


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


def test_s11_after_a_logout_the_session_is_expired(own):
    broker = own.signed_in()
    broker.logout()
    with pytest.raises(SessionExpired):
        broker.tickle()


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


# Quotes


def test_q01_a_snapshot_is_two_sided_and_says_how_fresh_it_is(desk):
    (quote,) = desk.broker.snapshot([AAPL])
    assert quote.broker_instrument_id == AAPL
    assert 0 < quote.bid < quote.ask
    assert quote.availability is Availability.LIVE
    assert datetime.now(UTC) - quote.received_at < timedelta(seconds=5)
    assert not quote.is_halted


def test_q02_delayed_prices_are_called_delayed(desk):
    desk.sim.config(availability="DPB")
    (quote,) = desk.broker.snapshot([AAPL])
    assert quote.availability is Availability.DELAYED


def test_q03_an_unknown_instrument_has_no_quote(desk):
    assert [q.broker_instrument_id for q in desk.broker.snapshot([AAPL, "1"])] == [AAPL]


# Orders


def test_o01_a_resting_order_is_accepted_and_found_by_our_id(desk):
    terms = order()
    answer = desk.broker.place(desk.account, [terms])
    assert answer.question is None
    (row,) = answer.orders
    found = desk.find(terms.client_order_id)
    assert found.broker_order_id == row.broker_order_id
    assert found.state is BrokerOrderState.ACCEPTED
    assert (found.side, found.order_type) == (Side.BUY, OrderType.LIMIT)
    assert (found.total_quantity, found.filled_quantity, found.limit_price) == (1, 0, terms.limit_price)
    assert (found.broker_account_id, found.broker_instrument_id) == (desk.account, AAPL)
    assert desk.broker.order(row.broker_order_id).state is BrokerOrderState.ACCEPTED


def test_o02_a_market_order_fills_and_its_execution_is_exact(desk):
    terms = market(quantity=Decimal(3))
    before = {p.broker_instrument_id: p.quantity for p in desk.broker.positions(desk.account)}
    (row,) = desk.broker.place(desk.account, [terms]).orders
    filled = eventually(
        lambda: (o := desk.broker.order(row.broker_order_id)).state is BrokerOrderState.FILLED and o
    )
    assert filled.filled_quantity == 3
    fills = eventually(
        lambda: [
            e for e in desk.broker.executions() if e.client_order_id == terms.client_order_id and e.commission
        ]
    )
    assert sum(fill.quantity for fill in fills) == 3
    assert {type(fill.price) for fill in fills} == {Decimal}
    assert all(fill.broker_account_id == desk.account and fill.side is Side.BUY for fill in fills)
    assert all(datetime.now(UTC) - fill.executed_at < timedelta(minutes=1) for fill in fills)
    after = {p.broker_instrument_id: p.quantity for p in desk.broker.positions(desk.account)}
    assert after[AAPL] - before.get(AAPL, 0) == 3


def test_o03_a_duplicate_id_is_in_doubt_and_adds_no_order(desk):
    terms = order()
    desk.broker.place(desk.account, [terms])
    with pytest.raises(OutcomeUnknown) as refused:
        desk.broker.place(desk.account, [terms])
    assert refused.value.details["duplicate"] is True
    assert len([o for o in desk.broker.open_orders() if o.client_order_id == terms.client_order_id]) == 1


def test_o04_a_question_comes_in_the_brokers_words_and_a_yes_sends_the_order(desk):
    desk.sim.config(questions=["o10153", "o451"])
    terms = order()
    answer, asked = desk.broker.place(desk.account, [terms]), []
    while answer.question is not None:
        assert desk.find(terms.client_order_id) is None
        asked += answer.question.message_ids
        assert answer.question.messages[0]
        answer = desk.broker.answer(answer.question, confirmed=True)
    assert asked == ["o10153", "o451"]
    assert answer.orders[0].broker_order_id
    assert desk.find(terms.client_order_id).state is BrokerOrderState.ACCEPTED


def test_o05_a_no_leaves_no_order(desk):
    desk.sim.config(questions=["o10153"])
    terms = order()
    question = desk.broker.place(desk.account, [terms]).question
    assert desk.broker.answer(question, confirmed=False) == Answer()
    assert desk.find(terms.client_order_id) is None


def test_o06_a_question_that_went_stale_is_in_doubt(desk):
    desk.sim.config(questions=["o10153"])
    stale = desk.broker.place(desk.account, [order()]).question
    desk.broker.place(desk.account, [order()])
    with pytest.raises(OutcomeUnknown):
        desk.broker.answer(stale, confirmed=True)
    with pytest.raises(OutcomeUnknown):
        desk.broker.answer(replace(stale, reply_id=str(uuid.uuid4())), confirmed=True)


def test_o07_a_cancel_is_proven_by_a_later_report(desk):
    terms = order()
    (row,) = desk.broker.place(desk.account, [terms]).orders
    assert desk.broker.cancel(desk.account, row.broker_order_id) is None
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.CANCELED)
    assert desk.find(terms.client_order_id).state is BrokerOrderState.CANCELED


def test_o08_cancelling_what_the_broker_does_not_have_is_rejected(desk):
    with pytest.raises(BrokerRejected):
        desk.broker.cancel(desk.account, "1")


def test_o09_cancelling_everything_is_not_a_cancel(desk):
    terms = order()
    desk.broker.place(desk.account, [terms])
    with pytest.raises(ValueError, match="id"):
        desk.broker.cancel(desk.account, "-1")
    assert desk.find(terms.client_order_id).state is BrokerOrderState.ACCEPTED


def test_o10_a_bracket_is_one_request_and_its_children_name_their_parent(desk):
    desk.sim.config(price_limit_percent=90)
    parent = order()
    exits = {"client_order_id": None, "parent_client_order_id": parent.client_order_id, "side": Side.SELL}
    legs = [
        parent,
        order(limit_price=Decimal(400), **exits),
        order(order_type=OrderType.STOP, limit_price=None, stop_price=Decimal(150), **exits),
    ]
    answer = desk.broker.place(desk.account, legs)
    while answer.question is not None:
        answer = desk.broker.answer(answer.question, confirmed=True)
    assert len(answer.orders) == 3
    top = next(row for row in answer.orders if row.parent_order_id is None)
    children = [o for o in desk.broker.open_orders() if o.parent_order_id == top.broker_order_id]
    assert {c.order_type for c in children} == {OrderType.LIMIT, OrderType.STOP}
    assert {c.stop_price for c in children} == {None, Decimal(150)}
    assert desk.arrivals(parent.client_order_id) == 1


def test_o11_a_preview_says_the_cost_and_leaves_nothing(desk):
    terms = order()
    preview = desk.broker.preview(desk.account, [terms])
    assert preview.commission > 0
    assert preview.commission_currency == "USD"
    assert preview.initial_margin_after > 0
    assert preview.error is None
    assert desk.find(terms.client_order_id) is None
    assert desk.broker.place(desk.account, [terms]).orders


def test_o12_an_order_that_nobody_knows_is_none(desk):
    assert desk.broker.order("1") is None


def test_o13_an_order_for_an_account_that_is_not_ours_is_not_placed(desk):
    terms = order()
    with pytest.raises((BrokerRejected, OutcomeUnknown)):
        desk.broker.place("DU0000000", [terms])
    assert desk.find(terms.client_order_id) is None


def test_o14_orders_of_the_second_account_are_seen_too(desk):
    second = desk.sim.credentials["accounts"][1]
    terms = market(quantity=Decimal(2))
    desk.broker.place(second, [terms])
    assert desk.find(terms.client_order_id).broker_account_id == second
    fills = eventually(
        lambda: [e for e in desk.broker.executions() if e.client_order_id == terms.client_order_id]
    )
    assert {fill.broker_account_id for fill in fills} == {second}


def test_o15_a_partial_fill_is_an_accepted_order_with_a_filled_part(desk):
    desk.sim.config(fills="partial")
    terms = market(quantity=Decimal(10))
    (row,) = desk.broker.place(desk.account, [terms]).orders
    part = eventually(lambda: (o := desk.broker.order(row.broker_order_id)).filled_quantity and o)
    assert part.state is BrokerOrderState.ACCEPTED
    assert 0 < part.filled_quantity < 10


def test_o16_a_future_is_placed_and_cancelled_in_its_operators_name(desk):
    future = desk.broker.find_instruments("MES", "future")[0]
    (quote,) = desk.broker.snapshot([future.broker_instrument_id])
    terms = order(
        broker_instrument_id=future.broker_instrument_id,
        limit_price=(quote.bid * Decimal("0.9")).quantize(Decimal(1)),
        manual_indicator=False,
        ext_operator="alice",
    )
    (row,) = desk.broker.place(desk.account, [terms]).orders
    desk.broker.cancel(desk.account, row.broker_order_id, manual_indicator=False, ext_operator="alice")
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.CANCELED)


def test_o17_cancelling_what_is_done_is_rejected(desk):
    (row,) = desk.broker.place(desk.account, [market()]).orders
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.FILLED)
    with pytest.raises(BrokerRejected):
        desk.broker.cancel(desk.account, row.broker_order_id)


# Faults: what may have arrived is in doubt, and nothing is ever sent twice

PLACEMENT = r"/orders$"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "half_answer"},
        {"kind": "empty_200", "when": "before"},
        {"kind": "empty_200", "when": "after"},
        *(
            {"kind": "status", "status": s, "when": w}
            for s in (401, 429, 500, 503)
            for w in ("before", "after")
        ),
    ],
    ids=lambda f: "-".join(str(v) for v in f.values()),
)
def test_f01_a_placement_without_an_answer_is_in_doubt_and_arrives_once(desk, fault):
    terms = order()
    desk.sim.fault(path=PLACEMENT, method="POST", times=1, **fault)
    with pytest.raises(OutcomeUnknown):
        desk.broker.place(desk.account, [terms])
    arrived = fault["kind"] in ("drop_after", "half_answer") or fault.get("when") == "after"
    assert desk.arrivals(terms.client_order_id) == (1 if arrived else 0)
    assert (desk.find(terms.client_order_id) is not None) == arrived


def test_f02_a_placement_at_a_closed_gate_was_not_processed(desk):
    terms = order()
    desk.sim.fault("no_bridge", path=PLACEMENT, method="POST", times=1)
    with pytest.raises(SessionExpired):
        desk.broker.place(desk.account, [terms])
    assert desk.arrivals(terms.client_order_id) == 0


@pytest.mark.parametrize("kind", ["drop_before", "half_answer", "empty_200", "status"])
def test_f03_a_cancel_without_an_answer_is_in_doubt(desk, kind):
    (row,) = desk.broker.place(desk.account, [order()]).orders
    desk.sim.fault(kind, method="DELETE", times=1)
    with pytest.raises(OutcomeUnknown):
        desk.broker.cancel(desk.account, row.broker_order_id)


@pytest.mark.parametrize("kind", ["drop_before", "half_answer", "empty_200", "status"])
def test_f04_a_read_without_an_answer_is_unavailable(desk, kind):
    desk.sim.fault(kind, path="/account/orders$", method="GET", times=1)
    with pytest.raises(BrokerUnavailable):
        desk.broker.open_orders()


def test_f05_a_broker_that_is_not_there_was_sent_nothing(own):
    own.sim.kill()
    with pytest.raises(BrokerUnavailable):
        own.connect(b"\x01" * 20).place(own.account, [order()])


def test_f06_an_order_survives_the_brokers_crash_and_is_found_by_our_id(own):
    own.sim.config(price_limit_percent=30)
    broker, terms = own.connect(), order()
    token = broker.mint().secret
    broker.open_session()
    broker.place(own.account, [terms])
    own.sim.kill()
    own.sim = start_simulator(own.sim.state_dir)
    revived = own.connect(token)
    assert revived.open_session().is_up
    assert [o.client_order_id for o in revived.open_orders()] == [terms.client_order_id]


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


# Stream


async def first_of(source: QuoteSource, wanted: Callable[[Any], bool], seconds: float = 5) -> Any:
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
        desk.sim.fault("stalled_stream", seconds=5)
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
