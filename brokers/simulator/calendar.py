"""The New York Stock Exchange's calendar by its rules; days without trading are left out, as the broker does."""

from datetime import date, timedelta

THURSDAY, SATURDAY, SUNDAY = 3, 5, 6


def trading_days(around: date, *, before: int, after: int) -> list[date]:
    """So many days of trading before a date, and so many from it on."""
    earlier: list[date] = []
    later: list[date] = []
    day = around - timedelta(days=1)
    while len(earlier) < before:
        if is_trading_day(day):
            earlier.append(day)
        day -= timedelta(days=1)
    day = around
    while len(later) < after:
        if is_trading_day(day):
            later.append(day)
        day += timedelta(days=1)
    return [*reversed(earlier), *later]


def is_trading_day(day: date) -> bool:
    return day.weekday() < SATURDAY and day not in holidays(day.year)


def is_half_day(day: date) -> bool:
    """Trading ends at 13:00: the day after Thanksgiving, and the eves of Independence Day and Christmas."""
    eves = (date(day.year, 7, 3), date(day.year, 12, 24), _nth(day.year, 11, THURSDAY, 4) + timedelta(days=1))
    return day in eves and is_trading_day(day)


def holidays(year: int) -> set[date]:
    fixed = (date(year, 6, 19), date(year, 7, 4), date(year, 12, 25))
    new_year = date(year, 1, 1)
    found = {_observed(day) for day in fixed}
    # A New Year's Day on a Saturday is not made up for.
    if new_year.weekday() != SATURDAY:
        found.add(_observed(new_year))
    return found | {
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
