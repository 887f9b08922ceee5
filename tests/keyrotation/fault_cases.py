"""What `make rotation-faults` plays: each way a rotation can go, and each place at which a process of it is killed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Where a process ends: in the transaction that records the event, and right after its commit.
START = {"start_rotation": ("rotation.requested", "rotation.generated")}
REGISTER = {"register_rotation": ("credential.completed", "rotation.registered")}
DECIDE = {"decide_rotation": ("decision.made",)}
SWEEP = (
    "rotation.proven",
    "login.held",
    "credential.retired",
    "rotation.activated",
    "rotation.settled",
    "login.released",
)
MODES: dict[str, dict[str, Any]] = {
    "overlap": {
        "doors": START | REGISTER | DECIDE,
        "sweep": (*SWEEP, "rotation.retired"),
        "ends": {"retired"},
    },
    "token only": {"kind": "token", "sweep": ("rotation.proven", "rotation.activated"), "ends": {"retired"}},
    "a prime of our own": {"prime": "own", "sweep": ("rotation.generated",), "ends": {"retired"}},
    "fails after the proof": {
        "keys": {"refuses": "/iserver/|/tickle"},
        "sweep": ("rotation.activated", "rotation.rolled_back", "login.released"),
        "ends": {"rolled_back"},
    },
    "put back by a person": {
        "doors": {"roll_back_rotation": ("rotation.rolled_back",)},
        "ends": {"rolled_back"},
    },
    "aborted": {
        "doors": {"abort_rotation": ("rotation.aborted", "credential.destroyed")},
        "ends": {"aborted"},
    },
    "waiting for the broker": {
        "config": {"activation_seconds": 3600},
        "sweep": ("rotation.not_proven",),
        "ends": {"registered"},
    },
    "blackout": {
        "config": {"activation_seconds": 3600, "save_replaces": True},
        "sweep": ("rotation.went_dark", "rotation.proven", "rotation.activated", "rotation.settled"),
        "ends": {"retired"},
    },
}


@dataclass(frozen=True)
class Case:
    """One kill: in which mode, in which process, at which place."""

    mode: str
    job: str
    place: str

    @property
    def name(self) -> str:
        return f"{self.mode} | {self.job} | {self.place}"


def _cases() -> Iterator[Case]:
    for mode, words in MODES.items():
        for job, events in (*words.get("doors", {}).items(), ("sweeper", words.get("sweep", ()))):
            for event in events:
                yield from (Case(mode, job, f"{event}{after}") for after in ("", ".committed"))


CASES = {case.name: case for case in _cases()}


def slice_of() -> list[str]:
    """One case of each mode, by turns after a commit and before one."""
    mine = ([name for name, case in CASES.items() if case.mode == mode] for mode in MODES)
    return [names[-1 - number % 2] for number, names in enumerate(mine)]
