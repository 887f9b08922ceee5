"""Deliveries leave: the try is written down, then made, then its outcome. A dead receiver holds up nobody.

A process that dies between the call and the outcome makes the next one tell it again: twice told is better
than never, and each delivery carries its id, by which a receiver can know it again.
"""

import hashlib
import hmac
import json
import logging
import smtplib
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from audit.services import record
from cerbero import decisions, leases, outbound
from cerbero.access import Actor
from cerbero.encryption import decrypt, identity
from cerbero.errors import CerberoError, LeaseLost, NoticeRefused, NotProven
from cerbero.models import DecisionRequest
from orders.notices.models import Delivery, Webhook
from orders.notices.words import slack

TRIES_MAX = 6
# The first pause after a failure; each further one is three times as long, and none is longer than an hour.
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 5, 3600
# A worker has other work: what is left waits for the next round.
ROUND_SECONDS = 8.0
SIGNATURE, DELIVERY, EVENT = "X-Cerbero-Signature", "X-Cerbero-Delivery", "X-Cerbero-Event"

DELIVER = "beat:deliver_notices"
# Longer than a round can take; a process that died frees it by the clock.
LEASE_SECONDS = 30

Post = Callable[..., outbound.Answer]
log = logging.getLogger(__name__)


def deliver_alone(*, actor: Actor, post: Post = outbound.post) -> bool:
    """A round by one process at a time; false when another is at it."""
    if not Delivery.objects.due().exists():
        return True
    try:
        with leases.lease(DELIVER, LEASE_SECONDS):
            deliver_due(actor=actor, post=post)
    except LeaseLost:
        return False
    return True


def deliver_due(*, actor: Actor, post: Post = outbound.post) -> int:
    """Try everything that is due, for at most ROUND_SECONDS; returns how many went out.

    After one failed mail no other is tried in this round: the server is the same for all.
    """
    ends, sent, mail_is_down = time.monotonic() + ROUND_SECONDS, 0, False
    while time.monotonic() < ends:
        due = Delivery.objects.due().select_related("webhook__request", "person", "request")
        delivery = (due.filter(person=None) if mail_is_down else due).first()
        if delivery is None:
            break
        if not _claim(delivery):
            continue
        try:
            _tell(delivery, post)
        except CerberoError as problem:
            mail_is_down |= delivery.webhook is None
            _failed(actor, delivery, problem.code)
        else:
            sent += _went(delivery)
    return sent


def sealed_identity(webhook: Webhook, what: str) -> str:
    """What a stored address or secret is bound to: no other row can use it."""
    return identity("webhook", webhook.pk, what)


def told_digest(webhook: Webhook) -> str:
    """SHA-256 in hex over what it is told and where; its secret, and the key that seals both, may be replaced meanwhile.

    Raises CannotDecrypt.
    """
    url = decrypt(webhook.sealed_url, sealed_identity(webhook, "url"))
    address = hashlib.sha256(webhook.pk.bytes + url).hexdigest()
    body = [str(webhook.pk), webhook.name, webhook.host, webhook.events, address]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def signature(secret: bytes, moment: int, body: bytes, former: bytes = b"") -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA256 by the webhook's secret over `<seconds>.<body>`.

    While a new secret replaces a former one there are two `v1`: the receiver may hold either.
    """
    digests = [
        hmac.new(key, f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
        for key in (secret, former)
        if key
    ]
    return ",".join([f"t={moment}", *(f"v1={digest}" for digest in digests)])


def _former(webhook: Webhook) -> bytes:
    if not webhook.sealed_former or webhook.former_until is None or webhook.former_until <= timezone.now():
        return b""
    return decrypt(webhook.sealed_former, sealed_identity(webhook, "former"))


def _claim(delivery: Delivery) -> bool:
    """The WHERE is the lock. What nobody waits for any more is dropped instead of told."""
    rows = Delivery.objects.filter(pk=delivery.pk, tries=delivery.tries, sent_at=None, given_up_at=None)
    open_requests = DecisionRequest.objects.open()
    if delivery.request and not open_requests.filter(pk=delivery.request.pk).exists():
        rows.update(given_up_at=Now(), failure="no longer waits")
        return False
    claimed = rows.update(tries=F("tries") + 1, next_at=Now() + _pause(delivery.tries + 1))
    delivery.tries += 1
    return claimed == 1


def _tell(delivery: Delivery, post: Post) -> None:
    if delivery.webhook is not None:
        _call(delivery, delivery.webhook, post)
    else:
        _mail(delivery)


def _call(delivery: Delivery, webhook: Webhook, post: Post) -> None:
    if webhook.request is None:
        raise NotProven
    # Switched on, or told more, by whoever writes to the database: a second Administrator confirmed no such thing.
    decisions.prove(webhook.request, digest=told_digest(webhook))
    url = decrypt(webhook.sealed_url, sealed_identity(webhook, "url")).decode()
    secret = decrypt(webhook.sealed_secret, sealed_identity(webhook, "secret"))
    body = json.dumps({"text": slack(delivery.subject, delivery.body, _link(delivery))}).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Cerbero",
        DELIVERY: str(delivery.pk),
        EVENT: delivery.event,
        SIGNATURE: signature(secret, int(time.time()), body, _former(webhook)),
    }
    answer = post(url, body, headers)
    if not 200 <= answer.status < 300:
        raise NoticeRefused(status=answer.status)


def _mail(delivery: Delivery) -> None:
    person = delivery.person
    if person is None or not person.is_active or not person.email:
        raise NoticeRefused(why="this person has no address")
    text = f"{delivery.body}\n\n{_link(delivery)}\n\nThis mail decides nothing; the page does."
    message = EmailMessage(delivery.subject, text, to=[person.email], headers={DELIVERY: str(delivery.pk)})
    try:
        message.send()
    except (OSError, smtplib.SMTPException, ValueError) as problem:
        raise NoticeRefused(problem=type(problem).__name__) from None


def _link(delivery: Delivery) -> str:
    return f"{settings.PUBLIC_URL}{delivery.path}"


def _went(delivery: Delivery) -> int:
    if delivery.webhook is not None:
        Webhook.objects.filter(pk=delivery.webhook.pk).update(failures=0, rests_until=Now())
    return Delivery.objects.filter(pk=delivery.pk, sent_at=None).update(sent_at=Now(), failure="")


def _failed(actor: Actor, delivery: Delivery, code: str) -> None:
    log.warning("notice not delivered", extra={"delivery": str(delivery.pk), "code": code})
    if delivery.webhook is not None:
        count = min(delivery.webhook.failures + 1, 100)
        Webhook.objects.filter(pk=delivery.webhook.pk).update(
            failures=count, rests_until=Now() + _pause(count)
        )
    rows = Delivery.objects.filter(pk=delivery.pk)
    if delivery.tries < TRIES_MAX:
        rows.update(failure=code)
        return
    rows.update(failure=code, given_up_at=Now())
    details = {"event": delivery.event, "to": str(delivery.webhook or delivery.person), "code": code}
    record("notice.given_up", actor=actor, subject_kind="delivery", subject_id=delivery.pk, details=details)


def _pause(tries: int) -> timedelta:
    # Beyond that power the longest pause is reached, and the number would only grow.
    return timedelta(seconds=min(PAUSE_SECONDS * 3 ** min(tries - 1, 8), PAUSE_SECONDS_MAX))
