"""Webhooks: one Administrator adds or switches one on, a second confirms, anybody of them switches it off.

Only named hosts can be added, and a secret is shown once.
"""

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero import decisions, outbound
from cerbero.access import Actor, user_of
from cerbero.encryption import decrypt, encrypt
from cerbero.errors import BadInput, NotFound, PermissionMissing
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from cerbero.people.announcing import announce
from cerbero.people.changes import ADMINISTRATOR, WAITS_SECONDS
from orders.notices.models import EVENTS, Webhook
from orders.notices.sending import sealed_identity, told_digest


def add_webhook(*, actor: Actor, name: str, url: str, events: list[str]) -> tuple[Webhook, str]:
    """Store a webhook, switched off until a second Administrator confirms it, and return its secret, once.

    Raises PermissionMissing, BadInput, or OutboundHostRefused for a host that is not on the allow-list.
    """
    _require(actor, "notices.add_webhook")
    if unknown := set(events) - EVENTS.keys():
        raise BadInput("There is no such event.", events=", ".join(sorted(unknown)))
    target = outbound.target(url)
    secret = secrets.token_hex(32)
    webhook = Webhook(
        name=name.strip()[:64], host=str(target.hostname), events=sorted(events), is_active=False
    )
    webhook.sealed_url = encrypt(url.encode(), sealed_identity(webhook, "url"))
    webhook.sealed_secret = encrypt(secret.encode(), sealed_identity(webhook, "secret"))
    try:
        with transaction.atomic(durable=True):
            webhook.request = _ask(actor, webhook)
            webhook.save(force_insert=True)
            _record(actor, webhook, "webhook.added")
    except IntegrityError:
        raise BadInput("A webhook of this name exists.", name=name) from None
    return webhook, secret


def switch_webhook(*, actor: Actor, webhook: Webhook, is_active: bool) -> None:
    """Switch it off at once, or ask a second Administrator to switch it on; what waits for it is kept.

    Raises PermissionMissing.
    """
    _require(actor, "notices.change_webhook")
    with transaction.atomic(durable=True):
        row = Webhook.objects.select_for_update(of=("self",)).select_related("request").get(pk=webhook.pk)
        if not is_active:
            if row.request is not None:
                decisions.withdraw(row.request, actor=actor)
            if Webhook.objects.filter(pk=row.pk, is_active=True).update(is_active=False):
                _record(actor, row, "webhook.switched_off")
        elif not (row.is_active or row.waits):
            row.request = _ask(actor, row)
            row.save(update_fields=["request"])
            _record(actor, row, "webhook.asked_for")


def decide_webhook(
    *,
    actor: Actor,
    webhook_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> Webhook:
    """A second Administrator's yes, which switches it on with its failures forgotten, or no.

    Raises PermissionMissing, NotFound, or what `signing.decide` raises.
    """
    _require(actor, "notices.change_webhook")
    with transaction.atomic(durable=True):
        rows = Webhook.objects.select_for_update(of=("self",)).exclude(request=None)
        row = rows.filter(pk=webhook_id).first()
        if row is None or row.request_id is None:
            raise NotFound(webhook_id=str(webhook_id))
        request = signing.decide(
            actor=actor,
            request_id=row.request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
        )
        if request.status == DecisionStatus.APPROVED:
            decisions.consume(request, actor=actor, digest=told_digest(row))
            row.is_active = True
            Webhook.objects.filter(pk=row.pk).update(is_active=True, failures=0, rests_until=Now())
            _record(actor, row, "webhook.switched_on")
            announce(f"{actor.name} confirmed the webhook {row}: it is told of what waits.")
    return row


def _ask(actor: Actor, webhook: Webhook) -> DecisionRequest:
    announce(f"{actor.name} proposes the webhook {webhook}. A second Administrator decides.")
    return decisions.ask(
        actor=actor,
        subject_kind="webhook",
        subject_id=webhook.pk,
        summary=f"The webhook {webhook}",
        digest=told_digest(webhook),
        facts={"name": webhook.name, "host": webhook.host, "events": webhook.events},
        quorum=1,
        group=ADMINISTRATOR,
        seconds=WAITS_SECONDS,
        excluded_user_ids=[actor.id] if actor.id else [],
    )


def rotate_webhook_secret(*, actor: Actor, webhook: Webhook, overlap_hours: int = 72) -> str:
    """A new signing secret, returned this once; the former one signs too until the overlap ends.

    Raises PermissionMissing, or CannotDecrypt.
    """
    _require(actor, "notices.change_webhook")
    secret = secrets.token_hex(32)
    with transaction.atomic(durable=True):
        row = Webhook.objects.select_for_update().get(pk=webhook.pk)
        former = decrypt(row.sealed_secret, sealed_identity(row, "secret"))
        Webhook.objects.filter(pk=row.pk).update(
            sealed_secret=encrypt(secret.encode(), sealed_identity(row, "secret")),
            sealed_former=encrypt(former, sealed_identity(row, "former")),
            former_until=Now() + timedelta(hours=overlap_hours),
            secret_at=Now(),
        )
        _record(actor, row, "webhook.secret_rotated")
    return secret


def forget_former_secrets() -> int:
    """Destroy the signing secrets whose overlap is over; returns how many."""
    over = Webhook.objects.filter(former_until__lte=Now()).exclude(sealed_former=b"")
    return over.update(sealed_former=b"")


def _require(actor: Actor, permission: str) -> None:
    person = user_of(actor)
    if person is None or not person.has_perm(permission):
        raise PermissionMissing(permission=permission)


def _record(actor: Actor, webhook: Webhook, event: str) -> None:
    details = {"name": webhook.name, "host": webhook.host, "events": webhook.events}
    record(event, actor=actor, subject_kind="webhook", subject_id=webhook.pk, details=details)
