"""A session that was idle for too long, or that somebody ended, is signed out at its next request."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

from cerbero.models import User
from people import sessions

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
