"""A fenced lease in a row, by the database's clock: who owns a login, a beat job, a sealer.

Each call is one statement that either holds or does not. A lease that ran out may be taken by the next;
the fence grows then, and `check` inside the writing transaction stops whoever was paused meanwhile.
"""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import DateTimeField, Func

from cerbero.database.compiled import Compiled, Given
from cerbero.errors import LeaseLost
from cerbero.models import Lease

SECONDS = 30
WORDS_MAX = 300

# Each mark of success and the age in seconds from which its silence is a fault.
MARKS = {
    "beat:keep_sessions": 30,
    "beat:refresh_tokens": 240,
    "beat:reconcile_accounts": 30,
    "beat:ask_what_ifs": 60,
    "beat:announce_decisions": 30,
    "beat:deliver_notices": 60,
    "beat:sweep_rotations": 60,
    "beat:watch_secrets": 240,
    "beat:watch_outages": 30,
    "process:orders": 15,
    "process:relay": 15,
    "process:sealer": 15,
    "process:web": 15,
    "process:watch": 15,
}
# Some of beat's jobs run every few seconds: when none of them has succeeded for so long, beat itself lags,
# or the worker or Redis behind it is away.
BEAT, BEAT_SILENT_SECONDS = "beat", 10


class ClockTime(Func):
    """The database's clock at this very moment, not at the statement's start: a lock may have been waited for."""

    function, arity = "clock_timestamp", 0
    output_field = DateTimeField()


# Locks a lease that is ours until the transaction ends, and finds nothing where it is not.
OURS = Compiled(
    lambda: (
        Lease.objects.select_for_update()
        .filter(name=Given("name"), fence=Given("fence"), expires_at__gt=ClockTime())
        .values_list("name", flat=True)
    )
)


class Held(NamedTuple):
    """A lease that is ours; the fence proves it."""

    name: str
    fence: int


def database_now() -> datetime:
    """The database's clock, by which everything here expires; ours may be wrong."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def hold(name: str, holder: str, seconds: float = SECONDS) -> int:
    """Take a free lease and return its fence. Raises LeaseLost while anybody, the same holder too, has it."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO cerbero_lease AS l (name, holder, fence, expires_at, failure)
            VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(seconds)s), '')
            ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, fence = l.fence + 1,
                expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
            WHERE l.expires_at <= clock_timestamp()
            RETURNING l.fence
            """,
            {"name": name, "holder": holder[:100], "seconds": seconds},
        )
        row = cursor.fetchone()
    if row is None:
        raise LeaseLost(lease=name)
    return int(row[0])


def renew(name: str, fence: int, seconds: float = SECONDS) -> None:
    """Keep it for `seconds` from now. Raises LeaseLost when it has run out, even if nobody took it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE cerbero_lease SET expires_at = clock_timestamp() + make_interval(secs => %s) "
            "WHERE name = %s AND fence = %s AND expires_at > clock_timestamp()",
            [seconds, name, fence],
        )
        if cursor.rowcount != 1:
            raise LeaseLost(lease=name)


def release(name: str, fence: int) -> None:
    """Give it back; does nothing when another has it."""
    Lease.objects.filter(name=name, fence=fence).update(expires_at=ClockTime(), holder="")


def check(name: str, fence: int) -> None:
    """Lock the row until the caller's transaction ends, so that nobody can take the lease meanwhile.

    Raises LeaseLost when it is not ours any more.
    """
    if not OURS.rows(name=name, fence=fence):
        raise LeaseLost(lease=name)


@contextmanager
def lease(name: str, seconds: float = SECONDS, holder: str = "") -> Iterator[Held]:
    """Hold a lease for the length of a block. Raises LeaseLost, and then the block does not run."""
    held = Held(name, hold(name, holder or unique_holder(), seconds))
    try:
        yield held
    finally:
        release(*held)


def unique_holder() -> str:
    """This process, for people to read, and a word that no other call has."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"


def youngest_of_beat(succeeded_at: Mapping[str, datetime | None]) -> datetime | None:
    """When any of beat's jobs last succeeded, of the marks by name."""
    return max((at for name, at in succeeded_at.items() if at and name.startswith("beat:")), default=None)


def succeeded(name: str) -> None:
    """Mark a job's success, for the health page."""
    _mark("succeeded_at", name, "")


def failed(name: str, why: str) -> None:
    """Mark a job's failure; the last success stays."""
    _mark("failed_at", name, why[:WORDS_MAX])


def _mark(column: str, name: str, why: str) -> None:
    fresh = Lease(name=name, failure=why)
    setattr(fresh, column, ClockTime())
    Lease.objects.bulk_create(
        [fresh], update_conflicts=True, unique_fields=["name"], update_fields=[column, "failure"]
    )
