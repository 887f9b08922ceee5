"""The broker's own preview of what waits: asked beside the order path, kept in a row, read by the card."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q
from django.db.models.functions import Now

from brokers.base import Broker, Preview
from brokers.models import Login
from brokers.services import broker_for
from cerbero.errors import BrokerError, SessionExpired
from orders.canonical import plain
from orders.facts import gather_for
from orders.models import Ticket, TicketQuerySet, WhatIf
from orders.presentation import MISSING, decimal, money, number
from orders.reconciliation import is_conversing
from orders.tickets import terms_of

# Two requests each, of the ten a second that orders need too.
EACH_ROUND_MAX = 4
GOOD_FOR, TRY_AGAIN_AFTER = timedelta(minutes=2), timedelta(seconds=30)


@dataclass(frozen=True)
class BrokerSays:
    """The preview as a card shows it: figures with their words, warnings, and why there is none or no newer."""

    rows: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    problem: str = ""
    at: datetime | None = None

    @property
    def notes(self) -> list[tuple[bool, str]]:
        """Its words as sentences of the card, and whether each speaks against the order."""
        refused = [(True, f"The broker says that it would refuse this order: “{self.refusal}”")]
        warned = [(False, f"The broker warns: “{words}”") for words in self.warnings]
        silent = [(False, f"The broker's preview is missing or old: {self.problem}")]
        return (refused if self.refusal else []) + warned + (silent if self.problem else [])


def due(login: Login) -> TicketQuerySet:
    """Waiting tickets of a login that were never asked about, or too long ago; the most urgent first."""
    asked_before = Q(what_if__asked_at__lt=Now() - TRY_AGAIN_AFTER)
    unanswered = Q(what_if__answered_at=None) | Q(what_if__answered_at__lt=F("what_if__asked_at"))
    stale = Q(what_if__answered_at__lt=Now() - GOOD_FOR)
    wanted = Q(what_if=None) | (asked_before & (unanswered | stale))
    return Ticket.objects.waiting().filter(wanted, account__login=login).select_related("account__login")


def ask_due(login: Login) -> None:
    """A few tickets' previews. Any other call about orders would void a question of the broker's (§6.4), so never then.

    Raises SessionExpired, or as broker_for does; what else goes wrong is noted with its ticket.
    """
    tickets = list(due(login)[:EACH_ROUND_MAX])
    if not tickets or is_conversing(login):
        return
    with broker_for(login) as broker:
        for ticket in tickets:
            if is_conversing(login):
                return
            ask(ticket, broker)


def ask(ticket: Ticket, broker: Broker) -> None:
    """Ask about one ticket's first leg and keep the answer. Raises SessionExpired."""
    order = ticket.first_order
    WhatIf.objects.update_or_create(ticket=ticket, defaults={"asked_at": Now()})
    facts = gather_for(ticket.account, order)
    try:
        told = broker.preview(ticket.account.broker_account_id, [terms_of(order, facts.broker_instrument_id)])
    except SessionExpired:
        raise
    except BrokerError as problem:
        _note(ticket, problem=str(problem.details.get("broker_says") or problem.message))
        return
    _note(ticket, problem="", answer=_kept(told), answered_at=Now())


def broker_says(ticket: Ticket) -> BrokerSays:
    """The kept preview as people read it; empty until it was asked for."""
    row: WhatIf | None = getattr(ticket, "what_if", None)
    if row is None:
        return BrokerSays()
    told, currency = row.answer, ticket.account.currency
    commission = money(decimal(told.get("commission")), told.get("commission_currency", ""))
    rows = (
        ("Margin after", _after(told, currency)),
        ("Equity after", money(decimal(told.get("equity_after")), currency)),
        ("Commission", commission),
    )
    return BrokerSays(
        rows=tuple((word, value) for word, value in rows if value != MISSING),
        warnings=tuple(told.get("warnings", ())),
        refusal=told.get("error") or "",
        problem=row.problem,
        at=row.answered_at,
    )


def _after(told: dict[str, Any], currency: str) -> str:
    after, change = decimal(told.get("margin_after")), decimal(told.get("margin_change"))
    if after is None:
        return MISSING
    sign = "+" if change is not None and change > 0 else ""
    return f"{money(after, currency)}" + (f" ({sign}{number(change)})" if change is not None else "")


def _kept(told: Preview) -> dict[str, Any]:
    def text(value: Decimal | None) -> str | None:
        return plain(value)

    return {
        "commission": text(told.commission),
        "commission_currency": told.commission_currency,
        "margin_after": text(told.initial_margin_after),
        "margin_change": text(told.initial_margin_change),
        "equity_after": text(told.equity_after),
        "warnings": [each[:500] for each in told.warnings[:5]],
        "error": (told.error or "")[:500],
    }


def _note(ticket: Ticket, *, problem: str, **fields: Any) -> None:
    WhatIf.objects.filter(ticket=ticket).update(problem=problem[:300], **fields)
