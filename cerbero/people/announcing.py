"""Telling everybody: a line in every header for a day, and an e-mail where mail is set up."""

import logging
from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models.functions import Now

from cerbero.models import User
from cerbero.people.models import Announcement

SHOWN_FOR = timedelta(hours=24)
SHOWN_MAX = 3

log = logging.getLogger(__name__)


def announce(words: str) -> None:
    """Tell all people, in the caller's transaction; mail leaves after its commit, and may fail by itself."""
    Announcement.objects.create(words=words[:300])
    transaction.on_commit(lambda: _mail(words))


def current() -> list[Announcement]:
    """What every header shows, newest first."""
    return list(
        Announcement.objects.filter(created_at__gt=Now() - SHOWN_FOR).order_by("-created_at")[:SHOWN_MAX]
    )


def _mail(words: str) -> None:
    if not settings.EMAIL_IS_ON:
        return
    known = User.objects.filter(is_active=True).exclude(email="").values_list("email", flat=True)
    text = f"{words}\n\nIf you did not expect this, halt trading and look: {settings.PUBLIC_URL}/admin/\n"
    for address in known:
        try:
            send_mail("Cerbero: who may do what has changed", text, None, [address])
        except (SMTPException, OSError) as problem:
            log.warning("mail not sent", extra={"problem": type(problem).__name__})
