"""How old every secret is, who is told when it comes due, and what pages."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from brokers.credentials import use_credential
from brokers.generation import new_pair
from brokers.models import Credential
from cerbero.models import User
from keyrotation.calendar import DARK_MAX, PROPOSE_AGAIN, ages, watch
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation, SystemKey
from keyrotation.services import PROPOSER
from orders.notices.models import Delivery
from tests.brokers.logins import SYSTEM
from tests.keyrotation.test_doors import signed_in
from tests.keyrotation.test_every_door import one_pair


@pytest.fixture
def carol(desk, settings, monkeypatch):
    monkeypatch.setattr("keyrotation.services.new_pair", one_pair)
    settings.EMAIL_IS_ON = True
    User.objects.filter(username="carol").update(email="carol@example.com")
    return signed_in("carol")


def told() -> list[str]:
    """What the next look tells that no look has told before."""
    known = set(Delivery.objects.values_list("pk", flat=True))
    watch(PROPOSER)
    return [row.subject for row in Delivery.objects.order_by("pk") if row.pk not in known]


def due_in(days: float) -> None:
    Credential.objects.filter(status="active").update(created_at=timezone.now() - timedelta(days=365 - days))


def test_what_comes_due_is_told_thirty_fourteen_seven_and_one_days_before_and_when_it_is_late(desk, carol):
    said = {}
    for days in (31.5, 29.9, 29, 14.5, 13.9, 7.5, 6.9, 1.5, 0.9, -0.1, -3):
        due_in(days)
        said[days] = told()
    assert said == {days: [] for days in said} | {
        29.9: ["Due within 30 days: the broker keys of desk"],
        13.9: ["Due within 14 days: the broker keys of desk"],
        6.9: ["Due within 7 days: the broker keys of desk"],
        0.9: ["Due within 1 day: the broker keys of desk"],
        -0.1: ["Overdue: the broker keys of desk"],
    }


def test_a_reminder_that_fell_into_a_silence_is_told_late_and_once(desk, carol):
    due_in(12.5)
    assert told() == ["Due within 14 days: the broker keys of desk"]
    assert told() == []


def test_the_yearly_rotation_is_proposed_and_stays_unused(desk, carol):
    due_in(29.5)
    told()
    proposed = Rotation.objects.get()
    assert (proposed.status, proposed.requested_by) == ("generated", "calendar")
    assert Credential.objects.get(status="active") == desk.active


def test_another_token_and_the_way_back_make_keys_no_younger(desk, carol):
    due_in(29.5)
    (before,) = (each.due_at for each in ages() if each.kind == "broker keys")
    for kind in (Kind.TOKEN, Kind.KEYS):
        staged = desk.start(kind=kind).rotation
        with transaction.atomic():
            in_use = Credential.objects.select_related("login").get(pk=staged.credential_id)
            former = use_credential(in_use, actor=SYSTEM)
        (due_at,) = (each.due_at for each in ages() if each.kind == "broker keys")
        assert (due_at == before) == (kind == Kind.TOKEN)
        Rotation.objects.filter(pk=staged.pk).update(status="aborted")
    assert former is not None
    use_credential(former, actor=SYSTEM)
    assert [each.due_at for each in ages() if each.kind == "broker keys"] == [before]


def test_what_people_ended_is_proposed_again_a_week_later_and_not_within_the_minute(desk, carol):
    due_in(29.5)
    told()
    desk.abort(Rotation.objects.get())
    told()
    assert Rotation.objects.count() == 1
    Rotation.objects.update(ended_at=timezone.now() - PROPOSE_AGAIN - timedelta(hours=1))
    told()
    assert Rotation.objects.open().count() == 1


def test_every_secret_has_an_age_on_the_page_and_a_new_machine_key_is_seen(desk, carol, settings):
    told()
    assert {each.kind for each in ages()} >= {"broker keys", "system key"}
    text = carol.get(reverse("admin:keyrotation_calendar")).content.decode()
    for name in ("broker keys", "SECRET_KEY", "ENCRYPTION_KEY"):
        assert name in text
    before = SystemKey.objects.count()
    settings.SECRET_KEY = new_pair().public.fingerprint
    told()
    assert SystemKey.objects.count() == before + 1


def test_a_login_that_is_dark_for_longer_than_planned_pages_everybody_once(desk, carol):
    rotation = desk.start().rotation
    row = Rotation.objects.filter(pk=rotation.pk)
    row.update(dark_since=timezone.now() - DARK_MAX + timedelta(minutes=1))
    assert told() == []
    row.update(dark_since=timezone.now() - DARK_MAX - timedelta(minutes=1))
    assert told() == ["URGENT desk is dark for longer than planned"]
    assert told() == []


def test_a_stopped_rotation_asks_for_a_person_until_one_has_looked(desk, carol):
    rotation = desk.start().rotation
    Rotation.objects.filter(pk=rotation.pk).update(stopped_at=timezone.now(), problem="the broker says no")
    assert told() == ["URGENT The rotation of desk asks for a person"]
    url = reverse("admin:keyrotation_rotation_change", args=[rotation.pk])
    assert "Try again" in carol.get(url).content.decode()
    carol.post(reverse("admin:rotation_end", args=[rotation.pk]), {"do": "retry"})
    assert Rotation.objects.get().stopped_at is None
