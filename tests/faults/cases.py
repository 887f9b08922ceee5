"""The matrix: where a process ends × what the broker and the network do, along each path of an order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.nest import PATIENCE
from tests.faults.stage import Stage

Play = Callable[[Stage], None]
REGISTERED = {"error": "Order couldn't be submitted: Local order ID=x is already registered."}

# Faults of one request: kind and details. `late` ones are carried out after our patience has ended.
FAULTS: dict[str, dict[str, Any]] = {
    "reset before": {"kind": "drop_before"},
    "reset after": {"kind": "drop_after"},
    "timeout, never taken": {"kind": "silence", "seconds": 0.6},
    "timeout, taken late": {"kind": "latency", "seconds": 0.7},
    "timeout, taken": {"kind": "late_answer", "seconds": 0.6},
    "half an answer": {"kind": "half_answer"},
    "duplicate answer": {"kind": "status", "status": 200, "when": "after", "body": REGISTERED},
    "no bridge": {"kind": "no_bridge"},
    **{f"empty 200, {word}": {"kind": "empty_200", "when": when} for word, when in
       (("not taken", "before"), ("taken", "after"))},
    **{f"{status}, {word}": {"kind": "status", "status": status, "when": when}
       for status in (401, 410, 429, 500, 503) for word, when in (("not taken", "before"), ("taken", "after"))},
}  # fmt: skip
WIRE = ("before_send", "half_sent", "after_send", "after_answer")
PLACE_POINTS = (
    *("place.before_claim", "attempt.prepared", "attempt.prepared.committed", "attempt.sent"),
    *("attempt.sent.committed", *(f"place.{moment}" for moment in WIRE)),
)
OUTCOMES = ("attempt.answered", "attempt.answered.committed", "attempt.doubted", "attempt.doubted.committed")


@dataclass(frozen=True)
class Case:
    """One case; `needs` are processes beside orders and keeper. What hits the servers themselves is played alone."""

    name: str
    group: str
    play: Play
    needs: tuple[str, ...] = ()
    is_alone: bool = False


CASES: dict[str, Case] = {}


def add(group: str, name: str, play: Play, *needs: str, is_alone: bool = False) -> None:
    full = f"{group} | {name}"
    assert full not in CASES, full
    CASES[full] = Case(full, group, play, needs, is_alone)


def hit(stage: Stage, fault: str, path: str, method: str = "POST") -> None:
    """The fault strikes the next such request."""
    if fault == "refused":
        stage.fault("refuse", "/marketdata/snapshot", seconds=0.3)
    elif fault == "taken, not listed yet":
        stage.config(listing_delay=1.1 * PATIENCE)
        stage.fault("late_answer", path, method, seconds=0.6)
    elif fault:
        stage.fault(path=path, method=method, **FAULTS[fault])


def placing(crash: str, fault: str) -> Play:
    def play(stage: Stage) -> None:
        fills = stage.rng.random() < 0.3
        stage.config(fills="normal" if fills else "never")
        stage.arm("orders", crash)
        hit(stage, fault, "/orders$")
        stage.order(fills=fills)

    return play


def unlisted(stage: Stage) -> None:
    """Taken, and in no list until it was looked for once in vain."""
    from orders.models import Attempt

    stage.config(listing_delay=3600.0)
    stage.fault("late_answer", "/orders$", "POST", seconds=0.6)
    intent = stage.order()
    stage.until(Attempt.objects.filter(ticket_id=intent.ticket_id, absent_count__gte=1).exists)
    stage.config(listing_delay=0.0)


def _place() -> None:
    faults = ["", "refused", "taken, not listed yet", *FAULTS]
    for fault in faults:
        add("place", fault or "no fault", placing("", fault))
    add("place", "taken, listed once it was looked for", unlisted)
    for crash in (*PLACE_POINTS, *OUTCOMES[:2]):
        add("place, killed", crash, placing(crash, ""))
    for fault in (each for each in faults if each):
        for crash in ("attempt.sent.committed", "place.half_sent", "place.after_send", "place.after_answer"):
            add(f"place, killed {crash}", fault, placing(crash, fault))
        outcome = "attempt.not_sent" if fault in {"refused", "no bridge"} else "attempt.doubted"
        for crash in (outcome, f"{outcome}.committed"):
            add("place, killed at the outcome", f"{fault}, {crash}", placing(crash, fault))


_place()
