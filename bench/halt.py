"""The kill switch with many orders at rest: how long until nothing new leaves, until no order works, until flat.

The broker's own book is the judge of the second; the proof by two full lists, five seconds apart, is ours.
Our own pace is lifted while the orders are placed, and stands again when trading is halted.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench._report import note, report

ORDERS, BATCH, HELD = 200, 25, 25
WAIT_SECONDS, TURN_SECONDS = 60, 0.25
MODES = ("cancel_all", "flatten")


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.halt", description=__doc__)
    words.add_argument("--orders", type=int, default=ORDERS)
    words.add_argument("--mode", choices=MODES, action="append", help="one of them only")
    given = words.parse_args()
    from tests.rig import Servers

    servers = Servers.start()
    root = Path(tempfile.mkdtemp(prefix="cerbero-bench-"))
    try:
        servers.migrate_template()
        rows = []
        for mode in given.mode or MODES:
            rows.append(on_a_desk_of_its_own(servers, root / mode, given.orders, mode))
        report("halt", rows)
    finally:
        from django.db import connection

        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        servers.stop()
        shutil.rmtree(root, ignore_errors=True)


def on_a_desk_of_its_own(servers: Any, root: Path, count: int, mode: str) -> dict[str, Any]:
    database = servers.create_database()
    os.environ.update(servers.environment(database.name))
    import django

    django.setup()
    from tests.rig import django_uses

    with django_uses(database):
        return measured(root, count, mode)


def measured(root: Path, count: int, mode: str) -> dict[str, Any]:
    """One halt over `count` orders that rest, beside a position; the orders loop goes on until it is proven."""
    from brokers import pacing
    from orders import halting
    from tests.orders import world as worlds
    from tests.orders.test_halt_run import buy, finish, rest, working
    from tests.simulator_process import start_simulator

    sim = start_simulator(root / "simulator")
    try:
        sim.config(fill_delay=[0.01, 0.02], questions=[], per_side_limit=count + 1)
        world = worlds.connect(sim)
        pace = pacing.REQUESTS_PER_SECOND
        pacing.REQUESTS_PER_SECOND = 200
        lift_limits()
        buy(world, HELD)
        for rested in range(0, count, BATCH):
            rest(world, min(BATCH, count - rested))
        pacing.REQUESTS_PER_SECOND = pace
        note(f"{len(working(world))} orders rest")
        began = time.monotonic()
        with orders_loop(world):
            told = halting.halt_trading(
                actor=world.person("bob"), mode=mode, reason="a measurement", wait_seconds=WAIT_SECONDS
            )
            seconds = time.monotonic() - began
        told = finish(world, told)
        started_ms = told["started_at"].timestamp() * 1000
        halted_ms = started_ms + float(told["seconds_to_halt"]) * 1000
        book = sim.book()["orders"]
        # What arrives later are the closes of a flatten, and nothing else.
        first = [row for row in book if row["arrived_ms"] <= halted_ms]
        closes = len(told["closes"])
        return {
            "what": mode,
            "orders": count,
            "halted_seconds": float(told["seconds_to_halt"]),
            "no_order_works_seconds": round((max(row["updated_ms"] for row in first) - started_ms) / 1000, 3),
            "proven_seconds": float(told["seconds_to_proof"] or 0),
            "returned_seconds": round(seconds, 3),
            "left_working": len(working(world)),
            "new_after": len(book) - len(first) - closes,
            "no_working_orders": told["no_working_orders"],
            "flat": told["flat"],
            "flat_seconds": seconds_between(told["started_at"], told["flat_at"]),
        }
    finally:
        sim.stop()


@contextlib.contextmanager
def orders_loop(world: Any) -> Iterator[None]:
    """As the orders process goes on beside whoever asked: it sends what a flatten closes."""
    ended = threading.Event()

    def turns() -> None:
        while not ended.is_set():
            world.turn()
            ended.wait(TURN_SECONDS)
        connections.close_all()

    from django.db import connections

    thread = threading.Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def seconds_between(began: Any, ended: Any) -> float | str:
    return round((ended - began).total_seconds(), 3) if ended else "never"


def lift_limits() -> None:
    """Two hundred orders at rest are what is measured, not what a desk would let one bot have."""
    from orders.models import Limits

    many = ("notional_max", "position_max", "gross_exposure_max", "daily_turnover_max")
    Limits.objects.update(**dict.fromkeys(many, 10**9), leverage_max=10_000, quote_age_max_seconds=3_600)


if __name__ == "__main__":
    main()
