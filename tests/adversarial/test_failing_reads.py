"""The database fails in each statement of the gate, and at each commit: nothing is sent and nothing half-written."""

from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from audit.models import Entry
from brokers.services import broker_for
from cerbero import access
from cerbero.errors import PolicyUnreadable
from cerbero.models import Decision, DecisionRequest, Lease
from orders import services, submission
from orders.models import Attempt, Order, Ticket

ME = access.system("orders")
STATEMENTS_MAX = 120


class Broken:
    """Fails the n-th statement, whatever it is."""

    def __init__(self, at: int) -> None:
        self.left, self.happened = at, False

    def __call__(self, execute: Callable, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.happened = True
            raise OperationalError("the connection is lost")
        return execute(sql, params, many, context)


@contextmanager
def _commits_fail(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise OperationalError("the commit was not heard")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", fail)
        yield


def _rows() -> tuple[Any, ...]:
    """Everything that the gate writes, as it stands."""
    return (
        list(Ticket.objects.order_by("id").values_list("id", "status", "request_id")),
        list(Order.objects.order_by("id").values_list("id", "status")),
        list(DecisionRequest.objects.order_by("id").values_list("id", "status")),
        Decision.objects.count(),
        list(Attempt.objects.order_by("id").values_list("id", "status")),
        Entry.objects.count(),
    )


def _break_each(act: Callable[[], Any], check: Callable[[], None]) -> int:
    """Run `act` with its 1st, 2nd, … statement failing until none does; returns how many failed."""
    for at in range(1, STATEMENTS_MAX):
        broken = Broken(at)
        with suppress(OperationalError, PolicyUnreadable), connection.execute_wrapper(broken):
            act()
        if not broken.happened:
            return at - 1
        check()
    raise AssertionError("it never ends")


def test_each_statement_of_a_proposal(siege, attempt):
    siege.quote()
    proposal, before = siege.desk.proposal(limit_price=siege.resting), _rows()

    def unchanged() -> None:
        assert _rows() == before

    def place() -> None:
        services.place_order(actor=siege.desk.scanner, proposal=proposal)

    assert _break_each(place, unchanged) > 5
    assert Ticket.objects.filter(idempotency_key=proposal.idempotency_key).count() == 1
    attempt.told_by.append("the caller (database_unavailable)")


def test_each_statement_of_a_decision(siege, attempt):
    ticket = siege.place()
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: siege.desk.decide(ticket), unchanged) > 5
    assert Ticket.objects.get(pk=ticket.pk).status == "allowed"
    attempt.told_by.append("the caller (database_unavailable)")


def test_each_statement_of_preparing(siege, attempt):
    ticket = siege.approved()
    order, hold = siege.desk.order(ticket), siege.hold()
    fresh = Ticket.objects.select_related(*submission.TICKET_ROWS).get(pk=ticket.pk)
    with broker_for(siege.desk.login) as broker:
        moment = submission.read_moment(fresh, order, broker)
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: submission.prepare(ME, fresh, order, moment, hold), unchanged) > 10
    assert Attempt.objects.get(ticket=ticket).status == "prepared"
    attempt.told_by.append("the log; asked again")


def test_each_statement_of_arming(siege, attempt):
    ticket = siege.approved()
    sending, _, _, hold = siege.prepared(ticket)
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: submission.arm(ME, sending, hold), unchanged) > 3
    assert Attempt.objects.get(ticket=ticket).status == "sent"
    attempt.told_by.append("the log; asked again")


@pytest.mark.parametrize("step", ["propose", "decide", "prepare", "arm"])
def test_a_commit_that_fails(siege, attempt, monkeypatch, step):
    ticket = siege.place()
    if step in {"prepare", "arm"}:
        siege.desk.decide(ticket)
    sending, hold = None, None
    if step == "arm":
        sending, _, _, hold = siege.prepared(ticket)
    before = _rows()
    attempt.on(ticket)
    acts: dict[str, Callable[[], Any]] = {
        "propose": siege.place,
        "decide": lambda: siege.desk.decide(ticket),
        "prepare": lambda: siege.prepared(ticket),
        "arm": lambda: submission.arm(ME, sending, hold),
    }
    with _commits_fail(monkeypatch), pytest.raises(OperationalError):
        acts[step]()
    connection.close()
    assert _rows() == before
    attempt.told_by.append("the caller and the log")


def test_each_statement_of_a_whole_turn(siege, attempt):
    """Whichever statement fails, also after the wire: one order of a ticket at the broker at most, then asked for."""
    tickets = []
    for at in range(1, STATEMENTS_MAX, 5):
        siege.quote()
        ticket = siege.approved(quantity=1 + at)
        tickets.append(ticket)
        broken = Broken(at)
        try:
            with connection.execute_wrapper(broken):
                siege.turn(f"orders-{at}")
        except OperationalError:
            pass
        if not broken.happened:
            break
        Lease.objects.filter(name__startswith="place:").update(
            expires_at=timezone.now() - timedelta(seconds=1)
        )
        siege.turn(f"after-{at}")
        siege.desk.release(f"after-{at}")
    else:
        raise AssertionError("it never ends")
    ids = set(Attempt.objects.filter(ticket__in=tickets).values_list("client_order_id", flat=True))
    booked = [row["cOID"] for row in siege.desk.at_broker() if row["cOID"] in ids]
    assert len(booked) == len(set(booked))
    assert Attempt.objects.filter(ticket__in=tickets).count() <= len(tickets)
    attempt.expects = len(siege.arrivals()) - attempt.arrived
    assert attempt.expects == len(booked)
    attempt.told_by.append("the log; asked again")
