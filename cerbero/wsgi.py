"""WSGI: `tools_application` is the bots' plane (granian), `application` is everything."""

import os
from functools import partial
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")

import django

django.setup()

from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from whitenoise.middleware import WhiteNoiseMiddleware

from cerbero.checks import refuse_half_set_flags
from cerbero.middleware import content_security_policy, request_context
from cerbero.refusals import one_shape


class ToolsRequest(WSGIRequest):
    urlconf = "cerbero.tool_urls"


class ToolsPlane(WSGIHandler):
    """Django's handler with the bots' own short list of middleware: no session, no cookie, no page."""

    request_class = ToolsRequest
    middleware = (
        request_context,
        partial(one_shape, pages=()),
        content_security_policy,
        WhiteNoiseMiddleware,
    )

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        chain = convert_exception_to_response(self._get_response)  # type: ignore[attr-defined]
        for middleware in reversed(self.middleware):
            chain = convert_exception_to_response(middleware(chain))
        self._middleware_chain = chain


refuse_half_set_flags()
application = WSGIHandler()
tools_application = ToolsPlane()
