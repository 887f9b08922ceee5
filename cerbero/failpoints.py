"""Named places at which the fault harness stops a process; none of them exists unless `FAIL_POINT` names it.

`FAIL_POINT` reads `SIGNAL place number`: the signal that the process sends itself when it reaches the place
for that time. A place is `deed.moment` on the wire (`place.before_send`), or an audit event: inside the
transaction that records it, and `.committed` right after.
"""

import os
import signal
from collections.abc import Iterator
from functools import partial

from django.conf import settings
from django.db import transaction

_times: dict[str, int] = {}


def reach(place: str) -> None:
    """This process is at `place` now."""
    if _is_watched():
        _reach(place)


def around_commit(place: str) -> None:
    """At `place` inside the transaction, and at `place.committed` right after it."""
    if _is_watched():
        _reach(place)
        transaction.on_commit(partial(_reach, f"{place}.committed"))


def body(deed: str, content: bytes | None) -> bytes | Iterator[bytes] | None:
    """The same bytes; watched, they leave in two halves, with a place after each."""
    return _halves(deed, content or b"") if _is_watched() else content


def _is_watched() -> bool:
    """The broken-glass canceller runs without settings, and is not watched."""
    return settings.configured and bool(settings.FAIL_POINT)


def _halves(deed: str, content: bytes) -> Iterator[bytes]:
    middle = len(content) // 2
    yield content[:middle]
    _reach(f"{deed}.half_sent")
    yield content[middle:]
    _reach(f"{deed}.after_send")


def _reach(place: str) -> None:
    name, wanted, number = settings.FAIL_POINT.split()
    if place == wanted:
        _times[place] = _times.get(place, 0) + 1
        if _times[place] == int(number):
            os.kill(os.getpid(), signal.Signals[name])
