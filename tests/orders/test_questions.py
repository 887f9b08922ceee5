"""The broker's questions: answered no unless allowed in advance, put to people in its own words, never twice."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.ibkr.client import IbkrClient
from brokers.models import Account
from brokers.services import broker_for
from cerbero import access
from cerbero.models import DecisionRequest
from orders import doubts, halting
from orders.models import Attempt, Drift, Order, Ticket
from tests.orders.world import until

NO_GRACE = timedelta(0)
LIVE = {"Submitted", "PreSubmitted", "Filled"}


def _resting(floor, **changes) -> Ticket:
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    return floor.approved(limit_price=price, **changes)


def _absent(floor) -> None:
    """Asked for in vain three times; the first is a whole round, whose reports are applied."""
    floor.reconcile(grace=NO_GRACE)
    floor.turn()
    with broker_for(floor.login) as broker:
        for _ in range(2):
            doubts.settle_absent(access.system("test"), floor.account, broker, timezone.now(), NO_GRACE)


def _asked(floor, ids) -> Ticket:
    """A ticket that came back to people because the broker asked."""
    floor.sim.config(questions=ids)
    ticket = _resting(floor)
    floor.turn()
    _absent(floor)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    return ticket


def _ids(ticket):
    return [question["id"] for question in ticket.request.facts["questions"]]


def test_the_list_of_an_account_is_empty_until_an_administrator_fills_it():
    assert Account().allowed_question_ids == []


def test_people_read_the_brokers_own_words(floor):
    ticket = _asked(floor, ["o354"])
    assert "without market data" in ticket.request.facts["questions"][0]["text"]
    assert ticket.request.facts["asked_again"] == "broker_asked"


def test_a_chain_is_put_to_people_link_by_link_and_none_twice(floor):
    ticket = _asked(floor, ["o354", "o10153"])
    assert _ids(ticket) == ["o354"], "the broker shows the second only after the first"
    floor.decide(ticket, "carol")
    floor.turn()
    _absent(floor)
    ticket.refresh_from_db()
    assert _ids(ticket) == ["o354", "o10153"]
    floor.decide(ticket, "bob")
    floor.turn()
    assert floor.order(ticket).status == "accepted"
    assert Attempt.objects.count() == 3
    assert DecisionRequest.objects.filter(subject_id=ticket.pk).count() == 3


def test_one_unknown_link_of_a_chain_is_a_no(floor):
    Account.objects.update(allowed_question_ids=["o354"])
    ticket = _asked(floor, ["o354", "o10153"])
    assert _ids(ticket) == ["o354", "o10153"]
    assert not [row for row in floor.at_broker() if row["status"] in LIVE]


def test_a_yes_that_was_lost_is_not_put_to_people_again(floor):
    """They answered this question for this ticket; the doubt is about the order now."""
    ticket = _asked(floor, ["o354"])
    floor.decide(ticket, "carol")
    floor.sim.fault("drop_before", path="/reply/", method="POST", times=1)
    floor.turn()
    assert Attempt.objects.order_by("number").last().outcome["refused"] is False
    _absent(floor)
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "never_arrived")


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_question_then_silence_is_in_doubt_and_the_reply_is_never_resent(floor, kind):
    floor.sim.config(questions=["o354"])
    Account.objects.update(allowed_question_ids=["o354"])
    ticket = _resting(floor)
    floor.sim.fault(kind, path="/reply/", method="POST", times=1)
    floor.turn()
    assert Attempt.objects.get().status == "in_doubt"
    for _ in range(2):
        floor.turn()
    live = [row for row in floor.at_broker() if row["status"] in LIVE]
    assert len(live) == (1 if kind == "drop_after" else 0)
    _absent(floor)
    expected = ("accepted", "sent") if kind == "drop_after" else ("canceled", "denied")
    ticket.refresh_from_db()
    assert (floor.order(ticket).status, ticket.status) == expected


def test_a_stale_no_that_goes_live_is_canceled_and_said(floor):
    floor.sim.config(questions=["o354"], stale_reply_goes_live=True, reply_seconds=0)
    ticket = _resting(floor)
    floor.turn()
    assert Attempt.objects.get().outcome["refused"] is True
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).broker_order_id)
    order = floor.order(ticket)
    assert order.cancel_requested_at is not None
    assert Entry.objects.filter(event="cancel.requested", subject_id=str(order.pk)).exists()
    Order.objects.filter(ticket=ticket).update(cancel_requested_at="2026-01-01T00:00:00Z")
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "canceled")
    assert len(floor.at_broker()) == 1


def test_one_that_goes_live_after_it_went_back_to_people_takes_their_question_away(floor):
    """Our no was lost; another order voided the question, and the broker let the order go all the same."""
    floor.sim.config(questions=["o354"], stale_reply_goes_live=True)
    ticket = _resting(floor)
    floor.sim.fault("drop_before", path="/reply/", method="POST", times=1)
    floor.turn()
    _absent(floor)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    floor.sim.config(questions=[])
    _resting(floor)
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).broker_order_id)
    ticket.refresh_from_db()
    assert (ticket.status, ticket.request.status) == ("sent", "withdrawn")
    assert Drift.objects.filter(order__ticket=ticket, kind="impossible_report").exists()
    Order.objects.filter(ticket=ticket).update(cancel_requested_at="2026-01-01T00:00:00Z")
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "canceled")
    assert Attempt.objects.filter(ticket=ticket).count() == 1


def test_a_question_that_no_yes_can_answer_is_put_to_people_once(floor, monkeypatch):
    """The broker names no id: nothing could be allowed in advance, and asking again would go on for ever."""
    floor.sim.config(questions=["o354"])
    place = IbkrClient.place

    def nameless(self, *words, **named):
        answer = place(self, *words, **named)
        return replace(answer, question=replace(answer.question, message_ids=()))

    monkeypatch.setattr(IbkrClient, "place", nameless)
    ticket = _resting(floor)
    floor.turn()
    _absent(floor)
    ticket.refresh_from_db()
    assert (ticket.status, _ids(ticket)) == ("proposed", [""])
    floor.decide(ticket, "carol")
    floor.turn()
    _absent(floor)
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "broker_asks_again")
    assert floor.order(ticket).status == "canceled"


def test_a_halt_in_the_middle_is_a_no_that_people_may_repeat_later(floor, monkeypatch):
    """The question was allowed; what stopped it was the halt, so its words are no reason to refuse."""
    floor.sim.config(questions=["o354"])
    Account.objects.update(allowed_question_ids=["o354"])
    place = IbkrClient.place

    def halted(self, *words, **named):
        answer = place(self, *words, **named)
        halting.halt_trading(mode="stop_new", actor=access.system("test"), reason="test")
        return answer

    monkeypatch.setattr(IbkrClient, "place", halted)
    ticket = _resting(floor)
    floor.turn()
    assert Attempt.objects.get().outcome["known"] is True
    _absent(floor)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
