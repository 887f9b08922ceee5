"""An account's trading day: it begins at the roll-over time in the account's zone, and is named by that date."""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def day_of(now: datetime, zone: str, roll_over: time) -> date:
    """The date on which the trading day of `now` (aware) began."""
    local = now.astimezone(ZoneInfo(zone))
    return local.date() if local.time() >= roll_over else local.date() - timedelta(days=1)


def start_of(now: datetime, zone: str, roll_over: time) -> datetime:
    """When the trading day of `now` began, as an aware time."""
    return datetime.combine(day_of(now, zone, roll_over), roll_over, tzinfo=ZoneInfo(zone))


def local_time(now: datetime, zone: str) -> time:
    return now.astimezone(ZoneInfo(zone)).time()
