"""A lane: one database, one broker, the processes between them, and one case after the other.

`python -m tests.faults.lane` reads what to run from its standard input, a line of JSON each, and answers so.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.faults.judge import FINAL, Ledger, Verdict, judge
from tests.faults.nest import PATIENCE, Child, Nest

SETTLE_SECONDS, MUTANT_SECONDS = 30.0 * PATIENCE, 10.0 * PATIENCE
# Longer than any delay that a case plans after its last request.
QUIET_SECONDS = 0.4 * PATIENCE
# What a supervisor starts again.
LASTING = {"orders", "orders-2", "keeper", "keeper-2", "relay"}
CENT = Decimal("0.01")


@dataclass
class Lane:
    """What stays alive over many cases."""

    nest: Nest
    desk: Any
    sim: Any
    folder: Path
    mutant: str = ""
    children: dict[str, Child] = field(default_factory=dict)
    number: int = 0
    ask: Decimal = Decimal(0)

    @classmethod
    def open(cls, folder: Path) -> "Lane":
        import django

        django.setup()
        from tests.faults import around, jobs, mutants  # noqa: F401  (imported once, before the fork)

        nest = Nest.build(folder)
        from brokers import pacing

        pacing.REQUESTS_PER_SECOND = 1000
        from orders.models import Limits
        from tests.orders import world
        from tests.simulator_process import start_simulator

        sim = start_simulator(folder / "simulator")
        sim.config(freeze=True, fills="never", fill_delay=[0.01, 0.05], per_side_limit=100_000)
        desk = world.connect(sim)
        desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
        Limits.objects.update(**unlimited())
        lane = cls(nest, desk, sim, folder)
        lane.ask = desk.near()
        return lane

    def close(self) -> None:
        for child in self.children.values():
            child.end()
        self.nest.close()
        self.sim.stop()

    # Processes

    def want(self, *jobs: str, mutant: str = "") -> None:
        """Exactly these run, with this defect or none."""
        for job in list(self.children):
            if job not in jobs or mutant != self.mutant:
                self.children.pop(job).end(signal.SIGTERM)
        self.mutant = mutant
        for job in jobs:
            if job not in self.children:
                self.start(job)
        self.mend()

    def start(self, job: str, name: str = "", *, fail_point: str = "", **details: Any) -> Child:
        child = self.nest.start(job, mutant=self.mutant, fail_point=fail_point, **details)
        self.children[name or job] = child
        return child

    def mend(self) -> list[str]:
        """Start again what has ended, as a supervisor would; returns their names."""
        gone = [name for name, child in self.children.items() if not child.is_alive]
        for name in gone:
            if name in LASTING:
                self.start(self.children[name].job, name)
            else:
                del self.children[name]
        return gone

    # One run

    def run(self, case: Any, seed: int) -> dict[str, Any]:
        """Play one case and have it judged."""
        from tests.faults.mutants import MUTANTS
        from tests.faults.stage import Stage

        stage = Stage(self, random.Random(seed))
        began = time.monotonic()
        try:
            self.put_in_order(case)
            case.play(stage)
            sees = MUTANTS[self.mutant].sees if self.mutant else ""
            settled, seconds = stage.settle(MUTANT_SECONDS if sees else SETTLE_SECONDS, sees)
        except Exception as problem:
            details = getattr(problem, "details", "")
            why = f"stuck: the play broke: {type(problem).__name__}: {problem} {details}"
            verdict = Verdict(stuck=1, why=[why])
            settled, seconds = False, time.monotonic() - began
        else:
            verdict = judge(stage.evidence(), settled=settled)
        # A place that was not reached; who only stood still there lives on.
        missed = bool(stage.armed) and all(child.is_alive and not child.stood_still for child in stage.armed)
        if not verdict.stuck and not self.clean_up(stage):
            verdict.blame("stuck", "it was canceled afterwards, and did not end")
        told = asdict(verdict) | {"seconds": round(seconds, 3), "took": round(time.monotonic() - began, 3)}
        ends = [
            "/".join((each.ticket, each.order, each.refusal, *each.amended)) for each in stage.last.values()
        ]
        return {"case": case.name, "group": case.group, "seed": seed, "ends": ends, "missed": missed} | told

    def put_in_order(self, case: Any) -> None:
        from brokers.models import Account

        self.want("orders", "keeper", *case.needs, mutant=self.mutant)
        self.sim.control("DELETE", "/_sim/faults")
        self.sim.control("DELETE", "/_sim/question")
        usual = {"stale_reply_goes_live": False, "listing_delay": 0, "refused_in_groups": []}
        self.sim.config(questions=[], fills="never", price_limit_percent=3, **usual)
        Account.objects.filter(pk=self.desk.account.pk).update(allowed_question_ids=[])
        self.until_up()

    def until_up(self) -> None:
        """The session lives, the quote is fresh, and the feed is."""
        from brokers.models import Login, SessionState
        from orders.models import Balance
        from tests.orders.world import hear, until

        until(lambda: Login.objects.get(pk=self.desk.login.pk).state == SessionState.UP, 30 * PATIENCE)
        until(Balance.objects.exists, 30 * PATIENCE)
        self.desk.quote(str(self.ask - Decimal("0.02")), str(self.ask))
        hear(self.desk.login)

    def clean_up(self, stage: Any) -> bool:
        """Nothing of it is in the next one's way: what rests is canceled; whether all of it ended."""
        from orders import trading

        for name, child in list(self.children.items()):
            child.tell(signal.SIGCONT)
            if name in {"orders-2", "keeper-2"}:
                self.children.pop(name).end(signal.SIGTERM)
            elif child.is_alive:
                child.arm("")
        if stage.is_halted or not self.mutant:
            stage.withdraw_all()
        if stage.is_halted:
            trading.resume_trading(actor=self.desk.person("bob"), reason="the next case")
        return bool(self.mutant) or stage.is_over()


def unlimited() -> dict[str, Any]:
    """Limits that never bind: they are not what is tested here."""
    from orders.limit_table import LIMITS, Kind

    most = {Kind.AMOUNT: 10**12, Kind.PERCENT: 10**4, Kind.COUNT: 10**6, Kind.FLAG: True}
    floors = {"cushion_min": -100, "look_ahead_excess_min": -(10**12), "day_trades_left_min": 0}
    return {each.name: most[each.kind] for each in LIMITS if each.kind in most} | floors


def ledger_of(ticket: Any, number: int) -> Ledger:
    """What the rows say of one leg of a ticket now."""
    from audit.models import Entry

    order = ticket.orders.get(number=number)
    attempts = list(ticket.attempts.order_by("number"))
    changes = list(order.changes.all())
    ids = [str(each.pk) for each in (*attempts, *changes)]
    entries = Entry.objects.all()
    executed = sum((each.quantity for each in order.executions.all()), Decimal(0))
    return Ledger(
        ticket=ticket.status,
        refusal=ticket.refusal_code,
        order=order.status,
        price=order.limit_price or order.stop_price,
        filled=order.filled_quantity,
        is_cancel_asked=order.cancel_requested_at is not None,
        attempts=[(each.status, each.client_order_id) for each in attempts],
        changes=[
            *(each.status for each in changes),
            *("sent" for _ in order.amendments.filter(status__in=["allowed", "sent"])),
        ],
        executed=executed,
        amended=[f"{each.status} {each.refusal_code}" for each in order.amendments.all()],
        was_doubted=entries.filter(event__endswith=".doubted", subject_id__in=ids).exists(),
        was_revived=entries.filter(
            subject_kind="order", subject_id=str(order.pk), details__from__in=sorted(FINAL)
        )
        .exclude(event="order.expired")
        .exists(),
        waits_for=_waits_for(ticket, attempts),
    )


def _waits_for(ticket: Any, attempts: list[Any]) -> str:
    if ticket.status != "proposed":
        return ""
    return ticket.request.facts.get("asked_again", "no rule" if attempts else "")


def serve(answer: Callable[[Lane, dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line of the standard input with the run that it asks for."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = Path(tempfile.mkdtemp(prefix="cerbero-lane-", dir=os.environ.get("LANE_FOLDER")))
    with contextlib.closing(Lane.open(folder)) as lane:
        for line in sys.stdin:
            row = answer(lane, json.loads(line))
            told.write(json.dumps({"mutant": lane.mutant} | row) + "\n")
            told.flush()
            if row["stuck"]:
                # What is left over would be another case's trouble.
                break


def _run(lane: Lane, wanted: dict[str, Any]) -> dict[str, Any]:
    from tests.faults import around  # noqa: F401
    from tests.faults.cases import CASES

    if wanted.get("mutant", "") != lane.mutant:
        lane.want(mutant=wanted.get("mutant", ""))
    return lane.run(CASES[wanted["case"]], wanted["seed"])


if __name__ == "__main__":
    serve(_run)
