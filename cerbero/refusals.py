"""How every HTTP door says no: one shape, whoever refused (a tool, ninja, Django or a crash)."""

import logging
from collections.abc import Callable, ItemsView
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.csrf import csrf_failure
from django.views.debug import SafeExceptionReporterFilter

from cerbero import plain
from cerbero.errors import (
    BadInput,
    CerberoError,
    CsrfFailed,
    InternalError,
    MalformedRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    PermissionMissing,
    TooManyRequests,
    UnsupportedMediaType,
)

# Pages for people: a browser shows their errors, so those may stay HTML.
PAGES = ("/admin/", "/live/")
OF_THE_BODY = frozenset({"Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition"})
_JSON = "application/json"
_BY_STATUS: dict[int, type[CerberoError]] = {
    kind.status: kind
    for kind in (
        MalformedRequest,
        NotAuthenticated,
        PermissionMissing,
        NotFound,
        MethodNotAllowed,
        NotAcceptable,
        PayloadTooLarge,
        UnsupportedMediaType,
        BadInput,
        TooManyRequests,
    )
}

GetResponse = Callable[[HttpRequest], HttpResponse]

logger = logging.getLogger(__name__)


def told_on_page(request: HttpRequest, refusal: CerberoError) -> None:
    """A page will say it in words and answer 200 or 302: the trail of refusals gets its code all the same."""
    if not refusal.is_entered:
        request.refused_code = refusal.code  # type: ignore[attr-defined]


def refuse(request: HttpRequest, error: CerberoError) -> HttpResponse:
    """The answer for one refusal, with the request id that the trail and the logs carry."""
    body = {"error": error.as_json(), "request_id": getattr(request, "request_id", "")}
    response = HttpResponse(plain.dumps(body), status=error.status, content_type=_JSON)
    # Django would log it again, after the request id is gone.
    response._has_been_logged = True  # type: ignore[attr-defined]
    if error.status == NotAuthenticated.status:
        response["WWW-Authenticate"] = 'Bearer realm="cerbero"'
    return response


def crashed(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer for a crash: the traceback goes to the log, the request id to the caller."""
    logger.error("crashed on %s", request.path, exc_info=error)
    return refuse(request, InternalError())


class NothingButPlaces(SafeExceptionReporterFilter):
    """A crash's page under DEBUG says where it broke: no variable, no setting, and nothing that was sent.

    Django's own shows all of them, a private key in a variable as well.
    """

    def get_safe_settings(self) -> dict[str, Any]:
        return {}

    def get_safe_request_meta(self, request: Any) -> dict[str, Any]:
        return {}

    def get_safe_cookies(self, request: Any) -> dict[str, Any]:
        return {}

    def get_post_parameters(self, request: Any) -> dict[str, Any]:
        return {}

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        return dict[str, Any]().items()


def refuse_csrf(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW: a page for people, the one shape for programs."""
    if request.path.startswith(PAGES):
        return csrf_failure(request, reason)
    return refuse(request, CsrfFailed())


def _page_of(request: HttpRequest, bare: HttpResponse) -> HttpResponse:
    """A page where Django answers with nothing: somebody signed in again on the way to a form's address."""
    page = render(request, "405.html", status=bare.status_code)
    page.headers.setdefault("Allow", bare.headers.get("Allow", ""))
    return page


def one_shape(get_response: GetResponse, pages: tuple[str, ...] = PAGES) -> GetResponse:
    """Middleware: turn what Django or a library refuses into the one shape, except on people's pages."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code < 400:
            return response
        if request.path.startswith(pages):
            is_bare = response.status_code == MethodNotAllowed.status and not response.content
            return _page_of(request, response) if is_bare else response
        if response.get("Content-Type", "").startswith(_JSON):
            return response
        kind = _BY_STATUS.get(response.status_code)
        if kind is None:
            kind = InternalError if response.status_code >= 500 else MalformedRequest
        answer = refuse(request, kind())
        for name, value in response.headers.items():
            # What the layers below said stays: the security headers, and the methods that are allowed.
            if name not in OF_THE_BODY:
                answer.headers.setdefault(name, value)
        return answer

    return middleware
