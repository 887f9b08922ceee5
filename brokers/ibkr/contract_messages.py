"""Contracts and calendars, from the wire to our records, in tables (ibkr-web-api.md §3). Pure."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from brokers.ibkr.values import Row, entry, rows, text, whole
from brokers.schedules import Hours, Schedule, TradingDay
from cerbero.errors import BrokerUnavailable

EPOCH_SECONDS_MAX = 10**11


def schedule(data: Row) -> Schedule:
    """`/contract/trading-schedule` (§3). Raises BrokerUnavailable: an unreadable calendar must not look open or shut."""
    zone = text(data.get("exchange_time_zone")) or ""
    try:
        ZoneInfo(zone)
        found = [_trading_day(key, said) for key, said in sorted(entry(data, "schedules").items())]
    except (ValueError, KeyError, OSError) as error:
        raise BrokerUnavailable("The broker's calendar cannot be read.", zone=zone) from error
    return Schedule(zone, tuple(found))


def _trading_day(key: str, said: Row) -> TradingDay:
    return TradingDay(
        date=datetime.strptime(key, "%Y%m%d").replace(tzinfo=UTC).date(),
        regular=_hours(said, "liquid_hours"),
        extended=_hours(said, "extended_hours"),
    )


def _hours(said: Row, name: str) -> tuple[Hours, ...]:
    return tuple(
        Hours(_epoch(each.get("opening")), _epoch(each.get("closing"))) for each in rows(said.get(name))
    )


def _epoch(value: object) -> datetime:
    seconds = whole(value)
    if seconds is None or not 0 < seconds < EPOCH_SECONDS_MAX:
        raise ValueError("no epoch second")
    return datetime.fromtimestamp(seconds, UTC)
