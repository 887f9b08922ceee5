"""The relay: a tick and an order's news from the broker's socket to the rows, whatever breaks between."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
import redis.asyncio
from django.db import connections

from brokers import quotes, relay, wishes
from brokers.base import ExecutionReport, QuoteRecord
from brokers.models import Instrument, Login, Quote, Report, SessionState
from brokers.reports import parse
from brokers.services import broker_for
from brokers.sessions import keep_session
from cerbero.models import Lease
from tests.brokers.logins import SYSTEM, brought_up, fresh, ready_again, until, watched
from tests.rig import BASE_DIR, Database
from tests.simulator_process import SimulatorProcess, start_simulator


@contextlib.contextmanager
def running(awaited: Callable[[Login], set] = lambda _: set()) -> Iterator[None]:
    """The relay in a thread of its own, as the process runs it."""
    box: dict = {}
    ready = threading.Event()

    async def main() -> None:
        box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await relay.run(box["stop"], lambda _: False, awaited)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    ready.wait(60)
    try:
        yield
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(30)
        assert not thread.is_alive()
        connections.close_all()


@pytest.fixture
def desk(fresh_database: Database, fresh_simulator: SimulatorProcess, redis_url: str) -> Login:
    """A login that is up and watches AAPL."""
    login = brought_up(fresh_simulator)
    watched(login)
    assert keep_session(login, SYSTEM) == SessionState.UP
    return fresh(login)


def quote() -> Quote | None:
    return Quote.objects.filter(instrument__symbol="AAPL", bid__isnull=False).first()


def test_a_tick_reaches_its_row_within_moments_and_the_feed_is_alive(desk: Login) -> None:
    with running():
        first = until(quote)
        assert first.availability == "live"
        assert first.bid < first.ask
        until(lambda: quote().received_at > first.received_at)
        assert fresh(desk).feed_alive_at is not None
        assert Lease.objects.get(name="process:relay").succeeded_at is not None
    assert not Lease.objects.filter(name__startswith="relay:").exclude(holder="").exists()


def test_frames_carry_the_ticks_to_the_pages(desk: Login) -> None:
    async def two_frames() -> list:
        found = []
        async for frame in quotes.subscribe():
            if isinstance(frame, quotes.QuoteFrame) and frame.quotes:
                found.append(frame)
            if len(found) == 2:
                return found
        return found

    with running():
        frames = asyncio.run(asyncio.wait_for(two_frames(), 60))
    aapl = str(Instrument.objects.get(symbol="AAPL").pk)
    assert frames[0].login_id == str(desk.pk)
    assert frames[0].quotes[aapl]["ask"] is not None
    assert frames[1].sequence > frames[0].sequence


def test_an_instrument_wanted_later_is_streamed_and_one_no_longer_wanted_is_not(desk: Login) -> None:
    with running():
        until(quote)
        msft = watched(desk, "MSFT")
        keep_session(desk, SYSTEM)
        until(lambda: Quote.objects.filter(instrument=msft, bid__isnull=False).first())
        desk.subscriptions.filter(instrument=msft).delete()
        until(lambda: _stands_still(msft))


def test_what_people_decide_on_is_streamed_though_nobody_watches_it(desk: Login) -> None:
    msft = watched(desk, "MSFT")
    keep_session(desk, SYSTEM)
    desk.subscriptions.filter(instrument=msft).delete()
    with running(lambda _: {msft.pk}):
        until(lambda: Quote.objects.filter(instrument=msft, bid__isnull=False).first())


def _stands_still(instrument: Instrument) -> bool:
    import time

    before = Quote.objects.get(instrument=instrument).received_at
    time.sleep(1.5)
    return Quote.objects.get(instrument=instrument).received_at == before


def test_an_order_entered_elsewhere_arrives_as_reports_of_the_stream(
    desk: Login, fresh_simulator: SimulatorProcess
) -> None:
    with running():
        until(quote)
        fresh_simulator.control(
            "POST", "/_sim/manual_order", {"conid": 265598, "side": "BUY", "quantity": 5, "orderType": "MKT"}
        )
        row = until(lambda: Report.objects.filter(kind="execution", source="stream").first())
    fill = parse(row)
    assert isinstance(fill, ExecutionReport)
    assert fill.broker_instrument_id == "265598"
    assert row.raw["execution_id"] == fill.execution_id
    assert Report.objects.filter(kind="order", source="stream").exists()


def test_orders_from_before_the_connection_are_asked_for(
    desk: Login, fresh_simulator: SimulatorProcess
) -> None:
    fresh_simulator.config(fills="never")
    made = fresh_simulator.control(
        "POST",
        "/_sim/manual_order",
        {"conid": 265598, "side": "BUY", "quantity": 5, "orderType": "LMT", "price": 200},
    )
    with running():
        until(lambda: Report.objects.filter(source="poll", subject=str(made["order_id"])).exists())


def test_a_dropped_socket_is_opened_again(desk: Login, fresh_simulator: SimulatorProcess) -> None:
    with running():
        until(quote)
        fresh_simulator.control("POST", "/_sim/session", {"drop": "streams"})
        seen = quote().received_at
        until(lambda: quote().received_at > seen)


def test_a_broker_that_restarts_is_found_again_once_the_session_is_kept(
    desk: Login, fresh_simulator: SimulatorProcess
) -> None:
    with running():
        until(quote)
        fresh_simulator.kill()
        until(lambda: fresh(desk).tickled_at is None)
        keep_session(desk, SYSTEM)
        assert fresh(desk).state == SessionState.UNREACHABLE
        fresh_simulator.process = start_simulator(fresh_simulator.state_dir).process
        assert keep_session(ready_again(fresh(desk)), SYSTEM) == SessionState.UP
        seen = quote().received_at
        until(lambda: quote().received_at > seen)


def test_a_new_socket_session_makes_a_new_connection(desk: Login, fresh_simulator: SimulatorProcess) -> None:
    with running():
        until(quote)
        fresh_simulator.control("POST", "/_sim/session", {"roll": True})
        assert keep_session(ready_again(desk), SYSTEM) == SessionState.UP
        seen = quote().received_at
        until(lambda: quote().received_at > seen)


def test_a_stalled_feed_stops_moving_the_clock(
    desk: Login, fresh_simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ALIVE_SECONDS", 1.0)
    instrument = Instrument.objects.get(symbol="AAPL")
    with running():
        until(quote)
        fresh_simulator.fault("stalled_stream", lasts_seconds=60)
        until(lambda: _stands_still(instrument))


def test_postgres_goes_on_without_redis(
    desk: Login, settings, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    with running():
        first = until(quote)
        until(lambda: quote().received_at > first.received_at)
    assert "Redis is away" in caplog.text


def test_a_database_that_ends_our_connections_is_survived(desk: Login, fresh_database: Database) -> None:
    with running():
        first = until(quote)
        with fresh_database.connect("postgres") as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connections.close_all()
        until(lambda: _newer_than(first.received_at))


def _newer_than(moment) -> bool:
    from django.db import DatabaseError, connection

    try:
        return quote().received_at > moment
    except DatabaseError:
        connection.close()
        return False


def test_of_two_relays_one_connects(desk: Login, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="brokers.relay")
    with running(), running():
        until(quote)
        until(lambda: "Another process holds this lease" in caplog.text)
    assert caplog.text.count("connected") == 1


def test_frames_go_on_when_redis_is_back(
    desk: Login, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[bool]:
        feed = relay.Feed(desk, redis.asyncio.Redis.from_url("unix:///nowhere/redis.sock"))
        told = [await relay._publish(feed, {}), await relay._publish(feed, {})]
        async with redis.asyncio.Redis.from_url(redis_url) as feed.redis:
            return [*told, await relay._publish(feed, {})]

    assert asyncio.run(scenario()) == [False, False, True]
    assert caplog.text.count("Redis is away") == 1


def test_a_report_waits_for_the_database(desk: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    failures = iter([OperationalError("away")])
    real = relay.record_reports

    def flaky(*arguments, **named):
        for failure in failures:
            raise failure
        return real(*arguments, **named)

    monkeypatch.setattr(relay, "record_reports", flaky)
    feed = relay.Feed(desk, redis.asyncio.Redis())

    async def scenario() -> None:
        relay.take(feed, _fill(), {})
        task = asyncio.create_task(relay._empty_inbox(feed))
        while feed.inbox:
            await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert Report.objects.filter(kind="execution").count() == 1


def _fill() -> ExecutionReport:
    from tests.brokers.test_reports import FILL

    return FILL


def test_a_quote_of_an_instrument_that_nobody_wants_is_left_out(desk: Login) -> None:
    from tests.brokers.test_quotes import QUOTE

    feed = relay.Feed(desk, redis.asyncio.Redis())
    relay.take(feed, QUOTE, {})
    assert isinstance(QUOTE, QuoteRecord)
    assert feed.newest == {}


def test_the_process_ends_in_order_when_it_is_told_to(desk: Login, fresh_database: Database) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_relay"],
        cwd=BASE_DIR,
        env=os.environ | fresh_database.environment(),
        stderr=subprocess.PIPE,
    )
    try:
        until(quote)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said.decode()
    assert b"Traceback" not in said
    with broker_for(desk) as broker:
        assert broker.session_status().is_up


def test_a_book_that_a_bot_wished_for_reaches_its_row(desk: Login) -> None:
    aapl, account = Instrument.objects.get(symbol="AAPL"), desk.accounts.first().broker_account_id
    wishes.want(desk, aapl, "scanner-alpha", account=account)
    assert list(wishes.books(desk)) == [account]
    with running():
        until(lambda: wishes.BOOKS.last(desk, f"{account}:{wishes.books(desk)[account]}"))


def test_publishing_ends_although_the_client_beneath_swallowed_the_telling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tellings = []

    async def deaf_once(*_: object) -> None:
        try:
            await asyncio.sleep(60 if not tellings else 0)
        except asyncio.CancelledError:
            tellings.append(1)

    async def walk() -> None:
        task = asyncio.create_task(relay._publish_frames(relay.Feed(Login(), redis.asyncio.Redis())))
        await asyncio.sleep(3 * relay.FRAME_SECONDS)
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert tellings
        assert task.done()

    monkeypatch.setattr(relay.quotes, "publish", deaf_once)
    asyncio.run(walk())
