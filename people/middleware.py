"""A session that was idle for too long, or that somebody ended, is signed out at its next request."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

from people import sessions

GetResponse = Callable[[HttpRequest], HttpResponse]


def end_idle_sessions(get_response: GetResponse) -> GetResponse:
    """Asks nothing of the database for callers without a session, as bots are."""

    def middleware(request: HttpRequest) -> HttpResponse:
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        if has_cookie and request.user.is_authenticated and not sessions.is_alive(request):
            logout(request)
        return get_response(request)

    return middleware
