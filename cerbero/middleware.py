"""What every HTTP request passes: a request id, a line in the log, and the content security policy."""

import logging
import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

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

# Asked every few seconds by machines; a line each would hide the others.
_QUIET = ("/health", "/metrics", "/static/")

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


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Nothing inline, nothing from elsewhere, no guessed content types."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response

    return middleware
