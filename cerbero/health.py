"""Is it alive, and can it work: `/health`, `/health/ready`, and the same facts for the health page."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from brokers.models import FEED_SILENT_SECONDS, Account, Login, SessionState
from cerbero import plain
from cerbero.leases import BEAT, BEAT_SILENT_SECONDS, MARKS, youngest_of_beat
from cerbero.models import Lease, User
from cerbero.people import profile
from orders.models import Halt

PROBE_SECONDS = 2.0

# Two full lists and the cancels before them take about ten.
HALT_UNPROVEN_SECONDS = 30

Record = dict[str, Any]

# Few on purpose: probes that hang fill it, and the next ones are told so by their timeout.
_probes = ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")


@csrf_exempt
@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    """This process answers; asks nobody else."""
    return _answer({"status": "alive"})


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """What works and what does not; 503 only where READY_FAILS_ON_DEGRADED asks for it."""
    found = examine()
    fails = settings.READY_FAILS_ON_DEGRADED and found["status"] != "ready"
    return _answer(found, 503 if fails else 200)


def examine() -> Record:
    """Probe everything in parallel, each for at most PROBE_SECONDS.

    `status` is `ready`, `degraded`, or `not_ready` when Postgres is away. Names no account and no secret.
    """
    waiting = {name: _probes.submit(_timed, probe) for name, probe in _PROBES.items()}
    deadline = time.monotonic() + PROBE_SECONDS
    found = {name: _outcome(future, deadline) for name, future in waiting.items()}
    postgres, broker = found["postgres"], found["redis"]
    marks, logins = postgres.pop("marks", []), postgres.pop("logins", [])
    others = postgres.pop("others", [])
    records = [{"name": "postgres", **postgres}, {"name": "redis", **broker}, *marks, *others]
    all_well = all(record["is_ok"] for record in (*records, *logins))
    status = "not_ready" if not postgres["is_ok"] else "ready" if all_well else "degraded"
    return {"status": status, "dependencies": records, "logins": logins}


def _timed(probe: Callable[[], Record]) -> Record:
    started = time.perf_counter()
    found = probe()
    return {"is_ok": True, "milliseconds": round((time.perf_counter() - started) * 1000, 1), **found}


def _outcome(future: "Future[Record]", deadline: float) -> Record:
    try:
        return future.result(timeout=max(0.0, deadline - time.monotonic()))
    except FutureTimeout:
        future.cancel()
        return {"is_ok": False, "detail": f"no answer within {PROBE_SECONDS:g} s"}
    except (DatabaseError, redis.RedisError, OSError) as error:
        # The kind alone: a driver's message may hold a host, a user or a path.
        return {"is_ok": False, "detail": type(error).__name__}


def _probe_postgres() -> Record:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # For this transaction alone: the connection goes back to the pool.
            cursor.execute("SELECT set_config('statement_timeout', %s, true), now()", ["2000"])
            now = cursor.fetchone()[1]
            return {
                "marks": _marks(now),
                "logins": _logins(now),
                "others": [*_halts(now), *_superusers(), *_profile()],
            }
    finally:
        connection.close()


def _probe_redis() -> Record:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PROBE_SECONDS, socket_connect_timeout=PROBE_SECONDS
    ) as client:
        client.ping()
    return {}


_PROBES: dict[str, Callable[[], Record]] = {"postgres": _probe_postgres, "redis": _probe_redis}


def _marks(now: datetime) -> list[Record]:
    succeeded = dict(Lease.objects.filter(name__in=MARKS).values_list("name", "succeeded_at"))
    rows = [_mark(name, age_max, succeeded.get(name), now) for name, age_max in MARKS.items()]
    return [_mark(BEAT, BEAT_SILENT_SECONDS, youngest_of_beat(succeeded), now), *rows]


def _mark(name: str, age_max: int, at: datetime | None, now: datetime) -> Record:
    age = _seconds(now, at)
    is_ok = age is not None and age <= age_max
    record: Record = {"name": name, "is_ok": is_ok, "succeeded_at": at, "age_seconds": age}
    if age is None:
        record["detail"] = "has not succeeded yet"
    elif age > age_max:
        record["detail"] = f"silent for longer than {age_max} s"
    return record


def _halts(now: datetime) -> list[Record]:
    """A halt that could not be proven in time; none is the everyday answer."""
    late = now - timedelta(seconds=HALT_UNPROVEN_SECONDS)
    since = Halt.objects.armed().filter(finished_at=None, halted_at__lt=late).order_by("halted_at").first()
    if since is None:
        return []
    detail = "orders may still work at the broker: see the halt's page, or call the trade desk"
    return [{"name": "halt", "is_ok": False, "age_seconds": _seconds(now, since.halted_at), "detail": detail}]


def _profile() -> list[Record]:
    """That one person decides for two is no fault, and never a secret. Names nobody."""
    row = profile.sole()
    words = "one person decides, by passkey, after {} s for an order and {} s for any other change"
    if row is None:
        return []
    detail = words.format(row.order_delay_seconds, row.change_delay_seconds)
    return [{"name": "sole_operator", "is_ok": True, "detail": detail}]


def _superusers() -> list[Record]:
    """Django's mark opens nothing, but nobody of ours writes it: whoever did went past two Administrators."""
    count = User.objects.filter(is_superuser=True).count()
    detail = f"{count} marked as superuser, which nobody may be: see `manage.py check --database default`"
    return [{"name": "superusers", "is_ok": False, "detail": detail}] if count else []


def _logins(now: datetime) -> list[Record]:
    return [_login(login, now) for login in Login.objects.filter(is_enabled=True).order_by("name")]


def _login(login: Login, now: datetime) -> Record:
    feed_age = _seconds(now, login.feed_alive_at)
    is_fed = feed_age is not None and feed_age <= FEED_SILENT_SECONDS
    return {
        "name": login.name,
        "environment": login.environment,
        "is_ok": login.state == SessionState.UP and is_fed,
        "state": login.state,
        "usability": str(login.usability),
        "detail": _without_accounts(login),
        "tickled_at": login.tickled_at,
        "feed_age_seconds": feed_age,
    }


def _without_accounts(login: Login) -> str:
    # Anybody may ask for health; the broker's words may name an account.
    detail = login.state_detail
    for number in Account.objects.filter(login=login).values_list("broker_account_id", flat=True):
        detail = detail.replace(number, "…")
    return detail


def _seconds(now: datetime, at: datetime | None) -> float | None:
    return round(max(now - at, timedelta()).total_seconds(), 1) if at else None


def _answer(found: Record, status: int = 200) -> HttpResponse:
    response = HttpResponse(plain.dumps(found), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response
