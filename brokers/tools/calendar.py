"""When markets are open: the exchange's own calendar, read from the broker."""

import datetime as dt

from django.utils import timezone

from brokers.answers import Known
from brokers.calendars import schedule_of
from brokers.models import Login
from brokers.schedules import DayKind, Phase, Schedule
from brokers.services import broker_for
from brokers.tools.shapes import OfInstrument
from cerbero.access import Actor
from cerbero.tool import READ, Out, tool


class HoursOut(Out):
    opens_at: dt.datetime
    closes_at: dt.datetime


class DayOut(Out):
    """A day of trading; `kind` is full or half, `extended` includes the regular hours."""

    date: dt.date
    kind: DayKind
    regular: list[HoursOut]
    extended: list[HoursOut]


class ClockOut(Out):
    """`phase` is unknown beyond the published days; `as_of` is when the calendar was read."""

    now: dt.datetime
    zone: str
    phase: Phase
    is_open: bool
    opens_at: dt.datetime | None
    closes_at: dt.datetime | None
    days: list[DayOut]
    as_of: dt.datetime


class HolidayOut(Out):
    """A weekday without trading, or one that ends early; `closes_at` is that end."""

    date: dt.date
    kind: DayKind
    closes_at: dt.datetime | None


class HolidaysOut(Out):
    """The broker publishes some days around today: outside `first_day` to `last_day` nothing is known."""

    zone: str
    first_day: dt.date | None
    last_day: dt.date | None
    holidays: list[HolidayOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_clock(actor: Actor, params: OfInstrument) -> ClockOut:
    """Whether an instrument's exchange is open, when it opens and closes, by its own calendar."""
    known = _ask(params.login(actor), params)
    schedule, now, kinds = known.value, timezone.now(), dict(known.value.kinds())
    phase = schedule.phase(now)
    days = [
        DayOut(
            date=day.date,
            kind=kinds[day.date],
            regular=[HoursOut.model_validate(hours) for hours in day.regular],
            extended=[HoursOut.model_validate(hours) for hours in day.extended],
        )
        for day in schedule.days
    ]
    return ClockOut(
        now=now,
        zone=schedule.zone,
        phase=phase,
        is_open=phase is Phase.REGULAR,
        opens_at=schedule.opens_after(now),
        closes_at=schedule.closes_after(now),
        days=days,
        as_of=known.as_of,
    )


@tool(scope="market:read", effect=READ)
def get_market_holidays(actor: Actor, params: OfInstrument) -> HolidaysOut:
    """The holidays and half days of an instrument's exchange, as far as the broker publishes its calendar."""
    known = _ask(params.login(actor), params)
    schedule = known.value
    closes = {day.date: day.regular[-1].closes_at for day in schedule.days if day.regular}
    special = [(each, kind) for each, kind in schedule.kinds() if kind in (DayKind.HOLIDAY, DayKind.HALF)]
    return HolidaysOut(
        zone=schedule.zone,
        first_day=schedule.days[0].date if schedule.days else None,
        last_day=schedule.days[-1].date if schedule.days else None,
        holidays=[HolidayOut(date=each, kind=kind, closes_at=closes.get(each)) for each, kind in special],
        as_of=known.as_of,
    )


def _ask(login: Login, params: OfInstrument) -> Known[Schedule]:
    broker_instrument_id = params.broker_id(login)
    with broker_for(login) as broker:
        return schedule_of(login, broker, broker_instrument_id)
