"""Deliveries leave signed, bounded and escaped; a dead receiver is left alone, tried again, and given up."""

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.db.models.functions import Now
from django.utils import timezone

from cerbero import access, decisions
from cerbero.encryption import encrypt
from cerbero.errors import OutboundTimeout
from cerbero.models import DecisionRequest, User
from cerbero.outbound import Answer
from orders.notices import sending, services
from orders.notices.models import Delivery, Webhook
from orders.notices.sending import sealed_identity
from orders.notices.words import SLACK_MAX, SUBJECT_MAX, line, paragraph, slack

ACTOR = access.system("notices")
pytestmark = pytest.mark.django_db


class Receiver:
    """Keeps what it is told; answers by host."""

    def __init__(self, **answers: int | Exception) -> None:
        self.answers, self.heard = answers, []

    def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.heard.append((url, body, headers))
        answer = self.answers.get(url.rsplit("/", 1)[-1], 200)
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer, b"")


def webhook(name: str) -> Webhook:
    row = Webhook(name=name, host="hooks.slack.com")
    row.sealed_url = encrypt(f"https://hooks.slack.com/{name}".encode(), sealed_identity(row, "url"))
    row.sealed_secret = encrypt(b"quiet", sealed_identity(row, "secret"))
    row.request = confirmed(row)
    row.save()
    return row


def confirmed(row: Webhook) -> DecisionRequest:
    """As a second Administrator's yes leaves it."""
    dora, _ = User.objects.get_or_create(username="dora")
    dora.groups.add(Group.objects.get(name="Administrator"))
    words = {"subject_kind": "webhook", "subject_id": row.pk, "summary": row.name, "facts": {}, "quorum": 1}
    words |= {"digest": sending.told_digest(row), "group": "Administrator", "seconds": 60}
    request = decisions.ask(actor=ACTOR, excluded_user_ids=[], **words)
    decisions.decide(actor=access.person(dora), request_id=request.pk, digest=request.digest, is_yes=True)
    return request


def delivery(to: Webhook | User, key: str = "k", **fields: Any) -> Delivery:
    receiver = {"webhook": to} if isinstance(to, Webhook) else {"person": to}
    texts = {"subject": "Decision waiting", "body": "Asked by x.", "path": "/admin/queue/#t-1"}
    return Delivery.objects.create(event="decision.waiting", key=key, **receiver, **texts | fields)


def deliver(post: Receiver) -> int:
    return sending.deliver_due(actor=ACTOR, post=post)


def make_due() -> None:
    Delivery.objects.update(next_at=Now())
    Webhook.objects.update(rests_until=Now())


def test_a_call_is_signed_over_its_time_and_body_and_links_to_the_page(settings: Any) -> None:
    post, row = Receiver(), delivery(webhook("desk"))
    began = int(timezone.now().timestamp())
    assert deliver(post) == 1
    url, body, headers = post.heard[0]
    moment, given = (part.split("=")[1] for part in headers["X-Cerbero-Signature"].split(","))
    assert given == hmac.new(b"quiet", f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    assert began <= int(moment) <= timezone.now().timestamp()
    assert headers["X-Cerbero-Delivery"] == str(row.pk)
    assert url == "https://hooks.slack.com/desk"
    assert json.loads(body).keys() == {"text"}
    assert f"<{settings.PUBLIC_URL}/admin/queue/#t-1|Open it in Cerbero>" in json.loads(body)["text"]
    assert deliver(post) == 0


def test_while_its_secret_is_replaced_a_call_is_signed_by_both_and_later_by_the_new_one_alone() -> None:
    post, hook = Receiver(), webhook("desk")
    dora = access.person(User.objects.get(username="dora"))
    fresh = services.rotate_webhook_secret(actor=dora, webhook=hook).encode()
    for key in ("while", "after"):
        delivery(hook, key)
        assert deliver(post) == 1
        Webhook.objects.update(former_until=Now())
    for (_, body, headers), secrets in zip(post.heard, ([fresh, b"quiet"], [fresh]), strict=True):
        moment, *given = (part.split("=")[1] for part in headers["X-Cerbero-Signature"].split(","))
        signed = f"{moment}.".encode() + body
        assert given == [hmac.new(each, signed, hashlib.sha256).hexdigest() for each in secrets]
    assert Webhook.objects.exclude(sealed_former=b"").count() == 1
    assert services.forget_former_secrets() == 1
    assert not Webhook.objects.exclude(sealed_former=b"").exists()
    delivery(hook, "later")
    assert deliver(post) == 1


def test_a_dead_endpoint_does_not_hold_up_another_and_is_given_up_in_the_end() -> None:
    from audit.models import Entry

    post = Receiver(dead=OutboundTimeout(host="x"))
    dead, alive = webhook("dead"), webhook("alive")
    for number in range(5):
        delivery(dead, f"d{number}")
    delivery(alive)
    assert deliver(post) == 1
    assert [url.rsplit("/", 1)[-1] for url, *_ in post.heard].count("dead") == 1
    row = Delivery.objects.filter(tries=1, webhook=dead).get()
    assert (row.failure, row.sent_at) == ("outbound_timeout", None)
    Delivery.objects.exclude(pk=row.pk).delete()
    for _ in range(10):
        make_due()
        deliver(post)
    row.refresh_from_db()
    assert row.tries == sending.TRIES_MAX
    assert row.given_up_at is not None
    assert Entry.objects.get(event="notice.given_up").details["code"] == "outbound_timeout"


def test_each_pause_is_longer_and_none_is_endless() -> None:
    pauses = [sending._pause(tries) for tries in range(1, 200)]
    assert pauses[:3] == [timedelta(seconds=each) for each in (5, 15, 45)]
    assert max(pauses) == timedelta(hours=1)


def test_an_answer_that_is_no_yes_is_tried_again_and_a_yes_ends_the_rest() -> None:
    row, post = delivery(webhook("desk")), Receiver(desk=500)
    assert deliver(post) == 0
    post.answers = {}
    assert deliver(post) == 0, "it rests"
    make_due()
    assert deliver(post) == 1
    row.refresh_from_db()
    assert (row.tries, row.failure, row.webhook.failures) == (2, "", 0)


def test_what_no_longer_waits_is_dropped_and_wakes_nobody() -> None:
    past = timezone.now() - timedelta(seconds=1)
    request = DecisionRequest.objects.create(
        subject_kind="ticket", subject_id=webhook("x").pk, summary="s", digest="d", expires_at=past
    )
    row, post = delivery(webhook("desk"), request=request), Receiver()
    assert deliver(post) == 0
    row.refresh_from_db()
    assert (post.heard, row.failure) == ([], "no longer waits")


@pytest.mark.parametrize("changes", [{"request": None}, {"events": ["alert"]}, {"name": "another"}])
def test_a_webhook_that_nobody_confirmed_as_it_is_is_told_nothing(changes: dict[str, Any]) -> None:
    """Written past the program: switched on without a second Administrator, or told of more than they read."""
    row, receiver = webhook("good"), Receiver()
    delivery(row)
    Webhook.objects.filter(pk=row.pk).update(**changes)
    assert deliver(receiver) == 0
    assert not receiver.heard
    assert Delivery.objects.get().failure in {"not_proven", "digest_mismatch"}


def test_a_switched_off_webhook_is_told_nothing() -> None:
    post, row = Receiver(), delivery(webhook("desk"))
    Webhook.objects.update(is_active=False)
    assert (deliver(post), post.heard) == (0, [])
    Webhook.objects.update(is_active=True)
    assert deliver(post) == 1
    assert row.webhook.name == "desk"


def test_a_secret_moved_to_another_webhook_opens_nothing() -> None:
    one, other = webhook("one"), webhook("other")
    Webhook.objects.filter(pk=other.pk).update(sealed_secret=one.sealed_secret)
    row, post = delivery(other), Receiver()
    deliver(post)
    row.refresh_from_db()
    assert (post.heard, row.failure) == ([], "cannot_decrypt")


def test_a_mail_goes_to_one_person_with_a_link_and_no_forged_header(settings: Any) -> None:
    bob = User.objects.create_user("bob", email="bob@desk.example")
    subject = line("Decision\r\nBcc: everybody@evil.example\r\n\r\nhello")
    delivery(bob, subject=subject)
    assert deliver(Receiver()) == 1
    (sent,) = mail.outbox
    assert (sent.to, sent.bcc) == (["bob@desk.example"], [])
    assert "\n" not in sent.subject
    assert "/admin/queue/#t-1" in sent.body
    assert "Bcc" not in dict(sent.message().items())


def test_a_mail_server_that_is_down_is_tried_once_a_round(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    people = [User.objects.create_user(f"p{number}", email=f"p{number}@desk.example") for number in range(3)]
    for person in people:
        delivery(person)
    post = Receiver()
    delivery(webhook("desk"))
    assert deliver(post) == 1
    assert sorted(Delivery.objects.filter(webhook=None).values_list("tries", flat=True)) == [0, 0, 1]


def test_slacks_own_markup_in_a_text_stays_text() -> None:
    text = slack("<!channel> *a*", "<https://evil.example|click> & `x`", "https://desk.example/")
    assert "<!" not in text
    assert text.count("<") == 1
    assert "&lt;https://evil.example|click&gt; &amp;" in text
    assert len(slack("a" * 9000, "b" * 9000, "https://desk.example/")) <= SLACK_MAX


def test_texts_are_bounded_and_without_signs_that_nobody_sees() -> None:
    assert line("a\x1b[31m\tb\u202ec\x00") == "a [31m b c"
    assert len(line("x" * 999)) == SUBJECT_MAX
    assert paragraph("a\n\n\x07b\r\nc") == "a\nb\nc"
