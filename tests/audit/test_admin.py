"""The trail in admin: to search and to read, for those who may, and for nobody to change."""

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from audit.models import Entry
from cerbero.models import User
from tests.audit.trail import Trail


def signed_in(group: str) -> Client:
    user = User.objects.create_user("carol", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("group", ["Operator", "Approver", "Auditor", "Administrator"])
def test_every_group_can_search_and_read_entries(sealed: Trail, group: str) -> None:
    sealed.write(1)
    client = signed_in(group)
    page = client.get("/admin/audit/entry/", {"q": "thing.done", "actor_kind": "system"})
    assert page.status_code == 200
    assert page.content.count(b"icon-yes") == 9
    assert page.content.count(b"icon-no") == 1
    detail = client.get(f"/admin/audit/entry/{Entry.objects.first().pk}/change/")  # type: ignore[union-attr]
    assert detail.status_code == 200
    assert b"thing.done" in detail.content
    assert b'name="_save"' not in detail.content


def test_checkpoints_are_for_those_who_examine(sealed: Trail) -> None:
    client = signed_in("Auditor")
    assert client.get("/admin/audit/checkpoint/").status_code == 200
    assert client.get("/admin/audit/checkpoint/6/change/").status_code == 200


def test_not_even_a_superuser_changes_the_trail_in_admin(sealed: Trail) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    first = Entry.objects.first()
    assert first is not None
    for path in ("add/", f"{first.pk}/delete/"):
        assert client.post(f"/admin/audit/entry/{path}", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/audit/entry/{first.pk}/change/", {"event": "x"}).status_code == 403
    client.post(
        "/admin/audit/entry/", {"action": "delete_selected", "_selected_action": first.pk, "post": "yes"}
    )
    assert sealed.verify().ok
