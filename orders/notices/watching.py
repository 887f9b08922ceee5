"""Dead sessions, stale feeds and silent processes become outages, and people are told once of each.

Two look: beat's task, and a thread of the orders process, which needs no Redis, and also tells what waits and delivers.
So each is seen by the other when it is silent, and so is beat's own lag. Nobody is told of the broker's planned nights.
"""

import logging
from datetime import datetime, timedelta
from time import monotonic

import psycopg
from django.db import Error as DatabaseError
from django.db import connections, transaction

from audit.services import record
from brokers.holding import is_away_by_plan
from brokers.models import FEED_SILENT_SECONDS, Login, SessionState
from cerbero import access, leases
from cerbero.access import Actor
from cerbero.leases import BEAT, BEAT_SILENT_SECONDS, MARKS, ClockTime
from cerbero.models import Lease
from cerbero.stopping import StopSignal
from orders.notices import announcing
from orders.notices.alerting import alert
from orders.notices.models import Outage
from orders.notices.sending import deliver_alone

log = logging.getLogger(__name__)

LOOK_SECONDS, BEAT_SECONDS, MARK = 0.5, 5.0, "process:watch"
# Everything starts together: before that a mark may be of yesterday.
SETTLED_SECONDS = 20.0
# A session that mends itself at once is no outage; one that is being brought up has longer.
DEAD_SECONDS, OPENING_SECONDS = 2.0, 20.0
OPENING = {SessionState.DOWN, SessionState.MINTING, SessionState.AUTHENTICATED}
# What comes back so soon after its end is the same outage.
SAME_SECONDS = 60
PAGE = "/admin/health/"


def run(stop: StopSignal) -> None:
    """Look until `stop` is set, and deliver what is due. A database that is away is waited for."""
    watcher, notices, beat_at = Watcher(), access.system("notices"), 0.0
    while not stop.wait(LOOK_SECONDS):
        try:
            watcher.look()
            deliver_alone(actor=notices)
            if monotonic() - beat_at > BEAT_SECONDS:
                beat()
                beat_at = monotonic()
        except (DatabaseError, psycopg.Error) as problem:
            log.warning("watch: database away", extra={"problem": type(problem).__name__})
            connections.close_all()
            stop.wait(1)
        except Exception:
            log.exception("watch")
            stop.wait(1)
    connections.close_all()


def beat() -> None:
    """Once in BEAT_SECONDS: what waits is told without beat and Redis too, and the watch is seen to be alive."""
    announcing.announce_waiting()
    leases.succeeded(MARK)


class Watcher:
    """One process's looks; silence counts once it has seen the database for SETTLED_SECONDS without a break."""

    def __init__(self) -> None:
        self._began = monotonic()

    def look(self) -> None:
        try:
            watch(actor=access.system("watch"), is_settled=monotonic() - self._began >= SETTLED_SECONDS)
        except (DatabaseError, psycopg.Error):
            # While it was away nobody could leave a mark.
            self._began = monotonic()
            raise


def watch(*, actor: Actor, is_settled: bool) -> None:
    """One look: begin and end outages; whether somebody is silent counts only when `is_settled`."""
    found = _judge(leases.database_now(), is_settled=is_settled)
    running = set(Outage.objects.running().values_list("name", flat=True))
    for name, words in found.items():
        if words and name not in running:
            _begin(actor, name, words)
        elif not words and name in running:
            _end(actor, name)


def _judge(now: datetime, *, is_settled: bool) -> dict[str, str]:
    """What is wrong with each thing that can be judged now, by name; empty words when it is well."""
    found = {}
    for login in Login.objects.order_by("name"):
        is_watched = login.is_enabled and not is_away_by_plan(login, now)
        found[f"session:{login.name}"] = _session(login, now) if is_watched else ""
        found[f"rate:{login.name}"] = _rate(login, now) if is_watched else ""
        if is_settled:
            found[f"feed:{login.name}"] = _feed(login, now) if is_watched else ""
    return found | (_marks(now) if is_settled else {})


def _session(login: Login, now: datetime) -> str:
    if login.state in {SessionState.UP, SessionState.MAINTENANCE}:
        return ""
    patience = OPENING_SECONDS if login.state in OPENING else DEAD_SECONDS
    if now - login.state_changed_at < timedelta(seconds=patience):
        return ""
    return f"The session is {login.get_state_display()}. {login.state_detail}"


def _rate(login: Login, now: datetime) -> str:
    if login.cooling_until is None or login.cooling_until <= now:
        return ""
    return f"The broker limits our rate: only cancels pass until {login.cooling_until:%H:%M:%S} UTC."


def _feed(login: Login, now: datetime) -> str:
    """A session that came up just now has until then to be heard."""
    if login.state != SessionState.UP:
        return ""
    heard_at = max(filter(None, (login.feed_alive_at, login.state_changed_at)))
    is_stale = now - heard_at > timedelta(seconds=FEED_SILENT_SECONDS)
    return f"Nothing heard for longer than {FEED_SILENT_SECONDS} s: prices stand still." if is_stale else ""


def _marks(now: datetime) -> dict[str, str]:
    """Each silent process and job; while beat itself lags, that alone and not each of its jobs."""
    succeeded = dict(Lease.objects.filter(name__in=MARKS).values_list("name", "succeeded_at"))

    def silent(at: datetime | None, seconds: int) -> str:
        is_silent = at is None or now - at > timedelta(seconds=seconds)
        return f"No success for longer than {seconds} s." if is_silent else ""

    beat = silent(leases.youngest_of_beat(succeeded), BEAT_SILENT_SECONDS)
    found = {BEAT: beat and f"{beat} Beat, the worker or Redis is away; orders, cancels and halts go on."}
    for name, seconds in MARKS.items():
        if not (beat and name.startswith("beat:")):
            found[name] = silent(succeeded.get(name), seconds)
    return found


def _begin(actor: Actor, name: str, words: str) -> None:
    with transaction.atomic():
        lately = ClockTime() - timedelta(seconds=SAME_SECONDS)
        again = Outage.objects.filter(name=name, ended_at__gt=lately).order_by("-ended_at").first()
        if again is not None:
            Outage.objects.filter(pk=again.pk).update(ended_at=None)
            return
        outage, is_new = Outage.objects.get_or_create(
            name=name, ended_at=None, defaults={"words": words[:400]}
        )
        if not is_new:
            return
        details = {"name": name, "words": outage.words}
        record("outage.began", actor=actor, subject_kind="outage", subject_id=outage.pk, details=details)
        alert(f"outage:{outage.pk}", f"{name} is not well", outage.words, path=PAGE)


def _end(actor: Actor, name: str) -> None:
    with transaction.atomic():
        for outage in Outage.objects.running().filter(name=name):
            if Outage.objects.running().filter(pk=outage.pk).update(ended_at=ClockTime()):
                details = {"name": name}
                record(
                    "outage.ended", actor=actor, subject_kind="outage", subject_id=outage.pk, details=details
                )
