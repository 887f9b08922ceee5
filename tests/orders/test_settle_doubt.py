"""The lane of what is in doubt: every asking kept, settled by itself or by people with a reason, two of them on live."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account
from brokers.sessions import session_lost
from cerbero import access
from cerbero.errors import BadInput, PermissionMissing, ReasonRequired, SelfApproval, StateConflict
from orders import amending, halting, hand_settling, services
from orders.models import Amendment, Attempt, ChangeAttempt, Halt, Inquiry, Order
from orders.notices.models import Delivery, Webhook
from tests.orders.world import open_session, until

NO_GRACE = timedelta(0)


@pytest.fixture
def doubt(floor):
    """A sending whose request was lost."""
    return _doubt(floor, "drop_before")


def _doubt(floor, kind):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    floor.approved(limit_price=price)
    floor.sim.fault(kind, path="/orders", method="POST", times=1)
    floor.turn()
    attempt = Attempt.objects.get()
    assert attempt.status == "in_doubt"
    return attempt


def _settle(floor, attempt, who="bob", verdict="never_arrived", reason="the trade desk says so", **more):
    return hand_settling.settle_doubt(
        actor=floor.person(who), attempt_id=attempt.pk, verdict=verdict, reason=reason, **more
    )


def _browser(floor, name="bob"):
    client = Client()
    client.force_login(floor.people[name])
    return client


def test_each_asking_is_a_row_with_the_session_that_it_had(floor, doubt):
    floor.reconcile()
    row = Inquiry.objects.get(attempt=doubt)
    assert (row.result, row.had_session, row.looked_in) == (
        "absent",
        True,
        "working and recent orders, executions",
    )
    floor.sim.fault("status", status=503, path="/account/orders", method="GET", times=9)
    with pytest.raises(Exception, match="broker"):
        floor.reconcile()
    failed = Inquiry.objects.filter(attempt=doubt).latest("asked_at")
    assert (failed.result, failed.had_session, failed.text) == ("failed", False, "broker_unavailable")
    doubt.refresh_from_db()
    assert doubt.absent_count == 1, "an asking without an answer is no absence"


def test_a_session_that_ended_meanwhile_proves_no_absence(floor, doubt):
    floor.sim.fault("status", status=503, path="/auth/status", method="POST", times=9)
    for _ in range(3):
        floor.reconcile(grace=NO_GRACE)
    doubt.refresh_from_db()
    assert (doubt.status, doubt.absent_count) == ("in_doubt", 0)
    assert set(Inquiry.objects.values_list("result", flat=True)) == {"failed"}


def test_a_person_settles_it_with_a_reason_and_everybody_is_told(floor, doubt):
    Webhook.objects.create(name="desk", host="x", sealed_url=b"", sealed_secret=b"", events=["alert.raised"])
    with pytest.raises(ReasonRequired):
        _settle(floor, doubt, reason=" ")
    assert _settle(floor, doubt) is None
    doubt.refresh_from_db()
    assert (doubt.status, doubt.outcome["by"]) == ("settled", "bob")
    assert doubt.ticket.refresh_from_db() or doubt.ticket.refusal_code == "never_arrived"
    entry = Entry.objects.get(event="attempt.settled_by_hand")
    assert entry.details["reason"] == "the trade desk says so"
    assert Delivery.objects.filter(subject__contains="bob settled as never arrived").exists()
    with pytest.raises(StateConflict):
        _settle(floor, doubt)


def test_who_says_that_it_arrived_names_an_order_that_is_read_and_compared(floor):
    attempt = _doubt(floor, "drop_after")
    (booked,) = floor.at_broker()
    with pytest.raises(BadInput):
        _settle(floor, attempt, verdict="arrived", broker_order_id="1")
    _settle(floor, attempt, verdict="arrived", broker_order_id=str(booked["order_id"]))
    until(lambda: floor.turn() or Attempt.objects.get().status == "settled")
    order = floor.order(attempt.ticket)
    assert (order.status, order.broker_order_id) == ("accepted", str(booked["order_id"]))


def test_nobody_says_that_it_never_arrived_against_the_brokers_own_word(floor):
    attempt = _doubt(floor, "drop_after")
    floor.reconcile()
    with pytest.raises(BadInput, match="told of it"):
        _settle(floor, attempt)
    floor.turn()
    assert floor.order(attempt.ticket).status == "accepted"


def test_what_was_sent_before_the_brokers_night_is_never_called_absent_and_waits_for_a_person(
    floor, monkeypatch
):
    """The lists of the new day lack a GTC order that rests since the day before."""
    attempt = _doubt(floor, "drop_after")
    floor.sim.control("POST", "/_sim/night_reset", {"day_scoped": True})
    session_lost(floor.login, access.system("test"))
    open_session(floor.login)
    Webhook.objects.create(name="desk", host="x", sealed_url=b"", sealed_secret=b"", events=["alert.raised"])
    monkeypatch.setattr("orders.doubts.lists_began_anew", lambda *_: True)
    for _ in range(4):
        floor.reconcile(grace=NO_GRACE)
        floor.turn()
    attempt.refresh_from_db()
    assert (attempt.status, attempt.absent_count) == ("in_doubt", 0)
    assert set(Inquiry.objects.values_list("result", flat=True)) == {"unclear"}
    assert Delivery.objects.filter(subject__contains="until a person settles it").count() == 1
    (booked,) = floor.at_broker()
    _settle(floor, attempt, verdict="arrived", broker_order_id=str(booked["order_id"]))
    floor.turn()
    assert floor.order(attempt.ticket).status == "accepted"


def test_another_order_of_ours_does_not_pass_for_it(floor, doubt):
    floor.sim.control(
        "POST",
        "/_sim/manual_order",
        {
            "account": floor.account.broker_account_id,
            "conid": 265598,
            "side": "BUY",
            "quantity": 7,
            "price": 1,
        },
    )
    (other,) = floor.at_broker()
    with pytest.raises(BadInput):
        _settle(floor, doubt, verdict="arrived", broker_order_id=str(other["order_id"]))


def test_where_money_is_live_another_person_must_agree(floor, doubt):
    Account.objects.update(environment="live")
    request = _settle(floor, doubt)
    doubt.refresh_from_db()
    assert (doubt.status, request.requested_by) == ("in_doubt", "bob")
    decide = {"request_id": request.pk, "digest": request.digest, "is_yes": True}
    with pytest.raises(SelfApproval):
        hand_settling.decide_settling(actor=floor.person("bob"), **decide)
    hand_settling.decide_settling(actor=floor.person("carol"), **decide)
    doubt.refresh_from_db()
    assert doubt.status == "settled"


def _working(floor):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.turn()
    return floor.order(ticket)


def _amendment_in_doubt(floor, kind):
    order = _working(floor)
    amendment = amending.amend_order(
        actor=floor.scanner, order_id=order.pk, quantity=Decimal(6), quantity_is="total"
    )
    floor.sim.fault(kind, path=r"/order/\d+", method="POST", times=1)
    floor.turn()
    change = ChangeAttempt.objects.get()
    assert change.status == "in_doubt"
    return order, amendment, change


@pytest.mark.parametrize(
    ("kind", "verdict", "other", "size", "ends"),
    [
        ("drop_after", "arrived", "never_arrived", Decimal(6), "done"),
        ("drop_before", "never_arrived", "arrived", Decimal(10), "denied"),
    ],
)
def test_an_amendment_is_settled_by_hand_and_never_against_the_orders_own_row(
    floor, kind, verdict, other, size, ends
):
    order, amendment, change = _amendment_in_doubt(floor, kind)
    listed = halting.halt_trading(mode="stop_new", actor=access.system("test"), reason="look")
    assert listed["amendments_in_flight"] == [f"amendment of {order.broker_order_id}"]
    with pytest.raises(BadInput):
        _settle(floor, change, verdict=other)
    assert _settle(floor, change, verdict=verdict) is None
    change.refresh_from_db()
    amendment.refresh_from_db()
    assert (change.status, change.outcome["by"], amendment.status) == ("settled", "bob", ends)
    assert floor.order(order.ticket).quantity == size
    assert Entry.objects.get(event="change.settled_by_hand").details["reason"] == "the trade desk says so"
    assert halting.report_of(Halt.objects.get())["unsettled"] == []


def test_where_money_is_live_two_settle_an_amendment_too(floor):
    _order, _amendment, change = _amendment_in_doubt(floor, "drop_after")
    Account.objects.update(environment="live")
    request = _settle(floor, change, verdict="arrived")
    change.refresh_from_db()
    assert (change.status, request.facts["broker_order_id"]) == ("in_doubt", change.broker_order_id)
    decide = {"request_id": request.pk, "digest": request.digest, "is_yes": True}
    with pytest.raises(SelfApproval):
        hand_settling.decide_settling(actor=floor.person("bob"), **decide)
    hand_settling.decide_settling(actor=floor.person("carol"), **decide)
    change.refresh_from_db()
    assert change.status == "settled"


@pytest.mark.parametrize(("kind", "verdict"), [("drop_after", "arrived"), ("drop_before", "never_arrived")])
def test_a_cancel_is_settled_by_hand_and_asked_for_again_while_the_order_works(floor, kind, verdict):
    order = _working(floor)
    floor.sim.fault(kind, path=r"/order/\d+", method="DELETE", times=1)
    services.cancel_order(actor=floor.scanner, order_id=order.pk)
    change = ChangeAttempt.objects.get()
    assert change.status == "in_doubt"
    if verdict == "never_arrived":
        with pytest.raises(BadInput):
            _settle(floor, change, verdict="arrived")
    floor.people["bob"].user_permissions.add(Permission.objects.get(codename="view_attempt"))
    bob = _browser(floor)
    assert "The broker heard it" in bob.get("/admin/doubts/").content.decode()
    bob.post(f"/admin/doubts/{change.pk}/settle/", {"verdict": verdict, "reason": "seen in TWS"})
    change.refresh_from_db()
    assert (change.status, change.outcome["heard"]) == ("settled", verdict == "arrived")
    if verdict == "never_arrived":
        Order.objects.update(cancel_requested_at=timezone.now() - timedelta(minutes=1))
    until(lambda: floor.turn() or floor.reconcile() or floor.order(order.ticket).status == "canceled")


def test_who_may_not_decide_may_not_settle(floor, doubt):
    floor.people["carol"].groups.clear()
    with pytest.raises(PermissionMissing):
        _settle(floor, doubt, "carol")


def test_the_lane_shows_what_was_asked_and_takes_a_settling(floor, doubt):
    floor.people["bob"].user_permissions.add(Permission.objects.get(codename="view_attempt"))
    floor.reconcile()
    bob = _browser(floor)
    told = bob.get("/admin/doubts/").content.decode()
    assert doubt.client_order_id in told
    assert "working and recent orders, executions" in told
    assert "1 of 3" in told
    bob.post(f"/admin/doubts/{doubt.pk}/settle/", {"verdict": "never_arrived", "reason": "asked the desk"})
    assert "Nothing is in doubt" in bob.get("/admin/doubts/").content.decode()


def test_an_amendment_is_asked_for_and_decided_in_the_console(floor):
    floor.people["bob"].user_permissions.set(
        Permission.objects.filter(codename__in=["propose_ticket", "view_order", "decide_ticket"])
    )
    floor.people["carol"].user_permissions.set(Permission.objects.filter(codename="view_order"))
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.turn()
    order, bob = floor.order(ticket), _browser(floor)
    assert "Amend…" in bob.get(f"/admin/orders/order/{order.pk}/change/").content.decode()
    told = bob.post(
        f"/admin/orders/order/{order.pk}/amend/", {"quantity": "10", "quantity_is": "total", "reason": "x"}
    )
    assert "This changes nothing." in told.content.decode()
    bob.post(
        f"/admin/orders/order/{order.pk}/amend/", {"quantity": "12", "quantity_is": "total", "reason": "more"}
    )
    amendment = Amendment.objects.get()
    shown = bob.get("/admin/amendments/").content.decode()
    assert "total 10 → 12 (0 filled, 12 remain)" in shown
    assert "cannot decide" in shown, "whoever asked does not decide"
    carol = _browser(floor, "carol")
    waits = carol.get("/admin/queue/").content.decode()
    assert all(each in waits for each in ("From", "Buy 10 AAPL", "Buy 12 AAPL", amendment.request.digest))
    (told,) = carol.get("/admin/queue/state.json").json()["amendments"].values()
    assert told["is_mine"]
    path = f"/admin/amendments/{amendment.pk}/decide/"
    carol.post(path, {"digest": amendment.request.digest, "answer": "yes"})
    amendment.refresh_from_db()
    assert amendment.status == "allowed"
    floor.turn()
    assert floor.order(ticket).quantity == Decimal(12)
    assert "done" in carol.get("/admin/amendments/").content.decode()


def test_an_amendment_that_nobody_decides_on_expires(floor, settings):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.turn()
    settings.APPROVAL_SECONDS = 0
    amendment = amending.amend_order(
        actor=floor.scanner, order_id=floor.order(ticket).pk, quantity=Decimal(12), quantity_is="total"
    )
    floor.turn()
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code) == ("denied", "approval_expired")
    assert timezone.now() >= amendment.request.expires_at
