"""JSON in, JSON out, and every refusal in the one shape; decimals are never floats."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions, serializers
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from cerbero import plain
from cerbero.errors import (
    BadInput,
    CerberoError,
    DatabaseUnavailable,
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
from cerbero.refusals import crashed, refuse

BODY_BYTES_MAX = 64 * 1024
_PROBLEMS_MAX = 20
_KINDS: dict[type[Exception], type[CerberoError]] = {
    exceptions.NotAuthenticated: NotAuthenticated,
    exceptions.AuthenticationFailed: NotAuthenticated,
    exceptions.PermissionDenied: PermissionMissing,
    PermissionDenied: PermissionMissing,
    exceptions.NotFound: NotFound,
    Http404: NotFound,
    exceptions.MethodNotAllowed: MethodNotAllowed,
    exceptions.NotAcceptable: NotAcceptable,
    exceptions.UnsupportedMediaType: UnsupportedMediaType,
    exceptions.ParseError: MalformedRequest,
    OperationalError: DatabaseUnavailable,
    InterfaceError: DatabaseUnavailable,
}


class PlainParser(BaseParser):
    """One JSON object of at most BODY_BYTES_MAX. Raises MalformedRequest or PayloadTooLarge."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            body = stream.read(BODY_BYTES_MAX + 1)
        except OSError:
            raise MalformedRequest("The body ended early.") from None
        if len(body) > BODY_BYTES_MAX:
            raise PayloadTooLarge(bytes_max=BODY_BYTES_MAX)
        value = plain.loads(body)
        if not isinstance(value, dict):
            raise MalformedRequest
        return value


class PlainRenderer(BaseRenderer):
    """JSON whose decimals are strings without exponent."""

    media_type, format, charset = "application/json", "json", None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else plain.dumps(data).encode()


class Amount(serializers.DecimalField):
    """A decimal as plain text, exactly as stored: "101.25"."""

    def to_representation(self, value: Any) -> str | None:
        return None if value is None else plain.text(value)


def refusal_of(error: Exception) -> CerberoError | None:
    """What an exception says to a caller; None for a crash."""
    if isinstance(error, CerberoError):
        return error
    if isinstance(error, exceptions.ValidationError):
        return BadInput(fields=list(_problems(error.detail))[:_PROBLEMS_MAX])
    if isinstance(error, exceptions.Throttled):
        return TooManyRequests(wait_seconds=int(error.wait or 1))
    return next((kind() for known, kind in _KINDS.items() if isinstance(error, known)), None)


def answer(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's EXCEPTION_HANDLER: the one shape, whoever refused."""
    request, refusal = context["request"], refusal_of(error)
    context["view"].outcome = refusal.code if refusal else InternalError.code
    if refusal is None:
        return crashed(request._request, error)
    response = refuse(request._request, refusal)
    if isinstance(refusal, TooManyRequests):
        response["Retry-After"] = str(refusal.details["wait_seconds"])
    return response


def _problems(detail: Any, at: str = "") -> Any:
    """DRF's nested details as the tools name them: one field and one problem each."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _problems(inner, at if name == "non_field_errors" else f"{at}.{name}".strip("."))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _problems(inner, at)
    else:
        yield {"field": at, "problem": str(detail)}
