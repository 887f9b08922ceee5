"""What a session's keeper writes of a login: the state, why, and when to try again (house.md §6 "Session")."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from audit.services import record
from brokers.ibkr.limits import away_until
from brokers.models import Login
from brokers.quotes import publish_hint
from brokers.ways import SessionState
from cerbero import leases
from cerbero.access import Actor
from cerbero.errors import BrokerError
from cerbero.leases import ClockTime, Held

RETRY_SECONDS_MAX = 60.0
LOCKED_OUT_RETRY_SECONDS = 600.0
SIGNED_OUT_RETRY_SECONDS = 5.0

EVENTS = {
    SessionState.DOWN: "session.ended",
    SessionState.MINTING: "session.minting",
    SessionState.AUTHENTICATED: "session.authenticated",
    SessionState.UP: "session.established",
    SessionState.COMPETING: "session.contested",
    SessionState.NOT_ESTABLISHED: "session.not_established",
    SessionState.EXPIRED: "session.expired",
    SessionState.SIGNED_OUT: "session.signed_out",
    SessionState.UNREACHABLE: "session.lost",
    SessionState.MISMATCHED: "session.mismatched",
    SessionState.LOCKED_OUT: "session.locked_out",
    SessionState.MAINTENANCE: "session.maintained",
}
# What a planned reset or maintenance looks like from here.
AWAY = {
    SessionState.EXPIRED,
    SessionState.NOT_ESTABLISHED,
    SessionState.UNREACHABLE,
    SessionState.LOCKED_OUT,
}


@dataclass(frozen=True)
class Turn:
    """One holder's turn at one login: the row as read under the lease, and who acts."""

    row: Login
    # The database's clock, by which every expiry here is read.
    now: datetime
    actor: Actor
    held: Held


def locked_out(turn: Turn, words: str) -> str:
    return fail(turn, SessionState.LOCKED_OUT, words, at_least=LOCKED_OUT_RETRY_SECONDS)


def fail(turn: Turn, state: str, words: str, *, at_least: float = 0.0) -> str:
    """Say how it is dead, and try again later and later; while the broker is away by plan, that is all it is."""
    ends = away_until(turn.row.base_url, turn.row.region_zone, turn.now)
    if ends is not None and state in AWAY:
        state, words, at_least = SessionState.MAINTENANCE, f"Planned until {ends:%H:%M} UTC. {words}", 0.0
    failures = min(turn.row.failures + 1, 1000)
    backoff = min(RETRY_SECONDS_MAX, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
    if state == SessionState.SIGNED_OUT:
        # A person signs in and looks here for what becomes of it; the program asked stands next to us.
        backoff = SIGNED_OUT_RETRY_SECONDS
    retry_at = ClockTime() + timedelta(seconds=max(at_least, backoff))
    return enter(turn, state, words, failures=failures, retry_at=retry_at)


def pause(turn: Turn, seconds: float) -> str:
    Login.objects.filter(pk=turn.row.pk).update(retry_at=ClockTime() + timedelta(seconds=seconds))
    return turn.row.state


def enter(turn: Turn, state: str, words: str, **changes: Any) -> str:
    """Write the state and its reason; a change of state is an entry, the same state again is none."""
    row, words = turn.row, words[:300]
    with transaction.atomic():
        leases.check(*turn.held)
        rows = Login.objects.filter(pk=row.pk)
        moved = rows.exclude(state=state).update(
            state=state, state_detail=words, state_changed_at=ClockTime(), **changes
        )
        if moved:
            note(turn, EVENTS[SessionState(state)], {"from": row.state, "to": str(state), "detail": words})
            transaction.on_commit(lambda: publish_hint("login", row.pk))
        else:
            rows.update(state_detail=words, **changes)
    row.state = state
    return state


def note(turn: Turn, event: str, details: dict[str, Any]) -> None:
    record(
        event,
        actor=turn.actor,
        subject_kind="login",
        subject_id=turn.row.pk,
        details={"login": turn.row.name, **details},
    )


def words_of(error: BrokerError) -> str:
    said = error.details.get("broker_says") or error.details.get("cause")
    return f"{error.message} ({said})" if said else error.message
