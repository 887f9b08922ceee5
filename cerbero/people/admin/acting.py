"""What each view of this room shares: who asks, a page around it, and a refusal told on the next."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from cerbero.access import Actor, person
from cerbero.errors import CerberoError
from cerbero.models import User
from cerbero.refusals import told_on_page


def user_of(request: HttpRequest) -> User:
    """The signed-in person; every view here stands behind the admin's own gate."""
    return request.user  # type: ignore[return-value]


def actor_of(request: HttpRequest) -> Actor:
    return person(user_of(request), request_id=request.request_id)  # type: ignore[attr-defined]


def attempt(request: HttpRequest, done: str, act: Callable[..., Any], **arguments: Any) -> Any:
    """Call a service and say on the next page what became of it. A refusal is told, never raised."""
    try:
        result = act(actor=actor_of(request), **arguments)
    except CerberoError as refusal:
        told_on_page(request, refusal)
        named = ", ".join(f"{name} {value}" for name, value in refusal.details.items() if value)
        messages.error(request, f"{refusal.message} ({refusal.code}{f': {named}' if named else ''})")
        return None
    messages.success(request, done)
    return result


def page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    """A page of the console, with the admin's own context around it."""
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
