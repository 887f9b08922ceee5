"""What the brokers' pages share: who acts, what they may, and what became of it."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from cerbero.access import Actor, person
from cerbero.errors import CerberoError
from cerbero.refusals import told_on_page


def actor(request: HttpRequest) -> Actor:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]


def demand(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied."""
    if not request.user.has_perm(permission):
        raise PermissionDenied(permission)


def attempt(request: HttpRequest, done: str, act: Any, **arguments: Any) -> bool:
    """Call a service and say on the next page what became of it."""
    try:
        act(actor=actor(request), **arguments)
    except CerberoError as refusal:
        told_on_page(request, refusal)
        messages.error(request, f"{refusal.message} ({refusal.code})")
        return False
    messages.success(request, done)
    return True
