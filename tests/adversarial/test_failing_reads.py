"""The database fails in each statement of the gate, and at each commit: nothing is sent and nothing half-written."""

from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from audit.models import Entry
from brokers.services import broker_for
from cerbero import access
from cerbero.errors import PolicyUnreadable
from cerbero.models import Decision, DecisionRequest, Lease
from orders import submission
from orders.models import TICKET_ROWS, Attempt, Order, Ticket
from tests.adversarial.hands import bearer, place

ME = access.system("orders")
STATEMENTS_MAX = 120
SAYS_SO = ("tool.called", "decision.refused", "orders.interrupted")


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
def _a_commit_fails(monkeypatch: pytest.MonkeyPatch):
    commit, failures = connection._commit, [OperationalError("the commit was not heard")]

    def fail() -> None:
        if failures:
            raise failures.pop()
        commit()

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", fail)
        yield


def _rows() -> tuple[Any, ...]:
    """Everything that the gate writes, as it stands; but for what says that a step failed."""
    return (
        list(Ticket.objects.order_by("id").values_list("id", "status", "request_id")),
        list(Order.objects.order_by("id").values_list("id", "status")),
        list(DecisionRequest.objects.order_by("id").values_list("id", "status")),
        Decision.objects.count(),
        list(Attempt.objects.order_by("id").values_list("id", "status")),
        Entry.objects.exclude(event__in=SAYS_SO).count(),
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


def _process_says_so(siege: Any, attempt: Any) -> None:
    """Whichever statement of its round fails, the orders process enters that it was interrupted, and goes on."""
    with connection.execute_wrapper(Broken(1)):
        siege.process(Ticket.objects.first, 3)
    attempt.told("orders.interrupted", why="OperationalError")


def test_each_statement_of_a_proposal(siege, attempt):
    key, headers = uuid4().hex, bearer(siege)
    siege.quote()
    before, statuses = _rows(), []

    def nothing_or_one_question() -> None:
        """Once it is asked, only the answer can get lost: the same key asks nothing more."""
        asked = Ticket.objects.filter(idempotency_key=key).values_list("status", flat=True)
        assert list(asked) == ["proposed"] or _rows() == before
        siege.quote()

    act = lambda: statuses.append(place(headers, siege, key).status_code)  # noqa: E731
    assert _break_each(act, nothing_or_one_question) > 5
    assert set(statuses[:-1]) <= {500, 503}
    assert Ticket.objects.filter(idempotency_key=key).count() == 1
    attempt.told("tool.called", outcome="internal_error")


def test_each_statement_of_a_decision(siege, attempt):
    ticket = siege.place()
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: siege.desk.decide(ticket), unchanged) > 5
    assert Ticket.objects.get(pk=ticket.pk).status == "allowed"
    attempt.told("decision.refused", code="database_unavailable")


def test_each_statement_of_preparing(siege, attempt):
    ticket = siege.approved()
    order, hold = siege.desk.order(ticket), siege.hold()
    fresh = Ticket.objects.select_related(*TICKET_ROWS).get(pk=ticket.pk)
    with broker_for(siege.desk.login) as broker:
        moment = submission.read_moment(fresh, order, broker)
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: submission.prepare(ME, fresh, order, moment, hold), unchanged) > 10
    assert Attempt.objects.get(ticket=ticket).status == "prepared"
    _process_says_so(siege, attempt)


def test_each_statement_of_arming(siege, attempt):
    ticket = siege.approved()
    sending, _, _, hold = siege.prepared(ticket)
    before = _rows()

    def unchanged() -> None:
        assert _rows() == before

    assert _break_each(lambda: submission.arm(ME, sending, hold), unchanged) > 3
    assert Attempt.objects.get(ticket=ticket).status == "sent"
    _process_says_so(siege, attempt)


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
    headers = bearer(siege)
    acts: dict[str, tuple[Callable[[], Any], str]] = {
        "propose": (lambda: place(headers, siege), "tool.called"),
        "decide": (lambda: siege.desk.decide(ticket), "decision.refused"),
        "prepare": (lambda: siege.process(lambda: siege.prepared(ticket), 3), "orders.interrupted"),
        "arm": (lambda: siege.process(lambda: submission.arm(ME, sending, hold), 3), "orders.interrupted"),
    }
    act, told = acts[step]
    with _a_commit_fails(monkeypatch), suppress(OperationalError):
        act()
    connection.close()
    assert _rows() == before
    attempt.told(told)


def test_each_statement_of_a_whole_turn(siege, attempt):
    """Whichever statement fails, also after the wire: one order of a ticket at the broker at most, then asked for."""
    tickets = []
    for at in range(1, 4 * STATEMENTS_MAX, 20):
        siege.quote()
        ticket = siege.approved(quantity=1 + at % 50)
        tickets.append(ticket)
        broken = Broken(at)
        try:
            with connection.execute_wrapper(broken):
                siege.process(rounds=3)
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
    attempt.expects = attempt.sent()
    assert attempt.expects == len(booked)
    attempt.told("orders.interrupted")
