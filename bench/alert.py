"""From a dead session, a stale feed, a break or a silent process to the alert at its receiver, on a stack of its own.

The receiver is a web server here, entered as a webhook. A session is dead from the moment at which another platform
takes it, a break is there when a stranger's order is at the broker; a feed is stale and a process is silent from the
moment at which its silence is a fault (brokers.models.FEED_SILENT_SECONDS, cerbero.leases.MARKS). Seconds; medians.
"""

import argparse
import http.server
import json
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench._report import note, percentile, report
from brokers.simulator.universe import AAPL
from cerbero.stack import BARE_ENVIRONMENT, Running, running_stack

RUNS, WAIT_SECONDS = 5, 90.0
ENTER = """
from cerbero.encryption import encrypt
from orders.notices.models import Webhook
from orders.notices.sending import sealed_identity
row = Webhook(name="bench", host="localhost", events=["alert.raised"])
row.sealed_url = encrypt(b"http://localhost:{port}/", sealed_identity(row, "url"))
row.sealed_secret = encrypt(b"quiet", sealed_identity(row, "secret"))
row.save()
"""
# What ends within a minute and comes back is the same outage, which is not told again.
FORGET = "UPDATE notices_outage SET ended_at = ended_at - interval '2 minutes' WHERE ended_at IS NOT NULL"
IS_WELL = """
    SELECT bool_and(state = 'up' AND feed_alive_at > clock_timestamp() - interval '12 seconds')
           AND NOT EXISTS (SELECT FROM notices_outage WHERE ended_at IS NULL) FROM brokers_login
"""
STALE_AT = "SELECT extract(epoch FROM max(feed_alive_at))::float8 + 30 FROM brokers_login"
SILENT_AT = "SELECT extract(epoch FROM max(succeeded_at))::float8 + %s FROM cerbero_lease WHERE name LIKE %s"


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.alert", description=__doc__)
    words.add_argument("--runs", type=int, default=RUNS)
    given = words.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    var = Path(tempfile.mkdtemp(prefix="cerbero-bench-"))
    environment = {**BARE_ENVIRONMENT, "OUTBOUND_INTERNAL_HOSTS": "localhost"}
    try:
        with Receiver() as receiver, running_stack(var, environment=environment) as running:
            entered = running.manage("shell", "-c", ENTER.format(port=receiver.server_port))
            if entered.returncode:
                raise SystemExit(entered.stderr)
            desk = Desk(running, receiver)
            report("alert", [row(name, desk, given.runs) for name in CASES])
    finally:
        shutil.rmtree(var, ignore_errors=True)


def row(name: str, desk: "Desk", runs: int) -> dict[str, Any]:
    """One case, again and again, each time from a whole stack."""
    seconds = []
    for _ in range(runs):
        desk.wait_until_well()
        seconds.append(round(CASES[name](desk), 2))
        note(f"{name}: {seconds[-1]} s")
    ordered = {"median_s": percentile(seconds, 50), "worst_s": max(seconds)}
    return {"what": name, "runs": len(seconds), **ordered, "all": " ".join(map(str, seconds))}


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
            at, said = self.heard.get(timeout=max(0.01, ends - time.time()))
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
        self.running, self.told_at = running, receiver.told_at
        self.rows = psycopg.connect(running.environment["DATABASE_URL"], autocommit=True)
        self.sim = httpx.Client(base_url=running.simulator_url, trust_env=False)

    def value(self, words: str, *given: Any) -> Any:
        return (self.rows.execute(words, given).fetchone() or [None])[0]

    def tell(self, path: str, **body: Any) -> None:
        self.sim.post(f"/_sim/{path}", json=body).raise_for_status()

    def wait_until_well(self) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        while not self.value(IS_WELL):
            self.rows.execute("UPDATE brokers_login SET retry_at = now() WHERE state <> 'up'")
            if time.monotonic() > ends:
                raise SystemExit("the stack did not come back")
            time.sleep(0.2)
        self.rows.execute(FORGET)
        self.rows.execute("DELETE FROM notices_delivery WHERE sent_at IS NULL")

    def silence(self, name: str) -> Callable[[], None]:
        """Pause a process; the answer lets it go on."""
        pid = self.running.supervisor.children[name].pid
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)


def session(desk: Desk) -> float:
    died = time.time()
    desk.tell("faults", kind="competing")
    try:
        return desk.told_at("session:") - died
    finally:
        desk.sim.delete("/_sim/faults")


def feed(desk: Desk) -> float:
    go_on = desk.silence("relay")
    try:
        return desk.told_at("feed:") - desk.value(STALE_AT)
    finally:
        go_on()


def stranger(desk: Desk) -> float:
    there = time.time()
    desk.tell("manual_order", conid=AAPL, side="BUY", quantity=1, orderType="LMT", price=150)
    return desk.told_at("Drift") - there


def silent(process: str, mark: str, seconds: float) -> Callable[[Desk], float]:
    def measure(desk: Desk) -> float:
        go_on = desk.silence(process)
        try:
            told = desk.told_at(mark.rstrip("%"))
            return told - desk.value(SILENT_AT, seconds, mark)
        finally:
            go_on()

    return measure


CASES: dict[str, Callable[[Desk], float]] = {
    "a session that another platform took": session,
    "a feed that is silent": feed,
    "an order of a stranger at the broker": stranger,
    "the relay silent": silent("relay", "process:relay", 15),
    "the orders process silent": silent("orders", "process:orders", 15),
    "beat silent": silent("beat", "beat%", 10),
}


if __name__ == "__main__":
    main()
