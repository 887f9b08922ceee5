"""The page that asks who it is, and the one that sets up a code app."""

import io
import secrets
from typing import Any
from uuid import UUID

import segno
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from cerbero.access import Actor
from cerbero.errors import CerberoError, CodeRefused
from cerbero.models import User
from cerbero.people import changes, codes, passkeys, signing_in, step_up
from cerbero.people.admin.acting import actor_of, attempt, page, user_of
from cerbero.refusals import refuse, told_on_page

_CHALLENGE = "step_up_challenge"


@require_http_methods(["GET", "POST"])
def ask(request: HttpRequest) -> HttpResponse:
    """A code, a recovery code or a passkey; then back to where the person was."""
    target = request.POST.get("next") or request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        target = "/admin/"
    if request.method == "POST":
        try:
            _check(request)
        except CerberoError as refusal:
            told_on_page(request, refusal)
            messages.error(request, f"{refusal.message} ({refusal.code})")
        else:
            step_up.note(request)
            messages.success(request, "Thank you. This lasts for the shift.")
            return redirect(target)
    user = user_of(request)
    return page(
        request,
        "people/step_up.html",
        title="Is it you?",
        next=target,
        has_factor=step_up.has_factor(user),
        has_passkey=user.passkeys.usable().exists(),
    )


@require_POST
def challenge(request: HttpRequest) -> HttpResponse:
    """What a passkey signs to step up; it waits in this session, for one answer."""
    made = secrets.token_bytes(32)
    try:
        options = passkeys.assertion_options(user_of(request), made)
    except CerberoError as refusal:
        return refuse(request, refusal)
    request.session[_CHALLENGE] = made.hex()
    return JsonResponse(options)


@never_cache
@require_http_methods(["GET", "POST"])
def set_up(request: HttpRequest) -> HttpResponse:
    """A secret for the app, its first code, and then the recovery codes, which no later page shows."""
    user, made = user_of(request), []
    if request.method == "POST" and "code" in request.POST:
        made = attempt(
            request,
            "The code app is set up.",
            _throttled(request, codes.confirm),
            code=request.POST["code"],
        )
        if made:
            step_up.note(request)
    elif request.method == "POST":
        attempt(request, "Scan this with your app.", codes.begin)
    secret = codes.pending_secret(user)
    title = "Set up a code app"
    return page(request, "people/codes.html", title=title, secret=secret, recovery_codes=made or [])


@never_cache
def show_qr(request: HttpRequest) -> HttpResponse:
    """The waiting secret as a picture; nothing once it was confirmed."""
    user = user_of(request)
    secret = codes.pending_secret(user)
    if not secret:
        raise Http404
    picture = io.BytesIO()
    segno.make(codes.address_for_app(user, secret), error="m").save(
        picture, kind="svg", scale=5, light="#fff"
    )
    return HttpResponse(picture.getvalue(), content_type="image/svg+xml")


@require_POST
def propose_reset(request: HttpRequest) -> HttpResponse:
    """Forget a person's code app and recovery codes, once a second Administrator has confirmed it."""
    try:
        person_id = UUID(request.POST.get("person", ""))
    except ValueError:
        raise Http404 from None
    person = get_object_or_404(User, pk=person_id)
    attempt(request, "It waits for a second Administrator.", changes.propose_reset, person=person)
    return redirect("people:changes")


def _check(request: HttpRequest) -> None:
    if assertion := passkeys.answered(request.POST.get("assertion", "")):
        waiting = bytes.fromhex(request.session.pop(_CHALLENGE, ""))
        with transaction.atomic():
            passkeys.use(user_of(request), assertion, waiting)
        return
    _throttled(request, codes.check)(actor=actor_of(request), code=request.POST.get("code", ""))


def _throttled(request: HttpRequest, act: Any) -> Any:
    """Six digits are soon guessed: too many wrong ones, and the next is not looked at."""

    def guarded(*, actor: Actor, code: str) -> Any:
        tried = signing_in.begin(request, f"code of {actor.id}")
        if tried is None:
            raise CodeRefused("Too many wrong codes. Wait 15 minutes.")
        result = act(actor=actor, code=code)
        tried.delete()
        return result

    return guarded
