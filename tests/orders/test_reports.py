"""Whatever order the broker's facts come in, the ledger ends where the broker is."""

import itertools
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from brokers.base import BrokerOrderState, ExecutionReport, OrderReport, Side
from brokers.models import Report
from brokers.reports import record_reports
from cerbero import access, leases
from orders import reports
from orders.facts import gather_for
from orders.models import Attempt, Drift, Execution, Order, Ticket
from orders.recheck import Moment
from orders.submission import Hold, prepare
from tests.orders import world

ME = access.system("orders")


@pytest.fixture
def sent(desk):
    """An order that is with the broker: its attempt went out."""
    ticket = desk.approved()
    order = desk.order(ticket)
    hold = Hold("place:test", leases.hold("place:test", "test", 60))
    attempt = prepare(ME, ticket, order, Moment(gather_for(ticket.account, order), None), hold)
    assert attempt is not None
    Attempt.objects.update(status="sent", sent_at=timezone.now())
    Attempt.objects.update(status="answered")
    desk.attempt = attempt
    return desk


def _say(desk, state, source="stream", as_of=None, **fields):
    report = OrderReport(
        broker_order_id="77", client_order_id=desk.attempt.client_order_id, state=state, **fields
    )
    record_reports(desk.login, source, [(report, {"raw": 1})], as_of=as_of)
    reports.drain(ME)
    return desk.order(Ticket.objects.get())


def _fill(desk, execution_id, quantity, **fields):
    report = ExecutionReport(
        execution_id=execution_id,
        broker_account_id=desk.account.broker_account_id,
        broker_instrument_id="265598",
        side=Side.BUY,
        quantity=Decimal(quantity),
        price=Decimal("190"),
        executed_at=timezone.now(),
        **{"client_order_id": desk.attempt.client_order_id} | fields,
    )
    record_reports(desk.login, "stream", [(report, None)])
    reports.drain(ME)
    return desk.order(Ticket.objects.get())


def test_accepted_partially_filled_filled(sent):
    assert _say(sent, BrokerOrderState.ACCEPTED).status == "accepted"
    assert _say(sent, BrokerOrderState.ACCEPTED, filled_quantity=Decimal(4)).status == "partially_filled"
    order = _say(sent, BrokerOrderState.FILLED, filled_quantity=Decimal(10), average_price=Decimal("189.9"))
    assert (order.status, order.filled_quantity, order.average_price) == ("filled", 10, Decimal("189.9"))
    assert Ticket.objects.get().status == "done"
    assert order.broker_order_id == "77"


def test_fills_alone_prove_the_state_when_the_order_stream_is_silent(sent):
    _say(sent, BrokerOrderState.ACCEPTED)
    assert _fill(sent, "e1", 4).status == "partially_filled"
    assert _fill(sent, "e2", 6).status == "filled"


def test_a_fill_is_recorded_once_and_its_commission_later(sent):
    _fill(sent, "e1", 4)
    _fill(sent, "e1", 4, commission=Decimal("1.01"))
    execution = Execution.objects.get()
    assert (execution.quantity, execution.commission) == (4, Decimal("1.01"))
    assert sent.order(Ticket.objects.get()).filled_quantity == 4


@pytest.mark.parametrize("order", list(itertools.permutations(["accepted", "partial", "filled"])))
def test_facts_in_any_order_end_filled(sent, order):
    now = timezone.now()
    says = {
        "accepted": lambda: _say(sent, BrokerOrderState.ACCEPTED, as_of=now),
        "partial": lambda: _say(
            sent, BrokerOrderState.ACCEPTED, filled_quantity=Decimal(4), as_of=now + timedelta(seconds=1)
        ),
        "filled": lambda: _say(
            sent, BrokerOrderState.FILLED, filled_quantity=Decimal(10), as_of=now + timedelta(seconds=2)
        ),
    }
    for name in order:
        says[name]()
    final = sent.order(Ticket.objects.get())
    assert (final.status, final.filled_quantity) == ("filled", 10)
    assert not Drift.objects.exists()


def test_a_poll_that_was_asked_before_the_newest_word_proves_nothing(sent):
    asked = timezone.now() - timedelta(seconds=5)
    _say(sent, BrokerOrderState.ACCEPTED)
    _say(sent, BrokerOrderState.PENDING_CANCEL)
    assert _say(sent, BrokerOrderState.ACCEPTED, "poll", as_of=asked).status == "pending_cancel"
    assert _say(sent, BrokerOrderState.ACCEPTED, "poll", as_of=timezone.now()).status == "accepted", (
        "the same fact, asked later, counts"
    )


def test_an_order_that_comes_back_to_life_is_working_and_is_drift(sent):
    _say(sent, BrokerOrderState.ACCEPTED)
    _say(sent, BrokerOrderState.CANCELED)
    assert _say(sent, BrokerOrderState.ACCEPTED, "poll").status == "accepted"
    assert Drift.objects.get().kind == "impossible_report"
    assert Ticket.objects.get().status == "sent"


def test_an_unknown_order_in_a_poll_is_drift_once(sent):
    stranger = OrderReport(
        broker_order_id="99",
        state=BrokerOrderState.ACCEPTED,
        broker_account_id=sent.account.broker_account_id,
        total_quantity=Decimal(5),
    )
    for _ in range(2):
        record_reports(sent.login, "poll", [(stranger, None)])
        reports.drain(ME)
    drift = Drift.objects.get()
    assert (drift.kind, drift.account_id) == ("unknown_order", sent.account.pk)


def test_a_fill_that_no_order_explains_is_recorded_and_is_drift(sent):
    _fill(sent, "manual-1", 3, client_order_id="somebody-elses")
    assert Execution.objects.get().order is None
    assert Drift.objects.get().kind == "unknown_execution"


def test_terms_that_differ_from_the_approved_ones_are_drift(sent):
    _say(sent, BrokerOrderState.ACCEPTED, side=Side.SELL, total_quantity=Decimal(11))
    drift = Drift.objects.get()
    assert sorted(drift.evidence["differs"]) == ["quantity", "side"]


def test_a_bare_row_of_nobodys_order_says_nothing(sent):
    record_reports(sent.login, "stream", [(OrderReport("501", BrokerOrderState.ACCEPTED), None)])
    reports.drain(ME)
    assert not Drift.objects.exists(), "the next poll brings its full row"
    assert not Report.objects.waiting().exists()


def test_a_bare_row_waits_while_an_attempt_is_out(sent):
    other = sent.approved()
    hold = Hold("place:other", leases.hold("place:other", "test", 60))
    order = sent.order(other)
    out = prepare(ME, other, order, Moment(gather_for(other.account, order), None), hold)
    Attempt.objects.filter(pk=out.pk).update(status="sent", sent_at=timezone.now())
    record_reports(sent.login, "stream", [(OrderReport("501", BrokerOrderState.ACCEPTED), None)])
    reports.drain(ME)
    assert Report.objects.waiting().count() == 1
    named = OrderReport("501", BrokerOrderState.ACCEPTED, client_order_id=out.client_order_id)
    record_reports(sent.login, "reply", [(named, None)])
    Attempt.objects.filter(pk=out.pk).update(status="answered")
    reports.drain(ME)
    assert not Report.objects.waiting().exists()
    assert sent.order(other).status == "accepted"


def test_a_report_that_breaks_us_is_kept_as_drift_and_blocks_nobody(sent):
    Report.objects.create(
        login=sent.login, kind="order", source="stream", subject="x", record={"nonsense": 1}, digest="d"
    )
    assert _say(sent, BrokerOrderState.ACCEPTED).status == "accepted"
    assert Drift.objects.get().kind == "impossible_report"
    assert not Report.objects.waiting().exists()
    assert Order.objects.count() == 1


def test_a_cancel_and_a_report_take_their_locks_in_one_order(fresh_database):
    """Whoever cancels holds the ticket and then wants the order: a report that waits for the ticket holds no order."""
    desk = world.build()
    ticket = desk.approved()
    hold = Hold("place:test", leases.hold("place:test", "test", 60))
    order = desk.order(ticket)
    attempt = prepare(ME, ticket, order, Moment(gather_for(ticket.account, order), None), hold)
    Attempt.objects.update(status="sent", sent_at=timezone.now())
    fact = OrderReport("77", BrokerOrderState.ACCEPTED, client_order_id=attempt.client_order_id)
    record_reports(desk.login, "poll", [(fact, None)])
    applied = threading.Thread(target=lambda: (reports.drain(ME), connections.close_all()))
    with transaction.atomic():
        Ticket.objects.select_for_update().get(pk=ticket.pk)
        applied.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with connection.cursor() as cursor:
            world.until(lambda: cursor.execute(waits) or cursor.fetchone()[0])
        Order.objects.select_for_update(nowait=True).get(pk=order.pk)
    applied.join(10)
    assert desk.order(ticket).status == "accepted"


def test_a_database_that_ended_a_deadlock_says_nothing_of_the_report(sent, monkeypatch):
    def fails(*_):
        raise OperationalError("deadlock detected")

    with monkeypatch.context() as patch:
        patch.setattr(reports, "apply", fails)
        with pytest.raises(OperationalError):
            _say(sent, BrokerOrderState.ACCEPTED)
    assert not Drift.objects.exists()
    reports.drain(ME)
    assert sent.order(Ticket.objects.get()).status == "accepted"


def test_a_later_word_that_it_expired_counts_and_the_lists_silence_does_not(sent):
    canceled = BrokerOrderState.CANCELED
    assert _say(sent, canceled, "poll").status == "canceled"
    assert _say(sent, canceled, text="Expired: not filled at the opening").status == "expired"
    assert _say(sent, canceled, "poll", as_of=timezone.now()).status == "expired"
    assert not Drift.objects.exists()
    assert Ticket.objects.get().status == "done"


def test_what_somebody_asked_to_cancel_never_expired(sent):
    Order.objects.update(cancel_requested_at=timezone.now())
    assert _say(sent, BrokerOrderState.CANCELED, "poll").status == "canceled"
    assert _say(sent, BrokerOrderState.CANCELED, text="Expired").status == "canceled"
    assert not Drift.objects.exists()
