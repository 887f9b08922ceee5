"""What every HTTP request passes: a request id, a line in the log, the trail of refusals, the security policy."""

import logging
import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url

from audit.sparing import Sparing
from cerbero.access import Actor, person

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# Asked every few seconds by machines; a line each would hide the others.
_QUIET = ("/health", "/metrics", "/static/")

# A flood of bad requests must not become a flood of entries; the next one says how many were left out.
REFUSALS_A_MINUTE = 60

logger = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]


def request_context(get_response: GetResponse) -> GetResponse:
    """Take the caller's X-Request-ID where it is well formed, else make one; give it back and log it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request.request_id):  # type: ignore[attr-defined]
            response = get_response(request)
            if not request.path.startswith(_QUIET):
                # The path alone: a query or a header may hold what nobody should read here.
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                logger.info("%s %s %s %sms", request.method, request.path, response.status_code, milliseconds)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response

    return middleware


def trail_of_refusals(get_response: GetResponse) -> GetResponse:
    """Enter what a door refused before a tool or a service could: a bad token, no CSRF token, no permission.

    At most REFUSALS_A_MINUTE entries in each process. Reading is not entered, but for what only takes a write.
    """
    trail = Sparing(REFUSALS_A_MINUTE)

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if _was_refused(request, response) and not getattr(request, "is_in_trail", False):
            _enter(trail, request, response)
        return response

    return middleware


def _was_refused(request: HttpRequest, response: HttpResponse) -> bool:
    if hasattr(request, "refused_code"):
        return True
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return response.status_code == 405
    to_sign_in = response.status_code == 302 and response["Location"].startswith(resolve_url("admin:login"))
    return to_sign_in or 400 <= response.status_code < 500


def _enter(trail: Sparing, request: HttpRequest, response: HttpResponse) -> None:
    details = {
        "method": request.method,
        "path": request.path[:200],
        "status": response.status_code,
        **({"code": request.refused_code} if hasattr(request, "refused_code") else {}),
        "address": request.META.get("REMOTE_ADDR", ""),
    }
    if problem := trail.record("access.refused", actor=_who(request), details=details):
        logger.error("a refusal is not in the trail: %s", type(problem).__name__)


def _who(request: HttpRequest) -> Actor:
    known = getattr(request, "auth", None)
    if isinstance(known, Actor):
        return known
    request_id = getattr(request, "request_id", "")
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return person(user, request_id=request_id)
    return Actor(kind="unknown", id=None, name="unknown", request_id=request_id)


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Nothing inline, nothing from elsewhere, no guessed content types."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return middleware
