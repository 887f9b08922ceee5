"""Entries that somebody outside could bring about by the thousand: at most so many a minute, with what was left out."""

import time
from collections import deque
from typing import Any

from django.db import DatabaseError, InterfaceError

from audit.services import record
from cerbero.access import Actor


class Sparing:
    """What one place in one process enters of such things. A flood of requests is no flood of entries."""

    def __init__(self, most_a_minute: int) -> None:
        self._entered: deque[float] = deque(maxlen=most_a_minute)
        self._left_out = 0

    def record(
        self, event: str, *, actor: Actor, details: dict[str, Any], **subject: Any
    ) -> DatabaseError | InterfaceError | None:
        """Enter it, or count it as left out. Returns why it could not be entered: it was refused all the same."""
        now = time.monotonic()
        if len(self._entered) == self._entered.maxlen and now - self._entered[0] < 60:
            self._left_out += 1
            return None
        self._entered.append(now)
        more = {"left_out": self._left_out} if self._left_out else {}
        try:
            record(event, actor=actor, details=details | more, **subject)
        except (DatabaseError, InterfaceError) as problem:
            return problem
        self._left_out = 0
        return None
