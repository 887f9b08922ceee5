"""The stream over a real websocket, against a server that says exactly what the test wants."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import pytest
from websockets.asyncio.server import serve

from brokers.base import (
    Availability,
    BrokerOrderState,
    ExecutionReport,
    ListedAccounts,
    OrderReport,
    QuoteRecord,
    SessionStatus,
)
from brokers.ibkr.stream import IbkrStream, Timing
from cerbero.errors import SessionExpired, StreamLost

SMD = {"server_id": "q0", "conidEx": "265598", "conid": 265598, "topic": "smd+265598"}


class Desk:
    """One broker's socket: `heard` is what came in, `say` sends a frame as it is."""

    def __init__(self):
        self.heard, self.request, self.connection = [], None, None
        self.arrived = asyncio.Event()

    async def serve(self, connection):
        self.request, self.connection = connection.request, connection
        self.arrived.set()
        async for message in connection:
            self.heard.append(message)

    async def say(self, *frames):
        for frame in frames:
            await self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def hears(self, command):
        async with asyncio.timeout(60):
            while command not in self.heard:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(timing=None, *, subscribed=("265598",)):
    desk = Desk()
    async with serve(desk.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = IbkrStream(f"ws://127.0.0.1:{port}/v1/api/ws", "tok en", "sess10n", timing=timing)
        async with stream:
            await stream.subscribe(subscribed)
            await desk.arrived.wait()
            yield stream, desk


async def take(stream, count):
    found = []
    async with asyncio.timeout(60):
        async for event in stream.events():
            found.append(event)
            if len(found) == count:
                return found


def run(coroutine):
    return asyncio.run(coroutine)


def test_it_signs_in_with_the_access_token_and_the_session_and_asks_for_orders():
    async def scene():
        async with connected() as (_, desk):
            await desk.hears('smd+265598+{"fields":["31","84","86","88","85","87","7762","7741","6509"]}')
            assert desk.request.path == "/v1/api/ws?oauth_token=tok%20en"
            assert desk.request.headers["Cookie"] == "api=sess10n"
            assert desk.request.headers["User-Agent"]
            assert desk.heard[:2] == ["sor+{}", 'str+{"realtimeUpdatesOnly":false,"days":1}']

    run(scene())


def test_deltas_become_whole_quotes():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say(
                {
                    **SMD,
                    "31": "119.46",
                    "84": "119.45",
                    "86": "119.47",
                    "6509": "RpB",
                    "_updated": 1615300714892,
                },
                {**SMD, "86": "119.48"},
            )
            (first, _), (second, raw) = await take(stream, 2)
            assert (first.bid, first.ask) == (Decimal("119.45"), Decimal("119.47"))
            assert (second.bid, second.ask) == (Decimal("119.45"), Decimal("119.48"))
            assert second.availability is Availability.LIVE
            assert raw == {**SMD, "86": "119.48"}

    run(scene())


def test_exponents_are_exact():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say(b'{"topic":"smd+265598","conid":265598,"87_raw":1.22E7,"87":"12.2M"}')
            ((quote, raw),) = await take(stream, 1)
            assert quote.volume == 12200000
            assert raw["87_raw"] == Decimal("1.22E7")

    run(scene())


def test_binary_frames_and_broken_characters_are_read():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say(b'{"topic":"smd+265598","conid":265598,"55":"\xff\xfe","84":"1.5"}')
            ((quote, _),) = await take(stream, 1)
            assert quote.bid == Decimal("1.5")

    run(scene())


def test_frames_that_are_no_events_change_nothing():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say(
                "not json", "[]", "7", '{"topic":null}', '{"topic":"smd"}', '{"topic":"smd+7","conid":7,"84":"1"}',
                '{"topic":"sor","args":"x"}', '{"topic":"sor","args":[7,{}]}', '{"topic":"act","args":[]}',
                '{"topic":"sts","args":null}', '{"topic":"blt","args":{"message":"hello"}}', '{"topic":"ntf"}',
                {**SMD, "84": "2"},
            )  # fmt: skip
            ((quote, _),) = await take(stream, 1)
            assert quote.bid == 2

    run(scene())


def test_what_is_no_longer_wanted_is_dropped():
    async def scene():
        async with connected(subscribed=("265598", "8314")) as (stream, desk):
            await stream.unsubscribe(["265598"])
            await desk.hears("umd+265598+{}")
            await desk.say({**SMD, "84": "1"}, {"topic": "smd+8314", "conid": 8314, "84": "2"})
            ((quote, _),) = await take(stream, 1)
            assert quote.broker_instrument_id == "8314"

    run(scene())


def test_a_book_is_left_before_another_is_asked_for_and_asked_for_again_when_it_was_refused():
    async def scene():
        async with connected(Timing(refused=0.01)) as (stream, desk):
            await stream.show_depth({"DU1": "7"})
            await stream.show_depth({"DU1": "8"})
            await stream.show_depth({"DU1": "8"})
            await desk.hears("sbd+DU1+8")
            assert [c for c in desk.heard if c[:3] in ("sbd", "ubd")] == ["sbd+DU1+7", "ubd+DU1", "sbd+DU1+8"]
            rows = [
                {"row": 1, "price": "100 @ 190.24", "bid": "300"},
                {"row": 0, "price": "190.25", "ask": "5"},
                {},
            ]
            await desk.say(
                {"error": "unable to subscribe", "code": 500, "topic": "sbd"},
                {"topic": "sbd+DU1+7", "data": rows},
                {"topic": "sbd+DU1+8", "data": rows},
            )
            ((book, _),) = await take(stream, 1)
            assert (book.broker_account_id, book.broker_instrument_id) == ("DU1", "8")
            assert [(x.price, x.last_size, x.is_last) for x in book.levels] == [
                (Decimal("190.25"), None, False),
                (Decimal("190.24"), 100, True),
            ]
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    async for _ in stream.events():
                        pass
            assert desk.heard.count("sbd+DU1+8") == 2

    run(scene())


def test_an_orders_first_inactive_is_no_rejection_and_an_id_alone_is_no_news():
    async def scene():
        async with connected() as (stream, desk):
            full = {"acct": "DU1", "conid": 265598, "orderId": 9, "status": "Inactive", "order_ref": "ours"}
            await desk.say(
                {"topic": "sor", "args": [full]},
                {"topic": "sor", "args": [{"acct": "DU1", "conid": 265598, "orderId": 9}]},
                {"topic": "sor", "args": [{"orderId": 9, "status": "PreSubmitted"}]},
            )
            (first, _), (second, _) = await take(stream, 2)
            assert isinstance(first, OrderReport)
            assert (first.state, first.client_order_id) == (None, "ours")
            assert (second.state, second.broker_order_id) == (BrokerOrderState.ACCEPTED, "9")

    run(scene())


def test_a_fill_comes_again_with_its_commission():
    async def scene():
        async with connected() as (stream, desk):
            row = {"execution_id": "1.2", "side": "B", "size": 1, "price": "740.90", "account": "DU1", "conid": 1,
                   "order_id": 9, "trade_time_r": 1702317649000}  # fmt: skip
            await desk.say(
                {"topic": "str", "args": []},
                {"topic": "str", "args": [row]},
                {"topic": "str", "args": [{**row, "commission": "1.0"}]},
            )
            (first, _), (second, _) = await take(stream, 2)
            assert isinstance(first, ExecutionReport)
            assert (first.execution_id, first.commission) == ("1.2", None)
            assert (second.execution_id, second.commission) == ("1.2", 1)

    run(scene())


def test_a_status_is_merged_from_its_parts():
    async def scene():
        async with connected() as (stream, desk):
            up = {"connected": True, "authenticated": True, "established": True, "competing": False}
            await desk.say(
                {"topic": "sts", "args": {"message": ""}},
                {"topic": "sts", "args": up},
                {"topic": "sts", "args": {"competing": True}},
                {"topic": "sts", "args": {"authenticated": False}},
            )
            statuses = [event for event, _ in await take(stream, 3)]
            assert all(isinstance(status, SessionStatus) for status in statuses)
            assert [s.is_up for s in statuses] == [True, False, False]
            assert [s.authenticated for s in statuses] == [True, True, False]

    run(scene())


def test_the_environment_is_told_only_with_its_accounts():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say(
                {"topic": "system", "success": "user", "isFT": False, "isPaper": True},
                {"topic": "act", "args": {"accounts": ["DU1"]}},
            )
            ((listed, _),) = await take(stream, 1)
            assert listed == ListedAccounts(("DU1",), True)

    run(scene())


def test_a_server_that_waits_for_the_session_gets_it():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say({"message": "waiting for session"}, {**SMD, "84": "1"})
            await take(stream, 1)
            await desk.hears('{"session":"sess10n"}')

    run(scene())


def test_no_heartbeat_is_death_although_quotes_flow():
    async def scene():
        async with connected(Timing(heartbeat=0.15)) as (stream, desk):

            async def chatter():
                while True:
                    await desk.say({**SMD, "84": "1"})
                    await asyncio.sleep(0.02)

            talking = asyncio.create_task(chatter())
            with pytest.raises(StreamLost) as lost:
                await take(stream, 1000)
            talking.cancel()
            assert lost.value.details["reason"] == "no_heartbeat"

    run(scene())


def test_heartbeats_keep_it_alive():
    async def scene():
        async with connected(Timing(heartbeat=0.15)) as (stream, desk):

            async def beat():
                for _ in range(10):
                    await desk.say({"topic": "system", "hb": 1777415611502})
                    await asyncio.sleep(0.04)
                await desk.say({**SMD, "84": "1"})

            beating = asyncio.create_task(beat())
            await take(stream, 1)
            await beating
            assert stream.last_heartbeat_at is not None

    run(scene())


def test_a_connection_that_ends_is_death():
    async def scene():
        async with connected() as (stream, desk):
            await desk.connection.close()
            with pytest.raises(StreamLost) as lost:
                await take(stream, 1)
            assert lost.value.details["reason"] == "closed"

    run(scene())


def test_tics_and_renewals_are_sent_in_silence():
    async def scene():
        async with connected(Timing(tic=0.1, renew=0.2)) as (stream, desk):
            reading = asyncio.create_task(take(stream, 1))
            async with asyncio.timeout(60):
                while desk.heard.count("tic") < 2 or sum(m.startswith("smd+") for m in desk.heard) < 2:
                    await asyncio.sleep(0.01)
            assert not reading.done()
            reading.cancel()

    run(scene())


@pytest.mark.parametrize(("topic", "command"), [("sor", "sor+{}"), ("smd", "smd+265598+")])
def test_a_refused_subscription_is_asked_for_again(topic, command):
    async def scene():
        async with connected(Timing(refused=0.05)) as (stream, desk):
            await desk.hears("sor+{}")
            desk.heard.clear()
            reading = asyncio.create_task(take(stream, 1))
            await desk.say({"error": "unable to subscribe", "code": 500, "topic": topic})
            async with asyncio.timeout(60):
                while sum(m.startswith(command) for m in desk.heard) < 1:
                    await asyncio.sleep(0.01)
            reading.cancel()

    run(scene())


@pytest.mark.parametrize(
    ("status", "expected"), [(401, SessionExpired), (503, StreamLost), (302, StreamLost)]
)
def test_a_refused_connection_says_why_and_shows_no_token(status, expected):
    def refuse(connection, request):
        response = connection.respond(status, "")
        response.headers["Location"] = "ws://127.0.0.1:1/elsewhere"
        return response

    async def scene():
        async with serve(Desk().serve, "127.0.0.1", 0, process_request=refuse) as server:
            port = server.sockets[0].getsockname()[1]
            async with IbkrStream(f"ws://127.0.0.1:{port}/ws", "t0ken", "sess10n"):
                pass

    with pytest.raises(expected) as refused:
        run(scene())
    assert "t0ken" not in repr(refused.value.as_json())


def test_nobody_there_is_a_lost_stream():
    async def scene():
        async with IbkrStream("ws://127.0.0.1:1/ws", "t0ken", "sess10n"):
            pass

    with pytest.raises(StreamLost):
        run(scene())


def test_a_quote_is_a_quote():
    async def scene():
        async with connected() as (stream, desk):
            await desk.say({**SMD, "31": "H1.5"})
            ((quote, _),) = await take(stream, 1)
            assert isinstance(quote, QuoteRecord)
            assert quote.is_halted

    run(scene())
