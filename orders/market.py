"""The market as a decision is taken by it: the newest quote, its clocks, and what speaks against it now."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.utils import timezone

from brokers.base import Availability
from brokers.calendars import why_closed
from brokers.models import Instrument, Login, Quote
from cerbero.database.compiled import Compiled, Given
from cerbero.errors import ConfirmationNeeded, FeedDead
from cerbero.leases import ClockTime
from cerbero.models import DecisionStatus
from orders.models import Amendment, Order, Ticket
from orders.presentation import decimal, percent, price, price_places

# A feed is stale after so many seconds, and dead, so that nobody approves by it, after so many.
STALE_SECONDS, DEAD_SECONDS = 5, 15
# What the broker calls its data, where that is a reason to look twice.
DOUBTS = {
    Availability.DELAYED: "The data is delayed by the broker: this is not the market of this moment.",
    Availability.FROZEN: "The prices are frozen: the market is closed, or the broker sends nothing new.",
}
_ORDERS = Compiled(lambda: Order.objects.filter(ticket=Given("ticket")).select_related("instrument__quote"))


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
    # What the exchange's own calendar says of a market without live prices; "" where it is open or not known.
    why_closed: str = ""

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
    def doubt(self) -> str:
        """Why an approval is asked for once more, as words; empty while the market is open and live."""
        if self.quote is None:
            return ""
        if self.quote.is_halted:
            return "Trading in this instrument is halted at its exchange."
        doubt = DOUBTS.get(Availability(self.quote.availability), "")
        return (self.why_closed or doubt) if doubt else ""

    @property
    def _mid_now(self) -> Decimal | None:
        return _mid(self.quote.bid, self.quote.ask) if self.quote else None


def decided_on(login: Login) -> set[UUID]:
    """The instruments of all that people are asked about now, through this login: their cards need its quotes."""
    waits = {"request__status": DecisionStatus.PENDING, "request__expires_at__gt": ClockTime()}
    tickets = Ticket.objects.filter(account__login=login, **waits).values_list("orders__instrument")
    amendments = Amendment.objects.filter(order__ticket__account__login=login, **waits)
    return {each for (each,) in tickets.union(amendments.values_list("order__instrument"))}


def market_of(ticket: Ticket, order: Order) -> Market:
    """One leg's market now, beside the one that the ticket's facts hold."""
    told = (ticket.request.facts if ticket.request else {}).get("quote") or {}
    quote = getattr(order.instrument, "quote", None)
    is_doubtful = quote is not None and quote.availability in DOUBTS
    return Market(
        instrument=order.instrument,
        places=price_places(order.instrument.price_increment),
        quote=quote,
        feed_at=ticket.account.login.feed_alive_at,
        seen_bid=decimal(told.get("bid")),
        seen_ask=decimal(told.get("ask")),
        limit_price=order.limit_price or order.stop_price,
        why_closed=why_closed(ticket.account.login, order.instrument, timezone.now()) if is_doubtful else "",
    )


def require_known(ticket: Ticket, *, is_confirmed: bool) -> None:
    """Raises FeedDead, or, until a person has confirmed, ConfirmationNeeded, unless every leg's market is known."""
    markets = [market_of(ticket, order) for order in _ORDERS.rows(ticket=ticket.pk)]
    for market in markets:
        if market.why_dead:
            raise FeedDead(symbol=market.instrument.symbol, why=market.why_dead)
    doubts = sorted({market.doubt for market in markets} - {""})
    if doubts and not is_confirmed:
        raise ConfirmationNeeded(doubts=doubts)


def _mid(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    return (bid + ask) / 2 if bid is not None and ask is not None else None
