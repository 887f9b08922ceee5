"""Changing limits in admin: tightening counts at once, loosening waits for a second Administrator."""

from datetime import time
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.forms.models import model_to_dict
from django.test import Client

from audit.models import Entry
from cerbero import decisions
from cerbero.access import person
from cerbero.errors import AlreadyDecided, PermissionMissing, SelfApproval, StateConflict
from cerbero.models import DecisionRequest
from orders import limit_changes, loop
from orders.limit_changes import loosened
from orders.models import Limits, LimitSet
from tests.orders import world


@pytest.fixture
def desk(fresh_database):
    found = world.build()
    for name in ("bob", "carol"):
        found.people[name].groups.add(Group.objects.get(name="Administrator"))
    return found


def actor(desk, name):
    return person(type(desk.people[name]).objects.get(pk=desk.people[name].pk))


def change(desk, name="bob", **values):
    row = Limits.objects.get()
    for field, value in values.items():
        setattr(row, field, value)
    with transaction.atomic():
        return limit_changes.change_limits(actor=actor(desk, name), row=row)


def confirm(desk, request, name="carol", **options):
    words = {"digest": request.digest, "is_yes": True} | options
    return limit_changes.decide_limits(actor=actor(desk, name), request_id=request.pk, **words)


@pytest.mark.parametrize(
    ("name", "old", "new", "does_loosen"),
    [
        ("notional_max", Decimal(10), Decimal(11), True),
        ("notional_max", Decimal(10), Decimal("10.00"), False),
        ("notional_max", Decimal(10), Decimal(9), False),
        ("cushion_min", Decimal("0.1"), Decimal("0.05"), True),
        ("repeats_window_seconds", 60, 30, True),
        ("collar_period_seconds", 60, 90, False),
        ("allows_short_sale", False, True, True),
        ("allows_opening", True, False, False),
        ("asset_classes", ["STK", "ETF"], ["ETF"], False),
        ("asset_classes", ["STK"], ["STK", "FUT"], True),
        ("asset_classes", ["STK"], [], True),
        ("opens_at", None, time(9), False),
        ("opens_at", time(9), None, True),
        ("closes_at", time(16), time(17), True),
    ],
)
def test_what_loosens_is_told_from_what_tightens(name, old, new, does_loosen):
    before, after = Limits(**{name: old}), Limits(**{name: new})
    assert loosened(before, after) == ([name] if does_loosen else [])


def test_a_set_is_loosened_by_saying_less(desk):
    narrow = LimitSet(notional_max=Decimal(5), symbols=["AAPL"])
    assert loosened(narrow, LimitSet()) == ["notional_max", "symbols"]
    assert loosened(LimitSet(), narrow) == []
    new = LimitSet(bot=desk.bot, quantity_max=Decimal(1))
    assert limit_changes.change_limits(actor=actor(desk, "bob"), row=new) is None
    assert LimitSet.objects.get().quantity_max == 1


def test_tightening_counts_at_once(desk):
    assert change(desk, notional_max=Decimal(5)) is None
    assert Limits.objects.get().notional_max == 5


def test_loosening_counts_when_another_administrator_says_so(desk):
    request = change(desk, notional_max=Decimal(200_000), allows_short_sale=True, opens_at=time(9, 30))
    assert Limits.objects.get().notional_max == 100_000
    with pytest.raises(SelfApproval):
        confirm(desk, request, "bob")
    with pytest.raises(PermissionMissing):
        confirm(desk, request, "alice")
    confirm(desk, request)
    row = Limits.objects.get()
    assert (row.notional_max, row.allows_short_sale, row.opens_at) == (200_000, True, time(9, 30))
    entry = Entry.objects.get(event="limits.changed")
    assert (entry.actor_name, entry.details["before"]["notional_max"]) == ("carol", "100000")
    with pytest.raises(AlreadyDecided):
        confirm(desk, request)


def test_a_no_changes_nothing(desk):
    request = change(desk, notional_max=Decimal(200_000))
    confirm(desk, request, is_yes=False, reason="too much")
    assert Limits.objects.get().notional_max == 100_000
    assert not decisions.waiting(limit_changes.KIND).exists()


def test_a_limit_that_was_tightened_meanwhile_is_not_overrun(desk):
    request = change(desk, notional_max=Decimal(200_000))
    change(desk, "carol", notional_max=Decimal(1))
    with pytest.raises(StateConflict):
        confirm(desk, request)
    assert Limits.objects.get().notional_max == 1
    assert DecisionRequest.objects.get(pk=request.pk).status == "pending"


def test_a_proposal_ends_after_its_day(desk, monkeypatch):
    monkeypatch.setattr(limit_changes, "SECONDS", 0)
    request = change(desk, notional_max=Decimal(200_000))
    with pytest.raises(AlreadyDecided):
        confirm(desk, request)
    loop.expire_unanswered(world.access.system("orders"))
    assert DecisionRequest.objects.get(pk=request.pk).status == "expired"


def test_the_pages_propose_show_and_decide(desk):
    bob, carol = Client(), Client()
    bob.force_login(desk.people["bob"])
    carol.force_login(desk.people["carol"])
    row = Limits.objects.get()
    path = f"/admin/orders/limits/{row.pk}/change/"
    form = {name: value for name, value in model_to_dict(row).items() if value is not None}
    form |= {"asset_classes": "STK,ETF,FUT", "order_types": "limit,market,stop,stop_limit"}
    form |= {name: "on" for name in ("allows_opening", "allows_reducing", "allows_short_sale")}
    form = {name: value for name, value in form.items() if value is not False}
    assert 'value="10000"' in bob.get(path).content.decode()
    assert ">10,000<" in bob.get("/admin/orders/limits/").content.decode()
    told = bob.post(path, form | {"quantity_max": "50000"}, follow=True).content.decode()
    assert "Nothing has changed yet" in told
    assert Limits.objects.get().quantity_max == 10_000
    request = decisions.waiting(limit_changes.KIND).get()
    page = carol.get("/admin/limits/changes/").content.decode()
    assert "50000" in page
    assert request.digest in page
    decide = {"digest": request.digest, "do": "confirm"}
    assert (
        "Confirmed"
        in carol.post(f"/admin/limits/changes/{request.pk}/", decide, follow=True).content.decode()
    )
    assert Limits.objects.get().quantity_max == 50_000
    bob.post(path, form | {"quantity_max": "7"})
    assert Limits.objects.get().quantity_max == 7
