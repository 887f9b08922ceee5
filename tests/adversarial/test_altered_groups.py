"""A group altered after people approved it: a leg changed, a leg added, the exits made bigger, a completion forged."""

from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from cerbero import access, leases
from orders import submission
from orders.facts import gather_for
from orders.models import Attempt, Order, Ticket
from orders.recheck import Moment
from orders.submission import Hold
from tests.orders import world

ME = access.system("orders")


@pytest.fixture
def approved(db):
    desk = world.build()
    return desk, desk.decide(desk.place_group(desk.bracket()))


def _prepare(desk, ticket):
    ticket = Ticket.objects.get(pk=ticket.pk)
    name = f"place:{desk.login.pk}"
    hold = Hold(name, leases.hold(name, "test", 30))
    order = ticket.first_order
    return submission.prepare(ME, ticket, order, Moment(gather_for(ticket.account, order), None), hold)


def _past_the_program(statement, *values):
    """As somebody who owns the database would write: no trigger looks."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


COPY = (
    "INSERT INTO orders_order (id, ticket_id, number, instrument_id, side, quantity, order_type, limit_price, "
    "stop_price, time_in_force, status, broker_order_id, filled_quantity, text, completes_id) "
    "SELECT %s, ticket_id, %s, instrument_id, side, %s, order_type, limit_price, stop_price, time_in_force, "
    "'pending', '', 0, '', {} FROM orders_order WHERE id = %s"
)


def test_a_leg_added_after_the_approval_denies_the_group(approved):
    desk, ticket = approved
    stop = Order.objects.get(ticket=ticket, number=3)
    _past_the_program(COPY.format("NULL"), uuid4(), 4, Decimal(500), stop.pk)
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "terms_changed")


@pytest.mark.parametrize(
    "changes",
    [{"quantity": Decimal(20)}, {"stop_price": Decimal(10)}, {"side": "buy"}, {"order_type": "market"}],
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_leg_altered_in_the_hands_of_the_program_denies_the_group(approved, monkeypatch, number, changes):
    desk, ticket = approved
    whole = submission.locked

    def altered(row, hold):
        state, found = whole(row, hold)
        for name, value in changes.items():
            setattr(found.legs[number - 1], name, value)
        return state, found

    monkeypatch.setattr(submission, "locked", altered)
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert ticket.refusal_code == "terms_changed"
    assert not Attempt.objects.exists()


def test_no_leg_of_a_stored_group_changes_by_the_applications_role(approved):
    _, ticket = approved
    statements = (
        "UPDATE orders_order SET quantity = 20 WHERE ticket_id = %s AND number = 3",
        "UPDATE orders_order SET stop_price = 1 WHERE ticket_id = %s AND number = 3",
        "UPDATE orders_ticket SET \"group\" = 'oto' WHERE id = %s",
    )
    for statement in statements:
        with pytest.raises(IntegrityError), transaction.atomic():
            _past_the_program(statement, ticket.pk)


def test_the_kind_of_the_group_is_what_was_approved(approved, monkeypatch):
    desk, ticket = approved
    whole = submission.locked

    def altered(row, hold):
        state, found = whole(row, hold)
        found.group = "oco"
        return state, found

    monkeypatch.setattr(submission, "locked", altered)
    assert _prepare(desk, ticket) is None


def test_a_completion_is_no_way_to_a_larger_exit_nor_to_one_that_nobody_refused(approved):
    desk, ticket = approved
    assert _prepare(desk, ticket) is not None
    stop = Order.objects.get(ticket=ticket, number=3)
    for quantity in (10, 500):
        with pytest.raises(IntegrityError), transaction.atomic():
            _past_the_program(COPY.format("id"), uuid4(), 4, Decimal(quantity), stop.pk)
    Order.objects.filter(pk=stop.pk).update(status="rejected")
    with pytest.raises(IntegrityError), transaction.atomic():
        # The entry has opened nothing.
        _past_the_program(COPY.format("id"), uuid4(), 4, Decimal(10), stop.pk)
    Order.objects.filter(ticket=ticket, number=1).update(filled_quantity=4)
    with pytest.raises(IntegrityError), transaction.atomic():
        _past_the_program(COPY.format("id"), uuid4(), 4, Decimal(5), stop.pk)
    _past_the_program(COPY.format("id"), uuid4(), 4, Decimal(4), stop.pk)


def test_a_second_attempt_of_a_sent_group_needs_something_to_complete(approved):
    desk, ticket = approved
    first = _prepare(desk, ticket)
    assert first is not None
    Attempt.objects.filter(pk=first.pk).update(status="sent")
    Attempt.objects.filter(pk=first.pk).update(status="answered")
    with pytest.raises(IntegrityError), transaction.atomic():
        Attempt.objects.create(
            ticket=ticket, number=2, client_order_id="again", digest=ticket.digest, fence=first.fence
        )
