"""Which account is asked for when: at once in a new session, every few seconds while something is open, every few
minutes otherwise, and at the end of its trading day, which is then reported.

A round ends when its time is used up, and the next one goes on with the account that waited longest: however many
accounts a login has, and though the broker lists the orders of one of them in five seconds (ibkr-web-api.md §8),
no round outlasts its lease.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.services import record
from brokers.base import Broker, TimeInForce
from brokers.models import Account, Login, Report
from cerbero.access import Actor
from orders import days, drift
from orders.canonical import plain
from orders.lifecycle import UNSETTLED, WORKING, OrderStatus
from orders.models import Attempt, Book, ChangeAttempt, DayReport, Drift, Order
from orders.reconciliation import IDLE, is_conversing, reconcile_account

log = logging.getLogger(__name__)

# A worker has other work: what is left waits for the next round.
ROUND_SECONDS = 20.0
# How far back a new session, and the end of a day, ask for executions (§6.10: seven days at most).
DEEP_DAYS = 7
# What the broker said is waited for this long: a fact that belongs nowhere keeps no day from being filed.
SETTLING = timedelta(minutes=15)


def serve(actor: Actor, login: Login, broker: Broker, keep: Callable[[], None]) -> int:
    """Ask for every account that is due, the one that waited longest first; returns how many were asked.

    `keep` renews the caller's lease after each. Raises BrokerError, LeaseLost.
    """
    ends, count = monotonic() + ROUND_SECONDS, 0
    now = timezone.now()
    for account in sorted(_listed(login), key=_waited_since):
        if monotonic() > ends or is_conversing(login):
            break
        report_day(actor, account, timezone.now())
        if not is_due(account, now):
            continue
        is_deep = _is_new_session(account) or _day_to_report(account, now) is not None
        reconcile_account(actor=actor, account=account, broker=broker, days=DEEP_DAYS if is_deep else 1)
        count += 1
        keep()
    drift.restrain(actor)
    return count


def is_due(account: Account, now: datetime) -> bool:
    """Whether this account is to be asked for in this round."""
    book = _book(account)
    if book is None or book.asked_at is None or book.books_at is None or _is_new_session(account):
        return True
    if now - book.asked_at > IDLE or _day_to_report(account, now) is not None:
        return True
    return bool(book.suspects) or is_open(account) or _has_news(account, book.books_at)


def is_open(account: Account) -> bool:
    """Whether anything of ours is at the broker, or may be."""
    working = Order.objects.filter(ticket__account=account, status__in=[*WORKING, OrderStatus.SUBMITTED])
    sent = Attempt.objects.filter(ticket__account=account, status__in=UNSETTLED)
    changing = ChangeAttempt.objects.filter(account=account, status__in=UNSETTLED)
    return working.exists() or sent.exists() or changing.exists()


def report_day(actor: Actor, account: Account, now: datetime) -> DayReport | None:
    """File the day that ended, once what the broker says after its end is in the ledger; else None."""
    day = _day_to_report(account, now)
    book = Book.objects.filter(account=account).first()
    if day is None or book is None or book.asked_at is None or book.asked_at < days.ends_at(account, day):
        return None
    if book.session_at != account.login.state_changed_at:
        return None
    said = Report.objects.filter(login=account.login, as_of__gt=now - SETTLING, as_of__lte=book.asked_at)
    if said.filter(applied_at=None).exists():
        return None
    body = _body(account, book, days.ends_at(account, day))
    is_clean = not body["drift"]["open"] and not body["in_doubt"] and not body["day_orders_still_working"]
    with transaction.atomic(durable=True):
        report, is_new = DayReport.objects.get_or_create(
            account=account, day=day, defaults={"is_clean": is_clean, "body": body}
        )
        if is_new:
            details = {"account": account.broker_account_id, "day": str(day), "is_clean": is_clean}
            record(
                "day.reconciled", actor=actor, subject_kind="dayreport", subject_id=report.pk, details=details
            )
    return report


def aged(orders: QuerySet[Order], now: datetime) -> list[Order]:
    """GTC orders that rest since a week without anybody having said that they shall (gates.md §8)."""
    before = now - days.GTC_AGE
    rows = orders.filter(time_in_force=TimeInForce.GTC, status__in=WORKING, created_at__lt=before)
    stale = rows.filter(Q(reaffirmed_at=None) | Q(reaffirmed_at__lt=before))
    return list(stale.select_related("instrument", "ticket__account").order_by("created_at"))


def _listed(login: Login) -> QuerySet[Account]:
    return login.accounts.exclude(listed_at=None).select_related("login", "book")


def _waited_since(account: Account) -> tuple[bool, Any]:
    book = _book(account)
    return (True, book.asked_at) if book is not None and book.asked_at is not None else (False, account.pk)


def _book(account: Account) -> Book | None:
    return getattr(account, "book", None)


def _is_new_session(account: Account) -> bool:
    book = _book(account)
    return book is None or book.session_at != account.login.state_changed_at


def _has_news(account: Account, since: datetime) -> bool:
    """Something was applied since the two were compared: what it moved is looked at soon."""
    waiting = Report.objects.filter(login=account.login, applied_at=None)
    filled = account.executions.filter(recorded_at__gt=since)
    moved = Order.objects.filter(ticket__account=account, reported_at__gt=since)
    return waiting.exists() or filled.exists() or moved.exists()


def _day_to_report(account: Account, now: datetime) -> Any:
    """The trading day that ended and has no report; None before the first day that we saw whole."""
    day = days.ended_day(account, now)
    book = _book(account)
    if book is None or book.opened_at is None or book.opened_at >= days.ends_at(account, day):
        return None
    return None if account.day_reports.filter(day=day).exists() else day


def _body(account: Account, book: Book, end: datetime) -> dict[str, Any]:
    begin = days.begins_before(account, end)
    orders = Order.objects.filter(ticket__account=account).select_related("instrument")
    fills = account.executions.filter(executed_at__gte=begin, executed_at__lt=end)
    working = orders.filter(status__in=WORKING)
    cases = account.drifts.all()
    return {
        "from": begin.isoformat(),
        "until": end.isoformat(),
        "asked_at": book.asked_at.isoformat() if book.asked_at else None,
        "compared_at": book.books_at.isoformat() if book.books_at else None,
        "orders_ended": _counts(orders.filter(reported_at__gte=begin).exclude(status__in=WORKING)),
        "orders_working": [str(each.pk) for each in working],
        "day_orders_still_working": [
            str(each.pk) for each in working.filter(time_in_force=TimeInForce.DAY, created_at__lt=end)
        ],
        "aged_gtc_orders": [str(each.pk) for each in aged(orders, end)],
        "in_doubt": Attempt.objects.filter(ticket__account=account, status__in=UNSETTLED).count()
        + ChangeAttempt.objects.filter(account=account, status__in=UNSETTLED).count(),
        "executions": {"all": fills.count(), "never_approved": fills.filter(order=None).count()},
        "positions": {row.symbol: plain(row.quantity) for row in account.positions.exclude(quantity=0)},
        "cash": book.balances,
        "cash_not_compared": book.not_compared,
        "drift": {
            "open": [_case(each) for each in cases.filter(status=Drift.Status.OPEN)],
            "settled": [_case(each) for each in cases.filter(settled_at__gte=begin)],
        },
    }


def _case(case: Drift) -> dict[str, Any]:
    return {
        "id": str(case.pk),
        "kind": case.kind,
        "cause": case.cause,
        "about": case.about,
        "amount": plain(case.amount),
        "status": case.status,
    }


def _counts(orders: QuerySet[Order]) -> dict[str, int]:
    found: dict[str, int] = {}
    for status in orders.values_list("status", flat=True):
        found[status] = found.get(status, 0) + 1
    return found
