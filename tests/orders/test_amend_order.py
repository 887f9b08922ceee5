"""Amending: bound to the broker's terms and fill, asked anew unless it tightens, sent once, settled by asking."""

from datetime import timedelta
from decimal import Decimal

import pytest

from brokers.services import broker_for
from cerbero import access, leases
from cerbero.errors import (
    BadInput,
    LeaseLost,
    NotFound,
    OrderMoved,
    RiskRefused,
    StateConflict,
    TradingHalted,
)
from orders import amend_sending, amending, doubts, halting, services
from orders.models import Amendment, ChangeAttempt, Drift, Inquiry, Order
from orders.reconciliation import is_conversing
from tests.orders.world import until

ME = access.system("orders")
NO_GRACE = timedelta(0)


@pytest.fixture
def order(floor):
    """Ten at 2 % below the ask, working."""
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.turn()
    order = floor.order(ticket)
    assert order.status == "accepted"
    return order


def _amend(floor, order, actor=None, **wanted):
    return amending.amend_order(actor=actor or floor.scanner, order_id=order.pk, **wanted)


def _lower(order):
    return order.limit_price - 1


def _approve(floor, amendment, who="bob"):
    return amending.decide_amendment(
        actor=floor.person(who), amendment_id=amendment.pk, digest=amendment.request.digest, is_yes=True
    )


def _booked(floor):
    (row,) = floor.at_broker()
    return Decimal(row["quantity"]), Decimal(row["limit_price"]), row["modifications"]


def _fill(floor, order, quantity):
    floor.sim.control("POST", "/_sim/fill", {"order_id": int(order.broker_order_id), "quantity": quantity})


def _seen(floor, order, filled):
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).filled_quantity == filled)


def _settle(floor, times=3):
    with broker_for(floor.login) as broker:
        for _ in range(times):
            doubts.settle_changes(ME, floor.account, broker, [], NO_GRACE)


def test_what_tightens_passes_under_the_first_approval_and_is_at_the_broker(floor, order):
    price = _lower(order)
    amendment = _amend(floor, order, quantity=Decimal(6), quantity_is="total", limit_price=price)
    assert (amendment.tightens, amendment.request, amendment.status) == (True, None, "allowed")
    floor.turn()
    amendment.refresh_from_db()
    now = floor.order(order.ticket)
    assert (amendment.status, now.quantity, now.limit_price) == ("done", Decimal(6), price)
    assert _booked(floor) == (Decimal(6), price, 1)
    assert ChangeAttempt.objects.get().status == "answered"
    floor.reconcile()
    floor.turn()
    assert not Drift.objects.exists(), "the broker's terms are the approved ones"


def test_what_adds_waits_for_a_fresh_yes_and_only_then_leaves(floor, order):
    amendment = _amend(floor, order, quantity=Decimal(12), quantity_is="total")
    floor.turn()
    assert (amendment.status, _booked(floor)[0]) == ("proposed", Decimal(10))
    assert "total 10 → 12 (0 filled, 12 remain)" in amendment.request.summary
    assert floor.people["alice"].pk in amendment.request.excluded_user_ids
    _approve(floor, amendment)
    floor.turn()
    assert _booked(floor)[0] == Decimal(12) == floor.order(order.ticket).quantity
    amendment.request.refresh_from_db()
    assert amendment.request.status == "consumed"
    worth = order.ticket.notional
    order.ticket.refresh_from_db()
    assert order.ticket.notional == worth * 12 / 10, "limits count what works now"


def test_a_no_leaves_the_order_as_it_is(floor, order):
    amendment = _amend(floor, order, quantity=Decimal(12), quantity_is="total")
    amending.decide_amendment(
        actor=floor.person("bob"),
        amendment_id=amendment.pk,
        digest=amendment.request.digest,
        is_yes=False,
        reason="enough",
    )
    floor.turn()
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code, _booked(floor)[2]) == (
        "denied",
        "rejected_by_person",
        0,
    )


def test_remaining_is_counted_from_the_brokers_fill(floor, order):
    floor.sim.config(fills="never")
    _fill(floor, order, 4)
    _seen(floor, order, Decimal(4))
    amendment = _amend(floor, order, quantity=Decimal(3), quantity_is="remaining")
    assert (amendment.quantity, amendment.filled_quantity) == (Decimal(7), Decimal(4))
    floor.turn()
    assert _booked(floor)[0] == Decimal(7)
    assert floor.order(order.ticket).status == "partially_filled"
    _fill(floor, order, 3)
    _seen(floor, order, Decimal(7))
    assert floor.order(order.ticket).status == "filled"


def test_a_fill_between_the_asking_and_the_sending_refuses_it(floor, order):
    amendment = _amend(floor, order, quantity=Decimal(12), quantity_is="total")
    _approve(floor, amendment)
    floor.sim.config(fills="never")
    _fill(floor, order, 4)
    floor.turn()
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code, _booked(floor)[2]) == ("denied", "order_moved", 0)


def test_terms_that_moved_at_the_broker_are_refused(floor, order):
    with broker_for(floor.login) as broker:
        from orders.tickets import terms_of

        order.quantity = Decimal(8)
        broker.amend(order.ticket.account.broker_account_id, order.broker_order_id, terms_of(order, "265598"))
    with pytest.raises(OrderMoved):
        _amend(floor, order, limit_price=_lower(order))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"quantity": Decimal(5)}, BadInput),
        ({"quantity": Decimal(10), "quantity_is": "total"}, BadInput),
        ({"stop_price": Decimal(5)}, BadInput),
        ({"limit_price": Decimal("100.001")}, RiskRefused),
        ({"quantity": Decimal(100_000), "quantity_is": "total"}, RiskRefused),
    ],
)
def test_what_makes_no_sense_or_breaks_a_limit_is_refused(floor, order, wanted, error):
    with pytest.raises(error):
        _amend(floor, order, **wanted)
    assert not Amendment.objects.exists()


def test_another_bots_order_and_one_that_is_being_canceled_are_not_amended(floor, order):
    from dataclasses import replace
    from uuid import uuid4

    with pytest.raises(NotFound):
        _amend(floor, order, replace(floor.scanner, id=uuid4()), limit_price=_lower(order))
    services.cancel_order(actor=floor.scanner, order_id=order.pk)
    with pytest.raises(StateConflict):
        _amend(floor, order, limit_price=_lower(order))


def test_a_halt_stops_an_amendment_and_a_cancel_ends_it(floor, order):
    amendment = _amend(floor, order, limit_price=_lower(order))
    halting.halt_trading(mode="stop_new", actor=ME, reason="test")
    floor.turn()
    assert _booked(floor)[2] == 0
    assert _amend(floor, order, limit_price=_lower(order)) == amendment, (
        "the same terms are the same amendment"
    )
    services.cancel_order(actor=floor.scanner, order_id=order.pk)
    floor.turn()
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code) == ("denied", "order_moved")


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_an_amendment_in_doubt_is_never_sent_again_and_is_settled_by_the_orders_own_row(floor, order, kind):
    amendment = _amend(floor, order, quantity=Decimal(6), quantity_is="total")
    floor.sim.fault(kind, path=r"/order/\d+", method="POST", times=1)
    floor.turn()
    change = ChangeAttempt.objects.get()
    assert (change.status, floor.order(order.ticket).quantity) == ("in_doubt", Decimal(10))
    for _ in range(2):
        floor.turn()
    assert _booked(floor)[2] == (1 if kind == "drop_after" else 0)
    _settle(floor)
    change.refresh_from_db()
    amendment.refresh_from_db()
    kept = Decimal(6) if kind == "drop_after" else Decimal(10)
    assert (change.status, floor.order(order.ticket).quantity) == ("settled", kept)
    results = set(Inquiry.objects.filter(change=change).values_list("result", flat=True))
    if kind == "drop_after":
        assert (amendment.status, results) == ("done", {"found"})
    else:
        assert (amendment.status, amendment.refusal_code, results) == ("denied", "never_arrived", {"absent"})
    floor.reconcile()
    floor.turn()
    assert not Drift.objects.exists()


def test_a_fill_beyond_the_old_total_while_in_doubt_does_not_end_the_order(floor, order):
    floor.sim.config(fills="never")
    amendment = _amend(floor, order, quantity=Decimal(15), quantity_is="total")
    _approve(floor, amendment)
    floor.sim.fault("drop_after", path=r"/order/\d+", method="POST", times=1)
    floor.turn()
    _fill(floor, order, 10)
    _seen(floor, order, Decimal(10))
    now = floor.order(order.ticket)
    assert (now.status, now.quantity) == ("partially_filled", Decimal(15))


def test_the_brokers_refusal_of_an_amendment_is_told_in_its_words(floor, order):
    type(floor.account.limits).objects.update(
        notional_max=10**9, gross_exposure_max=10**9, daily_turnover_max=10**9, leverage_max=100
    )
    amendment = _amend(floor, order, quantity=Decimal(9_999), quantity_is="total")
    _approve(floor, amendment)
    floor.turn()
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code) == ("denied", "broker_rejected")
    assert "EQUITY WITH LOAN VALUE" in amendment.refusal["broker_says"]
    assert floor.order(order.ticket).quantity == Decimal(10)


def test_a_question_to_an_amendment_goes_to_people_and_a_yes_answers_it_in_advance(floor, order):
    floor.sim.config(questions=["o354"])
    amendment = _amend(floor, order, quantity=Decimal(6), quantity_is="total")
    floor.turn()
    assert ChangeAttempt.objects.get().outcome["refused"] is True
    _settle(floor)
    amendment.refresh_from_db()
    assert amendment.status == "proposed"
    assert [each["id"] for each in amendment.request.facts["questions"]] == ["o354"]
    _approve(floor, amendment, "carol")
    floor.turn()
    assert _booked(floor)[0] == Decimal(6)


def test_whoever_died_while_sending_an_amendment_leaves_a_doubt(floor, order):
    amendment = _amend(floor, order, quantity=Decimal(6), quantity_is="total")
    floor.release()
    hold = floor.hold()
    with broker_for(floor.login) as broker:
        row = broker.order(order.broker_order_id)
        change = amend_sending.prepare(ME, amendment, row, None, hold)
        assert amend_sending.arm(ME, change, hold)
        assert is_conversing(floor.login), "no poll may void a question to it"
    leases.release(hold.name, hold.fence)
    floor.turn("orders-2")
    change.refresh_from_db()
    assert (change.status, change.outcome["why"], _booked(floor)[2]) == ("in_doubt", "process_died", 0)


def test_whoever_lost_its_lease_sends_no_amendment(floor, order):
    amendment = _amend(floor, order, quantity=Decimal(6), quantity_is="total")
    floor.release()
    hold = floor.hold()
    with broker_for(floor.login) as broker:
        change = amend_sending.prepare(ME, amendment, broker.order(order.broker_order_id), None, hold)
        leases.release(hold.name, hold.fence)
        with pytest.raises(LeaseLost):
            amend_sending.send(ME, change, broker, hold)
    floor.turn("orders-2")
    change.refresh_from_db()
    assert (change.status, change.outcome["sent"], _booked(floor)[2]) == ("settled", False, 0)


def test_a_halt_refuses_new_amendments(floor, order):
    halting.halt_trading(mode="stop_new", actor=ME, reason="test")
    with pytest.raises(TradingHalted):
        _amend(floor, order, limit_price=_lower(order))


def test_an_order_changes_only_by_an_amendment_that_was_sent(floor, order):
    from django.db import IntegrityError, transaction

    with pytest.raises(IntegrityError, match="never change but by"), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(quantity=Decimal(11))
    amendment = _amend(floor, order, quantity=Decimal(11), quantity_is="total")
    with pytest.raises(IntegrityError, match="consumed approval"), transaction.atomic():
        ChangeAttempt.objects.create(
            kind="amend",
            account=order.ticket.account,
            order=order,
            amendment=amendment,
            digest=amendment.digest,
        )
