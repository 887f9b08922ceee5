"""From a dead session, a stale feed and a break to the alert at its receiver, on a stack of its own.

The receiver is a web server here: a webhook that one Administrator added and a second confirmed. A session is dead from
the moment at which another platform takes it, a break is there when a stranger's order is at the broker; a feed is stale
from the moment at which its silence is a fault (brokers.models.FEED_SILENT_SECONDS). Seconds; medians.
"""

import argparse
import http.server
import json
import queue
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench._report import note, percentile, report
from cerbero.stack import BARE_ENVIRONMENT, Running, running_stack

RUNS, WAIT_SECONDS, AAPL = 5, 120.0, 265598
CONFIRM = """
from django.contrib.auth.models import Group
from cerbero import access
from cerbero.models import User
from orders.notices.services import add_webhook, decide_webhook
dora, egon = (User.objects.create_user(name, is_staff=True) for name in ("dora", "egon"))
Group.objects.get(name="Administrator").user_set.add(dora, egon)
row, _ = add_webhook(actor=access.person(dora), name="bench", url="http://localhost:{port}/", events=["alert.raised"])
decide_webhook(actor=access.person(egon), webhook_id=row.pk, digest=row.request.digest, is_yes=True)
"""
# What ends within a minute and comes back is the same outage, which is not told again.
FORGET = "UPDATE notices_outage SET ended_at = ended_at - interval '2 minutes' WHERE ended_at IS NOT NULL"
IS_WELL = """
    SELECT bool_and(state = 'up' AND feed_alive_at > clock_timestamp() - interval '12 seconds')
           AND NOT EXISTS (SELECT FROM notices_outage WHERE ended_at IS NULL) FROM brokers_login
"""
STANDING = """
    SELECT concat_ws(', ', (SELECT string_agg(state || ' ' || feed_alive_at::text, ', ') FROM brokers_login),
                     (SELECT string_agg(name, ', ') FROM notices_outage WHERE ended_at IS NULL))
"""
STALE_AT = "SELECT extract(epoch FROM max(feed_alive_at))::float8 + 30 FROM brokers_login"


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.alerts", description=__doc__)
    words.add_argument("--runs", type=int, default=RUNS)
    given = words.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    var = Path(tempfile.mkdtemp(prefix="cerbero-bench-"))
    environment = {**BARE_ENVIRONMENT, "OUTBOUND_INTERNAL_HOSTS": "localhost"}
    try:
        with Receiver() as receiver, running_stack(var, environment=environment) as running:
            confirmed = running.manage("shell", "-c", CONFIRM.format(port=receiver.server_port))
            if confirmed.returncode:
                raise SystemExit(confirmed.stderr)
            desk = Desk(running, receiver)
            report("alerts", [row(name, measure, desk, given.runs) for name, measure in CASES.items()])
    finally:
        shutil.rmtree(var, ignore_errors=True)


def row(name: str, measure: Any, desk: "Desk", runs: int) -> dict[str, Any]:
    """One case, again and again, each time from a whole stack."""
    seconds = []
    for _ in range(runs):
        desk.wait_until_well()
        seconds.append(round(measure(desk), 2))
        note(f"{name}: {seconds[-1]} s")
    told = {"median_s": percentile(seconds, 50), "worst_s": max(seconds)}
    return {"what": name, "runs": len(seconds), **told, "all": " ".join(map(str, seconds))}


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps when it was told what."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.heard: queue.Queue[tuple[float, str]] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def told_at(self, word: str) -> float:
        """When something with this word arrived; what else came before is passed over."""
        ends = time.time() + WAIT_SECONDS
        while True:
            try:
                at, said = self.heard.get(timeout=max(0.01, ends - time.time()))
            except queue.Empty:
                raise SystemExit(f"nobody was told of {word}") from None
            if word in said:
                return at


class Door(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        self.server.heard.put((time.time(), said))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """The table is the only thing that is printed."""


class Desk:
    """The running stack, seen from its database, its broker and its receiver."""

    def __init__(self, running: Running, receiver: Receiver) -> None:
        self.told_at = receiver.told_at
        self.rows = psycopg.connect(running.environment["DATABASE_URL"], autocommit=True)
        self.sim = httpx.Client(base_url=running.simulator_url, trust_env=False)

    def value(self, words: str) -> Any:
        return (self.rows.execute(words).fetchone() or [None])[0]

    def tell(self, path: str, **body: Any) -> None:
        self.sim.post(f"/_sim/{path}", json=body).raise_for_status()

    def wait_until_well(self) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while not self.value(IS_WELL):
            self.rows.execute("UPDATE brokers_login SET retry_at = now() WHERE state <> 'up'")
            if time.monotonic() > ends:
                raise SystemExit(f"the stack did not come back: {self.value(STANDING)}")
            time.sleep(0.2)
        self.rows.execute(FORGET)


def session(desk: Desk) -> float:
    died = time.time()
    desk.tell("faults", kind="competing")
    try:
        return desk.told_at("session:") - died
    finally:
        desk.sim.delete("/_sim/faults")


def feed(desk: Desk) -> float:
    desk.tell("faults", kind="stalled_stream")
    try:
        return desk.told_at("feed:") - desk.value(STALE_AT)
    finally:
        desk.sim.delete("/_sim/faults")


def stranger(desk: Desk) -> float:
    there = time.time()
    desk.tell("manual_order", conid=AAPL, side="BUY", quantity=1, orderType="LMT", price=150)
    return desk.told_at("Drift") - there


CASES = {
    "a session that another platform took": session,
    "a feed that is silent": feed,
    "an order of a stranger at the broker": stranger,
}


if __name__ == "__main__":
    main()
