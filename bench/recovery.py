"""How soon we know, and how soon we are whole again: a fill at the broker, by stream and by poll; and every
process of ours killed at one moment with orders on their way.

The stack is that of `make up`, with the product's own times. The broker's book is the judge of "settled".
"""

import argparse
import os
import signal
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from bench._report import note, percentile, report, running_walk
from bench.approve import BELOW
from bench.propose import lift_throttles, order
from cerbero.management.commands.demo import Walk

SAMPLES, ORDERS, WAIT_SECONDS = 5, 5, 120.0
KILLED = ("web", "tools", "worker", "beat", "orders", "relay", "sealer")
FILLED = "SELECT 1 FROM orders_order WHERE id = %s AND status = 'filled'"
FRESH = "SELECT 1 FROM brokers_login WHERE state = 'up' AND feed_alive_at > now() - interval '2s'"
ACCEPTED = "SELECT broker_order_id FROM orders_order WHERE id = %s AND status = 'accepted'"
OPEN = """
    SELECT count(*) FROM orders_ticket t LEFT JOIN orders_attempt a ON a.ticket_id = t.id
    WHERE t.id = ANY(%s) AND (t.status IN ('proposed', 'allowed') OR a.status IN ('prepared', 'sent', 'in_doubt'))
"""


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.recovery", description=__doc__)
    words.add_argument("--samples", type=int, default=SAMPLES)
    given = words.parse_args()
    with running_walk() as walk:
        lift_throttles(walk)
        with psycopg.connect(walk.running.environment["DATABASE_URL"], autocommit=True) as rows:
            control(walk, "config", fills="never", questions=[])
            table = [timed("a fill → our ledger, stream", lambda: fill(walk, rows), given.samples)]
            table.append(timed("a fill → our ledger, poll", lambda: deaf(walk, rows), given.samples))
            table.append(timed(f"all killed → {ORDERS} orders settled", lambda: kill_all(walk, rows), 1))
    report("recovery", table)


def timed(what: str, measure: Callable[[], float], samples: int) -> dict[str, Any]:
    """The row of one measurement; seconds."""
    values = []
    for _ in range(samples):
        values.append(measure())
        note(f"{what}: {values[-1]:.2f} s")
    return {
        "what": what,
        "samples": samples,
        "p50_seconds": round(percentile(values, 50), 2),
        "max_seconds": round(max(values), 2),
    }


def deaf(walk: Walk, rows: psycopg.Connection) -> float:
    """The same while the relay stands still."""
    relay = walk.running.supervisor.children["relay"].pid
    try:
        return fill(walk, rows, before=lambda: os.killpg(relay, signal.SIGSTOP))
    finally:
        os.killpg(relay, signal.SIGCONT)
        time.sleep(2)


def fill(walk: Walk, rows: psycopg.Connection, before: Callable[[], None] = lambda: None) -> float:
    """From the broker's booking of a fill until the ledger has it."""
    placed = approved(walk)
    broker_order_id = until(rows, ACCEPTED, placed["order_id"])[0]
    before()
    control(walk, "fill", order_id=int(broker_order_id))
    began = time.perf_counter()
    until(rows, FILLED, placed["order_id"])
    return time.perf_counter() - began


def kill_all(walk: Walk, rows: psycopg.Connection) -> float:
    """From SIGKILL of every process of ours until nothing is open, and ledger and book agree."""
    until(rows, FRESH)
    tickets = [approved(walk)["ticket_id"] for _ in range(ORDERS)]
    children = walk.running.supervisor.children
    for name in KILLED:
        if children[name].pid:
            os.killpg(children[name].pid, signal.SIGKILL)
    began = time.perf_counter()
    deadline = began + WAIT_SECONDS
    while time.perf_counter() < deadline:
        found = rows.execute(OPEN, [tickets]).fetchone()
        if found and found[0] == 0 and agrees(walk, rows, tickets):
            return time.perf_counter() - began
        time.sleep(0.05)
    raise SystemExit("the orders were not settled in time")


def agrees(walk: Walk, rows: psycopg.Connection, tickets: list[str]) -> bool:
    words = "SELECT broker_order_id FROM orders_order WHERE ticket_id = ANY(%s) AND status = 'accepted'"
    ours = {row[0] for row in rows.execute(words, [tickets]).fetchall()}
    return len(ours) == len(tickets) and ours <= {str(each["order_id"]) for each in book(walk)}


def book(walk: Walk) -> list[dict[str, Any]]:
    return httpx.get(f"{walk.running.simulator_url}/_sim/book", trust_env=False).json()["orders"]


def approved(walk: Walk) -> dict[str, Any]:
    placed = walk.call("place_order", **order(walk, BELOW), idempotency_key=uuid4().hex)
    path = f"/admin/queue/{placed['ticket_id']}/approve/"
    walk.bob.send(path, **walk.bob.read("/admin/queue/").forms[path])
    return placed


def control(walk: Walk, path: str, **body: Any) -> None:
    httpx.post(f"{walk.running.simulator_url}/_sim/{path}", json=body, trust_env=False).raise_for_status()


def until(rows: psycopg.Connection, words: str, *values: Any) -> tuple[Any, ...]:
    deadline = time.perf_counter() + WAIT_SECONDS
    while (found := rows.execute(words, values or None).fetchone()) is None:
        if time.perf_counter() > deadline:
            raise SystemExit(f"not within {WAIT_SECONDS:g} s: {words}")
        time.sleep(0.005)
    return found


if __name__ == "__main__":
    main()
