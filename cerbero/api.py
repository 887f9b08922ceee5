"""The HTTP door of the tools: one POST each, with OpenAPI, made from the registry."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema
from pydantic import BaseModel

from cerbero import plain
from cerbero.access import Actor, authenticate
from cerbero.errors import CerberoError, DatabaseUnavailable, MalformedRequest, NotFound, PayloadTooLarge
from cerbero.refusals import crashed, refuse
from cerbero.tool import TOOLS, Tool, call

BODY_BYTES_MAX = 64 * 1024
_REFUSALS = (400, 401, 403, 404, 409, 413, 422, 500, 502, 503, 504)
_DESCRIPTION = (
    "Every tool is one POST with a JSON object. Decimals are JSON strings without exponent; "
    "they are read from strings and from numbers, exactly. Refusals have one shape on every address."
)
_BOT_TAG = {
    "in": "header",
    "name": "X-Bot-Tag",
    "required": True,
    "description": "Names the running instance; 1 to 64 visible characters.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
}


class ErrorObject(BaseModel):
    """What was refused, and what the caller can do."""

    code: str
    message: str
    retryable: bool
    verify_first: bool
    details: dict[str, Any]


class Refusal(BaseModel):
    """The one shape of every answer that is not a success."""

    error: ErrorObject
    request_id: str


class BotToken:
    """Authenticates `Authorization: Bearer` with `X-Bot-Tag`; the request's `auth` is the Actor."""

    openapi_security_schema = {"type": "http", "scheme": "bearer"}

    def __call__(self, request: HttpRequest) -> Actor:
        return authenticate(
            request.META.get("HTTP_AUTHORIZATION", ""),
            request.META.get("HTTP_X_BOT_TAG", ""),
            request_id=request.request_id,  # type: ignore[attr-defined]
        )


class ToolAPI(NinjaAPI):
    """ninja's routing and OpenAPI; the arguments are read by `tool.call`, so that a bad one is recorded too."""

    def __init__(self, tools: Iterable[Tool], **options: Any) -> None:
        super().__init__(**options)
        self._tools = list(tools)
        for tool in self._tools:
            self.post(
                f"/tools/{tool.name}",
                operation_id=tool.name,
                summary=tool.summary,
                description=f"{tool.description}\n\nScope `{tool.scope}`, effect `{tool.effect}`.",
                tags=["tools"],
                response={200: tool.out} | dict.fromkeys(_REFUSALS, Refusal),
                openapi_extra={"parameters": [_BOT_TAG], "requestBody": _request_body(tool)},
            )(_endpoint(tool))

    def get_openapi_schema(self, **_: Any) -> OpenAPISchema:
        """Made once: whoever has no token may ask for it too, and making it takes a second."""
        return self._schema

    @cached_property
    def _schema(self) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix="")
        for tool in self._tools:
            body = tool.params.model_json_schema(ref_template=REF_TEMPLATE)
            schema["components"]["schemas"] |= body.pop("$defs", {}) | {tool.params.__name__: body}
        return schema


def build(tools: Iterable[Tool], *, namespace: str = "api") -> ToolAPI:
    """The API over `tools`, with every refusal in the one shape."""
    api = ToolAPI(
        tools,
        title="Cerbero",
        version="1",
        description=_DESCRIPTION,
        docs_url="/apidocs",
        urls_namespace=namespace,
        auth=BotToken(),
    )
    # ninja's own answers to the first two have another shape.
    for kind in (Http404, HttpError, Exception):
        api.add_exception_handler(kind, _answer)
    return api


def read_object(request: HttpRequest) -> dict[str, Any]:
    """The request's JSON object. Raises MalformedRequest or PayloadTooLarge."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > BODY_BYTES_MAX:
        raise PayloadTooLarge(bytes_max=BODY_BYTES_MAX)
    try:
        body = request.body
    except OSError:
        raise MalformedRequest("The body ended early.") from None
    if len(body) > BODY_BYTES_MAX:
        raise PayloadTooLarge(bytes_max=BODY_BYTES_MAX)
    value = plain.loads(body)
    if not isinstance(value, dict):
        raise MalformedRequest
    return value


def _endpoint(tool: Tool) -> Callable[[HttpRequest], HttpResponse]:
    def endpoint(request: HttpRequest) -> HttpResponse:
        arguments = read_object(request)
        # From here on `call` enters whatever comes of it.
        request.is_in_trail = True  # type: ignore[attr-defined]
        result = call(tool, request.auth, arguments)  # type: ignore[attr-defined]
        return HttpResponse(plain.dumps(result.model_dump()), content_type="application/json")

    endpoint.__name__ = tool.name
    return endpoint


def _request_body(tool: Tool) -> dict[str, Any]:
    reference = {"$ref": REF_TEMPLATE.format(model=tool.params.__name__)}
    return {"required": True, "content": {"application/json": {"schema": reference}}}


def _answer(request: HttpRequest, error: Any) -> HttpResponse:
    if isinstance(error, CerberoError):
        return refuse(request, error)
    if isinstance(error, OperationalError | InterfaceError):
        return refuse(request, DatabaseUnavailable())
    if isinstance(error, Http404):
        return refuse(request, NotFound())
    if isinstance(error, HttpError):
        return HttpResponse(status=error.status_code)
    return crashed(request, error)


api = build(TOOLS.values())
