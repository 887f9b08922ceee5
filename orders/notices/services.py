"""Webhooks: adding, trying and switching them. Only named hosts can be added, and a secret is shown once."""

import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero import outbound
from cerbero.access import Actor, user_of
from cerbero.encryption import decrypt, encrypt
from cerbero.errors import BadInput, PermissionMissing
from orders.notices.models import EVENTS, Webhook
from orders.notices.sending import sealed_identity


def add_webhook(*, actor: Actor, name: str, url: str, events: list[str]) -> tuple[Webhook, str]:
    """Store a webhook and return it with its signing secret, once.

    Raises PermissionMissing, BadInput, or OutboundHostRefused for a host that is not on the allow-list.
    """
    _require(actor, "notices.add_webhook")
    if unknown := set(events) - EVENTS.keys():
        raise BadInput("There is no such event.", events=", ".join(sorted(unknown)))
    target = outbound.target(url)
    secret = secrets.token_hex(32)
    webhook = Webhook(name=name.strip()[:64], host=str(target.hostname), events=sorted(events))
    webhook.sealed_url = encrypt(url.encode(), sealed_identity(webhook, "url"))
    webhook.sealed_secret = encrypt(secret.encode(), sealed_identity(webhook, "secret"))
    try:
        with transaction.atomic(durable=True):
            webhook.save(force_insert=True)
            _record(actor, webhook, "webhook.added")
    except IntegrityError:
        raise BadInput("A webhook of this name exists.", name=name) from None
    return webhook, secret


def switch_webhook(*, actor: Actor, webhook: Webhook, is_active: bool) -> None:
    """Switch it on, with its failures forgotten, or off; what waits for it is kept. Raises PermissionMissing."""
    _require(actor, "notices.change_webhook")
    with transaction.atomic(durable=True):
        changed = Webhook.objects.filter(pk=webhook.pk).exclude(is_active=is_active)
        if changed.update(is_active=is_active, failures=0, rests_until=Now()):
            _record(actor, webhook, "webhook.switched_on" if is_active else "webhook.switched_off")


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


def _require(actor: Actor, permission: str) -> None:
    person = user_of(actor)
    if person is None or not person.has_perm(permission):
        raise PermissionMissing(permission=permission)


def _record(actor: Actor, webhook: Webhook, event: str) -> None:
    details = {"name": webhook.name, "host": webhook.host, "events": webhook.events}
    record(event, actor=actor, subject_kind="webhook", subject_id=webhook.pk, details=details)
