"""Who calls, and what they may: a session with its permissions, or a person's token with its scopes besides."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.throttling import SimpleRateThrottle

from cerbero.access import Actor, Rule, authenticate_person, person
from cerbero.errors import CsrfFailed, PermissionMissing
from cerbero.models import User


class ByToken(BaseAuthentication):
    """`Authorization: Bearer cbp_…`. Whoever sends one is held by it, even with a session beside it."""

    def authenticate(self, request: Any) -> tuple[User, Actor] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        user, actor = authenticate_person(header, request_id=request.request_id)
        # The trail of refusals names who was refused.
        request._request.auth = actor
        return user, actor

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="cerbero"'


class BySession(SessionAuthentication):
    """The console's own session. Whatever changes something carries its CSRF token as X-CSRFToken."""

    def authenticate(self, request: Any) -> tuple[User, Actor] | None:
        found = super().authenticate(request)
        if found is None or not found[0].is_staff:
            return None
        return found[0], person(found[0], request_id=request.request_id, door="api")

    def enforce_csrf(self, request: Any) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied:
            raise CsrfFailed from None


class MayCall(BasePermission):
    """Holds each action to its rule. An action without one is refused: it fails closed."""

    def has_permission(self, request: Any, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        if view.action in {None, "metadata"}:
            return True  # No such method here, which the view says next.
        rule: Rule | None = view.rules.get(view.action)
        if rule is None:
            return False
        actor: Actor = request.auth
        if rule.scope:
            actor.require(rule.scope)
        else:
            actor.require_session()
        if not request.user.has_perm(rule.permission):
            raise PermissionMissing(permission=rule.permission)
        return True


class Pace(SimpleRateThrottle):
    """So many calls a person and process; what reduces risk is never made to wait."""

    rate = "600/min"

    def get_cache_key(self, request: Any, view: Any) -> str | None:
        rule = view.rules.get(view.action)
        return None if rule is None or rule.reduces_risk else f"pace:{request.user.pk}"


class ByTokenSchema(OpenApiAuthenticationExtension):
    """How the schema names a person's token."""

    target_class = ByToken
    name = "PersonToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class BySessionSchema(OpenApiAuthenticationExtension):
    """How the schema names the console's session."""

    target_class = BySession
    name = "Session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "cerbero_session"}
