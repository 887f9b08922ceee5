"""Which instruments a login's relay streams: those that people watch, always, and those that bots asked for lately.

A bot's wish ends by itself: every reading of the tick renews it. A login has so many lines; when more are wished for,
the ones that were asked for least lately give way, and what people watch never does.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Max, QuerySet

from brokers.models import BrokerInstrument, Instrument, Login, TickWish
from cerbero.errors import SubscriptionLimit
from cerbero.leases import ClockTime, database_now

# Of a hundred that a user has over all platforms (ibkr-web-api.md §4.8).
LINES_MAX = 80
WISH_SECONDS = 600


def want(login: Login, instrument: Instrument, holder: str) -> datetime:
    """Ask for an instrument's ticks until the time returned; asking again renews.

    Raises SubscriptionLimit where what people watch takes every line.
    """
    watched = _watched(login)
    if watched.count() >= LINES_MAX and not watched.filter(instrument=instrument).exists():
        raise SubscriptionLimit(lines=LINES_MAX, login=login.name)
    until = database_now() + timedelta(seconds=WISH_SECONDS)
    TickWish.objects.filter(wanted_until__lte=ClockTime()).delete()
    TickWish.objects.update_or_create(
        login=login, instrument=instrument, holder=holder, defaults={"wanted_until": until}
    )
    return until


def leave(login: Login, instrument: Instrument, holder: str) -> bool:
    """Take a wish back; whether there was one. Others' wishes for it stand."""
    return bool(TickWish.objects.filter(login=login, instrument=instrument, holder=holder).delete()[0])


def wanted(login: Login) -> dict[str, UUID]:
    """What the relay shall stream now, by the broker's ids: LINES_MAX at most."""
    ids = ("broker_instrument_id", "instrument_id")
    watched = dict(_watched(login).values_list(*ids))
    wishes = (
        BrokerInstrument.objects.filter(
            broker=login.broker,
            instrument__tick_wishes__login=login,
            instrument__tick_wishes__wanted_until__gt=ClockTime(),
        )
        .annotate(newest=Max("instrument__tick_wishes__wanted_until"))
        .order_by("-newest")
        .values_list(*ids)
    )
    return dict(list((watched | dict(wishes)).items())[:LINES_MAX])


def _watched(login: Login) -> QuerySet[BrokerInstrument]:
    return BrokerInstrument.objects.filter(broker=login.broker, instrument__subscriptions__login=login)
