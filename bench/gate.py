"""The gate's own time, in process against real Postgres: a proposal, and a sending up to the wire.

A proposal is facts, limits, policy, mandate, digest, the decision request and its entry. A sending is the locks,
everything looked at again, the approval or mandate consumed, the attempt and its entries, and arming: all that
stands between an approved ticket and the broker's socket. The broker's own answers are no part of it. `cpu_ms` is what
this process used, which tells on a busy machine what the clock does not; `fifty_ms` is fifty of them, one after another.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.utils import timezone

from bench._report import note, percentile, report

SAMPLES, WARM_UP, BATCH, LEASE_SECONDS = 200, 20, 50, 30
Took = tuple[float, float]
PEER = {"what": "peer: 50 submits in total", "samples": 50, "fifty_ms": 250.0}


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.gate", description=__doc__)
    words.add_argument("--samples", type=int, default=SAMPLES)
    given = words.parse_args()
    with on_servers() as root:
        report("gate", [*measured(root, given.samples), PEER])


@contextlib.contextmanager
def on_servers() -> Iterator[Path]:
    """Servers and a database of their own, with Django pointed at them; nothing is left behind."""
    from tests.rig import Servers

    servers = Servers.start()
    root = Path(tempfile.mkdtemp(prefix="cerbero-bench-"))
    try:
        servers.migrate_template()
        os.environ.update(servers.environment(servers.create_database().name))
        import django

        django.setup()
        yield root
    finally:
        from django.db import connection

        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        servers.stop()
        shutil.rmtree(root, ignore_errors=True)


def measured(root: Path, samples: int) -> list[dict[str, Any]]:
    """Both halves of the gate, under people's approval and under a mandate, each by itself."""
    from brokers import pacing
    from tests.orders import world as worlds
    from tests.simulator_process import start_simulator

    sim = start_simulator(root / "simulator")
    try:
        sim.config(questions=[], freeze=True, fills="never", per_side_limit=1_000_000)
        desk = worlds.connect(sim)
        lift_limits()
        pacing.WINDOW_SECONDS = 0.0
        asks = {"name": "one", "then": {"do": "people", "quorum": 1}}
        desk.activate([asks])
        rows = one("a person's approval", desk, samples)
        desk.activate([{"name": "mandate", "then": {"do": "mandate"}}, asks])
        sign(desk)
        return rows + one("a mandate", desk, samples)
    finally:
        sim.stop()


def lift_limits() -> None:
    """One order again and again, and a day of it: the throttles are not what is measured, their counting is."""
    from orders.models import Limits

    many = ("repeats_max", "orders_per_minute_max", "messages_per_minute_max", "daily_orders_max")
    Limits.objects.update(**dict.fromkeys((*many, "daily_turnover_max"), 1_000_000_000))


def sign(desk: Any) -> None:
    """A budget for the bot that no run uses up."""
    from brokers.base import OrderType, Side
    from orders import mandates

    month, much = timezone.now() + timedelta(days=30), Decimal(10**9)
    terms = mandates.Terms(
        account=desk.account,
        bot=desk.bot,
        instruments=(desk.aapl,),
        sides=(Side.BUY,),
        order_types=(OrderType.LIMIT,),
        order_notional_max=Decimal(10_000),
        notional_max=much,
        count_max=10_000,
        expires_at=month,
        hours={},
        reason="a measurement",
    )
    mandate = mandates.propose_mandate(actor=desk.person("bob"), terms=terms)
    mandates.decide_mandate(
        actor=desk.person("carol"), mandate_id=mandate.pk, digest=mandate.digest, is_yes=True
    )


def one(what: str, desk: Any, samples: int) -> list[dict[str, Any]]:
    """Both halves, so many times, the first ones not counted."""
    from cerbero import leases

    proposing, sending = [], []
    hold = desk.hold()
    price = (desk.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    for number in range(WARM_UP + samples):
        desk.near()
        proposed, sent = submit_one(desk, desk.proposal(limit_price=price, quantity=Decimal(1)), hold)
        leases.renew(hold.name, hold.fence, LEASE_SECONDS)
        if number >= WARM_UP:
            proposing.append(proposed)
            sending.append(sent)
    leases.release(hold.name, hold.fence)
    note(f"{what}: {len(sending)} samples")
    return [figures(f"propose, {what}", proposing), figures(f"send, {what}", sending)]


def submit_one(desk: Any, proposal: Any, hold: Any) -> tuple[Took, Took]:
    """The proposal, and everything between the market's answer and the wire."""
    from brokers.services import broker_for
    from cerbero import access
    from orders import services, submission
    from orders.models import TICKET_ROWS, Ticket

    actor = access.system("orders")
    began = now()
    ticket = services.place_order(actor=desk.scanner, proposal=proposal)
    proposed = since(began)
    if ticket.status == "proposed":
        desk.decide(ticket)
    fresh = Ticket.objects.select_related(*TICKET_ROWS).get(pk=ticket.pk)
    order = desk.order(ticket)
    with broker_for(desk.login) as broker:
        moment = submission.read_moment(fresh, order, broker)
    began = now()
    attempt = submission.prepare(actor, fresh, order, moment, hold)
    if attempt is None or not submission.arm(actor, attempt, hold):
        raise SystemExit(f"the ticket was not sent: {Ticket.objects.get(pk=ticket.pk).refusal}")
    sent = since(began)
    end(attempt, order)
    return proposed, sent


def end(attempt: Any, order: Any) -> None:
    """As the reports of a cancel would leave it, so that what rests does not grow with the samples."""
    from orders.models import Order

    Order.objects.filter(pk=order.pk).update(status="canceled")


def now() -> Took:
    return time.perf_counter(), time.process_time()


def since(began: Took) -> Took:
    """Milliseconds by the clock and of this process."""
    clock, processor = (1000 * (after - before) for after, before in zip(now(), began, strict=True))
    return clock, processor


def figures(what: str, took: list[Took]) -> dict[str, Any]:
    clock, processor = map(list, zip(*took, strict=True))
    return {
        "what": what,
        "samples": len(took),
        "p50_ms": round(percentile(clock, 50), 2),
        "p99_ms": round(percentile(clock, 99), 2),
        "cpu_ms": round(percentile(processor, 50), 2),
        "fifty_ms": round(sum(clock) / len(clock) * BATCH, 1),
    }


if __name__ == "__main__":
    main()
