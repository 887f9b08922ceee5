"""A rotation under load: orders at a steady pace, and in the midst of them the keys of their login are swapped.

An order's delay is from the person's yes to its arrival at the broker, by the broker's clock on the same machine. The
orders process is the product's own; sessions and the sweep run beside it as the worker would. Holding, draining and
proving take the product's own times; only the login's request budget is lifted, since two requests for each of
five orders a second would use it up. A refusal for want of authentication leaves an order in doubt or rejected.

With `--fails` the broker takes the new set at the proof and fails once it is in use, by refusing or by silence: `way_back_ms`
is from the swap until the old set is in use again.
"""

import argparse
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench._report import note, percentile, report
from bench.gate import lift_limits, on_servers

PER_SECOND, LEAD_SECONDS, REQUESTS_PER_SECOND = 5.0, 10.0, 200
# As beat asks for both.
ROUND_SECONDS, WAIT_SECONDS = 5.0, 120.0
ORDERS = f"""
import django
django.setup()
from django.core.management import call_command
from brokers import pacing
pacing.REQUESTS_PER_SECOND = {REQUESTS_PER_SECOND}
call_command("run_orders")
"""


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.rotate", description=__doc__)
    words.add_argument("--kind", choices=("keys", "token"), default="keys")
    words.add_argument("--per-second", type=float, default=PER_SECOND)
    words.add_argument("--fails", choices=("", "refuses", "silent"), default="")
    given = words.parse_args()
    with on_servers() as root:
        rows, sums = measured(root, given.kind, given.per_second, given.fails)
        report("rotate", rows, kind=given.kind, per_second=given.per_second, fails=given.fails, **sums)


def measured(
    root: Path, kind: str, per_second: float, fails: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One rotation from before its start until some seconds after it holds, or is rolled back."""
    from brokers import pacing
    from tests.orders import world as worlds
    from tests.simulator_process import start_simulator

    sim = start_simulator(root / "simulator")
    orders: subprocess.Popen[bytes] | None = None
    try:
        sim.config(questions=[], freeze=True, fills="never", per_side_limit=1_000_000)
        desk = worlds.connect(sim)
        lift_limits()
        pacing.REQUESTS_PER_SECOND = REQUESTS_PER_SECOND
        desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
        orders = subprocess.Popen([sys.executable, "-c", ORDERS])
        price = desk.near() - 2
        warm_up(desk, price)
        said: dict[Any, float] = {}
        with beside(keep, sweep, lambda: trade(desk, price, said), pace=1 / per_second):
            time.sleep(LEAD_SECONDS)
            rotation = rotate(desk, sim, kind, fails)
            time.sleep(LEAD_SECONDS)
        return judged(sim, said, rotation)
    finally:
        if orders is not None:
            orders.terminate()
            orders.wait()
        sim.stop()


@contextlib.contextmanager
def beside(*rounds: Callable[[], None], pace: float) -> Iterator[None]:
    """Each again and again in a thread of its own; the last at this pace, whatever its rounds take."""
    stop = threading.Event()

    def again(act: Callable[[], None], seconds: float) -> None:
        from django.db import connections

        due = time.monotonic()
        while not stop.is_set():
            act()
            due = max(due + seconds, time.monotonic() - 1)
            stop.wait(max(0.0, due - time.monotonic()))
        connections.close_all()

    paces = [ROUND_SECONDS] * (len(rounds) - 1) + [pace]
    threads = [threading.Thread(target=again, args=each) for each in zip(rounds, paces, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def warm_up(desk: Any, price: Decimal) -> None:
    """Until the orders process sends."""
    first: dict[Any, float] = {}
    trade(desk, price, first)
    _until_sent(first)


def keep() -> None:
    """What beat asks of the worker for sessions and accounts."""
    from brokers.tasks import keep_sessions
    from orders.tasks import reconcile_accounts

    keep_sessions()
    reconcile_accounts()


def sweep() -> None:
    """What beat asks of the worker for rotations."""
    from cerbero import access
    from keyrotation import sweep as rotations

    rotations.sweep(access.system("rotation"))


def trade(desk: Any, price: Decimal, said: dict[Any, float]) -> None:
    """One order proposed and allowed, in whatever the login's state is."""
    from tests.orders.world import hear

    desk.quote(str(price + 2), str(price + 2))
    hear(desk.login)
    step = Decimal(len(said) % 300) / 100
    ticket = desk.decide(desk.place(limit_price=price - step, quantity=Decimal(1)))
    said[ticket.pk] = time.time() * 1000


def rotate(desk: Any, sim: Any, kind: str, fails: str) -> Any:
    """What people do: start, upload, register, say yes; and the wait until the new set is proven in use, or the old one back."""
    from cerbero import access
    from keyrotation import services
    from keyrotation.lifecycle import Kind
    from tests.brokers.logins import somebody
    from tests.keyrotation.portal import Portal

    gina = access.person(somebody("gina", "Administrator"))
    portal = Portal(sim, desk.login, gina, gina)
    rotation = portal.registered(
        Kind(kind), **({"refuses": "/iserver/|/tickle"} if fails == "refuses" else {})
    )
    row = _until(lambda: portal.now(rotation), lambda now: now.status == "proven")
    note(f"proven: {row.mode}")
    if fails == "silent":
        sim.fault("silence", path="/tickle", times=1, seconds=60)
    portal.say(row, actor=gina)
    done = _until(lambda: portal.now(rotation), lambda now: now.settled_at or now.ended_at)
    note(
        f"{done.status}: the old set is kept until {done.retire_at:%Y-%m-%d}"
        if done.retire_at
        else done.problem
    )
    wanted = "rolled_back" if fails else "active"
    assert services.get_rotation(actor=gina, rotation_id=done.pk).status == wanted, done.problem
    return done


def _until(look: Callable[[], Any], is_so: Callable[[Any], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so(found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"the rotation did not come so far: {found.status}, {found.problem}")
        time.sleep(0.05)
    return found


def judged(sim: Any, said: dict[Any, float], rotation: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The delays before, during and after the hold, and what became of every order by the broker's book."""
    from audit.models import Entry
    from orders.models import Attempt, Order, Ticket

    _until_sent(said)
    ids = dict(Attempt.objects.filter(ticket__in=said).values_list("client_order_id", "ticket_id"))
    book = sim.book()
    arrived = {
        ids[c]: each["at_ms"] for each in reversed(book["arrivals"]) for c in each["cOIDs"] if c in ids
    }
    held, released = (
        Entry.objects.filter(event=f"login.{word}").latest("id").at.timestamp() * 1000
        for word in ("held", "released")
    )
    parts: dict[str, list[float]] = {"before": [], "held": [], "after": []}
    for ticket, at in said.items():
        part = "before" if at < held else "held" if at <= released else "after"
        if ticket in arrived:
            parts[part].append(max(0.0, arrived[ticket] - at))
    orders = Order.objects.filter(ticket__in=said)
    there = [each["cOID"] for each in book["orders"]]
    sums = {
        "mode": str(rotation.mode),
        "held_ms": round(released - held, 1),
        "way_back_ms": _way_back_ms(rotation),
        "orders": len(said),
        "refused": orders.filter(status="rejected").count()
        + Ticket.objects.filter(pk__in=said, status="denied").count(),
        "in_doubt": Entry.objects.filter(event="attempt.doubted").count(),
        "lost": sum(ticket not in arrived for ticket in said),
        "duplicated": len(there) - len(set(there)),
    }
    rows = [
        {
            "orders allowed": name,
            "count": len(took),
            "p50_ms": round(percentile(took, 50), 1) if took else "",
            "longest_ms": round(max(took), 1) if took else "",
        }
        for name, took in parts.items()
    ]
    return rows, sums


def _way_back_ms(rotation: Any) -> float | None:
    if rotation.status != "rolled_back":
        return None
    return round((rotation.ended_at - rotation.swapped_at).total_seconds() * 1000, 1)


def _until_sent(said: dict[Any, float]) -> None:
    from orders.models import Attempt, Ticket

    deadline = time.monotonic() + WAIT_SECONDS
    waiting = Ticket.objects.filter(pk__in=said, status="allowed")
    unsettled = Attempt.objects.filter(ticket__in=said, status__in=("prepared", "sent", "in_doubt"))
    while (waiting.exists() or unsettled.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
