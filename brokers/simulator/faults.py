"""Faults that a test asks for: what the network and the broker do on their bad days."""

import itertools
import re
import time
from dataclasses import dataclass, field
from typing import Any

REQUEST_KINDS = (
    *("latency", "late_answer", "silence", "refuse"),
    *("drop_before", "drop_after", "status", "empty_200", "half_answer", "no_bridge"),
)
DELAYS = ("latency", "late_answer", "silence", "refuse")
STATE_KINDS = ("competing", "stalled_stream")
MOMENTS = ("before", "after")
_numbers = itertools.count(1)


@dataclass
class Fault:
    """One fault. It ends after `times` uses or after `lasts_seconds`; without either, when it is deleted.

    `path` is a regular expression searched in the path; `when` says whether the request is carried out
    ("after") or not ("before") for `status` and `empty_200`. `seconds` is the delay of `latency` (the request
    is carried out after it), `late_answer` (carried out before it) and `silence` (never carried out), how long
    nobody can connect after the answer of a `refuse`, and the duration of the other kinds.
    """

    kind: str
    path: str = ""
    method: str = ""
    times: int | None = None
    seconds: float | None = None
    lasts_seconds: float | None = None
    status: int = 503
    when: str = "before"
    body: Any = None
    heartbeats: bool = False  # stalled_stream: heartbeats go on
    number: int = field(default_factory=lambda: next(_numbers))
    began_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_KINDS + STATE_KINDS:
            raise ValueError(f"unknown kind {self.kind}")
        if self.when not in MOMENTS:
            raise ValueError("when is before or after")
        re.compile(self.path)
        if self.kind not in DELAYS and self.lasts_seconds is None:
            self.lasts_seconds = self.seconds

    @property
    def over(self) -> bool:
        late = self.lasts_seconds is not None and time.monotonic() - self.began_at > self.lasts_seconds
        return late or self.times == 0

    def fits(self, method: str, path: str) -> bool:
        return (not self.method or self.method.upper() == method) and re.search(self.path, path) is not None

    def use(self) -> None:
        if self.times is not None:
            self.times -= 1


class Faults:
    """The faults in force, oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, description: dict[str, Any]) -> Fault:
        """Raises ValueError for anything that is not a fault."""
        try:
            fault = Fault(**description)
        except (TypeError, re.error) as error:
            raise ValueError(str(error)) from None
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def __iter__(self):
        self._faults = [fault for fault in self._faults if not fault.over]
        return iter(list(self._faults))

    def take(self, method: str, path: str) -> list[Fault]:
        """The request faults that hit this request: every latency, and the first of the others."""
        if not self._faults:
            return []
        hit: list[Fault] = []
        for fault in self:
            first = fault.kind == "latency" or not any(f.kind != "latency" for f in hit)
            if first and fault.kind in REQUEST_KINDS and fault.fits(method, path):
                fault.use()
                hit.append(fault)
        return hit

    def stalled(self) -> Fault | None:
        """The stream fault in force."""
        return next((fault for fault in self if fault.kind == "stalled_stream"), None)
