"""Which instruments a login's relay streams: those that people watch, always, those that they decide on, for as long as
that takes, and those that bots asked for lately.

A bot's wish ends by itself: every reading of the tick renews it. A login has so many lines; when more are wished for,
the ones that were asked for least lately give way, and what people watch never does.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Max, QuerySet

from brokers.answers import Memory
from brokers.models import BrokerInstrument, Instrument, Login, TickWish
from brokers.read_records import DepthRecord
from cerbero.errors import SubscriptionLimit
from cerbero.leases import ClockTime, database_now

# Of a hundred that a user has over all platforms (ibkr-web-api.md §4.8).
LINES_MAX = 80
WISH_SECONDS = 600
# A book that the stream did not bring for so long is no news.
BOOKS = Memory("book", DepthRecord, seconds=10)


def want(login: Login, instrument: Instrument, holder: str, account: str = "") -> datetime:
    """Ask for an instrument's ticks, or for its book as an account sees it, until the time returned; asking again renews.

    Raises SubscriptionLimit where what people watch takes every line.
    """
    watched = _watched(login)
    if not account and watched.count() >= LINES_MAX and not watched.filter(instrument=instrument).exists():
        raise SubscriptionLimit(lines=LINES_MAX, login=login.name)
    until = database_now() + timedelta(seconds=WISH_SECONDS)
    TickWish.objects.filter(wanted_until__lte=ClockTime()).delete()
    TickWish.objects.update_or_create(
        login=login, instrument=instrument, holder=holder, account=account, defaults={"wanted_until": until}
    )
    return until


def leave(login: Login, instrument: Instrument, holder: str) -> bool:
    """Take all wishes for an instrument back; whether there was one. Others' wishes for it stand."""
    return bool(TickWish.objects.filter(login=login, instrument=instrument, holder=holder).delete()[0])


def wanted(login: Login, awaited: Collection[UUID] = ()) -> dict[str, UUID]:
    """What the relay shall stream now, by the broker's ids: LINES_MAX at most.

    `awaited` are instruments that people decide on now: they come before whatever bots wished for.
    """
    ids = ("broker_instrument_id", "instrument_id")
    watched = dict(_watched(login).values_list(*ids))
    if awaited:
        named = BrokerInstrument.objects.filter(broker=login.broker, instrument__in=awaited)
        watched |= dict(named.values_list(*ids))
    wishes = (
        BrokerInstrument.objects.filter(
            broker=login.broker,
            instrument__tick_wishes__login=login,
            instrument__tick_wishes__account="",
            instrument__tick_wishes__wanted_until__gt=ClockTime(),
        )
        .annotate(newest=Max("instrument__tick_wishes__wanted_until"))
        .order_by("-newest")
        .values_list(*ids)
    )
    return dict(list((watched | dict(wishes)).items())[:LINES_MAX])


def books(login: Login) -> dict[str, str]:
    """The broker's id of the instrument whose book each account shall see: a broker shows one, the one asked for last."""
    rows = TickWish.objects.filter(
        login=login, wanted_until__gt=ClockTime(), instrument__broker_ids__broker=login.broker
    ).exclude(account="")
    named = rows.order_by("wanted_until").values_list(
        "account", "instrument__broker_ids__broker_instrument_id"
    )
    return dict(named)


def book_key(book: DepthRecord) -> str:
    return f"{book.broker_account_id}:{book.broker_instrument_id}"


def _watched(login: Login) -> QuerySet[BrokerInstrument]:
    return BrokerInstrument.objects.filter(broker=login.broker, instrument__subscriptions__login=login)
