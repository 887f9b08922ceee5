"""Quotes on their way to people: the newest in Postgres, every frame through Redis, and hints beside them.

Nothing read from Redis may allow an order: risk reads the Quote row and asks the broker.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection

from audit.sparing import Sparing
from brokers.base import QuoteRecord
from brokers.frames import CHANNEL, Gate, Numbers, seal
from brokers.models import Login
from cerbero import access

log = logging.getLogger(__name__)

REDIS_SECONDS = 0.5
# After a failure hints are not tried for so long: a page reads Postgres again by itself anyway.
HINTS_MUTED_SECONDS = 5.0
RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0)
# numeric(38,18) holds twenty digits before the point.
STORABLE_MAX = Decimal(10) ** 20

# Whoever may write to Redis can send any number of frames that are not ours.
_TRAIL, _FEED = Sparing(most_a_minute=6), access.system("feed")

_numbers: dict[str, Numbers] = {}
_hints: dict[str, Any] = {"sender": "", "pid": 0, "client": None, "muted_until": 0.0}


@dataclass(frozen=True)
class QuoteFrame:
    """Quotes of one login, by our instrument ids, decimals as text. `feed_alive_at` None: the feed is dead."""

    login_id: str
    sequence: int
    at: datetime
    feed_alive_at: datetime | None
    quotes: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Hint:
    """Something changed; whoever cares reads Postgres."""

    kind: str
    id: str
    at: datetime


Frame = QuoteFrame | Hint


@dataclass
class NewestQuotes:
    """A web process' newest-value map: the newest quote of each instrument, and each feed's last sign of life."""

    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    feeds: dict[str, datetime | None] = field(default_factory=dict)

    def apply(self, frame: QuoteFrame) -> None:
        self.quotes.update(frame.quotes)
        self.feeds[frame.login_id] = frame.feed_alive_at


async def publish(
    client: redis.asyncio.Redis,
    login: Login,
    quotes: Mapping[UUID, QuoteRecord],
    feed_alive_at: datetime | None = None,
) -> None:
    """Send one frame; an empty one says that the feed lives. Raises redis.RedisError."""
    sender = str(login.pk)
    body = {
        "kind": "quotes",
        "sender": sender,
        "login": sender,
        "sequence": _numbers.setdefault(sender, Numbers()).next(),
        "at": datetime.now(UTC),
        "feed_alive_at": feed_alive_at,
        "quotes": {str(instrument_id): as_entry(quote) for instrument_id, quote in quotes.items()},
    }
    await client.publish(CHANNEL, seal(body))


def publish_hint(kind: str, id: UUID | str | int) -> bool:
    """Tell the pages that a row changed, after its commit. Never raises for Redis; false when it was not sent."""
    now = time.monotonic()
    if now < _hints["muted_until"] and _hints["pid"] == os.getpid():
        return False
    try:
        client, sender = _hint_client()
        number = _numbers.setdefault(sender, Numbers()).next()
        body = {"kind": "hint", "sender": sender, "sequence": number, "at": datetime.now(UTC)}
        client.publish(CHANNEL, seal(body | {"subject": kind, "id": str(id)}))
    except (redis.RedisError, OSError) as error:
        _hints["muted_until"] = now + HINTS_MUTED_SECONDS
        log.warning("hints are not sent: %s", type(error).__name__)
        return False
    return True


async def subscribe() -> AsyncIterator[Frame]:
    """Every frame that is ours, fresh and in order; reconnects by itself for as long as it is read."""
    gate, failures = Gate(), 0
    while True:
        try:
            async with redis.asyncio.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=10
            ) as client:
                async for content in _messages(client):
                    failures = 0
                    frame = read_frame(gate, content)
                    if frame is not None:
                        yield frame
                        continue
                    size = {"bytes": len(content)}
                    await database_sync_to_async(_TRAIL.record)("frame.refused", actor=_FEED, details=size)
        except (redis.RedisError, OSError) as error:
            log.warning("frames: Redis is away: %s", type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)])
        failures += 1


def read_frame(gate: Gate, content: bytes) -> Frame | None:
    """What a message means; None for whatever is forged, replayed, old or unreadable."""
    try:
        body = gate.admit(content)
        if body is None:
            return None
        at = datetime.fromisoformat(body["at"])
        if body["kind"] == "hint":
            return Hint(body["subject"], body["id"], at)
        alive_at = datetime.fromisoformat(body["feed_alive_at"]) if body["feed_alive_at"] else None
        return QuoteFrame(body["login"], body["sequence"], at, alive_at, body["quotes"])
    except (ValueError, KeyError, TypeError):
        log.warning("frames: one of ours cannot be read")
        return None


def as_entry(quote: QuoteRecord) -> dict[str, Any]:
    """A quote as it stands in a frame, without the broker's own id."""
    return {
        "bid": quote.bid,
        "ask": quote.ask,
        "last": quote.last,
        "bid_size": quote.bid_size,
        "ask_size": quote.ask_size,
        "volume": quote.volume,
        "prior_close": quote.prior_close,
        "availability": quote.availability.value,
        "is_halted": quote.is_halted,
        "received_at": quote.received_at,
        "changed_at": quote.changed_at,
    }


STORE = """
    INSERT INTO brokers_quote AS q (instrument_id, bid, ask, last, bid_size, ask_size, prior_close,
                                    availability, is_halted, received_at, changed_at)
    SELECT n.* FROM unnest(%s::uuid[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[],
                           %s::numeric[], %s::numeric[], %s::text[], %s::boolean[], %s::timestamptz[],
                           %s::timestamptz[]) AS n (instrument_id)
    JOIN brokers_instrument i ON i.id = n.instrument_id
    ORDER BY n.instrument_id
    ON CONFLICT (instrument_id) DO UPDATE
    SET bid = excluded.bid, ask = excluded.ask, last = excluded.last, bid_size = excluded.bid_size,
        ask_size = excluded.ask_size, prior_close = excluded.prior_close,
        availability = excluded.availability, is_halted = excluded.is_halted,
        received_at = excluded.received_at,
        changed_at = CASE
            WHEN (q.bid, q.ask, q.last, q.is_halted)
                 IS DISTINCT FROM (excluded.bid, excluded.ask, excluded.last, excluded.is_halted)
            THEN greatest(excluded.changed_at, q.changed_at) ELSE q.changed_at END
    WHERE excluded.received_at >= q.received_at
"""


def store_quotes(quotes: Mapping[UUID, QuoteRecord], heard_at: datetime) -> None:
    """Keep the newest quotes; `heard_at` is when the feed last gave a sign of life, which moves `received_at`.

    `changed_at` moves only with a price. One statement for all; the caller asks at most once a second.
    """
    if not quotes:
        return
    rows = [_stored(instrument_id, quote, heard_at) for instrument_id, quote in quotes.items()]
    with connection.cursor() as cursor:
        cursor.execute(STORE, [list(column) for column in zip(*rows, strict=True)])


def _stored(instrument_id: UUID, quote: QuoteRecord, heard_at: datetime) -> tuple[Any, ...]:
    received_at = max(quote.received_at, heard_at)
    changed_at = min(quote.changed_at or quote.received_at, received_at)
    prices = (quote.bid, quote.ask, quote.last, quote.bid_size, quote.ask_size, quote.prior_close)
    storable = [price if price is not None and abs(price) < STORABLE_MAX else None for price in prices]
    return (
        instrument_id,
        *storable,
        quote.availability.value,
        quote.is_halted,
        received_at,
        changed_at,
    )


async def _messages(client: redis.asyncio.Redis) -> AsyncIterator[bytes]:
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(CHANNEL)
        while True:
            message = await pubsub.get_message(timeout=5.0)
            if message is not None and isinstance(message["data"], bytes):
                yield message["data"]


def _hint_client() -> tuple[redis.Redis, str]:
    """One connection a process; another name after a fork, since two senders must not share their numbers."""
    if _hints["pid"] != os.getpid():
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
        _hints.update(pid=os.getpid(), client=client, sender=f"hint-{secrets.token_hex(8)}", muted_until=0.0)
    return _hints["client"], _hints["sender"]
