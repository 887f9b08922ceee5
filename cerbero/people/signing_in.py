"""Signing in, throttled: who guesses is slowed down, and a device that was here before is not locked out by it.

An attempt is a row before the password is looked at, so that a hundred at once are a hundred.
"""

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse

from audit.sparing import Sparing
from cerbero.access import system
from cerbero.errors import NotAuthenticated
from cerbero.models import User
from cerbero.people.models import KnownDevice, SignInAttempt

WINDOW = timedelta(minutes=15)
KEPT = timedelta(days=1)
# Wrong passwords within the window: for a name from unknown devices, from one address, from one known device.
BY_NAME, BY_ADDRESS, BY_DEVICE = 5, 20, 10
# Entries a minute in each process; the next one says how many were left out.
_throttled = Sparing(30)
COOKIE, COOKIE_DAYS = "cerbero_device", 180


class ThrottledForm(AdminAuthenticationForm):
    """The sign-in form; after too many wrong passwords it does not look at the next one."""

    def clean(self) -> dict[str, Any]:
        name = self.cleaned_data.get("username", "")
        attempt = begin(self.request, name) if self.request else None
        if attempt is None:
            minutes = int(WINDOW.total_seconds() // 60)
            raise ValidationError(
                f"Too many wrong passwords. Wait {minutes} minutes, or use a device of yours."
            )
        try:
            cleaned = super().clean()
        except ValidationError:
            # The form says it on a page; the trail has that somebody guessed, and never what.
            self.request.refused_code = NotAuthenticated.code  # type: ignore[union-attr]
            raise
        attempt.delete()
        return cleaned


def begin(request: HttpRequest, name: str) -> SignInAttempt | None:
    """Note an attempt; None when there were too many before it, and the password must not be looked at."""
    name_digest, address = _digest(name.strip().casefold()), address_of(request)
    device = _device(request, name)
    SignInAttempt.objects.filter(created_at__lt=Now() - KEPT).delete()
    attempt = SignInAttempt.objects.create(name_digest=name_digest, address=address, device=device)
    recent = SignInAttempt.objects.filter(created_at__gt=Now() - WINDOW)
    if device is not None:
        is_over = recent.filter(device=device).count() > BY_DEVICE
    else:
        unknown = recent.filter(device=None)
        is_over = (
            unknown.filter(name_digest=name_digest).count() > BY_NAME
            or unknown.filter(address=address).count() > BY_ADDRESS
        )
    if not is_over:
        return attempt
    # Whoever keeps knocking does not make the wait longer.
    attempt.delete()
    _throttled.record(
        "signin.throttled", actor=system("web"), details={"address": address, "known": device is not None}
    )
    return None


def remember_device(request: HttpRequest, response: HttpResponse, person: User) -> None:
    """Give a browser that has just signed in its cookie, unless it has this person's."""
    known = _device(request, person.get_username())
    if known is not None:
        KnownDevice.objects.filter(pk=known.pk).update(seen_at=Now())
        return
    token = secrets.token_urlsafe(32)
    KnownDevice.objects.create(digest=_digest(token), person=person)
    response.set_cookie(
        COOKIE,
        token,
        max_age=timedelta(days=COOKIE_DAYS),
        path="/admin/",
        secure=bool(settings.SESSION_COOKIE_SECURE),
        httponly=True,
        samesite="Lax",
    )


def address_of(request: HttpRequest) -> str:
    """Where a request comes from: the proxy's word where there is one of ours, else the socket's."""
    hops = request.headers.get("X-Forwarded-For", "") if settings.TRUST_PROXY else ""
    return (hops.rsplit(",", 1)[-1].strip() or request.META.get("REMOTE_ADDR", "") or "unknown")[:45]


def _device(request: HttpRequest, name: str) -> KnownDevice | None:
    token = request.COOKIES.get(COOKIE, "")
    mine = KnownDevice.objects.filter(person__username__iexact=name.strip(), digest=_digest(token))
    return mine.filter(seen_at__gt=Now() - timedelta(days=COOKIE_DAYS)).first() if token else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
