"""The live page and its socket: who may listen, what arrives, and that nobody slow holds up anybody."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis.asyncio
from django.test import Client

ORIGIN = b"http://localhost:8000"


@pytest.fixture
def desk(fresh_database: Any, redis_url: str) -> Any:
    from tests.orders import world

    return world.build()


@pytest.fixture
def cookie(desk: Any, settings: Any) -> bytes:
    """Bob's session, as his browser sends it."""
    client = Client()
    client.force_login(desk.people["bob"])
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode()


@asynccontextmanager
async def socket(cookie: bytes, origin: bytes = ORIGIN, query: str = "") -> AsyncIterator[Any]:
    from channels.testing import WebsocketCommunicator

    from cerbero.asgi import application

    headers = [(b"origin", origin), *([(b"cookie", cookie)] if cookie else [])]
    live = WebsocketCommunicator(application, f"/ws/live/{query}", headers=headers)
    is_open, _ = await live.connect(timeout=60)
    live.is_open = is_open
    try:
        yield live
    finally:
        await live.disconnect()


async def is_admitted(cookie: bytes, **how: Any) -> bool:
    async with socket(cookie, **how) as live:
        return live.is_open


async def read(live: Any, *, says_seen: bool = True, timeout: float = 60) -> dict[str, Any]:
    frame = json.loads(await live.receive_from(timeout=timeout))
    if says_seen:
        await live.send_to(text_data=json.dumps({"seen": frame["frame"]}))
    return frame


async def until(live: Any, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Read on until a frame has what is wanted."""
    for _ in range(50):
        frame = await read(live)
        if wanted(frame):
            return frame
    raise AssertionError("it never came")


@asynccontextmanager
async def publisher(desk: Any) -> AsyncIterator[Callable[[str], Awaitable[datetime]]]:
    """Publishes AAPL's bid as the relay does, and says when; waits until the hub listens."""
    from django.conf import settings

    from brokers.base import Availability, QuoteRecord
    from brokers.frames import CHANNEL
    from brokers.quotes import publish

    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        while dict(await client.pubsub_numsub(CHANNEL))[CHANNEL.encode()] == 0:
            await asyncio.sleep(0.01)

        async def send(bid: str) -> datetime:
            now = datetime.now(UTC)
            quote = QuoteRecord(
                "265598", now, bid=Decimal(bid), availability=Availability.LIVE, changed_at=now
            )
            await publish(client, desk.login, {desk.aapl.pk: quote}, now)
            return now

        yield send


def test_a_socket_needs_a_session_a_permission_and_our_own_origin(desk: Any, cookie: bytes) -> None:
    async def walk() -> list[bool]:
        return [
            await is_admitted(cookie),
            await is_admitted(b""),
            await is_admitted(b"cerbero_session=forged"),
            await is_admitted(cookie, origin=b"http://evil.example"),
        ]

    assert asyncio.run(walk()) == [True, False, False, False]
    desk.people["bob"].groups.clear()
    assert asyncio.run(is_admitted(cookie)) is False


def test_a_quote_arrives_with_its_clocks_and_a_forged_one_does_not(desk: Any, cookie: bytes) -> None:
    from django.conf import settings

    from brokers.frames import CHANNEL
    from cerbero.consumers import milliseconds

    async def walk() -> tuple[dict[str, Any], datetime]:
        async with socket(cookie) as live, publisher(desk) as send:
            async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as anybody:
                forged = {"kind": "quotes", "quotes": {str(desk.aapl.pk): {"bid": "1.00"}}}
                await anybody.publish(CHANNEL, json.dumps(forged))
            sent_at = await send("190.10")
            return await until(live, lambda frame: frame["quotes"]), sent_at

    frame, sent_at = asyncio.run(walk())
    (quote,) = frame["quotes"]
    assert (quote["id"], quote["bid"], quote["availability"]) == (str(desk.aapl.pk), "190.1", "live")
    sent = milliseconds(sent_at)
    assert (quote["changed_at"], frame["feeds"][str(desk.login.pk)]) == (sent, sent)
    assert sent <= frame["now"] <= milliseconds(datetime.now(UTC))


def test_a_slow_browser_gets_fewer_frames_and_always_the_newest(desk: Any, cookie: bytes) -> None:
    from cerbero.consumers import hub

    async def walk() -> tuple[dict[str, Any], bool]:
        async with socket(cookie) as live, publisher(desk) as send:
            await send("190.00")
            await until(live, lambda frame: frame["quotes"])
            await send("190.01")
            waiting = json.loads(await live.receive_from(timeout=60))
            for cent in range(2, 60):
                await send(f"190.{cent:02d}")
            while hub().newest.quotes[str(desk.aapl.pk)]["bid"] != "190.59":
                await asyncio.sleep(0.01)
            assert await live.receive_nothing(timeout=0.3)
            await live.send_to(text_data=json.dumps({"seen": waiting["frame"]}))
            newest = await read(live)
            return newest, await live.receive_nothing(timeout=0.3)

    newest, nothing_old_followed = asyncio.run(walk())
    assert [quote["bid"] for quote in newest["quotes"]] == ["190.59"]
    assert nothing_old_followed


def test_a_browser_that_stopped_reading_does_not_hold_up_another(desk: Any, cookie: bytes) -> None:
    async def walk() -> None:
        async with socket(cookie) as stuck, socket(cookie) as quick, publisher(desk) as send:
            await send("190.00")
            await until(stuck, lambda frame: frame["quotes"])
            await until(quick, lambda frame: frame["quotes"])
            # Whoever said "seen" once is waited for without an end: nobody else may be.
            for cent in range(1, 6):
                bid = f"190.{cent:02d}"
                await send(bid)
                await until(quick, lambda frame, bid=bid: any(q["bid"] == bid for q in frame["quotes"]))

    asyncio.run(walk())


def test_a_client_that_never_says_seen_gets_frames_at_a_calm_pace(
    desk: Any, cookie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cerbero import consumers

    monkeypatch.setattr(consumers, "PATIENCE_SECONDS", 0.4)

    async def walk() -> float:
        began = asyncio.get_running_loop().time()
        async with socket(cookie) as live, publisher(desk) as send:
            await read(live, says_seen=False)
            for bid in ("190.00", "190.01"):
                await send(bid)
                await read(live, says_seen=False)
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(walk()) >= 0.8


def test_hints_reach_pages_that_want_no_quotes(desk: Any, cookie: bytes) -> None:
    from brokers.quotes import publish_hint

    async def walk() -> dict[str, Any]:
        async with socket(cookie, query="?quotes=none") as live, publisher(desk) as send:
            await send("190.00")
            await asyncio.to_thread(publish_hint, "order", "42")
            return await until(live, lambda frame: frame["changed"])

    frame = asyncio.run(walk())
    assert (frame["changed"], frame["quotes"]) == (["order:42"], [])


def test_a_process_has_one_subscription_and_none_when_nobody_looks(desk: Any, cookie: bytes) -> None:
    from django.conf import settings

    from brokers.frames import CHANNEL

    async def count() -> int:
        async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
            return dict(await client.pubsub_numsub(CHANNEL))[CHANNEL.encode()]

    async def walk() -> tuple[int, int]:
        async with socket(cookie), socket(cookie), socket(cookie), publisher(desk):
            during = await count()
        for _ in range(100):
            if await count() == 0:
                break
            await asyncio.sleep(0.02)
        return during, await count()

    assert asyncio.run(walk()) == (1, 0)


def _revoked(desk: Any) -> None:
    from cerbero.people import sessions

    sessions.end(actor=desk.person("bob"), person=desk.people["bob"])


def _deleted(desk: Any) -> None:
    from django.contrib.sessions.models import Session

    Session.objects.all().delete()


def _disabled(desk: Any) -> None:
    type(desk.people["bob"]).objects.filter(username="bob").update(is_active=False)


@pytest.mark.parametrize("how", [_revoked, _deleted, _disabled])
def test_a_session_that_ended_closes_its_sockets_before_they_are_looked_at_one_by_one(
    desk: Any, cookie: bytes, how: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from asgiref.sync import sync_to_async

    from cerbero import consumers

    assert consumers.SESSION_SECONDS <= 1
    monkeypatch.setattr(consumers, "SESSION_SECONDS", 0.05)
    Client(headers={"cookie": cookie.decode()}).get("/live/")

    async def walk() -> dict[str, Any]:
        async with socket(cookie) as live:
            await read(live)
            await sync_to_async(how)(desk)
            while (told := await live.receive_output(timeout=60))["type"] == "websocket.send":
                pass
            return told

    assert asyncio.run(walk()) == {"type": "websocket.close", "code": 4403}


def test_another_persons_sockets_stay_open_when_a_session_ends(
    desk: Any, cookie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asgiref.sync import sync_to_async
    from django.conf import settings

    from cerbero import consumers

    monkeypatch.setattr(consumers, "SESSION_SECONDS", 0.05)
    carol = Client()
    carol.force_login(desk.people["carol"])
    carol.get("/live/")
    Client(headers={"cookie": cookie.decode()}).get("/live/")
    hers = f"{settings.SESSION_COOKIE_NAME}={carol.cookies[settings.SESSION_COOKIE_NAME].value}".encode()

    async def walk() -> dict[str, Any]:
        async with socket(cookie) as his, socket(hers) as kept:
            await sync_to_async(_revoked)(desk)
            while (await his.receive_output(timeout=60))["type"] == "websocket.send":
                pass
            async with publisher(desk) as send:
                await send("190.10")
                return await until(kept, lambda frame: frame["quotes"])

    assert asyncio.run(walk())["quotes"]


def test_losing_the_permission_ends_the_stream(
    desk: Any, cookie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asgiref.sync import sync_to_async

    from cerbero import consumers

    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.1)

    async def walk() -> dict[str, Any]:
        async with socket(cookie) as live:
            await read(live)
            await sync_to_async(desk.people["bob"].groups.clear)()
            return await live.receive_output(timeout=60)

    assert asyncio.run(walk()) == {"type": "websocket.close", "code": 4403}


def test_the_live_page_and_its_blotter_show_rows_before_any_script_runs(desk: Any) -> None:
    from brokers.models import Subscription

    Subscription.objects.create(login=desk.login, instrument=desk.aapl)
    order = desk.order(desk.place())
    client = Client()
    client.force_login(desk.people["bob"])
    text = client.get("/live/").content.decode()
    assert 'data-field="bid">189.98<' in text
    assert '<span class="buy">Buy</span> 10 AAPL limit 190.00 day' in text
    (row,) = client.get("/live/blotter.json").json()["orders"]
    assert (row["id"], row["status"], row["filled"]) == (str(order.pk), "proposed", "0 of 10")
    desk.decide(order.ticket)
    assert client.get("/live/blotter.json").json()["orders"][0]["status"] == "allowed"


def test_the_health_page_says_what_works(desk: Any) -> None:
    client = Client()
    client.force_login(desk.people["bob"])
    text = client.get("/admin/health/").content.decode()
    assert "process · orders" in text
    assert "has not succeeded yet" in text
    assert '<span class="status degraded">degraded</span>' in text
