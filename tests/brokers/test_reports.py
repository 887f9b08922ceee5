"""The inbox: each fact once, exact, and a wake-up for whoever drains it."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from brokers.base import BrokerOrderState, ExecutionReport, OrderReport, Side
from brokers.models import Login, Report
from brokers.notifications import ORDERS as CHANNEL
from brokers.reports import parse, record_reports
from tests.rig import Database

ORDER = OrderReport(
    broker_order_id="912091175",
    state=BrokerOrderState.ACCEPTED,
    client_order_id="c" * 32,
    broker_account_id="DU1234567",
    side=Side.SELL,
    order_type="limit",
    total_quantity=Decimal("5"),
    filled_quantity=Decimal("0"),
    limit_price=Decimal("100.10"),
)
FILL = ExecutionReport(
    execution_id="0000e0d5.6576fd38.01.01",
    broker_account_id="DU1234567",
    broker_instrument_id="265598",
    side=Side.BUY,
    quantity=Decimal("1E+2"),
    price=Decimal("0.000000000000000001"),
    executed_at=datetime(2026, 4, 2, 13, 30, 5, 123000, tzinfo=UTC),
    is_liquidation=True,
)


@pytest.fixture
def login(db) -> Login:
    return Login.objects.create(name="desk", environment="paper")


def test_records_come_back_exactly_as_the_adapter_made_them(login: Login) -> None:
    record_reports(login, "stream", [(ORDER, {"price": Decimal("100.10")}), (FILL, None)])
    order, fill = Report.objects.waiting()
    assert parse(order) == ORDER
    assert parse(fill) == FILL
    assert isinstance(parse(order).limit_price, Decimal)
    assert fill.record["price"] == "0.000000000000000001"
    assert order.raw == {"price": "100.10"}
    assert (order.subject, fill.subject) == (ORDER.broker_order_id, FILL.execution_id)


def test_the_same_words_again_are_left_out_and_a_change_back_is_not(login: Login) -> None:
    filled = replace(ORDER, state=BrokerOrderState.FILLED)
    assert record_reports(login, "poll", [(ORDER, None), (ORDER, None)]) == 1
    assert record_reports(login, "stream", [(ORDER, None)]) == 0
    assert record_reports(login, "stream", [(filled, None), (ORDER, None), (filled, None)]) == 3
    assert record_reports(login, "poll", [(filled, None)]) == 0


def test_another_login_has_an_inbox_of_its_own(login: Login) -> None:
    other = Login.objects.create(name="other", environment="paper")
    record_reports(login, "poll", [(ORDER, None)])
    assert record_reports(other, "poll", [(ORDER, None)]) == 1


def test_a_poll_is_as_old_as_its_question(login: Login) -> None:
    asked_at = datetime(2026, 4, 2, 13, 0, tzinfo=UTC)
    record_reports(login, "poll", [(ORDER, None)], as_of=asked_at)
    record_reports(login, "stream", [(FILL, None)])
    poll, stream = Report.objects.waiting()
    assert poll.as_of == asked_at
    assert abs((datetime.now(UTC) - stream.as_of).total_seconds()) < 60


def test_whatever_stands_in_a_raw_row_can_be_stored(login: Login) -> None:
    raw = {
        "text": "nul \x00 and half \ud800 a pair",
        "huge": Decimal("1E+999999"),
        "nested": [{"a": [Decimal("1.50")]}],
    }
    assert record_reports(login, "stream", [(replace(ORDER, text="\x00\udfff"), raw)]) == 1
    row = Report.objects.get()
    assert "\x00" not in row.raw["text"]
    assert row.raw["huge"] == "1E+999999"
    assert row.raw["nested"] == [{"a": ["1.50"]}]


def test_a_new_report_wakes_the_orders_loop_and_a_repeat_does_not(fresh_database: Database) -> None:
    login = Login.objects.create(name="desk", environment="paper")
    with fresh_database.connect() as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        record_reports(login, "stream", [(ORDER, None)])
        assert [each.channel for each in listener.notifies(timeout=2, stop_after=1)] == [CHANNEL]
        record_reports(login, "stream", [(ORDER, None)])
        assert list(listener.notifies(timeout=0.2)) == []
