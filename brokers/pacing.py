"""One request budget for a login, shared by every process through its row (ibkr-web-api.md §8).

The generic cell rate algorithm in one UPDATE: `paced_until` is when the budget would be idle again.
Some endpoints have a limit of their own: a call holds its endpoint's lease for the gap, and never gives it back.
After a 429 only cancels and one tickle a minute pass, since more traffic would prolong the penalty.
"""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from brokers.models import Login
from cerbero import leases
from cerbero.errors import BrokerUnavailable, LeaseLost
from cerbero.leases import ClockTime

REQUESTS_PER_SECOND = 10
BURST = 10
WAIT_SECONDS_MAX = 2.0
# A cancel is never refused for want of budget: it waits for as long as the queue of cancels is.
CANCEL_WAIT_SECONDS_MAX = 60.0
COOLING_SECONDS = 600
COOLING_TICKLE_SECONDS = 60
# Four accounts, read one after the other; reconciliation's rounds get as long as they must.
ENDPOINT_WAIT_SECONDS_MAX = 20.0
ENDPOINT_LOOK_SECONDS = 0.25

# Seconds between two calls of one login, by method and path.
Gaps = Mapping[tuple[str, str], float]

TAKE_SLOT = """
    UPDATE brokers_login
    SET paced_until = greatest(paced_until, clock_timestamp()) + %(interval)s * interval '1 second',
        tickle_asked_at = CASE WHEN %(is_tickle)s THEN clock_timestamp() ELSE tickle_asked_at END
    WHERE id = %(login)s
      AND paced_until <= clock_timestamp() + %(ahead)s * interval '1 second'
      AND (%(is_cancel)s OR cooling_until IS NULL OR cooling_until <= clock_timestamp()
           OR (%(is_tickle)s AND (tickle_asked_at IS NULL
               OR tickle_asked_at <= clock_timestamp() - %(tickle_gap)s * interval '1 second')))
    RETURNING extract(epoch FROM paced_until - clock_timestamp())::float8
"""


def pacer(
    login_id: UUID, gaps: Gaps | None = None, *, wait: Callable[[float], None] = time.sleep
) -> Callable[[str, str], None]:
    """What an adapter calls before each request: waits for a slot, or raises BrokerUnavailable."""

    def pace(method: str, path: str) -> None:
        gap = gaps.get((method, path)) if gaps else None
        if gap is not None:
            await_endpoint(login_id, path, gap, wait)
        seconds = take_slot(login_id, is_cancel=method == "DELETE", is_tickle=path.endswith("/tickle"))
        if seconds > 0:
            wait(seconds)

    return pace


def await_endpoint(login_id: UUID, path: str, gap: float, wait: Callable[[float], None]) -> None:
    """Wait until the last call of `path` is `gap` seconds old. Raises BrokerUnavailable (`paced`) after too long.

    A gap that is longer than anybody would wait is not waited for at all.
    """
    name, waited = f"pace:{login_id}:{path}", 0.0
    while True:
        try:
            leases.hold(name, "", gap)
            return
        except LeaseLost:
            if waited >= ENDPOINT_WAIT_SECONDS_MAX or gap > ENDPOINT_WAIT_SECONDS_MAX:
                words = "Too many requests wait for this endpoint; nothing was sent."
                raise BrokerUnavailable(words, paced=True, path=path) from None
        wait(ENDPOINT_LOOK_SECONDS)
        waited += ENDPOINT_LOOK_SECONDS


def take_slot(login_id: UUID, *, is_cancel: bool = False, is_tickle: bool = False) -> float:
    """Take one request's slot; returns how many seconds to wait before using it.

    Raises BrokerUnavailable (`paced` or `cooling`) when it would be too long; RuntimeError in a transaction.
    """
    spare = (BURST - 1) / REQUESTS_PER_SECOND
    longest = CANCEL_WAIT_SECONDS_MAX if is_cancel else WAIT_SECONDS_MAX
    taken: dict[str, Any] = {
        "login": login_id,
        "interval": 1 / REQUESTS_PER_SECOND,
        "ahead": spare + longest,
        "is_cancel": is_cancel,
        "is_tickle": is_tickle,
        "tickle_gap": COOLING_TICKLE_SECONDS,
    }
    # Durable: a network call inside a transaction would hold its locks while the broker thinks.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(TAKE_SLOT, taken)
        row = cursor.fetchone()
    if row is None:
        raise _refusal(login_id)
    return max(0.0, float(row[0]) - BURST / REQUESTS_PER_SECOND)


def cool_down(login_id: UUID) -> None:
    """The broker limits our rate: stop asking for COOLING_SECONDS."""
    Login.objects.filter(pk=login_id).update(cooling_until=ClockTime() + timedelta(seconds=COOLING_SECONDS))


def _refusal(login_id: UUID) -> BrokerUnavailable:
    row = Login.objects.filter(pk=login_id).values("cooling_until").first()
    details: dict[str, Any] = {"paced": True}
    if row and row["cooling_until"] and row["cooling_until"] > timezone.now():
        details["cooling_until"] = row["cooling_until"].isoformat()
        return BrokerUnavailable("The broker limits our rate; only cancels pass for now.", **details)
    return BrokerUnavailable("Too many requests wait for this login; nothing was sent.", **details)
