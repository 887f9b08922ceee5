"""The exchange's day: when auctions are held, when orders of a day or a night end, and when the broker resets; by a clock
that can be moved.

Between the auctions trading never stops, so that the simulator serves a desk at any hour.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from .calendar import is_half_day, is_trading_day

NEW_YORK = ZoneInfo("America/New_York")
OPENING, CLOSING = "opening", "closing"
NIGHT_ENDS, DAY_ENDS = "night_ends", "day_ends"
# On days without trading, too.
RESET = "reset"
HOURS = {
    RESET: time(1, 0),
    NIGHT_ENDS: time(3, 50),
    OPENING: time(9, 30),
    CLOSING: time(16, 0),
    DAY_ENDS: time(20, 0),
}
HALF_DAY_CLOSES = time(13, 0)
AHEAD_MAX = timedelta(days=400)


class Clock:
    """The exchange's own time: the machine's, and as far ahead as it was moved. It never goes back."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, to: datetime) -> None:
        """Raises ValueError for a moment that is past, or too far ahead."""
        ahead = to - datetime.now(UTC)
        if not self.ahead <= ahead <= AHEAD_MAX:
            raise ValueError("the clock moves forward only, and by at most 400 days")
        self.ahead = ahead


def between(start: datetime, end: datetime) -> Iterator[tuple[datetime, str]]:
    """What happens after `start` and until `end`, in order."""
    day = start.astimezone(NEW_YORK).date()
    while day <= end.astimezone(NEW_YORK).date():
        for name, hour in HOURS.items():
            at = datetime.combine(day, _hour(day, name, hour), NEW_YORK).astimezone(UTC)
            if start < at <= end and (name == RESET or is_trading_day(day)):
                yield at, name
        day += timedelta(days=1)


def next_of(name: str, after: datetime) -> datetime:
    """When it happens next. Raises ValueError for what never does."""
    for at, found in between(after, after + timedelta(days=10)):
        if found == name:
            return at
    raise ValueError(f"one of {', '.join(HOURS)} is needed")


def _hour(day: date, name: str, hour: time) -> time:
    return HALF_DAY_CLOSES if name == CLOSING and is_half_day(day) else hour
