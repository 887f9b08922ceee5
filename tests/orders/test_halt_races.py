"""A halt while orders are being sent, and with many at rest; the simulator's own clock and book judge."""

import itertools
import threading
import time
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone

from brokers import pacing
from brokers.models import Quote
from orders import halting, submission
from orders.models import HaltMode, Order
from tests.orders.test_halt_run import fates, finish, halt, rest, working
from tests.orders.world import until
from tests.rig import run_together


@pytest.fixture
def quick(floor, monkeypatch):
    """Our own pace does not slow the preparation."""
    monkeypatch.setattr(pacing, "REQUESTS_PER_SECOND", 500)
    floor.sim.config(per_side_limit=500)
    return floor


@pytest.mark.parametrize("mode", [HaltMode.STOP_NEW, HaltMode.CANCEL_ALL])
def test_nothing_but_what_was_in_flight_arrives_after_a_halt_returned(quick, mode, monkeypatch):
    price = (quick.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    for number in range(12):
        # On a busy machine so many would outlast one quote.
        Quote.objects.update(received_at=timezone.now())
        quick.approved(limit_price=price, quantity=Decimal(number + 10))
    numbers, submit = itertools.count(1), submission.submit
    sending, returned = threading.Event(), threading.Event()

    def one_after_another(**words):
        """The halt comes between the third and the eighth, and the rest are tried after it, on any machine."""
        number = next(numbers)
        if number == 3:
            sending.set()
        if number == 8:
            assert returned.wait(60)
        submit(**words)

    def submissions():
        for _ in range(6):
            quick.turn()

    def stop():
        assert sending.wait(60)
        report = halting.halt_trading(actor=quick.person("bob"), mode=mode, reason="now", wait_seconds=0.3)
        returned_ms = time.time() * 1000
        returned.set()
        return report, returned_ms

    monkeypatch.setattr(submission, "submit", one_after_another)
    _, (report, returned_ms) = run_together(submissions, stop)
    late = {row["cOID"] for row in quick.at_broker() if row["arrived_ms"] > returned_ms}
    assert late <= set(report["in_flight"])
    assert 0 < len(quick.at_broker()) < 12
    if mode == HaltMode.CANCEL_ALL:
        assert finish(quick, report)["no_working_orders"]
        assert working(quick) == set()


def test_canceling_all_waits_for_no_report_that_is_being_applied(quick):
    rest(quick, 3)
    held, over = threading.Event(), threading.Event()

    def reports():
        with transaction.atomic():
            list(Order.objects.select_for_update(no_key=True).order_by("-pk"))
            held.set()
            assert over.wait(90)

    def stop():
        held.wait(60)
        try:
            report = halt(quick, HaltMode.CANCEL_ALL, wait_seconds=0.1)
            return report, until(lambda: working(quick) == set())
        finally:
            over.set()

    _, (report, are_gone) = run_together(reports, stop)
    assert are_gone
    assert finish(quick, report)["no_working_orders"]


def test_two_halts_at_once_both_end_in_proof(quick):
    rest(quick, 4)
    reports = run_together(*[lambda: halt(quick, HaltMode.CANCEL_ALL, wait_seconds=1)] * 2)
    assert [finish(quick, report)["no_working_orders"] for report in reports] == [True, True]


def test_forty_orders_are_gone_within_seconds(quick, monkeypatch):
    rest(quick, 40)
    monkeypatch.undo()
    report = finish(quick, halt(quick))
    assert working(quick) == set()
    assert list(fates(report).values()) == [("cancel", "canceled")] * 40
    assert report["no_working_orders"]
