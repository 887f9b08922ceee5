"""What an exchange's calendar says: open, closed, half days and holidays, and where it knows nothing."""

from datetime import UTC, date, datetime, timedelta

import pytest

from brokers.ibkr.contract_messages import schedule
from brokers.schedules import DayKind, Phase
from cerbero.errors import BrokerUnavailable

# Thanksgiving week of 2026 in New York: five hours ahead of it is UTC.
WEEK = {20: 21, 23: 21, 24: 21, 25: 21, 27: 18, 30: 21}


def epoch(day: int, hour: int, minute: int = 0) -> int:
    return int((datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour, minutes=minute)).timestamp())


def recorded() -> dict:
    days = {
        f"202611{day}": {
            "liquid_hours": [{"opening": epoch(day, 14, 30), "closing": epoch(day, end)}],
            "extended_hours": [
                {"cancel_daily_orders": True, "opening": epoch(day, 9), "closing": epoch(day, end + 4)}
            ],
        }
        for day, end in WEEK.items()
    }
    return {"exchange_time_zone": "US/Eastern", "schedules": days}


@pytest.mark.parametrize(
    ("day", "hour", "phase"),
    [
        (25, 15, Phase.REGULAR),
        (25, 21, Phase.EXTENDED),
        (25, 10, Phase.EXTENDED),
        (26, 16, Phase.CLOSED),
        (27, 17, Phase.REGULAR),
        (27, 18, Phase.EXTENDED),
        (28, 16, Phase.CLOSED),
        (10, 16, Phase.UNKNOWN),
        (30, 40, Phase.UNKNOWN),
    ],
)
def test_a_moment_is_open_closed_or_not_known(day: int, hour: int, phase: Phase) -> None:
    assert schedule(recorded()).phase(datetime.fromtimestamp(epoch(day, hour), UTC)) is phase


def test_a_weekday_left_out_is_a_holiday_and_a_short_one_a_half_day() -> None:
    kinds = dict(schedule(recorded()).kinds())
    assert kinds[date(2026, 11, 26)] is DayKind.HOLIDAY
    assert kinds[date(2026, 11, 27)] is DayKind.HALF
    assert kinds[date(2026, 11, 28)] is DayKind.WEEKEND
    assert kinds[date(2026, 11, 25)] is DayKind.FULL


def test_a_day_without_hours_is_a_holiday_too() -> None:
    said = recorded()
    said["schedules"]["20261126"] = {"liquid_hours": [], "extended_hours": []}
    assert dict(schedule(said).kinds())[date(2026, 11, 26)] is DayKind.HOLIDAY


def test_before_a_holiday_the_next_opening_is_after_it() -> None:
    evening = datetime(2026, 11, 25, 22, tzinfo=UTC)
    found = schedule(recorded())
    assert found.opens_after(evening) == datetime(2026, 11, 27, 14, 30, tzinfo=UTC)
    assert found.closes_after(evening) == datetime(2026, 11, 27, 18, tzinfo=UTC)


def test_a_calendar_that_cannot_be_read_is_neither_open_nor_closed() -> None:
    for wrong in (
        {},
        {"exchange_time_zone": "Mars/Olympus", "schedules": {}},
        {"exchange_time_zone": "../etc", "schedules": {}},
        recorded() | {"schedules": {"soon": {}}},
        recorded() | {"schedules": {"20261125": {"liquid_hours": [{"opening": "x", "closing": 1}]}}},
    ):
        with pytest.raises(BrokerUnavailable):
            schedule(wrong)
