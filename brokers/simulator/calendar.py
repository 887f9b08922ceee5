"""Calendars by their rules: New York's, London's, the futures' and the currencies'. A day without trading is left out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

THURSDAY, SATURDAY, SUNDAY = 3, 5, 6


def trading_days(
    around: date, *, before: int, after: int, is_open: Callable[[date], bool] | None = None
) -> list[date]:
    """So many days of trading before a date, and so many from it on; in New York unless told otherwise."""
    is_open = is_open or is_trading_day
    earlier: list[date] = []
    later: list[date] = []
    day = around - timedelta(days=1)
    while len(earlier) < before:
        if is_open(day):
            earlier.append(day)
        day -= timedelta(days=1)
    day = around
    while len(later) < after:
        if is_open(day):
            later.append(day)
        day += timedelta(days=1)
    return [*reversed(earlier), *later]


def is_trading_day(day: date) -> bool:
    return day.weekday() < SATURDAY and day not in holidays(day.year)


def is_half_day(day: date) -> bool:
    """Trading ends at 13:00: the day after Thanksgiving, and the eves of Independence Day and Christmas."""
    eves = (date(day.year, 7, 3), date(day.year, 12, 24), _nth(day.year, 11, THURSDAY, 4) + timedelta(days=1))
    return day in eves and is_trading_day(day)


@cache
def holidays(year: int) -> frozenset[date]:
    fixed = (date(year, 6, 19), date(year, 7, 4), date(year, 12, 25))
    new_year = date(year, 1, 1)
    found = {_observed(day) for day in fixed}
    # A New Year's Day on a Saturday is not made up for.
    if new_year.weekday() != SATURDAY:
        found.add(_observed(new_year))
    return frozenset(found) | {
        _nth(year, 1, 0, 3),
        _nth(year, 2, 0, 3),
        _easter(year) - timedelta(days=2),
        _nth(year, 6, 0, 1) - timedelta(days=7),
        _nth(year, 9, 0, 1),
        _nth(year, 11, THURSDAY, 4),
    }


def _observed(day: date) -> date:
    shift = {SATURDAY: -1, SUNDAY: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))


def _easter(year: int) -> date:
    """Easter Sunday, by the anonymous Gregorian computus."""
    golden, century, rest = year % 19, year // 100, year % 100
    epact = (19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    shift = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    late = (golden + 11 * epact + 22 * shift) // 451
    month, day = divmod(epact + shift - 7 * late + 114, 31)
    return date(year, month, day + 1)


@cache
def london_holidays(year: int) -> frozenset[date]:
    """England's bank holidays; those that fall on a weekend are made up for on the next weekdays."""
    easter = _easter(year)
    made_up: set[date] = set()
    for day in (date(year, 1, 1), date(year, 12, 25), date(year, 12, 26)):
        while day.weekday() >= SATURDAY or day in made_up:
            day += timedelta(days=1)
        made_up.add(day)
    last_of_may = _nth(year, 6, 0, 1) - timedelta(days=7)
    last_of_august = _nth(year, 9, 0, 1) - timedelta(days=7)
    moved = {easter - timedelta(days=2), easter + timedelta(days=1), last_of_may, last_of_august}
    return frozenset(made_up | moved | {_nth(year, 5, 0, 1)})


def is_london_day(day: date) -> bool:
    return day.weekday() < SATURDAY and day not in london_holidays(day.year)


def is_london_half_day(day: date) -> bool:
    """The eves of Christmas and of New Year."""
    return (day.month, day.day) in ((12, 24), (12, 31)) and is_london_day(day)


def is_currency_day(day: date) -> bool:
    """Every weekday but New Year's Day and Christmas."""
    return day.weekday() < SATURDAY and (day.month, day.day) not in ((1, 1), (12, 25))


@dataclass(frozen=True)
class Venue:
    """Hours in its own zone; where they open after they close, they opened the evening before."""

    zone: str
    regular: tuple[time, time]
    extended: tuple[time, time]
    half: tuple[time, time]
    is_open: Callable[[date], bool] = is_trading_day
    is_half: Callable[[date], bool] = is_half_day

    def hours(self, day: date) -> dict[str, tuple[int, int]]:
        """Epoch seconds of the day's regular and extended hours."""
        (opens, closes), (first, last) = self.regular, self.extended
        if self.is_half(day):
            closes, last = self.half
        return {"regular": self._span(day, opens, closes), "extended": self._span(day, first, last)}

    def _span(self, day: date, opens: time, closes: time) -> tuple[int, int]:
        before = day - timedelta(days=1) if opens > closes else day
        moments = datetime.combine(before, opens), datetime.combine(day, closes)
        opened, closed = (int(each.replace(tzinfo=ZoneInfo(self.zone)).timestamp()) for each in moments)
        return opened, closed


NEW_YORK = Venue("US/Eastern", (time(9, 30), time(16)), (time(4), time(20)), half=(time(13), time(17)))
LONDON = Venue(
    "Europe/London",
    (time(8), time(16, 30)),
    (time(8), time(16, 30)),
    half=(time(12, 30), time(12, 30)),
    is_open=is_london_day,
    is_half=is_london_half_day,
)
CHICAGO = Venue(
    "US/Central", (time(8, 30), time(15)), (time(17), time(16)), half=(time(12, 15), time(12, 15))
)
COMMODITIES = Venue(
    "US/Eastern", (time(9), time(14, 30)), (time(18), time(17)), half=(time(13, 30), time(13, 30))
)
CURRENCIES = Venue(
    "US/Eastern",
    (time(17, 15), time(17)),
    (time(17, 15), time(17)),
    half=(time(17), time(17)),
    is_open=is_currency_day,
    is_half=lambda day: False,
)
VENUES = {"LSE": LONDON, "CME": CHICAGO, "NYMEX": COMMODITIES, "COMEX": COMMODITIES, "IDEALPRO": CURRENCIES}
