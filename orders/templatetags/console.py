"""What every page shows: numbers, labels, and the header's state of sessions, feeds and work that waits."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokers.models import Account, Login, SessionState
from cerbero.leases import ClockTime
from cerbero.models import Bot
from cerbero.people import announcing, profile
from orders import market, presentation, queue
from orders.lifecycle import AttemptStatus
from orders.models import Attempt, ChangeAttempt, Drift, TradingState

register = template.Library()
register.filter("clock", presentation.clock)
register.filter("milliseconds", presentation.milliseconds)

_NAVIGATION = (
    ("Approvals", "console:queue", "", "orders.view_ticket", "a"),
    ("Blotter", "admin:orders_order_changelist", "", "orders.view_order", "b"),
    ("Positions", "admin:orders_position_changelist", "", "orders.view_position", "p"),
    ("Watch-list", "live", "", "orders.view_order", "w"),
    ("In doubt", "console:doubts", "", "orders.view_attempt", "d"),
    ("Drift", "console:drift", "", "orders.view_drift", "f"),
    ("Policy", "console:policies", "", "orders.view_policyversion", "l"),
    ("Audit", "admin:audit_entry_changelist", "", "audit.view_entry", "t"),
    ("Health", "health_page", "", "", "h"),
)


@dataclass(frozen=True)
class Link:
    """One place of the header. `key` goes there after `g`."""

    label: str
    url: str
    key: str
    count: int
    is_current: bool


@register.filter
def number(value: object) -> str:
    """Thousands separated; a dash for what is missing."""
    return presentation.number(value if isinstance(value, Decimal) else None)


@register.filter
def price(value: object, increment: Decimal | None) -> str:
    return presentation.price(value if isinstance(value, Decimal) else None, increment)


@register.filter
def amount(value: object, currency: str) -> str:
    """Money out of stored facts, where numbers are strings."""
    return presentation.money(presentation.decimal(value), currency)


@register.filter
def age(moment: datetime | None) -> str:
    """How long ago, relative under an hour, absolute beyond; a dash for never."""
    if not moment:
        return presentation.MISSING
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < 3600:
        return f"{presentation.duration(seconds)} ago"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@register.filter
def lasting(moment: datetime | None) -> str:
    """How long since, without the word ago."""
    return (
        presentation.duration((timezone.now() - moment).total_seconds()) if moment else presentation.MISSING
    )


@register.filter
def plain(value: Decimal | None) -> str:
    """A decimal for a script: no separators, no exponent; empty for None."""
    return f"{value:f}" if isinstance(value, Decimal) else ""


@register.filter
def environment_label(environment: str) -> SafeString:
    """The filled label that cannot be missed; an unknown environment says so."""
    word = environment or "unknown"
    return format_html('<span class="env {}">{}</span>', word, word.upper())


@admin.display(description="Environment", ordering="environment")
def environment_cell(row: Model) -> SafeString:
    """The label as a column of an admin list."""
    return environment_label(row.environment)  # type: ignore[attr-defined]


@register.filter
def status_label(status: str) -> SafeString:
    return format_html('<span class="status {}">{}</span>', status, status.replace("_", " "))


@register.filter
def scope(state: TradingState) -> SafeString | str:
    """What a trading state speaks for, by the name that people know; an account with its label."""
    if state.scope == TradingState.Scope.ACCOUNT:
        account = Account.objects.filter(pk=state.scope_id).first()
        return (
            format_html("{} Account {}", environment_label(account.environment), account)
            if account
            else "Account"
        )
    if state.scope == TradingState.Scope.BOT:
        return f"Bot {Bot.objects.filter(pk=state.scope_id).first() or state.scope_id}"
    return f"{state.get_scope_display().capitalize()} {state.scope_id.upper()}".strip()


@register.filter
def words(name: str) -> str:
    """A machine's name for people: `beat:keep_sessions` reads beat · keep sessions."""
    return name.replace(":", " · ").replace("_", " ")


@register.simple_tag(takes_context=True)
def header(context: template.Context) -> dict[str, Any]:
    """The header of every page, for a person who is signed in."""
    request: HttpRequest = context["request"]
    logins = [_login(login) for login in Login.objects.filter(is_enabled=True).order_by("name")[:4]]
    return {
        "links": _links(request),
        "logins": logins,
        "held": Login.objects.filter(held_until__gt=ClockTime()).order_by("name"),
        "halts": list(TradingState.objects.exclude(state=TradingState.State.ACTIVE)[:4]),
        "announcements": announcing.current(),
        "sole": profile.sole(),
        "now": timezone.now(),
    }


def _links(request: HttpRequest) -> list[Link]:
    counts = {
        "Approvals": lambda: queue.waiting_tickets().count() + queue.waiting_amendments().count(),
        "In doubt": _count_doubts,
        "Drift": lambda: Drift.objects.filter(status=Drift.Status.OPEN).count(),
    }
    links = []
    for label, name, query, permission, key in _NAVIGATION:
        if permission and not request.user.has_perm(permission):
            continue
        try:
            url = reverse(name)
        except NoReverseMatch:
            continue
        is_current = request.path.startswith(url)
        links.append(Link(label, url + query, key, counts[label]() if label in counts else 0, is_current))
    return links


def _count_doubts() -> int:
    rows = (Attempt.objects, ChangeAttempt.objects)
    return sum(each.filter(status=AttemptStatus.IN_DOUBT).count() for each in rows)


def _login(login: Login) -> dict[str, Any]:
    return {
        "id": login.pk,
        "name": login.name,
        "broker": login.broker.upper(),
        "environment": login.environment,
        "is_up": login.state == SessionState.UP,
        "state": login.get_state_display(),
        "detail": login.state_detail,
        "since": login.state_changed_at,
        "feed_at": login.feed_alive_at,
        "feed_state": _feed_state(login.feed_alive_at),
    }


def _feed_state(moment: datetime | None) -> str:
    if moment is None:
        return "dead"
    seconds = (timezone.now() - moment).total_seconds()
    return "dead" if seconds > market.DEAD_SECONDS else "stale" if seconds > market.STALE_SECONDS else "ok"
