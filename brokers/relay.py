"""The relay: one websocket a login, in; quotes to Postgres and Redis and raw reports to the inbox, out.

It reads the login's row and never mints. Postgres or Redis may go away: it says so, goes on with the
other, and catches up. Only the holder of the login's relay lease connects.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import psycopg
import redis
import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from brokers import notifications, quotes, wishes
from brokers.base import (
    ExecutionReport,
    ListedAccounts,
    OrderReport,
    QuoteRecord,
    Raw,
    SessionStatus,
    StreamEvent,
)
from brokers.ibkr.stream import IbkrStream
from brokers.models import Login, Report
from brokers.read_records import DepthRecord
from brokers.relay_rows import (
    Plan,
    enabled_logins,
    in_database,
    make_tickle_due,
    now,
    poll_orders,
    read_plan,
    write_quotes,
)
from brokers.reports import record_reports
from cerbero import leases
from cerbero.errors import BrokerError, CerberoError, LeaseLost
from cerbero.stopping import end, is_told_to_end

log = logging.getLogger(__name__)

MARK = "process:relay"
FRAME_SECONDS = 0.05
LOOK_SECONDS = 1.0
LEASE_SECONDS = 10
# Heartbeats come every ten seconds: after a longer silence stored quotes get old.
ALIVE_SECONDS = 12.0
BACKOFF_SECONDS_MAX = 30.0
# What waits while Postgres is away; reconciliation brings whatever does not fit.
INBOX_MAX = 10_000
DATABASE_AWAY = (DatabaseError, InterfaceError)


class Reconnect(Exception):
    """The login's row asks for another connection, or for none."""


@dataclass
class Feed:
    """One login's stream: what was heard, and what still has to be written."""

    login: Login
    redis: redis.asyncio.Redis
    # Whether an order is being placed: a call about orders would void the broker's question.
    is_conversing: Callable[[Login], bool] = lambda _: False
    # The instruments that people decide on now.
    awaited: Callable[[Login], Collection[UUID]] = lambda _: ()
    fence: int = 0
    instruments: dict[str, UUID] = field(default_factory=dict)
    newest: dict[UUID, QuoteRecord] = field(default_factory=dict)
    books: dict[str, DepthRecord] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)
    inbox: list[tuple[OrderReport | ExecutionReport, Raw]] = field(default_factory=list)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)
    heard_at: datetime | None = None
    redis_is_away: bool = False
    # Why it is not connected, as it was last said.
    waits_for: str = ""

    @property
    def is_alive(self) -> bool:
        return self.heard_at is not None and (now() - self.heard_at).total_seconds() < ALIVE_SECONDS


async def run(
    stop: asyncio.Event,
    is_conversing: Callable[[Login], bool],
    awaited: Callable[[Login], Collection[UUID]] = lambda _: (),
) -> None:
    """Serve every enabled login until `stop` is set; its orders are not asked for while `is_conversing`, and what is
    `awaited` is streamed whoever else wants it.
    """
    feeds: dict[UUID, asyncio.Task[None]] = {}
    hints = asyncio.create_task(_pass_hints_on())
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        while not stop.is_set():
            await _look_at_logins(feeds, lambda login: Feed(login, client, is_conversing, awaited))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
    finally:
        await end([hints, *feeds.values()])
        await client.aclose()


async def _pass_hints_on() -> None:
    """From Postgres to the pages: whoever changes a row need not reach Redis."""
    while True:
        try:
            async for payload in notifications.hear(notifications.HINTS):
                kind, _, row_id = payload.partition(":")
                await asyncio.to_thread(quotes.publish_hint, kind, row_id)
        except psycopg.OperationalError as error:
            log.warning("relay: hints: Postgres is away: %s", type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _look_at_logins(feeds: dict[UUID, asyncio.Task[None]], feed_of: Callable[[Login], Feed]) -> None:
    try:
        logins = await in_database(enabled_logins)
        await in_database(leases.succeeded, MARK)
    except DATABASE_AWAY as error:
        log.warning("relay: Postgres is away: %s", type(error).__name__)
        return
    for login in logins:
        if login.pk in feeds and feeds[login.pk].done():
            log.error("relay: %s: failed, and begins anew", login.name, exc_info=feeds[login.pk].exception())
        if login.pk not in feeds or feeds[login.pk].done():
            feeds[login.pk] = asyncio.create_task(_serve_login(feed_of(login)))
    for gone in feeds.keys() - {login.pk for login in logins}:
        feeds.pop(gone).cancel()


async def _serve_login(feed: Feed) -> None:
    """Connect, and again, for as long as the login is enabled; later and later while it does not work."""
    failures = 0
    try:
        while True:
            began = now()
            try:
                await _connect_once(feed)
            except (CerberoError, *DATABASE_AWAY) as error:
                log.warning("relay: %s: %s", feed.login.name, _words(error))
                if isinstance(error, BrokerError):
                    await _ask_for_a_look(feed)
                failures = 0 if (now() - began).total_seconds() > BACKOFF_SECONDS_MAX else failures + 1
            except Reconnect as why:
                if str(why) != feed.waits_for:
                    log.info("relay: %s: %s", feed.login.name, why)
                feed.waits_for = str(why)
                failures = 0
            if is_told_to_end():
                # A stream that breaks just as we are told to stop makes its TaskGroup swallow the telling.
                return
            backoff = min(BACKOFF_SECONDS_MAX, 0.5 * 2 ** min(failures, 8))
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
    finally:
        if feed.fence:
            with suppress(*DATABASE_AWAY):
                await in_database(leases.release, _lease_name(feed), feed.fence)


async def _connect_once(feed: Feed) -> None:
    """One connection, from its lease to its end; always ends by raising."""
    await _hold_lease(feed)
    plan = await in_database(read_plan, feed.login)
    if plan is None:
        raise Reconnect("waiting for the session")
    # What was known is not news on a new connection.
    feed.newest, feed.changed, feed.instruments = {}, set(), {}
    try:
        async with plan.stream() as stream:
            log.info("relay: %s: connected", feed.login.name)
            feed.waits_for = ""
            await _serve_stream(feed, plan, stream)
    except BaseExceptionGroup as group:
        raise _cause(group) from None
    finally:
        feed.heard_at = None


async def _serve_stream(feed: Feed, plan: Plan, stream: IbkrStream) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_listen(feed, stream))
            tasks.create_task(_publish_frames(feed))
            tasks.create_task(_empty_inbox(feed))
            tasks.create_task(_bootstrap(feed))
            tasks.create_task(_watch_row(feed, plan, stream))
    finally:
        with suppress(*DATABASE_AWAY):
            await _write_inbox(feed)


async def _listen(feed: Feed, stream: IbkrStream) -> None:
    async for event, raw in stream.events():
        feed.heard_at = now()
        take(feed, event, raw)
        if isinstance(event, SessionStatus) and not event.is_up:
            await _ask_for_a_look(feed)
        if isinstance(event, ListedAccounts) and event.is_paper is not (feed.login.environment == "paper"):
            await _ask_for_a_look(feed)


def take(feed: Feed, event: StreamEvent, raw: Raw) -> None:
    """Sort one event: a quote to the newest values, an order or a fill to the inbox."""
    if isinstance(event, QuoteRecord):
        instrument_id = feed.instruments.get(event.broker_instrument_id)
        if instrument_id is not None:
            feed.newest[instrument_id] = event
            feed.changed.add(instrument_id)
    elif isinstance(event, DepthRecord):
        feed.books[event.broker_account_id] = event
    elif isinstance(event, OrderReport | ExecutionReport):
        if len(feed.inbox) < INBOX_MAX:
            feed.inbox.append((event, raw))
            feed.has_news.set()
        else:
            log.error("relay: %s: the inbox is full; a report is left to reconciliation", feed.login.name)


async def _publish_frames(feed: Feed) -> None:
    """At most twenty frames a second, each with what changed; one a second at least says that the feed lives."""
    spoke_at = 0.0
    clock = asyncio.get_running_loop().time
    while not is_told_to_end():
        await asyncio.sleep(FRAME_SECONDS)
        if not feed.changed and clock() - spoke_at < LOOK_SECONDS:
            continue
        batch = {each: feed.newest[each] for each in feed.changed if each in feed.newest}
        feed.changed = set()
        spoke_at = clock()
        if not await _publish(feed, batch):
            feed.changed |= batch.keys()
            await asyncio.sleep(LOOK_SECONDS)


async def _publish(feed: Feed, batch: dict[UUID, QuoteRecord]) -> bool:
    try:
        await quotes.publish(feed.redis, feed.login, batch, feed.heard_at)
    except (redis.RedisError, OSError) as error:
        if not feed.redis_is_away:
            log.warning("relay: Redis is away: %s; pages stand still, Postgres goes on", type(error).__name__)
        feed.redis_is_away = True
        return False
    if feed.redis_is_away:
        log.info("relay: Redis is back")
    feed.redis_is_away = False
    return True


async def _empty_inbox(feed: Feed) -> None:
    while True:
        await feed.has_news.wait()
        feed.has_news.clear()
        try:
            await _write_inbox(feed)
        except DATABASE_AWAY as error:
            log.warning("relay: %d reports wait for Postgres: %s", len(feed.inbox), type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)
            feed.has_news.set()


async def _write_inbox(feed: Feed) -> None:
    batch = list(feed.inbox)
    if batch:
        await in_database(record_reports, feed.login, Report.Source.STREAM, batch)
        del feed.inbox[: len(batch)]


async def _bootstrap(feed: Feed) -> None:
    """The stream only tells what comes (ibkr-web-api.md §7.3 sor): ask once for what there is."""
    try:
        while await in_database(feed.is_conversing, feed.login):
            await asyncio.sleep(LOOK_SECONDS)
        await in_database(poll_orders, feed.login)
    except (CerberoError, *DATABASE_AWAY) as error:
        log.warning("relay: %s: orders were not asked for: %s", feed.login.name, _words(error))


async def _watch_row(feed: Feed, plan: Plan, stream: IbkrStream) -> None:
    """Every second: is the row as it was, what is wanted, and what was heard."""
    while True:
        try:
            await _hold_lease(feed)
            if await in_database(read_plan, feed.login) != plan:
                raise Reconnect("the session changed")
            await _subscribe(feed, stream)
            await _store(feed, stream)
        except DATABASE_AWAY as error:
            log.warning("relay: %s: Postgres is away: %s", feed.login.name, type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _subscribe(feed: Feed, stream: IbkrStream) -> None:
    wanted = await in_database(lambda: wishes.wanted(feed.login, feed.awaited(feed.login)))
    added, gone = wanted.keys() - feed.instruments.keys(), feed.instruments.keys() - wanted.keys()
    for each in gone:
        feed.newest.pop(feed.instruments[each], None)
        feed.changed.discard(feed.instruments[each])
    feed.instruments = wanted
    await stream.unsubscribe(sorted(gone))
    await stream.subscribe(sorted(added))
    await stream.show_depth(await in_database(wishes.books, feed.login))


async def _store(feed: Feed, stream: IbkrStream) -> None:
    if stream.last_heartbeat_at and (feed.heard_at is None or stream.last_heartbeat_at > feed.heard_at):
        feed.heard_at = stream.last_heartbeat_at
    if feed.is_alive:
        await in_database(write_quotes, feed.login, dict(feed.newest), feed.heard_at)
        books, feed.books = feed.books, {}
        for book in books.values():
            await in_database(wishes.BOOKS.keep, feed.login, wishes.book_key(book), book)


async def _hold_lease(feed: Feed) -> None:
    name = _lease_name(feed)
    try:
        if feed.fence:
            await in_database(leases.renew, name, feed.fence, LEASE_SECONDS)
            return
    except LeaseLost:
        feed.fence = 0
    feed.fence = await in_database(leases.hold, name, leases.unique_holder(), LEASE_SECONDS)


async def _ask_for_a_look(feed: Feed) -> None:
    """The stream says that something is wrong: the session's keeper shall look now, not in a minute."""
    with suppress(*DATABASE_AWAY):
        await in_database(make_tickle_due, feed.login)


def _lease_name(feed: Feed) -> str:
    return f"relay:{feed.login.pk}"


def _cause(group: BaseExceptionGroup) -> BaseException:
    """What ended the stream: a fault of ours before what is expected to happen."""
    expected = (Reconnect, CerberoError, *DATABASE_AWAY)
    return min(group.exceptions, key=lambda each: isinstance(each, expected))


def _words(error: Exception) -> str:
    return error.message if isinstance(error, CerberoError) else type(error).__name__
