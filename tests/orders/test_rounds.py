"""Orders that the broker does not list, and rounds that outlast no lease."""

from datetime import timedelta
from decimal import Decimal

from brokers.models import Account
from brokers.services import broker_for
from cerbero import access
from cerbero.leases import ClockTime
from orders import rounds
from orders.models import Book, Drift
from tests.orders.world import until

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
