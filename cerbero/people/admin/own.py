"""One's own sign-in: passkeys to add, to confirm by another, and to revoke."""

import secrets
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from cerbero.people import changes, passkeys, sessions
from cerbero.people.admin.acting import attempt, page, user_of
from cerbero.people.models import CodeApp
from cerbero.people.signing import barred

_CHALLENGE = "passkey_challenge"


@require_GET
def show_own(request: HttpRequest) -> HttpResponse:
    """What this person signs in and signs with."""
    user = user_of(request)
    return page(
        request,
        "people/own.html",
        title="Your sign-in",
        passkeys=user.passkeys.filter(revoked_at=None).select_related("approved_by").order_by("created_at"),
        relying_party=passkeys.relying_party(),
        bar=barred(user),
        has_app=CodeApp.objects.filter(person=user).exclude(confirmed_at=None).exists(),
        sessions=sessions.of_person(user),
        here=request.session.session_key,
        idle_minutes=settings.SESSION_IDLE_SECONDS // 60,
    )


@require_POST
def begin_passkey(request: HttpRequest) -> HttpResponse:
    """What `navigator.credentials.create` is given; its challenge waits in this session, for one answer."""
    challenge = secrets.token_bytes(32)
    request.session[_CHALLENGE] = challenge.hex()
    return JsonResponse(passkeys.registration_options(user_of(request), challenge))


@require_POST
def add_passkey(request: HttpRequest) -> HttpResponse:
    """Register the key that answered; an Administrator confirms it."""
    challenge = bytes.fromhex(request.session.pop(_CHALLENGE, ""))
    attempt(
        request,
        "The passkey is registered. It counts once another Administrator has confirmed it.",
        changes.propose_passkey,
        credential=passkeys.answered(request.POST.get("assertion", "")) or {},
        challenge=challenge,
        name=request.POST.get("name", ""),
    )
    return redirect("people:own")


@require_POST
def revoke_passkey(request: HttpRequest, passkey_id: UUID) -> HttpResponse:
    """End one of one's own keys at once."""
    attempt(request, "The passkey is revoked.", passkeys.revoke, passkey_id=passkey_id)
    return redirect("people:own")
