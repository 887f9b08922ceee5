"""Sending: lost request, lost reply, crash between, halt between; the simulator's book is the judge."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account, Login
from brokers.services import broker_for
from cerbero import access
from cerbero.errors import BrokerUnavailable, LeaseLost
from cerbero.models import DecisionRequest, Lease
from orders import halting, submission
from orders.locks import bound_locks
from orders.models import Attempt, Execution, Order, Ticket
from orders.notices.models import Delivery, Webhook
from orders.tickets import terms_of
from tests.orders.world import until

ME = access.system("orders")
NO_GRACE = timedelta(0)


def _resting(floor) -> Ticket:
    """Approved, 3 % below the market, so that it rests."""
    ask = floor.near()
    return floor.approved(limit_price=(ask * Decimal("0.98")).quantize(Decimal("0.01")))


def _sent(floor) -> tuple[Ticket, Order, Attempt]:
    ticket = _resting(floor)
    floor.turn()
    return ticket, floor.order(ticket), Attempt.objects.get(ticket=ticket)


def test_an_approved_order_works_at_the_broker_once(floor):
    ticket, order, attempt = _sent(floor)
    assert (order.status, attempt.status) == ("accepted", "answered")
    booked = floor.at_broker()
    assert [row["cOID"] for row in booked] == [attempt.client_order_id]
    assert DecisionRequest.objects.get(ticket=ticket).status == "consumed"
    for _ in range(3):
        floor.turn()
    assert len(floor.at_broker()) == 1


def test_an_unapproved_order_is_not_sent(floor):
    floor.place(limit_price=floor.near())
    floor.turn()
    assert floor.at_broker() == []


def test_a_marketable_order_fills_and_the_fill_is_in_the_ledger_once(floor):
    ask = floor.near()
    ticket = floor.approved(limit_price=ask + 1)
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "filled")
    order = floor.order(ticket)
    assert order.filled_quantity == Decimal(10)
    assert sum(row.quantity for row in Execution.objects.filter(order=order)) == Decimal(10)
    before = Execution.objects.count()
    floor.reconcile()
    floor.turn()
    assert Execution.objects.count() == before
    assert Ticket.objects.get().status == "done"


def test_a_request_that_never_left_is_tried_again_by_the_same_attempt(floor):
    ticket = _resting(floor)
    hold = floor.hold()
    with broker_for(floor.login) as broker:
        refuse = _Refusing(broker)
        submission.submit(actor=ME, ticket=Ticket.objects.get(pk=ticket.pk), broker=refuse, hold=hold)
        attempt = Attempt.objects.get()
        assert (attempt.status, attempt.outcome) == ("prepared", {"why": "broker_unavailable"})
        submission.resume(actor=ME, attempt=attempt, broker=broker, hold=hold)
    assert Attempt.objects.get().status == "answered"
    assert len(floor.at_broker()) == 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_lost_reply_is_in_doubt_and_never_resent(floor, kind):
    floor.near()
    ticket = _resting(floor)
    floor.sim.fault(kind, path="/orders", method="POST", times=1)
    floor.turn()
    attempt = Attempt.objects.get()
    assert attempt.status == "in_doubt"
    assert floor.order(ticket).status == "submitted"
    for _ in range(3):
        floor.turn()
    assert len(floor.at_broker()) == (1 if kind == "drop_after" else 0)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_an_error_status_on_a_placement_is_in_doubt(floor, status):
    _resting(floor)
    floor.sim.fault("status", status=status, path="/orders", method="POST", times=1, when="after")
    floor.turn()
    assert Attempt.objects.get().status == "in_doubt"
    assert len(floor.at_broker()) == 1


def test_a_doubt_is_settled_by_what_the_broker_lists(floor):
    ticket = _resting(floor)
    floor.sim.fault("drop_after", path="/orders", method="POST", times=1)
    floor.turn()
    floor.reconcile()
    floor.turn()
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.outcome["found"]) == ("settled", True)
    assert floor.order(ticket).status == "accepted"
    assert len(floor.at_broker()) == 1


def test_what_never_arrived_is_said_after_the_grace_and_only_then(floor):
    ticket = _resting(floor)
    floor.sim.fault("drop_before", path="/orders", method="POST", times=1)
    floor.turn()
    for _ in range(4):
        floor.reconcile()
    assert Attempt.objects.get().status == "in_doubt", "the grace has not passed"
    floor.reconcile(grace=NO_GRACE)
    attempt = Attempt.objects.get()
    ticket.refresh_from_db()
    assert (attempt.status, ticket.status, ticket.refusal_code) == ("settled", "denied", "never_arrived")
    assert floor.order(ticket).status == "canceled"


def test_absence_is_asked_for_more_than_once(floor):
    _resting(floor)
    floor.sim.fault("drop_before", path="/orders", method="POST", times=1)
    floor.turn()
    for _ in range(2):
        floor.reconcile(grace=NO_GRACE)
        assert Attempt.objects.get().status == "in_doubt"


def test_a_crash_after_the_commit_and_before_the_wire_sends_once(floor):
    ticket = _resting(floor)
    with pytest.raises(_Crash):
        _submit_with(floor, ticket, _Crashing(before=True))
    assert (Attempt.objects.get().status, floor.at_broker()) == ("sent", [])
    _lease_runs_out()
    floor.turn("orders-2")
    assert Attempt.objects.get().status == "in_doubt", "it cannot be told from a crash after the wire"
    assert floor.at_broker() == []


def test_a_crash_after_the_wire_is_in_doubt_and_found(floor):
    ticket = _resting(floor)
    with pytest.raises(_Crash):
        _submit_with(floor, ticket, _Crashing(before=False))
    _lease_runs_out()
    floor.turn("orders-2")
    floor.reconcile()
    floor.turn("orders-2")
    assert floor.order(ticket).status == "accepted"
    assert len(floor.at_broker()) == 1


def test_a_crash_before_arming_leaves_an_attempt_that_is_sent_later(floor):
    ticket = _resting(floor)
    hold = floor.hold()
    order = ticket.orders.get()
    with broker_for(floor.login) as broker:
        moment = submission.read_moment(ticket, order, broker)
        assert submission.prepare(ME, ticket, order, moment, hold) is not None
    _lease_runs_out()
    floor.turn("orders-2")
    assert Attempt.objects.get().status == "answered"
    assert len(floor.at_broker()) == 1


def test_a_halt_between_approval_and_sending_sends_nothing(floor):
    ticket = _resting(floor)
    halting.halt_trading(mode="stop_new", actor=ME, reason="test")
    floor.turn()
    ticket.refresh_from_db()
    assert (ticket.status, floor.at_broker()) == ("allowed", [])


def test_a_halt_between_preparing_and_the_wire_sends_nothing(floor):
    ticket = _resting(floor)
    hold = floor.hold()
    order = ticket.orders.get()
    with broker_for(floor.login) as broker:
        moment = submission.read_moment(ticket, order, broker)
        attempt = submission.prepare(ME, ticket, order, moment, hold)
        halting.halt_trading(mode="stop_new", actor=ME, reason="test")
        legs = [terms_of(order, moment.facts.broker_instrument_id)]
        submission.send(ME, attempt, legs, broker, hold)
    assert (Attempt.objects.get().status, floor.at_broker()) == ("prepared", [])


def test_a_process_paused_past_its_lease_cannot_send(floor):
    ticket = _resting(floor)
    hold = floor.hold()
    order = ticket.orders.get()
    with broker_for(floor.login) as broker:
        moment = submission.read_moment(ticket, order, broker)
        attempt = submission.prepare(ME, ticket, order, moment, hold)
        _lease_runs_out()
        assert not submission.arm(ME, attempt, hold)
        with pytest.raises(LeaseLost):
            submission.prepare(ME, ticket, order, moment, hold)
    assert floor.at_broker() == []


def test_a_process_paused_between_arming_and_the_wire_sends_nothing(floor):
    """Whoever waits for the budget, or is stopped, past its lease is asked once more when it would send."""
    ticket = _resting(floor)
    hold = floor.hold()
    with broker_for(floor.login) as broker:
        submission.submit(
            actor=ME, ticket=Ticket.objects.get(pk=ticket.pk), broker=_Pausing(broker), hold=hold
        )
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.outcome, floor.at_broker()) == ("prepared", {"why": "lease_lost"}, [])
    floor.turn("orders-2")
    assert [row["cOID"] for row in floor.at_broker()] == [attempt.client_order_id]


def test_two_processes_send_one_order(floor):
    _resting(floor)
    floor.turn("orders-1")
    floor.turn("orders-2")
    assert len(floor.at_broker()) == 1


def test_a_market_that_moved_goes_back_to_people_with_new_facts(floor):
    ask = floor.near()
    ticket = floor.approved(limit_price=(ask * Decimal("0.98")).quantize(Decimal("0.01")))
    old = ticket.request_id
    type(ticket.account.limits).objects.update(drift_percent=Decimal("0.5"))
    floor.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": 2})
    until(lambda: floor.near() > ask * Decimal("1.01"))
    floor.turn()
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert ticket.request_id != old
    assert DecisionRequest.objects.get(pk=old).status == "withdrawn"
    assert ticket.request.facts["asked_again"] == "price_drifted"
    assert floor.at_broker() == []


def test_a_limit_lowered_after_the_approval_denies_and_people_are_told(floor):
    Webhook.objects.create(name="desk", host="x", sealed_url=b"", sealed_secret=b"", events=["alert.raised"])
    ticket = _resting(floor)
    type(ticket.account.limits).objects.update(quantity_max=Decimal(1))
    floor.turn()
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code, floor.at_broker()) == ("denied", "risk_refused", [])
    told = Delivery.objects.get(subject__startswith="Not sent: Buy 10 AAPL")
    assert "refused at the moment of sending: risk refused" in told.body


def test_a_login_whose_environment_does_not_match_sends_nothing(floor):
    _resting(floor)
    Login.objects.update(state="mismatched")
    floor.turn()
    assert floor.at_broker() == []


def test_a_question_off_the_list_is_answered_no_and_goes_back_to_people(floor):
    floor.sim.config(questions=["o354"])
    ticket = _resting(floor)
    floor.turn()
    assert Attempt.objects.get().outcome["refused"] is True
    for _ in range(3):
        floor.reconcile(grace=NO_GRACE)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert [question["id"] for question in ticket.request.facts["questions"]] == ["o354"]
    assert all(row["status"] not in {"Submitted", "Filled"} for row in floor.at_broker())

    floor.decide(ticket, "carol")
    floor.turn()
    assert floor.order(ticket).status == "accepted", "the approval answered the question in advance"
    assert Attempt.objects.count() == 2


def test_a_question_on_the_accounts_list_is_answered_yes(floor):
    floor.sim.config(questions=["o354"])
    Account.objects.update(allowed_question_ids=["o354"])
    ticket = _resting(floor)
    floor.turn()
    assert floor.order(ticket).status == "accepted"


def test_a_refusal_by_the_broker_is_rejected_with_its_words(floor):
    type(floor.account.limits).objects.update(
        notional_max=10**9, gross_exposure_max=10**9, daily_turnover_max=10**9, leverage_max=100
    )
    ticket = floor.approved(limit_price=floor.near(), quantity=Decimal(9_999))
    floor.turn()
    order = floor.order(ticket)
    ticket.refresh_from_db()
    assert (order.status, ticket.status) == ("rejected", "done")
    assert "EQUITY WITH LOAN VALUE" in order.text


def test_every_step_is_in_the_trail(floor):
    _sent(floor)
    events = set(Entry.objects.values_list("event", flat=True))
    assert {
        "ticket.proposed",
        "decision.made",
        "approval.approved",
        "ticket.allowed",
        "approval.consumed",
        "attempt.prepared",
        "attempt.sent",
        "ticket.sent",
        "order.submitted",
        "attempt.answered",
        "order.accepted",
    } <= events


class _Crash(BaseException):
    """The process ends here: nothing of ours runs after it."""


class _Refusing:
    """A broker whose door is shut for placements: the connection is refused."""

    def __init__(self, broker):
        self.broker = broker

    def __getattr__(self, name):
        return getattr(self.broker, name)

    def place(self, *_, **__):
        raise BrokerUnavailable


class _Pausing(_Refusing):
    """The process is stopped for longer than its lease, when it was about to send."""

    def place(self, account, legs, *, before):
        def late():
            _lease_runs_out()
            before()

        return self.broker.place(account, legs, before=late)


class _Crashing:
    def __init__(self, before):
        self.before = before

    def around(self, broker):
        outer = self

        class Broker(_Refusing):
            def place(self, account, legs, **named):
                if not outer.before:
                    self.broker.place(account, legs, **named)
                raise _Crash

        return Broker(broker)


def _submit_with(floor, ticket, crashing):
    """Submit with a broker that kills the process, which then writes nothing more."""
    hold = floor.hold()
    with broker_for(floor.login) as broker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "doubt", lambda *_, **__: None)
        submission.submit(
            actor=ME, ticket=Ticket.objects.get(pk=ticket.pk), broker=crashing.around(broker), hold=hold
        )


def _lease_runs_out():
    Lease.objects.filter(name__startswith="place:").update(expires_at=timezone.now() - timedelta(seconds=1))


def test_an_arming_is_durable_also_where_the_server_does_not_wait_for_its_log(db):
    """The tests' own server is such a one; `make faults` lets it crash right after (database | restarted at …)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("off",)
        bound_locks()
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
