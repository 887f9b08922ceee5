"""When an exchange is open, by the broker's own calendar: holidays and half days as they are, never a fixed window. Pure.

A broker publishes some days around today and leaves out those without trading; beyond them nothing is known.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

SATURDAY = 5


class Phase(StrEnum):
    REGULAR = "regular"
    EXTENDED = "extended"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class DayKind(StrEnum):
    FULL = "full"
    HALF = "half"
    HOLIDAY = "holiday"
    WEEKEND = "weekend"


@dataclass(frozen=True)
class Hours:
    """From `opens_at` until before `closes_at`."""

    opens_at: datetime
    closes_at: datetime

    def hold(self, at: datetime) -> bool:
        return self.opens_at <= at < self.closes_at


@dataclass(frozen=True)
class TradingDay:
    """One day of trading by its exchange's date; `extended` includes the regular hours."""

    date: date
    regular: tuple[Hours, ...] = ()
    extended: tuple[Hours, ...] = ()

    @property
    def length(self) -> timedelta:
        return sum((each.closes_at - each.opens_at for each in self.regular), timedelta())


@dataclass(frozen=True)
class Schedule:
    """The published days of one exchange, oldest first; `zone` is where its dates begin."""

    zone: str
    days: tuple[TradingDay, ...] = ()

    def phase(self, at: datetime) -> Phase:
        if any(hours.hold(at) for day in self.days for hours in day.regular):
            return Phase.REGULAR
        if any(hours.hold(at) for day in self.days for hours in day.extended):
            return Phase.EXTENDED
        return Phase.CLOSED if self._covers(at) else Phase.UNKNOWN

    def opens_after(self, at: datetime) -> datetime | None:
        """The next beginning of regular hours; None beyond the published days."""
        return min((each.opens_at for each in self._regular() if each.opens_at > at), default=None)

    def closes_after(self, at: datetime) -> datetime | None:
        """The end of the regular hours that run, or of the next ones."""
        return min((each.closes_at for each in self._regular() if each.closes_at > at), default=None)

    def kinds(self) -> list[tuple[date, DayKind]]:
        """Each day from the first published to the last one, and what it is."""
        known = {day.date: day for day in self.days}
        usual = Counter(day.length for day in self.days if day.regular).most_common(1)
        return [
            (each, _kind(each, known.get(each), usual[0][0] if usual else None)) for each in self._dates()
        ]

    def _covers(self, at: datetime) -> bool:
        dates = list(self._dates())
        return bool(dates) and dates[0] <= at.astimezone(ZoneInfo(self.zone)).date() <= dates[-1]

    def _dates(self) -> Iterator[date]:
        if self.days:
            first, last = self.days[0].date, self.days[-1].date
            yield from (first + timedelta(days=offset) for offset in range((last - first).days + 1))

    def _regular(self) -> Iterator[Hours]:
        return (hours for day in self.days for hours in day.regular)


def _kind(each: date, day: TradingDay | None, usual: timedelta | None) -> DayKind:
    if day is not None and day.regular:
        return DayKind.HALF if usual is not None and day.length < usual else DayKind.FULL
    return DayKind.WEEKEND if each.weekday() >= SATURDAY else DayKind.HOLIDAY
