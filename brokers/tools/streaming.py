"""Streamed ticks: asked for on demand, read from Postgres, ended by themselves when nobody reads."""

import datetime as dt
from decimal import Decimal

from django.utils import timezone

from brokers import wishes
from brokers.base import Availability
from brokers.models import BrokerInstrument, Login, Quote
from brokers.tools.shapes import OfHolding, OfInstrument
from cerbero.access import Actor
from cerbero.errors import NotFound, QuoteMissing
from cerbero.tool import READ, Out, tool


class SubscriptionOut(Out):
    """`ends_at` is when the stream ends unless the tick is read before; null once you do not want it any more."""

    symbol: str
    broker_instrument_id: str
    ends_at: dt.datetime | None
    lines_used: int
    lines_max: int


class TickOut(Out):
    """Three clocks: `feed_alive_at` the feed was heard, `changed_at` a price changed, `availability` what it is worth."""

    symbol: str
    broker_instrument_id: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None
    prior_close: Decimal | None
    availability: Availability
    is_halted: bool
    received_at: dt.datetime
    changed_at: dt.datetime
    feed_alive_at: dt.datetime | None
    age_seconds: Decimal
    ends_at: dt.datetime


class LevelOut(Out):
    """One price of the book; `is_last` marks the one that was traded last, and `last_size` how much of it."""

    price: Decimal
    bid_size: Decimal | None
    ask_size: Decimal | None
    is_last: bool
    last_size: Decimal | None


class DepthOut(Out):
    """The highest price first."""

    account: str
    symbol: str
    broker_instrument_id: str
    levels: list[LevelOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def subscribe_tick(actor: Actor, params: OfInstrument) -> SubscriptionOut:
    """Stream an instrument's quotes for ten minutes, and for ten more at each reading; least wanted ones give way."""
    login, known = _named(actor, params)
    return _out(login, known, wishes.want(login, known.instrument, actor.name))


@tool(scope="market:read", effect=READ)
def unsubscribe(actor: Actor, params: OfInstrument) -> SubscriptionOut:
    """Say that you need an instrument's ticks and book no more; what others want of them goes on."""
    login, known = _named(actor, params)
    wishes.leave(login, known.instrument, actor.name)
    return _out(login, known, None)


@tool(scope="market:read", effect=READ)
def get_tick(actor: Actor, params: OfInstrument) -> TickOut:
    """The newest streamed quote, from Cerbero's own row; subscribes on demand, so the first answer may come later.

    `quote_missing` means that no tick came yet: ask again in a second.
    """
    login, known = _named(actor, params)
    ends_at = wishes.want(login, known.instrument, actor.name)
    row = Quote.objects.filter(instrument=known.instrument).first()
    if row is None:
        words = "No tick of this instrument came yet; it is being subscribed to, so ask again in a second."
        raise QuoteMissing(words, symbol=known.instrument.symbol)
    shown = {name: getattr(row, name) for name in TickOut.model_fields if hasattr(row, name)}
    return TickOut(
        **shown,
        symbol=known.instrument.symbol,
        broker_instrument_id=known.broker_instrument_id,
        feed_alive_at=login.feed_alive_at,
        age_seconds=Decimal(str(round((timezone.now() - row.received_at).total_seconds(), 3))),
        ends_at=ends_at,
    )


@tool(scope="market:read", effect=READ)
def get_depth(actor: Actor, params: OfHolding) -> DepthOut:
    """An instrument's book as one account sees it, streamed on demand; an account sees one book, the one asked for last.

    `quote_missing` means that no book came yet: ask again in a second. Without a subscription to depth none ever comes.
    """
    login, known = _named(actor, params)
    wishes.want(login, known.instrument, actor.name, account=params.account)
    found = wishes.BOOKS.last(login, f"{params.account}:{known.broker_instrument_id}")
    oldest = timezone.now() - dt.timedelta(seconds=wishes.BOOKS.seconds)
    if found is None or found.value.received_at < oldest:
        words = "No book of this instrument came yet; it is being subscribed to, so ask again in a second."
        raise QuoteMissing(words, symbol=known.instrument.symbol)
    return DepthOut(
        account=params.account,
        symbol=known.instrument.symbol,
        broker_instrument_id=known.broker_instrument_id,
        levels=[LevelOut.model_validate(each) for each in found.value.levels],
        as_of=found.value.received_at,
    )


def _named(actor: Actor, params: OfInstrument | OfHolding) -> tuple[Login, BrokerInstrument]:
    """Only what Cerbero knows is streamed. Raises NotFound for any other id of the broker."""
    login = params.login(actor)
    broker_id = params.broker_id(login)
    rows = BrokerInstrument.objects.select_related("instrument")
    known = rows.filter(broker=login.broker, broker_instrument_id=broker_id).first()
    if known is None:
        raise NotFound("Cerbero streams instruments that it knows.", broker_instrument_id=broker_id)
    return login, known


def _out(login: Login, known: BrokerInstrument, ends_at: dt.datetime | None) -> SubscriptionOut:
    return SubscriptionOut(
        symbol=known.instrument.symbol,
        broker_instrument_id=known.broker_instrument_id,
        ends_at=ends_at,
        lines_used=len(wishes.wanted(login)),
        lines_max=wishes.LINES_MAX,
    )
