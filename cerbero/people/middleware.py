"""What every signed-in request passes: is the session still wanted, and is it still the same person?"""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from cerbero.errors import PermissionMissing
from cerbero.models import User
from cerbero.people import sessions, step_up

GetResponse = Callable[[HttpRequest], HttpResponse]


def end_idle_sessions(get_response: GetResponse) -> GetResponse:
    """Asks nothing of the database for callers without a session, as bots are."""

    def middleware(request: HttpRequest) -> HttpResponse:
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        user = request.user if has_cookie else None
        if isinstance(user, User) and not sessions.is_alive(request, user):
            logout(request)
        return get_response(request)

    return middleware


def ask_once_a_shift(get_response: GetResponse) -> GetResponse:
    """Send whoever did not step up to the page that asks; what was posted is not done."""

    def middleware(request: HttpRequest) -> HttpResponse:
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        if (
            not has_cookie
            or not request.path.startswith(("/admin/", "/api/"))
            or not step_up.is_asked(request)
        ):
            return get_response(request)
        if not request.user.is_authenticated or step_up.is_stepped_up(request):
            return get_response(request)
        refusal = PermissionMissing("Say first that it is you, on your sign-in page; it lasts for a shift.")
        if request.path.startswith("/api/"):
            body = {"error": refusal.as_json(), "request_id": getattr(request, "request_id", "")}
            return JsonResponse(body, status=refusal.status)
        if request.method == "POST":
            request.refused_code = refusal.code  # type: ignore[attr-defined]
            messages.warning(request, "Nothing was changed: say that it is you, then do it again.")
        return redirect(f"{reverse('people:step_up')}?{urlencode({'next': _page_of(request)})}")

    return middleware


def _page_of(request: HttpRequest) -> str:
    """Where to lead back to: of what was posted, the page that it was posted from, if that is one of ours."""
    told = urlsplit(request.headers.get("Referer", ""))
    is_ours = told.netloc == request.get_host() and told.path.startswith("/admin/")
    return told.path if request.method == "POST" and is_ours else request.path
