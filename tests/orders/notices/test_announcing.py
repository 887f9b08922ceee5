"""Nobody misses a decision: who is told, once, when, and what happens when nobody is on duty."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from cerbero.errors import BadInput, DutyOverlaps, PermissionMissing
from cerbero.models import User
from orders.notices import announcing, duty, services, watching
from orders.notices.models import Delivery, Duty, Seen, Webhook


@pytest.fixture
def desk(db: None, settings: Any) -> Any:
    from tests.orders import world

    desk = world.build()
    settings.EMAIL_IS_ON = True
    for name, person in desk.people.items():
        person.email = f"{name}@desk.example"
        person.save()
    return desk


@pytest.fixture
def chief(desk: Any) -> User:
    """An administrator, who may not decide."""
    chief = User.objects.create_user("dora", email="dora@desk.example", is_staff=True)
    chief.groups.add(Group.objects.get(name="Administrator"))
    return chief


def shift(desk: Any, name: str) -> Duty:
    now = timezone.now()
    return Duty.objects.create(
        person=desk.people[name], starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1)
    )


def told(event: str = "decision.waiting") -> list[str]:
    return [str(row.person) for row in Delivery.objects.filter(event=event).order_by("person__username")]


def age(ticket: Any, gone: int, left: int) -> None:
    """A request whose time runs since `gone` seconds; its own row cannot be changed, so another takes its place."""
    from cerbero.models import DecisionRequest

    old, now = ticket.request, timezone.now()
    aged = DecisionRequest.objects.create(
        subject_kind="ticket",
        subject_id=ticket.pk,
        summary=old.summary,
        digest=old.digest,
        facts=old.facts,
        excluded_user_ids=old.excluded_user_ids,
        requested_by=old.requested_by,
        created_at=now - timedelta(seconds=gone),
        expires_at=now + timedelta(seconds=left),
    )
    type(ticket).objects.filter(pk=ticket.pk).update(request=aged)


def test_who_is_on_duty_is_told_and_the_bots_owner_never(desk: Any) -> None:
    shift(desk, "alice")
    shift(desk, "carol")
    desk.place()
    assert announcing.announce_waiting() == 1
    assert told() == ["carol"]
    body = Delivery.objects.get().body
    assert "Asked by scanner-alpha" in body
    assert "On duty: carol." in body


def test_with_nobody_on_duty_everybody_who_may_decide_is_told_at_once(desk: Any) -> None:
    desk.place()
    announcing.announce_waiting()
    assert told() == ["bob", "carol"]
    assert "Nobody is on duty: all who may decide are told." in Delivery.objects.first().body


def test_the_same_news_goes_once_however_often_it_is_announced(desk: Any) -> None:
    desk.place()
    assert [announcing.announce_waiting() for _ in range(3)] == [2, 0, 0]


def test_what_waits_is_told_while_beat_and_redis_are_away(desk: Any) -> None:
    desk.place()
    watching.beat()
    assert told() == ["bob", "carol"]


def test_whoever_is_on_duty_and_has_no_address_is_not_the_only_one_told(desk: Any) -> None:
    User.objects.filter(username="carol").update(email="")
    shift(desk, "carol")
    desk.place()
    announcing.announce_waiting()
    assert told() == ["bob"]
    assert "without an address" in Delivery.objects.get().body


def test_whoever_comes_on_duty_later_is_told_of_what_still_waits(desk: Any) -> None:
    shift(desk, "carol")
    desk.place()
    announcing.announce_waiting()
    shift(desk, "bob")
    assert announcing.announce_waiting() == 1
    assert told() == ["bob", "carol"]


def test_half_of_the_time_gone_tells_the_next_group_and_widens_nothing(desk: Any, chief: User) -> None:
    shift(desk, "carol")
    early, late = desk.place(), desk.place()
    age(late, 500, 400)
    announcing.announce_waiting()
    assert told("decision.escalated") == ["bob", "carol", "dora"]
    assert not Delivery.objects.filter(request=early.request, event="decision.escalated").exists()
    late.refresh_from_db()
    desk.people["dora"] = chief
    with pytest.raises(PermissionMissing):
        desk.decide(late, "dora")


def test_what_is_decided_is_told_to_nobody(desk: Any) -> None:
    desk.decide(desk.place(), is_yes=False, reason="no")
    assert announcing.announce_waiting() == 0


def test_without_mail_and_webhooks_nothing_is_written(desk: Any, settings: Any) -> None:
    settings.EMAIL_IS_ON = False
    desk.place()
    assert announcing.announce_waiting() == 0


def test_a_webhook_is_told_what_it_asked_for_while_it_is_on(desk: Any, settings: Any) -> None:
    settings.EMAIL_IS_ON = False
    common = {"sealed_url": b"x", "sealed_secret": b"x", "host": "hooks.slack.com"}
    Webhook.objects.create(name="all", **common)
    Webhook.objects.create(name="late", events=["decision.escalated"], **common)
    Webhook.objects.create(name="off", is_active=False, **common)
    desk.place()
    announcing.announce_waiting()
    row = Delivery.objects.get()
    assert (row.webhook.name, row.subject) == (
        "all",
        "[PAPER] Decision waiting: Buy 10 AAPL limit 190.00 day",
    )


def test_the_bots_words_never_leave(desk: Any) -> None:
    desk.place(reason="<!channel> https://evil.example")
    announcing.announce_waiting()
    assert "evil" not in "".join(row.subject + row.body for row in Delivery.objects.all())


def test_seen_counts_the_first_time_and_only_for_what_waits(desk: Any) -> None:
    waits, ended = desk.place(), desk.place()
    desk.decide(ended, is_yes=False, reason="no")
    for _ in range(2):
        announcing.mark_seen(desk.people["bob"], [waits.request_id, ended.request_id, waits.pk])
    assert [(row.person.username, row.request_id) for row in Seen.objects.all()] == [
        ("bob", waits.request_id)
    ]


@pytest.mark.usefixtures("fresh_database")
class TestShifts:
    def test_a_shift_is_taken_ended_and_on_the_record(self) -> None:
        from audit.models import Entry
        from tests.orders import world

        bob = world.build().person("bob")
        duty.go_on_duty(actor=bob, hours=8)
        assert [str(person) for person in duty.on_duty()] == ["bob"]
        with pytest.raises(DutyOverlaps):
            duty.go_on_duty(actor=bob, hours=1)
        duty.go_on_duty(actor=bob, hours=2, starts_at=timezone.now() + timedelta(hours=9))
        assert len(duty.coming()) == 2
        assert duty.go_off_duty(actor=bob) == 2
        assert duty.on_duty() == []
        assert duty.coming() == []
        events = Entry.objects.filter(subject_kind="duty").order_by("id").values_list("event", flat=True)
        assert list(events) == ["duty.taken", "duty.taken", "duty.ended", "duty.ended"]

    def test_who_may_not_decide_takes_no_shift_and_no_shift_is_endless(self) -> None:
        from tests.orders import world

        desk = world.build()
        with pytest.raises(BadInput):
            duty.go_on_duty(actor=desk.person("bob"), hours=17)
        with pytest.raises(PermissionMissing):
            duty.go_on_duty(actor=desk.scanner, hours=1)
        desk.people["carol"].groups.clear()
        with pytest.raises(PermissionMissing):
            duty.go_on_duty(actor=desk.person("carol"), hours=1)

    def test_a_webhook_needs_a_named_host_and_keeps_nothing_readable(self, settings: Any) -> None:
        from audit.models import Entry
        from cerbero.errors import OutboundHostRefused
        from tests.orders import world

        desk = world.build()
        chief = desk.people["bob"]
        with pytest.raises(PermissionMissing):
            services.add_webhook(
                actor=desk.person("bob"), name="desk", url="https://hooks.slack.com/x", events=[]
            )
        chief.groups.add(Group.objects.get(name="Administrator"))
        with pytest.raises(OutboundHostRefused):
            services.add_webhook(
                actor=desk.person("bob"), name="desk", url="https://evil.example/", events=[]
            )
        webhook, secret = services.add_webhook(
            actor=desk.person("bob"),
            name="desk",
            url="https://hooks.slack.com/services/T0/B0/quiet",
            events=["decision.waiting"],
        )
        stored = bytes(webhook.sealed_url) + bytes(webhook.sealed_secret)
        assert b"quiet" not in stored
        assert secret.encode() not in stored
        assert "quiet" not in str(Entry.objects.get(event="webhook.added").details)
