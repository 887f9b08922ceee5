"""Holding a login's new orders: for seconds while its keys are swapped, and while the broker is away by plan.

Cancels are never held. A hold ends by the database's clock, so that a process that died cannot keep orders waiting. Whoever arms an
attempt locks the login's row here first, as whoever swaps the keys does: one of the two comes second, and sees it.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from audit.services import record
from brokers.base import Broker
from brokers.ibkr.limits import away_until, was_reset
from brokers.models import Credential, Login, SessionState
from brokers.reports import notify_orders
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given, together
from cerbero.leases import ClockTime


def hold_sending(login: Login, *, actor: Actor, seconds: float, because: str) -> None:
    """From now on, and for at most so long, nothing new leaves for this login."""
    with transaction.atomic(durable=True):
        Login.objects.filter(pk=login.pk).update(
            held_until=ClockTime() + timedelta(seconds=seconds), held_because=because[:150]
        )
        details = {"login": login.name, "seconds": seconds, "because": because}
        record("login.held", actor=actor, subject_kind="login", subject_id=login.pk, details=details)


def release_sending(login: Login, *, actor: Actor) -> None:
    """What waited may leave; does nothing when nothing was held."""
    with transaction.atomic(durable=True):
        if Login.objects.filter(pk=login.pk, held_until__gt=ClockTime()).update(
            held_until=None, held_because=""
        ):
            details = {"login": login.name}
            record("login.released", actor=actor, subject_kind="login", subject_id=login.pk, details=details)
            notify_orders()


def is_held(login: Login) -> bool:
    """Whether new orders of this login wait now."""
    (row,) = _NOW.rows(login=login.pk)
    return held_until(row) is not None


def held_until(row: Any) -> datetime | None:
    """Until when new orders wait; `row` is a login with `now` annotated."""
    ends = [away_until(row.base_url, row.region_zone, row.now)]
    ends += [row.held_until] if row.held_until and row.held_until > row.now else []
    return max(filter(None, ends), default=None)


def is_away_by_plan(login: Login, now: datetime) -> bool:
    """Whether the broker resets or maintains at `now`, so that silence is no fault."""
    return away_until(login.base_url, login.region_zone, now) is not None


def lists_began_anew(login: Login, since: datetime, until: datetime) -> bool:
    """Whether the broker's night fell between: what is older may be in none of its lists (ibkr-web-api.md §6.8)."""
    return was_reset(login.base_url, login.region_zone, since, until)


def may_leave(login_id: UUID, broker: Broker | None) -> bool:
    """Whether an order may go to the wire by this broker; locks the login's row for the caller's transaction.

    False while the login is held, and for a broker that was opened with keys that are no longer in use.
    """
    return _served(_LOCKED, login_id, broker) is not None


def still_serves(login_id: UUID, broker: Broker) -> bool:
    """Whether it is worth placing the next order by this broker: the session is up, not held, and by these keys."""
    login = _served(_NOW, login_id, broker)
    return login is not None and login.state == SessionState.UP


def _served(by: Compiled[Login], login_id: UUID, broker: Broker | None) -> Login | None:
    """The login, unless it is held or the broker was opened with keys that are no longer in use."""
    keys = broker.credential_id if broker else None
    (login,), in_use = together(by.asked(login=login_id), _IN_USE.asked(login=login_id, keys=keys))
    is_ours = keys is None or bool(in_use)
    return login if is_ours and held_until(login) is None else None


def _now() -> Any:
    rows = Login.objects.annotate(now=ClockTime()).only("held_until", "base_url", "region_zone", "state")
    return rows.filter(pk=Given("login"))


_NOW: Compiled[Login] = Compiled(_now)
_IN_USE = Compiled(
    lambda: Credential.objects.filter(
        pk=Given("keys"), login=Given("login"), status=Credential.Status.ACTIVE
    ).values_list("pk", flat=True)
)
_LOCKED: Compiled[Login] = Compiled(lambda: _now().select_for_update(no_key=True))
