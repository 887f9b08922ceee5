"""What waits for people, as they read it: one card for each ticket, the most urgent first."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from brokers.base import Availability
from brokers.models import Instrument, Quote
from cerbero.decisions import why_not
from cerbero.models import Decision, DecisionRequest, DecisionStatus, User
from orders.lifecycle import TicketStatus
from orders.models import Order, Ticket, TicketQuerySet
from orders.presentation import (
    Sentence,
    decimal,
    duration,
    money,
    number,
    percent,
    price,
    price_places,
    sentence,
)
from orders.trading import must_be_signed

# A person reads a handful; a flood is named as one instead of being drawn.
CARDS_MAX = 50
# A feed is stale after so many seconds, and dead, so that nobody approves by it, after so many.
STALE_SECONDS, DEAD_SECONDS = 5, 15


@dataclass(frozen=True)
class Market:
    """The newest quote beside the one of the proposal; the clocks are the feed's and the price's."""

    instrument: Instrument
    places: int
    quote: Quote | None
    feed_at: datetime | None
    seen_bid: Decimal | None
    seen_ask: Decimal | None
    limit_price: Decimal | None

    @property
    def bid(self) -> str:
        return price(self.quote.bid if self.quote else None, self.instrument.price_increment)

    @property
    def ask(self) -> str:
        return price(self.quote.ask if self.quote else None, self.instrument.price_increment)

    @property
    def last(self) -> str:
        return price(self.quote.last if self.quote else None, self.instrument.price_increment)

    @property
    def seen(self) -> str:
        increment = self.instrument.price_increment
        return f"{price(self.seen_bid, increment)} / {price(self.seen_ask, increment)}"

    @property
    def seen_mid(self) -> Decimal | None:
        return _mid(self.seen_bid, self.seen_ask)

    @property
    def moved(self) -> str:
        now, seen = self._mid_now, self.seen_mid
        return percent(now - seen if now and seen else None, seen, signed=True)

    @property
    def limit_from_mid(self) -> str:
        now, limit = self._mid_now, self.limit_price
        return percent(limit - now if now and limit else None, now, signed=True)

    @property
    def feed_age(self) -> float | None:
        """Seconds since the feed was heard; None when it never was."""
        return (timezone.now() - self.feed_at).total_seconds() if self.feed_at else None

    @property
    def why_dead(self) -> str:
        """Why nobody should decide by this market, as words; empty while it is alive."""
        if self.quote is None:
            return "There is no quote for this instrument yet."
        if self.feed_age is None:
            return "The feed has not been heard yet."
        if self.feed_age > DEAD_SECONDS:
            return f"The feed has been silent for {int(self.feed_age)} s."
        if self.quote.availability == Availability.NONE:
            return "The broker gives no data for this instrument."
        return ""

    @property
    def _mid_now(self) -> Decimal | None:
        return _mid(self.quote.bid, self.quote.ask) if self.quote else None


@dataclass(frozen=True)
class Card:
    """One waiting ticket with everything that a decision needs."""

    ticket: Ticket
    legs: tuple[Sentence, ...]
    market: Market
    why_not: str

    @property
    def facts(self) -> dict[str, Any]:
        return asked(self.ticket).facts

    @property
    def sentence(self) -> str:
        return "; ".join(str(leg) for leg in self.legs)

    @property
    def seconds_left(self) -> float:
        return (asked(self.ticket).expires_at - timezone.now()).total_seconds()

    @property
    def seconds_total(self) -> float:
        return (asked(self.ticket).expires_at - asked(self.ticket).created_at).total_seconds()

    @property
    def notional(self) -> str:
        return money(self.ticket.notional, self.ticket.notional_currency)

    @property
    def share(self) -> str:
        """The notional in percent of the account, where both are in one currency."""
        same = self.ticket.notional_currency == self.ticket.account.currency
        return percent(self.ticket.notional, decimal(self.facts.get("net_liquidation")), 1) if same else "–"

    @property
    def position(self) -> tuple[str, str, str]:
        """Before, after and the effect in a word."""
        told = self.facts.get("position") or {}
        before, after = decimal(told.get("before")), decimal(told.get("after"))
        return number(before), number(after), str(told.get("effect") or "")

    @property
    def checks(self) -> list[tuple[str, bool, str]]:
        """Each check's name, whether it held, and value of limit as one text."""
        return [
            (str(check["name"]), bool(check["ok"]), _value_of_limit(check))
            for check in self.facts.get("checks", [])
        ]

    @property
    def who(self) -> str:
        return who_decided(self.ticket)

    @property
    def must_be_signed(self) -> bool:
        return must_be_signed(self.ticket.account)

    @property
    def can_approve(self) -> bool:
        return not self.why_not and not self.market.why_dead


def waiting_tickets() -> TicketQuerySet:
    """Tickets on which people are asked now, by the database's clock; the most urgent first."""
    return (
        Ticket.objects.filter(
            status=TicketStatus.PROPOSED,
            request__status=DecisionStatus.PENDING,
            request__expires_at__gt=Now(),
        )
        .select_related("account__login", "bot", "person", "request")
        .prefetch_related("orders__instrument__quote", "request__decisions__person")
        .order_by("request__expires_at", "id")
    )


def waiting_cards(person: User) -> list[Card]:
    """At most CARDS_MAX cards as `person` may act on them."""
    return [card_of(ticket, person) for ticket in waiting_tickets()[:CARDS_MAX]]


def card_of(ticket: Ticket, person: User) -> Card:
    orders = sorted(ticket.orders.all(), key=lambda order: order.number)
    return Card(
        ticket=ticket,
        legs=tuple(sentence(order) for order in orders),
        market=_market(ticket, orders[0]),
        why_not=_why_not(ticket, person),
    )


def asked(ticket: Ticket) -> DecisionRequest:
    """What people were asked about a ticket. Raises ValueError for one that needed nobody."""
    if ticket.request is None:
        raise ValueError("nobody was asked about this ticket")
    return ticket.request


def who_decided(ticket: Ticket) -> str:
    """How many decisions there are of how many, and whose, as the card says it."""
    request, now = asked(ticket), timezone.now()
    taken, quorum = list(request.decisions.all()), request.quorum
    said = [
        f"{each.person} {'approved' if each.is_yes else 'rejected'} "
        f"{duration((now - each.decided_at).total_seconds())} ago"
        for each in taken
    ]
    count = f"{sum(each.is_yes for each in taken)} of {quorum} decisions" if quorum > 1 else ""
    return " · ".join(filter(None, [count, *said])) or "One decision is enough"


def decided_tickets(count: int = 6) -> TicketQuerySet:
    """The newest tickets that people or time decided on, newest first."""
    return (
        Ticket.objects.exclude(request=None)
        .exclude(status=TicketStatus.PROPOSED)
        .select_related("account", "bot", "person", "request")
        .prefetch_related("orders__instrument", "request__decisions__person")
        .order_by("-created_at")[:count]
    )


def last_decision() -> Decision | None:
    return Decision.objects.select_related("person").order_by("-decided_at").first()


def _why_not(ticket: Ticket, person: User) -> str:
    if not person.has_perm("orders.decide_ticket"):
        return "You may look, not decide: that takes the permission to decide on tickets."
    return why_not(asked(ticket), person)


def _market(ticket: Ticket, order: Order) -> Market:
    told = asked(ticket).facts.get("quote") or {}
    return Market(
        instrument=order.instrument,
        places=price_places(order.instrument.price_increment),
        quote=getattr(order.instrument, "quote", None),
        feed_at=ticket.account.login.feed_alive_at,
        seen_bid=decimal(told.get("bid")),
        seen_ask=decimal(told.get("ask")),
        limit_price=order.limit_price or order.stop_price,
    )


def _value_of_limit(check: dict[str, Any]) -> str:
    value, limit, says = (str(check.get(name) or "") for name in ("value", "limit", "says"))
    join = " in steps of " if check["name"] == "Price step" else " of "
    # A limit that is no number is not something that a value can be so much of.
    text = join.join((value, limit)) if limit[:1].isdigit() else " · ".join(dict.fromkeys((value, limit)))
    return f"{text} · {says}" if says else text


def _mid(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    return (bid + ask) / 2 if bid is not None and ask is not None else None
