"""get_clock and get_market_holidays, over the wire; and what people are told when a market is closed."""

from datetime import UTC, datetime

import pytest

from brokers.answers import Known
from brokers.ibkr.contract_messages import schedule
from cerbero.errors import BadInput, CerberoError, ContractAmbiguous, NotFound
from tests.brokers.test_schedules import recorded
from tests.brokers.tools.conftest import AAPL


def test_the_clock_is_the_exchanges_own_calendar(ask) -> None:
    clock = ask("get_clock", symbol="aapl")
    assert clock["zone"] == "US/Eastern"
    assert clock["phase"] in ("regular", "extended", "closed")
    assert clock["is_open"] is (clock["phase"] == "regular")
    assert clock["opens_at"] > clock["now"]
    assert clock["closes_at"] > clock["now"]
    assert len(clock["days"]) == 7
    assert {day["kind"] for day in clock["days"]} <= {"full", "half"}


def test_holidays_are_told_for_the_days_that_the_broker_publishes(ask) -> None:
    found = ask("get_market_holidays", broker_instrument_id=AAPL)
    assert found["first_day"] < found["last_day"]
    for each in found["holidays"]:
        assert found["first_day"] < each["date"] < found["last_day"]
        assert (each["closes_at"] is None) is (each["kind"] == "holiday")


def test_a_calendar_is_asked_once_and_then_remembered_with_its_age(ask, simulator) -> None:
    first = ask("get_clock", symbol="AAPL")
    simulator.fault("status", path="trading-schedule", times=1)
    try:
        assert ask("get_market_holidays", symbol="AAPL")["as_of"] == first["as_of"]
    finally:
        simulator.control("DELETE", "/_sim/faults")


def test_an_instrument_is_named_once_and_known(ask) -> None:
    with pytest.raises(NotFound) as unknown:
        ask("get_clock", symbol="NOPE")
    assert unknown.value.details["symbols"] == ["NOPE"]
    for wrong in ({}, {"symbol": "AAPL", "broker_instrument_id": AAPL}, {"broker_instrument_id": "-1"}):
        with pytest.raises(BadInput):
            ask("get_clock", **wrong)
    with pytest.raises(CerberoError) as foreign:
        ask("get_clock", symbol="AAPL", account="DU0000000")
    assert foreign.value.code == "not_found"


def test_a_symbol_of_two_instruments_is_refused_with_the_candidates(ask) -> None:
    from brokers.models import BrokerInstrument, Instrument

    other = Instrument.objects.create(symbol="AAPL", currency="EUR")
    BrokerInstrument.objects.create(instrument=other, broker="ibkr", broker_instrument_id="38708077")
    with pytest.raises(ContractAmbiguous) as ambiguous:
        ask("get_clock", symbol="AAPL")
    assert {each["currency"] for each in ambiguous.value.details["candidates"]} == {"USD", "EUR"}


def test_the_sessions_task_keeps_calendars_and_people_read_when_the_market_opens(login) -> None:
    from brokers.calendars import SCHEDULES, keep_calendars, why_closed
    from brokers.models import Instrument

    aapl, closed = Instrument.objects.get(), datetime(2026, 11, 26, 16, tzinfo=UTC)
    assert why_closed(login, aapl, closed) == ""
    keep_calendars(login)
    assert isinstance(SCHEDULES.last(login, AAPL), Known)
    SCHEDULES.keep(login, AAPL, schedule(recorded()))
    assert "opens on Fri 27 Nov at 09:30" in why_closed(login, aapl, closed)
    assert why_closed(login, aapl, datetime(2026, 11, 25, 16, tzinfo=UTC)) == ""


@pytest.mark.parametrize(
    ("now", "is_opening", "until"),
    [
        ((26, 16, 0), True, (27, 14, 28)),
        ((27, 14, 27), True, (27, 14, 28)),
        ((27, 14, 28), True, (30, 14, 28)),
        ((27, 15, 0), False, (27, 17, 50)),
        ((27, 17, 50), False, (30, 20, 50)),
    ],
)
def test_an_auction_takes_orders_until_a_little_before_it_on_half_days_too(
    login, now, is_opening, until
) -> None:
    from brokers.calendars import SCHEDULES, takes_orders_until
    from brokers.models import Instrument

    def at(day: int, hour: int, minute: int) -> datetime:
        return datetime(2026, 11, day, hour, minute, tzinfo=UTC)

    aapl = Instrument.objects.get()
    assert takes_orders_until(login, aapl, at(*now), is_opening=is_opening) is None
    SCHEDULES.keep(login, AAPL, schedule(recorded()))
    assert takes_orders_until(login, aapl, at(*now), is_opening=is_opening) == at(*until)
    assert takes_orders_until(login, aapl, at(30, 22, 0), is_opening=is_opening) is None
