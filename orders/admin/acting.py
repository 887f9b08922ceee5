"""What every view that acts shares: the actor, the permission, and a refusal told on the page."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from cerbero.access import Actor, person
from cerbero.errors import CerberoError
from cerbero.refusals import told_on_page


def actor_of(request: HttpRequest) -> Actor:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]


def demand(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied, which is the 403 page, unless the person holds `permission`."""
    if not request.user.has_perm(permission):
        raise PermissionDenied(permission)


def attempt(
    request: HttpRequest, done: str, act: Callable[..., Any], *, about: str = "", **arguments: Any
) -> Any:
    """Call a service and say on the next page what became of it. A refusal is told, never raised.

    `about` says which of several things was refused.
    """
    try:
        result = act(actor=actor_of(request), **arguments)
    except CerberoError as refusal:
        told_on_page(request, refusal)
        messages.error(request, f"{about}: {told(refusal)}" if about else told(refusal))
        return None
    messages.success(request, done)
    return result if result is not None else True


def told(refusal: CerberoError) -> str:
    """A refusal as people read it: the message, what it names, its code, and whether anything changed."""
    named = ", ".join(f"{name} {value}" for name, value in refusal.details.items() if value)
    end = "Look before you act again." if refusal.verify_first else "Nothing was changed."
    return f"{refusal.message} {end} ({refusal.code}{f': {named}' if named else ''})"


def page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    """A page of the console, with the admin's own context around it."""
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})
