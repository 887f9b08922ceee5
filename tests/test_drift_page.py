"""The drift page: cards with evidence, adopted or ignored in one click with a reason; and what bots read of it."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from cerbero.errors import EnvironmentMismatch, NotFound
from cerbero.leases import ClockTime
from orders.models import DayReport, Drift, Order
from orders.tools import trading as tools
from tests.orders import world


@pytest.fixture
def desk(fresh_database: Any) -> Any:
    return world.build()


def sign_in(desk: Any, name: str) -> Client:
    client = Client()
    client.force_login(desk.people[name])
    return client


def text_of(answer: Any) -> str:
    assert answer.status_code == 200
    text = answer.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
    return text


def case_of(desk: Any, **changes: Any) -> Drift:
    fields = {
        "account": desk.account,
        "kind": "position_difference",
        "subject": "x:756733:1",
        "about": "756733",
        "amount": Decimal(3),
        "cause": "split",
        "evidence": {"expected": "3", "broker": "6", "symbol": "<SPY>"},
    }
    return Drift.objects.create(**fields | changes)


def settle(client: Client, case: Drift, do: str, reason: str) -> str:
    return text_of(client.post(f"/admin/drift/{case.pk}/settle/", {"do": do, "reason": reason}, follow=True))


def test_a_case_shows_its_evidence_and_is_adopted_in_one_click(desk: Any) -> None:
    case, bob = case_of(desk), sign_in(desk, "bob")
    text = text_of(bob.get("/admin/drift/"))
    assert "&lt;SPY&gt;" in text
    assert "It looks like: <strong>split</strong>" in text
    assert "reason_required" in settle(bob, case, "adopted", " ")
    assert "The broker and our book agree" in settle(bob, case, "adopted", "two for one")
    case.refresh_from_db()
    assert (case.status, case.reason) == ("adopted", "two for one")
    assert "state_conflict" in settle(bob, case, "ignored", "again")
    assert "two for one" in text_of(bob.get("/admin/drift/"))


def test_on_live_the_other_person_finds_a_yes_and_a_no(desk: Any) -> None:
    case = case_of(desk)
    type(desk.account).objects.update(environment="live")
    bob, carol = sign_in(desk, "bob"), sign_in(desk, "carol")
    assert "Asked: another person decides." in settle(bob, case, "ignored", "known")
    case.refresh_from_db()
    assert "Yes, ignored" not in text_of(bob.get("/admin/drift/"))
    assert "Yes, ignored" in text_of(carol.get("/admin/drift/"))
    form = {"digest": case.request.digest, "answer": "yes"}
    text_of(carol.post(f"/admin/drift/decide/{case.request.pk}/", form, follow=True))
    case.refresh_from_db()
    assert (case.status, case.settled_by.username) == ("ignored", "bob")


def test_who_may_only_look_settles_nothing(desk: Any) -> None:
    case = case_of(desk)
    desk.people["carol"].groups.set(Group.objects.filter(name="Auditor"))
    carol = sign_in(desk, "carol")
    assert "Adopt</button>" not in text_of(carol.get("/admin/drift/"))
    assert carol.post(f"/admin/drift/{case.pk}/settle/", {"do": "adopted", "reason": "r"}).status_code == 403


def test_an_order_that_rests_since_a_week_waits_for_somebody_to_speak_for_it(desk: Any) -> None:
    order = desk.order(desk.place(time_in_force="gtc"))
    for status in ("submitted", "accepted"):
        Order.objects.filter(pk=order.pk).update(status=status)
    Order.objects.filter(pk=order.pk).update(created_at=ClockTime() - timedelta(days=8))
    bob = sign_in(desk, "bob")
    assert "Orders that rest since a week" in text_of(bob.get("/admin/drift/"))
    said = {"reason": "the hedge stays"}
    text = text_of(bob.post(f"/admin/drift/orders/{order.pk}/reaffirm/", said, follow=True))
    assert "Orders that rest since a week" not in text


def test_bots_read_drift_and_days_of_their_own_environment(desk: Any) -> None:
    case_of(desk)
    DayReport.objects.create(account=desk.account, day="2026-11-20", is_clean=False, body={"drift": {}})
    account = desk.account.broker_account_id
    found = tools.get_drift(desk.scanner, tools.OnAccount()).drift
    assert [(each.kind, each.cause, each.amount) for each in found] == [("position_difference", "split", 3)]
    report = tools.get_day_report(desk.scanner, tools.DayOfAccount(account=account))
    assert (str(report.day), report.is_clean) == ("2026-11-20", False)
    with pytest.raises(NotFound):
        tools.get_day_report(desk.scanner, tools.DayOfAccount(account=account, day="2026-11-19"))
    type(desk.account).objects.update(environment="live")
    assert not tools.get_drift(desk.scanner, tools.OnAccount()).drift
    with pytest.raises(EnvironmentMismatch):
        tools.get_day_report(desk.scanner, tools.DayOfAccount(account=account))
