"""Breaks are told like waiting decisions: a delivery for each receiver, once a key, in the caller's transaction."""

from collections.abc import Iterable

from django.conf import settings

from cerbero.models import User
from orders.notices.duty import on_duty
from orders.notices.models import ALERT, Delivery, Webhook
from orders.notices.words import line, paragraph

# Who is told of a break when nobody is on duty, or when it cannot wait for who is.
GROUPS = ("Administrator", "Approver")


def alert(key: str, subject: str, body: str, *, path: str, is_urgent: bool = False) -> None:
    """Tell people of a break: whoever is on duty, or everybody who may act. The same key is told once.

    `is_urgent` tells everybody at once, whoever is on duty. `path` is the page on which people act.
    """
    text = {
        "event": ALERT,
        "key": f"{ALERT}:{key}"[:100],
        "subject": line(f"{'URGENT ' if is_urgent else ''}{subject}"),
        "body": paragraph(body),
        "path": path,
    }
    webhooks = Webhook.objects.filter(is_active=True, events__contains=[ALERT])
    rows = [Delivery(webhook=each, **text) for each in webhooks]
    if settings.EMAIL_IS_ON:
        rows += [Delivery(person=each, **text) for each in _people(is_urgent) if each.email]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)


def _people(is_urgent: bool) -> Iterable[User]:
    shift = [] if is_urgent else on_duty()
    return shift or User.objects.filter(is_active=True, groups__name__in=GROUPS).distinct()
