"""Orders that the broker does not list, and rounds that outlast no lease."""

from datetime import timedelta
from decimal import Decimal

from django.utils import timezone

from brokers.base import BrokerOrderState, OrderReport
from brokers.models import Account, Login
from brokers.reports import record_reports
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero import access
from cerbero.leases import ClockTime
from orders import rounds
from orders.models import Book, DayReport, Drift, Order
from tests.orders.world import open_session, put_order, until

SYSTEM = access.system("test")


def rests(floor, tif):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price, time_in_force=tif)
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "accepted")
    return ticket


def test_an_order_that_the_broker_does_not_know_is_said_to_be_missing_and_not_to_have_ended(floor):
    ticket = rests(floor, "gtc")
    order = floor.order(ticket)
    type(order).objects.filter(pk=order.pk).update(
        broker_order_id="999999999", reported_at=ClockTime() - timedelta(minutes=5)
    )
    Book.objects.update(missing_at=None)
    floor.reconcile()
    case = Drift.objects.get(kind="order_missing")
    assert (case.order_id, floor.order(ticket).status) == (order.pk, "accepted")


def test_an_order_whose_end_is_in_the_inbox_is_not_missing(floor):
    order = put_order(floor, status="accepted", broker_order_id="99887766")
    row = OrderReport("99887766", BrokerOrderState.CANCELED)
    record_reports(floor.login, "stream", [(row, None)])
    floor.reconcile()
    assert not Drift.objects.exists()
    floor.turn()
    order.refresh_from_db()
    assert (order.status, Drift.objects.count()) == ("canceled", 0)


def test_a_round_renews_its_lease_after_every_account(floor):
    Account.objects.create(login=floor.login, broker_account_id="DU0000001")
    renewed = []
    with broker_for(floor.login) as broker:
        count = rounds.serve(SYSTEM, floor.login, broker, lambda: renewed.append(1))
    listed = floor.login.accounts.exclude(listed_at=None).count()
    assert count == len(renewed) == listed == 2


def test_a_round_that_used_up_its_time_goes_on_with_whoever_waited_longest(floor, monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_SECONDS", -1.0)
    with broker_for(floor.login) as broker:
        assert rounds.serve(SYSTEM, floor.login, broker, lambda: None) == 0
    first, second = floor.login.accounts.order_by("broker_account_id")
    Book.objects.create(account=first, asked_at=ClockTime())
    order = sorted(rounds._listed(floor.login), key=rounds._waited_since)
    assert [each.pk for each in order] == [second.pk, first.pk]


def test_after_the_night_day_orders_have_expired_gtc_orders_rest_and_the_day_is_reported_once(floor):
    gtc, day = rests(floor, "gtc"), rests(floor, "day")
    # A week before the end of the last trading day, which on a Monday is three days ago.
    long_ago = timezone.now() - timedelta(days=12)
    Order.objects.update(created_at=long_ago)
    Book.objects.update(opened_at=long_ago)
    floor.sim.control("POST", "/_sim/night_reset", {"expire_day_orders": True})
    session_lost(floor.login, SYSTEM)
    Login.objects.update(retry_at=ClockTime())
    open_session(floor.login)

    def served():
        with broker_for(floor.login) as broker:
            rounds.serve(SYSTEM, floor.login, broker, lambda: None)
        floor.turn()
        return floor.order(day).status == "expired"

    until(served)
    assert floor.order(gtc).status == "accepted"
    served()
    report = DayReport.objects.get(account=floor.account)
    assert report.body["aged_gtc_orders"] == [str(floor.order(gtc).pk)]
    assert (report.body["day_orders_still_working"], report.body["in_doubt"]) == ([], 0)
    assert not Drift.objects.exists()
