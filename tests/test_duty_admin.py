"""The page of shifts, and webhooks in admin."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from audit.models import Entry
from orders.notices.models import Duty, Webhook
from tests.orders import world


@pytest.fixture
def desk(fresh_database: Any) -> Any:
    return world.build()


def sign_in(desk: Any, name: str) -> Client:
    client = Client()
    client.force_login(desk.people[name])
    return client


def test_a_person_goes_on_duty_and_off_it(desk: Any) -> None:
    bob = sign_in(desk, "bob")
    assert "Nobody is on duty now" in bob.get("/admin/duty/").content.decode()
    text = bob.post("/admin/duty/", {"do": "take", "hours": "8"}, follow=True).content.decode()
    assert "Now: <strong>bob</strong>" in text
    assert "duty_overlaps" in bob.post("/admin/duty/", {"hours": "1"}, follow=True).content.decode()
    assert "bad_input" in bob.post("/admin/duty/", {"hours": "many"}, follow=True).content.decode()
    bob.post("/admin/duty/", {"do": "end"})
    assert Duty.objects.now().count() == 0


def test_who_may_only_look_takes_no_shift(desk: Any) -> None:
    desk.people["carol"].groups.set(Group.objects.filter(name="Auditor"))
    carol = sign_in(desk, "carol")
    assert "Go on duty" not in carol.get("/admin/duty/").content.decode()
    assert carol.post("/admin/duty/", {"hours": "8"}).status_code == 403
    assert not Duty.objects.exists()


def test_a_webhook_is_added_with_its_secret_shown_once_and_switched_off(desk: Any) -> None:
    desk.people["carol"].groups.set(Group.objects.filter(name="Administrator"))
    carol, form = sign_in(desk, "carol"), {"name": "desk", "events": ["decision.waiting"]}
    path = "/admin/notices/webhook/"
    assert (
        "outbound_host_refused" in carol.post(f"{path}new/", form | {"url": "https://a.b/"}).content.decode()
    )
    url = "https://hooks.slack.com/services/T0zzz9"
    text = carol.post(f"{path}new/", form | {"url": url}).content.decode()
    secret = re.search(r'id="secret">(\w{64})<', text)
    assert secret
    row = Webhook.objects.get()
    pages = (path, f"{path}{row.pk}/change/", f"{path}{row.pk}/switch/", "/admin/notices/delivery/")
    for page in (*pages, "/admin/notices/duty/", "/admin/notices/seen/"):
        shown = carol.get(page)
        assert shown.status_code == 200
        assert secret[1] not in shown.content.decode()
        assert "T0zzz9" not in shown.content.decode()
    assert not row.is_active
    decide, shown = f"{path}{row.pk}/decide/", {"digest": row.request.digest, "do": "confirm"}
    assert "cannot decide" in carol.get(decide).content.decode()
    assert b"self_approval" in carol.post(decide, shown, follow=True).content
    desk.people["alice"].groups.set(Group.objects.filter(name="Administrator"))
    alice = sign_in(desk, "alice")
    assert "hooks.slack.com to be told of: decision.waiting" in alice.get(decide).content.decode()
    assert b"digest_mismatch" in alice.post(decide, shown | {"digest": "0" * 64}, follow=True).content
    row.refresh_from_db()
    assert not row.is_active
    alice.post(decide, shown)
    row.refresh_from_db()
    assert row.is_active
    carol.post(f"{path}{row.pk}/switch/", {"to": "off"})
    row.refresh_from_db()
    assert not row.is_active
    assert Entry.objects.filter(event="webhook.switched_off").count() == 1
    carol.post(f"{path}{row.pk}/switch/", {"to": "on"})
    row.refresh_from_db()
    assert (row.is_active, row.waits) == (False, True)
    no = {"digest": row.request.digest, "do": "refuse", "reason": "whose channel is it?"}
    alice.post(decide, no)
    row.refresh_from_db()
    assert (row.is_active, row.waits, row.request.status) == (False, False, "rejected")
    assert sign_in(desk, "bob").post(f"{path}{row.pk}/switch/", {"to": "on"}).status_code == 403
