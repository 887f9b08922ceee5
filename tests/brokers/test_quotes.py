"""Quotes on their way: the newest row, whole frames, and a Redis that nobody believes."""

import asyncio
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis
import redis.asyncio

from brokers import quotes
from brokers.base import Availability, QuoteRecord
from brokers.frames import CHANNEL, Gate, seal
from brokers.models import Instrument, Login, Quote
from brokers.quotes import (
    Hint,
    NewestQuotes,
    QuoteFrame,
    publish,
    publish_hint,
    read_frame,
    store_quotes,
    subscribe,
)

NOON = datetime(2026, 4, 2, 16, 0, tzinfo=UTC)
QUOTE = QuoteRecord(
    broker_instrument_id="265598",
    received_at=NOON,
    bid=Decimal("255.29"),
    ask=Decimal("255.31"),
    last=Decimal("255.30"),
    bid_size=Decimal("300"),
    availability=Availability.LIVE,
    changed_at=NOON - timedelta(seconds=2),
)


def hint(number: int, at: datetime | None = None, sender: str = "web") -> bytes:
    return seal(
        {
            "kind": "hint",
            "sender": sender,
            "sequence": number,
            "at": at or datetime.now(UTC),
            "subject": "order",
            "id": "7",
        }
    )


# The row


def test_a_feed_that_lives_moves_one_clock_and_a_price_another(db) -> None:
    aapl = Instrument.objects.create(symbol="AAPL")
    store_quotes({aapl.pk: QUOTE}, NOON)
    store_quotes({aapl.pk: QUOTE}, NOON + timedelta(seconds=5))
    row = Quote.objects.get(pk=aapl.pk)
    assert (row.bid, row.availability) == (Decimal("255.29"), "live")
    assert row.received_at == NOON + timedelta(seconds=5)
    assert row.changed_at == NOON - timedelta(seconds=2)
    moved = replace(QUOTE, bid=Decimal("255.30"), changed_at=NOON + timedelta(seconds=6))
    store_quotes({aapl.pk: moved}, NOON + timedelta(seconds=7))
    row.refresh_from_db()
    assert row.changed_at == NOON + timedelta(seconds=6)


def test_a_price_that_is_gone_is_gone_and_an_older_write_changes_nothing(db) -> None:
    aapl = Instrument.objects.create(symbol="AAPL")
    store_quotes({aapl.pk: QUOTE}, NOON + timedelta(seconds=10))
    store_quotes({aapl.pk: replace(QUOTE, bid=Decimal(1))}, NOON + timedelta(seconds=9))
    assert Quote.objects.get().bid == Decimal("255.29")
    store_quotes({aapl.pk: replace(QUOTE, bid=None)}, NOON + timedelta(seconds=11))
    assert Quote.objects.get().bid is None


def test_one_wild_number_or_deleted_instrument_spoils_no_other_quote(db) -> None:
    aapl, ibm = (Instrument.objects.create(symbol=symbol) for symbol in ("AAPL", "IBM"))
    gone = Instrument(symbol="GONE")
    wild = replace(QUOTE, last=Decimal("9E+20"), changed_at=None)
    store_quotes({aapl.pk: wild, ibm.pk: QUOTE, gone.pk: QUOTE}, NOON)
    assert Quote.objects.count() == 2
    assert Quote.objects.get(pk=aapl.pk).last is None
    store_quotes({}, NOON)


# Frames


def test_a_frame_of_ours_passes_once() -> None:
    gate, frame = Gate(), hint(1)
    assert read_frame(gate, frame) == Hint("order", "7", read_frame(Gate(), frame).at)
    assert read_frame(gate, frame) is None


def test_an_older_number_a_forged_mac_and_garbage_are_refused() -> None:
    gate = Gate()
    assert read_frame(gate, hint(5)) is not None
    assert read_frame(gate, hint(4)) is None
    assert read_frame(gate, hint(4, sender="another")) is not None
    good = hint(6)
    for forged in (
        bytes(32) + good[32:],
        good[:32] + good[32:].replace(b'"7"', b'"8"'),
        good[:-1],
        b"",
        b"\x80\x04garbage" * 50,
        bytes(2 * 1024 * 1024),
    ):
        assert read_frame(gate, forged) is None
    assert read_frame(gate, good) is not None


def test_an_old_frame_and_one_from_the_future_are_refused_by_a_reader_that_just_began() -> None:
    for seconds in (-60, 60):
        assert read_frame(Gate(), hint(1, datetime.now(UTC) + timedelta(seconds=seconds))) is None


def test_a_frame_of_another_key_is_refused(settings) -> None:
    theirs = settings.QUOTE_FRAME_KEY
    settings.QUOTE_FRAME_KEY = "A" * 43 + "="
    forged = hint(1)
    settings.QUOTE_FRAME_KEY = theirs
    assert read_frame(Gate(), forged) is None


def test_a_sealed_frame_of_a_strange_form_is_said_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    strange = [
        seal({"kind": "hint", "sender": "x", "sequence": 1, "at": datetime.now(UTC)}),
        seal({"sender": "x", "sequence": "many", "at": datetime.now(UTC)}),
        seal({"sender": "x", "sequence": 1, "at": "noon"}),
    ]
    with caplog.at_level(logging.WARNING):
        assert [read_frame(Gate(), each) for each in strange] == [None] * 3
    assert len(caplog.records) == 3


def test_a_reader_forgets_senders_whose_replays_would_be_too_old() -> None:
    gate, start = Gate(), datetime.now(UTC)
    for number in range(150):
        gate.admit(hint(1, start, sender=f"s{number}"), start)
    later = start + timedelta(seconds=60)
    assert gate.admit(hint(1, later, sender="new"), later) is not None
    assert list(gate.newest) == ["new"]
    assert gate.admit(hint(1, start, sender="s3"), later) is None


# Through Redis


async def collect(count: int, send) -> list:
    """The first frames that a reader gets once it listens; `send(client)` is called when it does."""
    found: list = []
    async with redis.asyncio.Redis.from_url(quotes.settings.REDIS_URL) as client:

        async def read() -> None:
            async for frame in subscribe():
                found.append(frame)
                if len(found) == count:
                    return

        reader = asyncio.create_task(read())
        while not (await client.pubsub_numsub(CHANNEL))[0][1]:
            await asyncio.sleep(0.01)
        await send(client)
        await asyncio.wait_for(reader, 60)
    return found


def test_quotes_and_hints_arrive_and_what_is_forged_between_them_does_not(
    redis_url: str, fresh_database: object
) -> None:
    login, aapl = Login(name="desk"), Instrument(symbol="AAPL")
    heard: list[bytes] = []

    async def send(client: redis.asyncio.Redis) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as spy:
            await spy.subscribe(CHANNEL)
            await publish(client, login, {aapl.pk: QUOTE}, NOON)
            while not heard:
                message = await spy.get_message(timeout=1)
                heard.extend([message["data"]] if message else [])
        false = json.loads(heard[0][32:]) | {"sequence": 2**62}
        await client.publish(CHANNEL, heard[0])
        await client.publish(CHANNEL, heard[0][:32] + json.dumps(false).encode())
        await client.publish(CHANNEL, b"not a frame")
        assert await asyncio.to_thread(publish_hint, "order", 42)
        await publish(client, login, {}, None)

    first, second, third = asyncio.run(collect(3, send))
    assert isinstance(first, QuoteFrame)
    assert first.quotes[str(aapl.pk)]["bid"] == "255.29"
    assert first.quotes[str(aapl.pk)]["availability"] == "live"
    assert (second.kind, second.id) == ("order", "42")
    assert third.quotes == {}
    assert third.sequence > first.sequence
    newest = NewestQuotes()
    for frame in (first, third):
        newest.apply(frame)
    assert newest.quotes == first.quotes
    assert newest.feeds == {str(login.pk): None}


def test_a_hint_without_redis_is_no_error_and_does_not_wait_long(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "_hints", quotes._hints | {"pid": 0})
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    assert publish_hint("order", 1) is False
    assert publish_hint("order", 1) is False


def test_a_reader_waits_for_a_redis_that_is_away(settings, redis_url: str) -> None:
    async def scenario() -> Hint:
        settings.REDIS_URL = "unix:///nowhere/redis.sock"
        reader = asyncio.create_task(anext(subscribe()))
        await asyncio.sleep(0.1)
        settings.REDIS_URL = redis_url
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            while not (await client.pubsub_numsub(CHANNEL))[0][1]:
                await asyncio.sleep(0.02)
            await client.publish(CHANNEL, hint(1))
            return await asyncio.wait_for(reader, 60)

    assert asyncio.run(scenario()).id == "7"
