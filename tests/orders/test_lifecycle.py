"""The tables in Python and the triggers in the database are one thing."""

import itertools
import re
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction

from cerbero import decisions
from orders import lifecycle
from orders.lifecycle import (
    AMENDMENT,
    ATTEMPT,
    DRIFT,
    MANDATE,
    ORDER,
    POLICY,
    TICKET,
    AttemptStatus,
    OrderStatus,
    TicketStatus,
)
from orders.models import Attempt, Drift, Mandate, Order, PolicyVersion, Ticket

TABLES = {
    "orders_ticket": (TICKET, TicketStatus),
    "orders_order": (ORDER, OrderStatus),
    "orders_attempt": (ATTEMPT, AttemptStatus),
    "orders_changeattempt": (ATTEMPT, AttemptStatus),
    "orders_amendment": (AMENDMENT, TicketStatus),
    "orders_policyversion": (POLICY, PolicyVersion.Status),
    "orders_mandate": (MANDATE, Mandate.Status),
    "orders_drift": (DRIFT, Drift.Status),
    "cerbero_decisionrequest": (decisions.MOVES, decisions.DecisionStatus),
}


@pytest.mark.parametrize("table", TABLES)
def test_the_database_allows_exactly_the_moves_of_the_table(db, table):
    moves, _ = TABLES[table]
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = %s", [f"{table}_moves"])
        source = cursor.fetchone()[0]
    in_database = set(re.findall(r"'(\w+>\w+)'", source))
    assert in_database == {f"{before}>{after}" for before, afters in moves.items() for after in afters}


def test_every_illegal_move_of_an_order_is_refused_by_the_database(desk):
    order = desk.order(desk.place())
    legal = {(before, after) for before, afters in ORDER.items() for after in afters}
    for before, after in itertools.permutations(OrderStatus, 2):
        with _standing_at("orders_order", order.pk, before), transaction.atomic():
            changed = Order.objects.filter(pk=order.pk)
            if (before, after) in legal:
                assert changed.update(status=after) == 1
            else:
                with pytest.raises(IntegrityError, match="not a legal move"), transaction.atomic():
                    changed.update(status=after)


class _standing_at:
    """Put a row into a state by way of a rolled-back transaction without its trigger, as its owner could."""

    def __init__(self, table, pk, status):
        self.table, self.pk, self.status = table, pk, status

    def __enter__(self):
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        path = _path(self.status)
        for status in path:
            Order.objects.filter(pk=self.pk).update(status=status)

    def __exit__(self, *_):
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)


def _path(status):
    """A legal way from pending to a state."""
    if status == OrderStatus.PENDING:
        return []
    return ["submitted"] if status == OrderStatus.SUBMITTED else ["submitted", status]


def test_terms_never_change_and_rows_never_go(desk):
    ticket = desk.place()
    order = desk.order(ticket)
    attempts = [
        lambda: Order.objects.filter(pk=order.pk).update(quantity=11),
        lambda: Order.objects.filter(pk=order.pk).update(limit_price=1),
        lambda: Order.objects.filter(pk=order.pk).update(side="sell"),
        lambda: Ticket.objects.filter(pk=ticket.pk).update(digest="0" * 64),
        lambda: Ticket.objects.filter(pk=ticket.pk).update(reduce_only=True),
        lambda: type(ticket.request).objects.filter(pk=ticket.request_id).update(digest="0" * 64),
        lambda: type(ticket.request).objects.filter(pk=ticket.request_id).update(quorum=1, facts={}),
        lambda: _delete("orders_order", order.pk),
        lambda: _delete("cerbero_decisionrequest", ticket.request_id),
    ]
    for attempt in attempts:
        with pytest.raises(IntegrityError, match="never"), transaction.atomic():
            attempt()


def test_an_approval_by_update_without_decisions_is_refused(desk):
    ticket = desk.place()
    with pytest.raises(IntegrityError, match="quorum"), transaction.atomic():
        type(ticket.request).objects.filter(pk=ticket.request_id).update(status="approved")
    with pytest.raises(IntegrityError, match="its approval alone"), transaction.atomic():
        Ticket.objects.filter(pk=ticket.pk).update(status="allowed")


def test_an_attempt_without_a_consumed_approval_is_refused(desk):
    ticket = desk.approved()
    with pytest.raises(IntegrityError, match="consumed approval"), transaction.atomic():
        Attempt.objects.create(ticket=ticket, number=1, client_order_id="c", digest=ticket.digest, fence=1)


def test_no_other_code_writes_a_status():
    root = Path(lifecycle.__file__).parent
    writers = [
        path.name for path in root.glob("*.py") if re.search(r"update\([^)]*\bstatus=", path.read_text())
    ]
    assert not writers, "transition(), and arming, which goes through record_change() as it does"


def _delete(table, pk):
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE id = %s", [pk])
