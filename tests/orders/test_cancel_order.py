"""Canceling works in every state; a bot cancels its own."""

from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.ibkr.client import IbkrClient
from cerbero.errors import BrokerUnavailable, NotFound, PermissionMissing
from cerbero.models import DecisionRequest
from orders import canceling, halting, services
from orders.models import ChangeAttempt, Inquiry, Order, Ticket
from tests.orders.world import until


def _cancel(world, order, actor=None):
    return services.cancel_order(actor=actor or world.scanner, order_id=order.pk)


def _working(floor, **changes):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price, **changes)
    floor.turn()
    order = floor.order(ticket)
    assert order.status == "accepted"
    return order


def test_a_waiting_order_is_withdrawn_with_its_question(desk):
    ticket = desk.place()
    order = _cancel(desk, desk.order(ticket))
    ticket.refresh_from_db()
    assert (order.status, ticket.status) == ("canceled", "withdrawn")
    assert DecisionRequest.objects.get().status == "withdrawn"


def test_an_approved_order_that_was_not_sent_is_withdrawn(desk):
    ticket = desk.approved()
    _cancel(desk, desk.order(ticket))
    ticket.refresh_from_db()
    assert ticket.status == "withdrawn"
    assert not Ticket.objects.sendable().exists()


def test_canceling_what_ended_changes_nothing(desk):
    order = desk.order(desk.decide(desk.place(), is_yes=False, reason="no"))
    assert _cancel(desk, order).status == "canceled"
    assert not Entry.objects.filter(event="cancel.requested").exists()


def test_a_bot_cannot_cancel_another_bots_order(desk):
    order = desk.order(desk.place())
    with pytest.raises(NotFound):
        _cancel(desk, order, replace(desk.scanner, id=uuid4()))


def test_a_person_needs_the_permission(desk):
    order = desk.order(desk.place())
    desk.people["carol"].groups.clear()
    with pytest.raises(PermissionMissing):
        _cancel(desk, order, desk.person("carol"))
    assert _cancel(desk, order, desk.person("bob")).status == "canceled"


def test_a_working_order_is_canceled_at_the_broker_at_once(floor):
    order = _working(floor)
    assert _cancel(floor, order).status == "pending_cancel"
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "canceled")
    assert [row["status"] for row in floor.at_broker()] == ["Cancelled"]
    assert Ticket.objects.get().status == "done"


def test_a_cancel_works_while_trading_is_halted(floor):
    from cerbero import access

    order = _working(floor)
    halting.halt_trading(mode="stop_new", actor=access.system("test"), reason="test")
    _cancel(floor, order)
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "canceled")


def test_a_cancel_that_crosses_a_fill_is_filled(floor):
    floor.sim.config(cancel_delay=1.0)
    order = _working(floor)
    _cancel(floor, order)
    floor.sim.control("POST", "/_sim/fill", {"order_id": int(order.broker_order_id), "quantity": 10})
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "filled")


def test_a_cancel_that_the_broker_did_not_hear_is_asked_again(floor):
    order = _working(floor)
    floor.sim.fault("status", status=503, path="/order/", method="DELETE", times=1, when="before")
    assert _cancel(floor, order).status == "pending_cancel"
    Order.objects.update(cancel_requested_at="2026-01-01T00:00:00Z")
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "canceled")


def _asked(order):
    return [
        (row.status, row.outcome) for row in ChangeAttempt.objects.filter(order=order).order_by("prepared_at")
    ]


def test_a_cancel_is_a_row_before_the_wire_and_its_answer_after(floor, monkeypatch):
    order = _working(floor)
    seen = []
    cancel = IbkrClient.cancel

    def look(self, *words, **named):
        seen.extend(ChangeAttempt.objects.values_list("status", flat=True))
        return cancel(self, *words, **named)

    monkeypatch.setattr(IbkrClient, "cancel", look)
    _cancel(floor, order, floor.person("bob"))
    assert seen == ["sent"]
    assert _asked(order) == [("answered", {"accepted": True})]
    assert ChangeAttempt.objects.get().asked_by == "bob"


def test_a_refused_cancel_is_answered_and_only_reports_say_what_became_of_the_order(floor):
    order = _working(floor)
    floor.sim.control("POST", "/_sim/fill", {"order_id": int(order.broker_order_id), "quantity": 10})
    _cancel(floor, order)
    ((status, outcome),) = _asked(order)
    assert (status, outcome["why"], outcome["refused"]) == (
        "answered",
        "broker_rejected",
        "Order is inactive",
    )
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "filled")


def test_a_cancel_that_certainly_did_not_leave_says_so(floor, monkeypatch):
    order = _working(floor)
    monkeypatch.setattr(IbkrClient, "cancel", _refuse)
    _cancel(floor, order)
    assert _asked(order) == [("settled", {"sent": False, "why": "broker_unavailable"})]


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_cancel_in_doubt_is_looked_for_by_the_orders_own_status(floor, kind):
    floor.sim.config(cancel_delay=30)
    order = _working(floor)
    floor.sim.fault(kind, path="/order/", method="DELETE", times=1)
    _cancel(floor, order)
    assert [status for status, _ in _asked(order)] == ["in_doubt"]
    Order.objects.update(cancel_requested_at="2026-01-01T00:00:00Z")
    floor.turn()
    rows = ChangeAttempt.objects.filter(order=order).order_by("prepared_at")
    inquiry = Inquiry.objects.get(change=rows[0])
    if kind == "drop_after":
        assert (inquiry.result, rows.count()) == ("found", 1), "it was heard and is not asked for again"
    else:
        assert (inquiry.result, rows.count(), rows[1].status) == ("absent", 2, "answered")
    assert rows[0].status == "settled"


def test_a_cancel_whose_asker_died_is_settled_though_the_order_has_ended(floor):
    order = _working(floor)
    _cancel(floor, order)
    until(lambda: floor.reconcile() or floor.turn() or floor.order(order.ticket).status == "canceled")
    killed = canceling._begin(floor.person("bob"), floor.account, order.broker_order_id, order)
    long_ago = timezone.now() - 2 * canceling.SENDING_MAX
    ChangeAttempt.objects.filter(pk=killed.pk).update(sent_at=long_ago)
    settled = ChangeAttempt.objects.filter(pk=killed.pk, status="settled")
    until(lambda: floor.turn() or settled.exists())
    killed.refresh_from_db()
    assert (killed.status, killed.outcome["order"]) == ("settled", "canceled")


def test_an_order_in_doubt_is_canceled_as_soon_as_its_broker_id_is_known(floor):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.sim.fault("drop_after", path="/orders", method="POST", times=1)
    floor.turn()
    order = _cancel(floor, floor.order(ticket))
    assert (order.status, order.cancel_requested_at is not None) == ("submitted", True)
    Order.objects.update(cancel_requested_at="2026-01-01T00:00:00Z")
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "canceled")


def _refuse(*_, **__):
    raise BrokerUnavailable
