"""The inbox: whatever the broker says of an order or a fill becomes a row, once, and wakes the orders loop."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from django.db import connection, transaction

from brokers.base import ExecutionReport, OrderReport, Raw
from brokers.models import Login, Report
from brokers.notifications import ORDERS
from cerbero import failpoints
from cerbero.database.compiled import Asked, insert_all, together

Record = OrderReport | ExecutionReport
KINDS: dict[str, type[OrderReport] | type[ExecutionReport]] = {
    Report.Kind.ORDER: OrderReport,
    Report.Kind.EXECUTION: ExecutionReport,
}


def _bare(hint: Any) -> Any:
    if get_origin(hint) is None:
        return hint
    return next(each for each in get_args(hint) if each is not NoneType)


# Each field's type, without its None.
HINTS = {
    kind: {name: _bare(hint) for name, hint in get_type_hints(record).items()}
    for kind, record in KINDS.items()
}
SUBJECT_MAX = 64
# A wire number beyond this has no place in a book; its own notation is kept in place of a million digits.
DIGITS_MAX = 60
_NEWEST = """
SELECT DISTINCT ON (kind, subject) kind, subject, digest FROM brokers_report
WHERE login_id = %s AND kind = ANY(%s) AND subject = ANY(%s) AND problem = ''
ORDER BY kind, subject, id DESC
"""


def record_reports(
    login: Login,
    source: str,
    reports: Sequence[tuple[Record, Raw | None]],
    as_of: datetime | None = None,
) -> int:
    """Put reports in the inbox and wake the orders loop; returns how many were new.

    One that says the same as the newest of its order or execution is left out. `as_of` is the moment
    that a poll was asked; None is now.
    """
    # An exit is known by its entry, whatever the broker lists first.
    entries_first = sorted(reports, key=lambda each: getattr(each[0], "parent_order_id", None) is not None)
    rows = [_row(login, source, report, raw, as_of) for report, raw in entries_first]
    with transaction.atomic():
        fresh = _without_repeats(login, rows)
        if fresh:
            insert_all(fresh)
            notify_orders()
            failpoints.around_commit(f"reports.{source}")
    return len(fresh)


def parse(row: Report) -> Record:
    """The record as the adapter made it. Raises ValueError or KeyError for a row that no longer fits."""
    kind = KINDS[row.kind]
    return kind(**{name: _revive(value, HINTS[row.kind][name]) for name, value in row.record.items()})


def notify_orders() -> None:
    """Wake the orders loop when the current transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [ORDERS])


def plain(value: Any) -> Any:
    """The JSON form: decimals as plain text, times in ISO form, text that Postgres can hold."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) < DIGITS_MAX else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        # jsonb takes neither NUL nor half of a surrogate pair, and the broker may send both.
        return value.replace("\x00", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _row(login: Login, source: str, report: Record, raw: Raw | None, as_of: datetime | None) -> Report:
    record = {f.name: plain(getattr(report, f.name)) for f in fields(report)}
    is_order = isinstance(report, OrderReport)
    subject = record["broker_order_id"] if is_order else record["execution_id"]
    row = Report(
        login=login,
        kind=Report.Kind.ORDER if is_order else Report.Kind.EXECUTION,
        source=source,
        subject=(subject or record["client_order_id"] or "")[:SUBJECT_MAX],
        record=record,
        raw=plain(raw),
        digest=sha256(json.dumps(record, sort_keys=True).encode()).hexdigest(),
    )
    if as_of is not None:
        row.as_of = as_of
    return row


def _without_repeats(login: Login, rows: Iterable[Report]) -> list[Report]:
    rows = list(rows)
    newest = _newest_digests(login, {row.subject for row in rows})
    fresh = []
    for row in rows:
        key = (row.kind, row.subject)
        if newest.get(key) != row.digest:
            newest[key] = row.digest
            fresh.append(row)
    return fresh


def _newest_digests(login: Login, subjects: set[str]) -> dict[tuple[str, str], str]:
    (found,) = together(Asked(_NEWEST, (login.pk, list(KINDS), list(subjects))))
    return {(kind, subject): digest for kind, subject, digest in found}


def _revive(value: Any, kind: type) -> Any:
    if value is None:
        return None
    return datetime.fromisoformat(value) if kind is datetime else kind(value)
