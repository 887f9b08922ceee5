"""One tick: from the broker's websocket through relay, Redis and the web process to a browser's socket, as processes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.test import Client
from websockets.sync.client import connect
from websockets.typing import Origin

from brokers.connections import close_connections
from brokers.models import Quote
from tests.doors import DAPHNE, serve
from tests.orders import world
from tests.rig import BASE_DIR, Database

AAPL = int(world.AAPL)


@contextlib.contextmanager
def relay(database: Database, folder: Path) -> Iterator[None]:
    with (folder / "relay.log").open("wb") as log:
        words = [sys.executable, "manage.py", "run_relay"]
        process = subprocess.Popen(words, cwd=BASE_DIR, env=database.environment(), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(90) == 0


def read_until(live: Any, wanted: Any, seconds: float = 60) -> dict[str, Any]:
    """The first quote that is as wanted; every frame is said to be seen, as the page does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        frame = json.loads(live.recv(timeout=seconds))
        live.send(json.dumps({"seen": frame["frame"]}))
        for quote in frame["quotes"]:
            if wanted(quote):
                return quote
    raise AssertionError("it never came")


def test_a_move_at_the_broker_is_on_the_page_within_moments_and_in_the_row_soon_after(
    fresh_database: Database, fresh_simulator: Any, redis_url: str, tmp_path: Path, settings: Any
) -> None:
    desk = world.connect(fresh_simulator)
    client = Client()
    client.force_login(desk.people["bob"])
    name = settings.SESSION_COOKIE_NAME
    headers = {"Cookie": f"{name}={client.cookies[name].value}"}
    with relay(fresh_database, tmp_path), serve(fresh_database, tmp_path, *DAPHNE) as web:
        address = f"{web.url.replace('http', 'ws', 1)}/ws/live/"
        origin = Origin(settings.PUBLIC_URL)
        with connect(address, origin=origin, additional_headers=headers, proxy=None) as live:
            first = read_until(live, lambda quote: quote["ask"])
            assert first["id"] == str(desk.aapl.pk)
            moved = Decimal(first["ask"]) * 2
            fresh_simulator.control("POST", "/_sim/price", {"conid": AAPL, "price": float(moved)})
            seen = read_until(
                live, lambda quote: quote["ask"] and Decimal(quote["ask"]) > moved * Decimal("0.9")
            )
            assert seen["availability"] == "live"
        row = world.until(lambda: Quote.objects.filter(ask__gt=moved * Decimal("0.9")).first())
        assert row.instrument_id == desk.aapl.pk
    close_connections()
