"""Reducing risk by hand: closing a position and canceling all of an account, in a browser's way."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from orders.models import Order, Position, Ticket
from tests.orders import world


def sign_in(desk: Any, name: str = "bob") -> Client:
    client = Client()
    client.force_login(desk.people[name])
    return client


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


@pytest.fixture
def desk(fresh_database: Any) -> Any:
    return world.build()


@pytest.fixture
def held(desk: Any) -> Position:
    return Position.objects.create(
        account=desk.account,
        broker_instrument_id=world.AAPL,
        symbol="AAPL",
        instrument=desk.aapl,
        quantity=Decimal(60),
        currency="USD",
        as_of=timezone.now(),
    )


def path_of(row: Position) -> str:
    return f"/admin/positions/{row.account_id}/{row.broker_instrument_id}/close/"


def test_the_list_leads_to_a_page_that_asks_first(desk: Any, held: Position) -> None:
    bob = sign_in(desk)
    assert path_of(held) in text_of(bob.get("/admin/orders/position/"))
    asked = text_of(bob.get(path_of(held)))
    assert "until nothing is held" in asked
    assert '<span class="sell">Sell</span>' in asked
    assert not Ticket.objects.exists()


def test_a_broker_that_cannot_be_read_closes_nothing_and_says_so(desk: Any, held: Position) -> None:
    told = text_of(sign_in(desk).post(path_of(held), {"key": "k1"}, follow=True))
    assert re.search(r"\((position_unknown|login_disabled|credential_missing|session_expired)", told)
    assert not Ticket.objects.exists()


@pytest.mark.parametrize("quantity", ["many", "-1", "0", "NaN", "Infinity", "1e-30", "1e999", "0.123456789"])
def test_a_quantity_that_is_none_is_refused_before_the_broker_is_asked(
    desk: Any, held: Position, quantity: str
) -> None:
    fields = {"key": "k1", "quantity": quantity}
    assert "bad_input" in text_of(sign_in(desk).post(path_of(held), fields, follow=True))


def test_without_the_permission_nothing_is_closed_or_canceled(desk: Any, held: Position) -> None:
    desk.people["carol"].groups.set(Group.objects.filter(name="Auditor"))
    carol = sign_in(desk, "carol")
    close_all = f"/admin/positions/{desk.account.pk}/close-all/"
    for path in (path_of(held), close_all, f"/admin/cancel-all/{desk.account.pk}/", "/admin/cancel-all/"):
        assert carol.get(path).status_code == 403
        assert carol.post(path, {"key": "k1"}).status_code in {403, 405}


def test_all_of_an_account_is_canceled_each_by_itself(desk: Any) -> None:
    waiting, allowed = desk.place(), desk.approved()
    bob, path = sign_in(desk), f"/admin/cancel-all/{desk.account.pk}/"
    assert path in text_of(bob.get("/admin/cancel-all/"))
    assert "/admin/cancel-all/" in text_of(bob.get("/admin/orders/order/"))
    assert text_of(bob.get(path)).count("Buy 10 AAPL limit 190.00 day") == 2
    assert not Order.objects.filter(status="canceled").exists()
    told = text_of(bob.post(path, follow=True))
    assert "Cancel asked for 2 of 2 orders" in told
    assert "Nothing waits or works here" in told
    assert set(Order.objects.values_list("status", flat=True)) == {"canceled"}
    subjects = set(Entry.objects.filter(event="ticket.withdrawn").values_list("subject_id", flat=True))
    assert subjects == {str(waiting.pk), str(allowed.pk)}


def test_a_person_closes_while_halted_and_two_presses_are_one_close(
    fresh_database: Any, fresh_simulator: Any
) -> None:
    from brokers.connections import close_connections
    from orders import halting

    fresh_simulator.config(fill_delay=[0.01, 0.02], questions=[])
    desk = world.connect(fresh_simulator)
    ticket = desk.approved(limit_price=desk.near() + 1)
    desk.turn()
    world.until(lambda: desk.reconcile() or desk.turn() or desk.order(ticket).status == "filled")
    row = Position.objects.get(broker_instrument_id=world.AAPL)
    halting.halt_trading(mode="stop_new", actor=desk.person("bob"), reason="test")
    bob = sign_in(desk)
    key = re.search(r'name="key" value="([\w-]+)"', text_of(bob.get(path_of(row))))
    assert key
    assert "is on its way" in text_of(bob.post(path_of(row), {"key": key[1]}, follow=True))
    text_of(bob.post(path_of(row), {"key": key[1]}, follow=True))
    close_all = f"/admin/positions/{desk.account.pk}/close-all/"
    assert close_all in text_of(bob.get("/admin/cancel-all/"))
    assert '<span class="sell">Sell</span>' in text_of(bob.get(close_all))
    told = text_of(bob.post(close_all, {"key": "all"}, follow=True))
    assert "AAPL: " in told
    assert "nothing_to_close" in told
    ticket = Ticket.objects.get(reduce_only=True)
    assert (ticket.status, ticket.person) == ("allowed", desk.people["bob"])
    assert desk.order(ticket).quantity == row.quantity
    close_connections()
