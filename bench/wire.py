"""The wire's own cost: signing, the client over a bare call, a stream's frame until Redis or the inbox has it, reads by a tool.

Against the simulator on the loopback, which answers in about a millisecond. Reads go through `tool.call` in process, with the
broker's budget of ten requests a second lifted for `uncached`, since otherwise it is that budget which is measured.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx

from bench._report import note, percentile, report
from bench.gate import on_servers

SIGNATURES, CALLS, WARM_UP, FRAMES, REPORTS, READ_SECONDS = 5000, 400, 20, 400, 200, 4.0
AAPL, WORKERS = "265598", 4


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.wire", description=__doc__)
    words.add_argument("--seconds", type=float, default=READ_SECONDS, help="of each kind of read")
    given = words.parse_args()
    from tests.simulator_process import start_simulator

    with on_servers() as root, tempfile.TemporaryDirectory(prefix="cerbero-bench-") as folder:
        sim = start_simulator(Path(folder) / "simulator")
        try:
            rows = [*client_rows(sim), frame_row(sim, root), report_row(sim), *read_rows(sim, given.seconds)]
        finally:
            sim.stop()
    report("wire", rows)


def client_rows(sim: Any) -> Iterator[dict[str, Any]]:
    """Signing alone, a bare call and the client's, by turns so that the machine's load meets both alike."""
    from tests.brokers.desk import ibkr_broker

    with ibkr_broker(sim) as broker, httpx.Client(trust_env=False) as bare:
        broker.mint()
        broker.open_session()
        url = f"{sim.base_url}/iserver/auth/status"
        request = bare.build_request("POST", url)
        yield row(
            "sign a request",
            [1e6 * each for each in timed(lambda: signed(broker, request), SIGNATURES)],
            "µs",
        )
        head = dict(signed(broker, request).headers)

        def plainly() -> None:
            bare.post(url, headers=head).raise_for_status()

        acts = {"a bare httpx call": plainly, "the client's call": broker.session_status}
        rounds = [{what: both(act) for what, act in acts.items()} for _ in range(CALLS)][WARM_UP:]
    for at, clock in enumerate(("", ", its own CPU")):
        took = {what: [1e6 * each[what][at] for each in rounds] for what in acts}
        for what, found in took.items():
            yield row(f"{what}{clock}", found, "µs")
        plain, ours = took.values()
        ratios = [mine / theirs for theirs, mine in zip(plain, ours, strict=True)]
        yield row(f"the client over the bare call{clock}", ratios, "ratio")


def both(act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of this thread's CPU: the latter tells on a busy machine what the clock does not."""
    began, used = time.perf_counter(), time.thread_time()
    act()
    return time.perf_counter() - began, time.thread_time() - used


def signed(broker: Any, request: httpx.Request) -> httpx.Request:
    return next(broker._wire.auth.auth_flow(request))


def frame_row(sim: Any, root: Path) -> dict[str, Any]:
    """From the moment that the relay's stream has read a quote's frame until a reader of Redis has it."""
    from brokers.models import Instrument, Login, Subscription

    sim.config(tick_seconds=0.05, conflation_seconds=0.05)
    login = entered(sim)
    for symbol in ("AAPL", "MSFT", "NVDA", "AMD", "SPY"):
        Subscription.objects.create(login=login, instrument=Instrument.objects.create(symbol=symbol))
    kept_up(login)
    took = asyncio.run(frames(Login.objects.get(pk=login.pk)))
    sim.config(tick_seconds=0.2, conflation_seconds=0.5)
    return row("stream frame to Redis", took, "ms")


async def frames(login: Any) -> list[float]:
    from brokers import quotes, relay
    from brokers.quotes import QuoteFrame

    stop, took = asyncio.Event(), []
    running = asyncio.create_task(relay.run(stop, lambda _: False))
    async with contextlib.aclosing(cast("AsyncGenerator[quotes.Frame]", quotes.subscribe())) as heard:
        async for frame in heard:
            now = datetime.now(UTC)
            for each in frame.quotes.values() if isinstance(frame, QuoteFrame) else ():
                took.append(1000 * (now - datetime.fromisoformat(each["received_at"])).total_seconds())
            if len(took) >= FRAMES:
                break
    stop.set()
    await running
    return took


def report_row(sim: Any) -> dict[str, Any]:
    """From the moment that the stream has read a frame of an order or a fill until its report is committed."""
    from brokers.models import Login

    sim.config(fills="immediate")
    took = asyncio.run(reports(Login.objects.get(), sim))
    sim.config(fills="normal")
    return row("order frame to the inbox", took, "ms")


async def reports(login: Any, sim: Any) -> list[float]:
    from brokers import relay

    heard: dict[int, float] = {}
    took: list[float] = []
    take, record_reports = relay.take, relay.record_reports

    def timed_take(feed: Any, event: Any, raw: Any) -> None:
        heard[id(event)] = time.perf_counter()
        take(feed, event, raw)

    def timed_record(login: Any, source: Any, batch: Any) -> None:
        record_reports(login, source, batch)
        now = time.perf_counter()
        took.extend(1000 * (now - heard[id(event)]) for event, _ in batch)

    stop = asyncio.Event()
    with patch.object(relay, "take", timed_take), patch.object(relay, "record_reports", timed_record):
        running = asyncio.create_task(relay.run(stop, lambda _: False))
        buy = {"conid": int(AAPL), "side": "BUY", "quantity": 1, "orderType": "MKT"}
        while len(took) < REPORTS:
            await asyncio.to_thread(sim.control, "POST", "/_sim/manual_order", buy)
            await asyncio.sleep(0.05)
        stop.set()
        await running
    return took


def read_rows(sim: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """`get_positions`, remembered and asked anew, by one caller and by several at once."""
    from brokers import answers, pacing
    from brokers.models import Account
    from cerbero.access import DEFAULT_SCOPES, Actor
    from cerbero.models import Bot, User
    from cerbero.tool import TOOLS, call

    owner = User.objects.create_user("alice")
    bot = Bot.objects.create(name="scanner-alpha", owner=owner, environment="paper")
    actor = Actor(kind="bot", id=bot.pk, name=bot.name, scopes=frozenset(DEFAULT_SCOPES), environment="paper")
    account = Account.objects.order_by("broker_account_id")[0].broker_account_id

    def read() -> None:
        call(TOOLS["get_positions"], actor, {"account": account})

    is_older, budget = answers._is_older, pacing.REQUESTS_PER_SECOND
    pacing.REQUESTS_PER_SECOND = 100_000
    for name, older in (("cached", lambda *_: False), ("uncached", lambda *_: True)):
        answers._is_older = older
        for workers in (1, WORKERS):
            yield rate(f"{name} reads by a tool, {workers} at once", read, workers, seconds)
    answers._is_older, pacing.REQUESTS_PER_SECOND = is_older, budget


def rate(what: str, read: Callable[[], None], workers: int, seconds: float) -> dict[str, Any]:
    from django.db import connections

    read()
    ends = time.perf_counter() + seconds

    def again(_: int) -> list[float]:
        took = []
        while time.perf_counter() < ends:
            took.append(1000 * once(read))
        connections.close_all()
        return took

    with ThreadPoolExecutor(workers) as pool:
        took = [each for mine in pool.map(again, range(workers)) for each in mine]
    return row(what, took, "ms") | {"per_second": round(len(took) / seconds, 1)}


def entered(sim: Any) -> Any:
    from tests.brokers.logins import make_login

    return make_login(sim)


def kept_up(login: Any) -> None:
    from brokers.sessions import keep_session
    from tests.brokers.logins import SYSTEM

    if keep_session(login, SYSTEM) != "up":
        raise SystemExit("the session did not come up")


def timed(act: Callable[[], Any], count: int) -> list[float]:
    return [once(act) for _ in range(count)]


def once(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def row(what: str, took: list[float], unit: str) -> dict[str, Any]:
    figures = {"p50": statistics.median(took), "p99": percentile(took, 99)}
    note(f"{what}: p50 {figures['p50']:.2f} {unit}")
    return {
        "what": what,
        "unit": unit,
        **{k: round(v, 2) for k, v in figures.items()},
        "per_second": "",
        "samples": len(took),
    }


if __name__ == "__main__":
    main()
