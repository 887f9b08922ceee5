"""`GET /metrics`: this process' tool calls, and what the database knows, asked at the scrape.

Nothing here names an account, a bot or a price, so the address needs no password.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Count, Max, Min
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import REGISTRY, Collector

from audit.models import Entry, Link
from brokers.models import Login, Quote, SessionState
from cerbero.health import PROBE_SECONDS
from cerbero.models import DecisionRequest
from orders.lifecycle import AttemptStatus, OrderStatus
from orders.models import Attempt, Order


class DatabaseCollector(Collector):
    """Gauges that every process would answer alike, since they are read from the rows."""

    def collect(self) -> Iterator[Metric]:
        try:
            # Without Postgres the pool would hold the scrape, and a thread of the bots' plane, for long.
            found = _asking.submit(_ask_database).result(timeout=PROBE_SECONDS)
        except (DatabaseError, FutureTimeout):
            found = []
        yield _gauge("cerbero_database_up", "1 when the database answers.", bool(found))
        yield from found


_asking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
_shared = CollectorRegistry()
_shared.register(DatabaseCollector())


@csrf_exempt
@require_safe
def scrape(request: HttpRequest) -> HttpResponse:
    """The Prometheus text format."""
    body = generate_latest(REGISTRY) + generate_latest(_shared)
    return HttpResponse(body, content_type=CONTENT_TYPE_LATEST)


def _ask_database() -> list[Metric]:
    try:
        return [_orders(), *_counts(), *_ages(_database_now())]
    finally:
        connection.close()


def _orders() -> Metric:
    gauge = GaugeMetricFamily("cerbero_orders", "Orders by status.", labels=["status"])
    counted = dict(Order.objects.values_list("status").annotate(Count("pk")))
    for status in OrderStatus:
        gauge.add_metric([status.value], counted.get(status, 0))
    return gauge


def _counts() -> Iterator[Metric]:
    doubt = Attempt.objects.filter(status=AttemptStatus.IN_DOUBT).count()
    yield _gauge("cerbero_attempts_in_doubt", "Sendings whose outcome is not known.", doubt)
    waiting = DecisionRequest.objects.open().count()
    yield _gauge("cerbero_decisions_waiting", "Questions that wait for people.", waiting)
    logins = Login.objects.filter(is_enabled=True)
    yield _gauge("cerbero_logins_enabled", "Logins that should have a session.", logins.count())
    up = logins.filter(state=SessionState.UP).count()
    yield _gauge("cerbero_sessions_up", "Logins whose brokerage session is up.", up)


def _ages(now: datetime) -> Iterator[Metric]:
    last = Link.objects.aggregate(last=Max("entry_id"))["last"] or 0
    unsealed = Entry.objects.filter(pk__gt=last).aggregate(count=Count("pk"), oldest=Min("at"))
    yield _gauge("cerbero_unsealed_entries", "Audit entries newer than the chain.", unsealed["count"])
    if oldest := unsealed["oldest"]:
        yield _gauge("cerbero_seal_lag_seconds", "Age of the oldest of those.", _age(now, oldest))
    if newest := Quote.objects.aggregate(newest=Max("received_at"))["newest"]:
        yield _gauge("cerbero_quote_age_seconds", "Age of the newest quote of all.", _age(now, newest))


def _database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def _age(now: datetime, at: datetime) -> float:
    return max(0.0, (now - at).total_seconds())


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
