"""Approve → working: from the moment that a person's POST leaves to the commit that says the broker has the order.

Through the real admin page and the real orders process to the simulator. One sample at a time, paced as the
broker's budget of requests allows, so that no sample waits for another. Orders rest below the market.
"""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import psycopg

from bench._report import note, percentile, report, running_walk
from bench.propose import lift_throttles, order
from brokers.notifications import HINTS
from cerbero.management.commands.demo import Walk

SAMPLES, WARM_UP, PAUSE_SECONDS, WAIT_SECONDS = 50, 3, 1.0, 10.0
# It rests, and is near enough for the broker to take it without a question.
BELOW = Decimal("0.985")
STATUS = "SELECT status FROM orders_order WHERE id = %s"


@dataclass
class Desk:
    """One connection hears what changed, another reads it: the first is busy while it listens."""

    hints: psycopg.Connection
    rows: psycopg.Connection

    @classmethod
    @contextlib.contextmanager
    def of(cls, walk: Walk) -> Iterator["Desk"]:
        url = walk.running.environment["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as hints, psycopg.connect(url, autocommit=True) as rows:
            hints.execute(f"LISTEN {HINTS}")
            yield cls(hints, rows)


@dataclass
class Sample:
    """Milliseconds since the POST left: the page answered, the intent was committed, the order works."""

    answered: float
    submitted: float
    working: float


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.approve", description=__doc__)
    words.add_argument("--samples", type=int, default=SAMPLES)
    given = words.parse_args()
    with running_walk() as walk, Desk.of(walk) as desk:
        lift_throttles(walk)
        samples = []
        for number in range(WARM_UP + given.samples):
            sample = approve_one(walk, desk)
            if number >= WARM_UP:
                samples.append(sample)
                note(f"{number - WARM_UP + 1}: {sample.working:.1f} ms")
            time.sleep(PAUSE_SECONDS)
    figures = {
        "POST → the page's answer": [each.answered for each in samples],
        "POST → intent committed": [each.submitted for each in samples],
        "POST → working at the broker": [each.working for each in samples],
    }
    table = [
        {
            "what": what,
            "samples": len(values),
            "p50_ms": round(percentile(values, 50), 1),
            "p99_ms": round(percentile(values, 99), 1),
        }
        for what, values in figures.items()
    ]
    report("approve", table)


def approve_one(walk: Walk, desk: Desk) -> Sample:
    placed = walk.call("place_order", **order(walk, BELOW), idempotency_key=uuid4().hex)
    path = f"/admin/queue/{placed['ticket_id']}/approve/"
    fields = walk.bob.read("/admin/queue/").forms[path]
    began = time.perf_counter()
    # Not followed: the next page is no part of what is measured.
    response = walk.bob.http.post(
        path, data=fields, headers={"Referer": walk.bob.origin}, follow_redirects=False
    )
    answered = 1000 * (time.perf_counter() - began)
    if response.status_code != 302:
        raise SystemExit(f"the approval answered {response.status_code}")
    times = wait_until_working(desk, placed["order_id"], began)
    # The broker takes fifteen working orders a side and instrument.
    walk.call("cancel_order", order_id=placed["order_id"])
    return Sample(answered, *times)


def wait_until_working(desk: Desk, order_id: str, began: float) -> tuple[float, float]:
    """When it was submitted and when accepted, in ms since `began`, by the database's own notifications."""
    submitted = 0.0
    for hint in desk.hints.notifies(timeout=WAIT_SECONDS):
        if hint.payload != f"order:{order_id}":
            continue
        now = 1000 * (time.perf_counter() - began)
        found = desk.rows.execute(STATUS, [order_id]).fetchone()
        submitted = submitted or now
        if found and found[0] == "accepted":
            return submitted, now
        if found and found[0] != "submitted":
            raise SystemExit(f"the order is {found[0]}")
    raise SystemExit(f"the order was not accepted within {WAIT_SECONDS:g} s")


if __name__ == "__main__":
    main()
