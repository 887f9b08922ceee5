"""One request budget for a login, shared by every process through its row (ibkr-web-api.md §8).

The row keeps when its last requests left, and one UPDATE finds out whether another may: never more than
REQUESTS_PER_SECOND in any second, and the last of them are kept free, one for orders and sessions, one for cancels.
So a cancel goes before every order that waits, and an order before every read, though none knows of another.
Some endpoints have a limit of their own: a call holds its endpoint's lease for the gap, and never gives it back.
After a 429 only cancels and one tickle a minute pass, since more traffic would prolong the penalty.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from brokers.ibkr.limits import Rank, rank_of
from brokers.models import Login
from cerbero import leases
from cerbero.errors import BrokerUnavailable, LeaseLost
from cerbero.leases import ClockTime

REQUESTS_PER_SECOND = 10
# A little over a second: requests that left evenly may arrive closer together.
WINDOW_SECONDS = 1.05
COOLING_SECONDS = 600
COOLING_TICKLE_SECONDS = 60
LOOK_SECONDS_MAX = 0.25
# Four accounts, read one after the other; reconciliation's rounds get as long as they must.
ENDPOINT_WAIT_SECONDS_MAX = 20.0
ENDPOINT_LOOK_SECONDS = 0.25
# A place is free again after that, whatever became of its holder: an answer takes less.
PLACE_SECONDS = 60.0


# A cancel is never refused for want of budget: it waits for as long as the queue of cancels is.
WAIT_SECONDS_MAX = {Rank.CANCEL: 60.0, Rank.ORDER: 5.0, Rank.READ: 2.0}
# Seconds between two calls of one login, by method and path.
Gaps = Mapping[tuple[str, str], float]

TAKE_SLOT = """
    UPDATE brokers_login
    SET asked_at = asked_at[greatest(1, cardinality(asked_at) - %(most)s + 2):] || clock_timestamp(),
        tickle_asked_at = CASE WHEN %(is_tickle)s THEN clock_timestamp() ELSE tickle_asked_at END
    WHERE id = %(login)s
      AND (cardinality(asked_at) < %(room)s OR asked_at[cardinality(asked_at) - %(room)s + 1]
           <= clock_timestamp() - %(window)s * interval '1 second')
      AND (%(is_cancel)s OR cooling_until IS NULL OR cooling_until <= clock_timestamp()
           OR (%(is_tickle)s AND (tickle_asked_at IS NULL
               OR tickle_asked_at <= clock_timestamp() - %(tickle_gap)s * interval '1 second')))
"""
LOOK = """
    SELECT CASE WHEN cooling_until > clock_timestamp() THEN cooling_until END,
           extract(epoch FROM asked_at[cardinality(asked_at) - %(room)s + 1] - clock_timestamp())::float8 + %(window)s
    FROM brokers_login WHERE id = %(login)s
"""


def pacer(
    login_id: UUID, gaps: Gaps | None = None, *, wait: Callable[[float], None] = time.sleep
) -> Callable[[str, str], None]:
    """What an adapter calls before each request: waits for a slot, or raises BrokerUnavailable."""

    def pace(method: str, path: str) -> None:
        gap = gaps.get((method, path)) if gaps else None
        if gap is not None:
            await_endpoint(login_id, path, gap, wait)
        await_slot(login_id, rank_of(method, path), is_tickle=path.endswith("/tickle"), wait=wait)

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


def await_slot(
    login_id: UUID, rank: Rank, *, is_tickle: bool = False, wait: Callable[[float], None] = time.sleep
) -> None:
    """Take one request's slot, when there is one for this rank.

    Raises BrokerUnavailable (`paced` or `cooling_until`) when it would take too long; RuntimeError in a transaction.
    """
    waited = 0.0
    while not take_slot(login_id, rank, is_tickle=is_tickle):
        seconds = _until_next(login_id, rank)
        if waited + seconds > WAIT_SECONDS_MAX[rank]:
            raise BrokerUnavailable("Too many requests wait for this login; nothing was sent.", paced=True)
        wait(seconds)
        waited += seconds


def take_slot(login_id: UUID, rank: Rank, *, is_tickle: bool = False) -> bool:
    """Whether a request of this rank may leave at this moment; if so, it is counted."""
    taken = _budget(login_id, rank) | {
        "most": REQUESTS_PER_SECOND,
        "is_cancel": rank is Rank.CANCEL,
        "is_tickle": is_tickle,
        "tickle_gap": COOLING_TICKLE_SECONDS,
    }
    # Durable: a network call inside a transaction would hold its locks while the broker thinks.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(TAKE_SLOT, taken)
        return cursor.rowcount == 1


@contextmanager
def one_of(most: int, name: str) -> Iterator[None]:
    """Hold one of `most` places while something runs, over all processes. Raises BrokerUnavailable (`paced`) where none is free."""
    for number in range(most):
        place = f"{name}:{number}"
        try:
            fence = leases.hold(place, "", PLACE_SECONDS)
        except LeaseLost:
            continue
        try:
            yield
        finally:
            leases.release(place, fence)
        return
    raise BrokerUnavailable(
        "Too many such questions are open at once; nothing was sent.", paced=True, most=most
    )


def cool_down(login_id: UUID) -> None:
    """The broker limits our rate: stop asking for COOLING_SECONDS."""
    Login.objects.filter(pk=login_id).update(cooling_until=ClockTime() + timedelta(seconds=COOLING_SECONDS))


def _until_next(login_id: UUID, rank: Rank) -> float:
    """Seconds until it is worth trying again. Raises BrokerUnavailable during the cool-down."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK, _budget(login_id, rank))
        cooling_until, seconds = cursor.fetchone() or (None, None)
    if cooling_until is not None and rank is not Rank.CANCEL:
        words = "The broker limits our rate; only cancels pass for now."
        raise BrokerUnavailable(words, paced=True, cooling_until=cooling_until.isoformat())
    return min(max(seconds or 0.0, 0.005), LOOK_SECONDS_MAX)


def _budget(login_id: UUID, rank: Rank) -> dict[str, Any]:
    return {"login": login_id, "room": REQUESTS_PER_SECOND - rank, "window": WINDOW_SECONDS}
