"""What waits for people, as they read it: one card for each ticket, the most urgent first."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from cerbero.decisions import why_not
from cerbero.models import Decision, DecisionRequest, User
from cerbero.people.profile import is_sole, not_before
from orders import amended, amending, overrides
from orders.lifecycle import OrderStatus, TicketStatus
from orders.market import Market, market_of
from orders.models import Amendment, Order, Ticket, TicketQuerySet
from orders.presentation import (
    Sentence,
    decimal,
    duration,
    money,
    number,
    percent,
    sentence,
    sentences,
)
from orders.trading import must_be_signed
from orders.what_if import BrokerSays, broker_says

# A person reads a handful; a flood is named as one instead of being drawn.
CARDS_MAX = 50
LOOK_ALIKE_WINDOW = timedelta(hours=1)
LOOK_ALIKES_MAX = 3
CHECKS_AT_A_GLANCE = 8
MAY_LOOK = "You may look, not decide: that takes the permission to decide on tickets."


@dataclass(frozen=True)
class Card:
    """One waiting ticket with everything that a decision needs."""

    ticket: Ticket
    legs: tuple[Sentence, ...]
    market: Market
    why_not: str
    look_alikes: tuple[str, ...] = ()
    # Why nobody but another may approve yet; rejecting works.
    why_not_yet: str = ""

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
        """Each check's name, whether it held, and value of limit as one text: the failed and the tightest first."""
        return [
            (str(check["name"]), bool(check["ok"]), _value_of_limit(check))
            for check in sorted(self.facts.get("checks", []), key=_slack)
        ]

    @property
    def first_checks(self) -> list[tuple[str, bool, str]]:
        """What is read at a glance; a check that failed is always among it."""
        return self.checks[: max(CHECKS_AT_A_GLANCE, sum(not ok for _, ok, _ in self.checks))]

    @property
    def more_checks(self) -> list[tuple[str, bool, str]]:
        return self.checks[len(self.first_checks) :]

    @property
    def who(self) -> str:
        return who_decided(self.ticket)

    @property
    def broker_says(self) -> BrokerSays:
        return broker_says(self.ticket)

    @property
    def must_be_signed(self) -> bool:
        return must_be_signed(self.ticket.account) or is_sole(asked(self.ticket))

    @property
    def not_before(self) -> datetime | None:
        """From when on a sole operator's yes counts."""
        return not_before(asked(self.ticket))

    @property
    def seen(self) -> str:
        return who_saw(self.ticket)

    @property
    def override(self) -> dict[str, str]:
        return overrides.told(asked(self.ticket))

    @property
    def can_approve(self) -> bool:
        return not self.why_not and not self.why_not_yet and not self.market.why_dead


def waiting_tickets() -> TicketQuerySet:
    """The tickets that wait, with everything that a card reads."""
    return (
        Ticket.objects.waiting()
        .select_related("account__login", "bot", "person", "request", "what_if")
        .prefetch_related("orders__instrument__quote", "request__decisions__person", "request__seen__person")
    )


def waiting_cards(person: User, ids: Iterable[UUID] | None = None) -> list[Card]:
    """At most CARDS_MAX cards as `person` may act on them; of these tickets only, where some are named."""
    rows = waiting_tickets() if ids is None else waiting_tickets().filter(pk__in=list(ids))
    tickets = list(rows[:CARDS_MAX])
    alike = _look_alikes(tickets)
    return [_card(ticket, person, alike[ticket.pk]) for ticket in tickets]


def _card(ticket: Ticket, person: User, alike: list[Order]) -> Card:
    orders = _legs(ticket)
    return Card(
        ticket=ticket,
        legs=sentences(ticket.group, orders),
        market=market_of(ticket, orders[0]),
        why_not=_why_not(ticket, person),
        look_alikes=tuple(_told(order) for order in alike),
        why_not_yet=overrides.why_not_yet(asked(ticket), person.pk),
    )


@dataclass(frozen=True)
class AmendmentCard:
    """Other terms for a working order, as one person may decide on them."""

    amendment: Amendment
    said: str
    before: Sentence
    after: Sentence
    why_not: str
    must_be_signed: bool


def waiting_amendments() -> QuerySet[Amendment]:
    rows = Amendment.objects.filter(status=TicketStatus.PROPOSED, request__in=DecisionRequest.objects.open())
    return rows.select_related(
        "order__instrument", "order__ticket__account__login", "order__ticket__bot", "request", "bot", "person"
    ).order_by("created_at")


def amendment_cards(person: User) -> list[AmendmentCard]:
    """The oldest CARDS_MAX amendments that wait."""
    return [_amendment_card(each, person) for each in waiting_amendments()[:CARDS_MAX]]


def why_not_amend(amendment: Amendment, person: User) -> str:
    """Why this person may not decide on it; empty where they may."""
    if amendment.request is None:
        return "Nobody is asked about this."
    return MAY_LOOK if not person.has_perm("orders.decide_ticket") else why_not(amendment.request, person)


def _amendment_card(amendment: Amendment, person: User) -> AmendmentCard:
    order, request = amendment.order, amendment.request
    return AmendmentCard(
        amendment=amendment,
        said=amending.said(amendment, order),
        before=sentence(amended.amended(order, amended.was(amendment))),
        after=sentence(amended.amended(order, amended.terms(amendment))),
        why_not=why_not_amend(amendment, person),
        must_be_signed=must_be_signed(order.ticket.account) or (request is not None and is_sole(request)),
    )


def said(ticket: Ticket) -> str:
    """The whole ticket as one sentence."""
    return "; ".join(map(str, sentences(ticket.group, _legs(ticket))))


def may_decide(ticket: Ticket, person: User) -> bool:
    return not _why_not(ticket, person)


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


def who_saw(ticket: Ticket) -> str:
    """Whose screen it stood on, as the card says it; who decided is named there already."""
    decided = {each.person_id for each in asked(ticket).decisions.all()}
    people = [str(each.person) for each in asked(ticket).seen.all() if each.person_id not in decided]
    return f"seen by {', '.join(sorted(people))}" if people else "seen by nobody yet"


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


def _legs(ticket: Ticket) -> list[Order]:
    orders = (order for order in ticket.orders.all() if order.completes_id is None)
    return sorted(orders, key=lambda order: order.number)


def _look_alikes(tickets: list[Ticket]) -> dict[UUID, list[Order]]:
    """By ticket: other orders of its account, first instrument and side, asked for within an hour before or since."""
    first = {ticket.pk: _legs(ticket)[0] for ticket in tickets}
    earliest = min((ticket.created_at for ticket in tickets), default=timezone.now())
    recent = list(
        Order.objects.filter(
            created_at__gt=earliest - LOOK_ALIKE_WINDOW,
            instrument__in=[order.instrument_id for order in first.values()],
            number=1,
        )
        .select_related("ticket", "instrument")
        .order_by("-created_at")[: CARDS_MAX * 10]
    )
    found = {}
    for ticket in tickets:
        own = first[ticket.pk]
        found[ticket.pk] = [
            other
            for other in recent
            if other.ticket_id != ticket.pk
            and other.ticket.account_id == ticket.account_id
            and (other.instrument_id, other.side) == (own.instrument_id, own.side)
            and other.created_at > ticket.created_at - LOOK_ALIKE_WINDOW
        ][:LOOK_ALIKES_MAX]
    return found


def _told(order: Order) -> str:
    """A look-alike in a few words: `Buy 10 AAPL limit 190.00 day, 4 m 02 s ago, filled`."""
    age = duration((timezone.now() - order.created_at).total_seconds())
    status = order.status if order.status != OrderStatus.PENDING else order.ticket.status
    return f"{sentence(order)}, {age} ago, {status.replace('_', ' ')}"


def _why_not(ticket: Ticket, person: User) -> str:
    if not person.has_perm("orders.decide_ticket"):
        return MAY_LOOK
    return why_not(asked(ticket), person)


def _slack(check: dict[str, Any]) -> Decimal:
    """How much of a check's limit is left, from 0 to 1, for sorting: below 0 for one that failed, 1 where none is counted."""
    if not check["ok"]:
        return Decimal(-1)
    value, limit = (_figure(check.get(name)) for name in ("value", "limit"))
    return 1 - value / limit if value is not None and limit and 0 <= value <= limit else Decimal(1)


def _figure(words: object) -> Decimal | None:
    return decimal(str(words or "").removesuffix(" %").removesuffix(" s").replace(",", ""))


def _value_of_limit(check: dict[str, Any]) -> str:
    value, limit, says = (str(check.get(name) or "") for name in ("value", "limit", "says"))
    join = " in steps of " if check["name"] == "Price step" else " of "
    # A limit that is no number is not something that a value can be so much of.
    text = join.join((value, limit)) if limit[:1].isdigit() else " · ".join(dict.fromkeys((value, limit)))
    return f"{text} · {says}" if says else text
