"""The administrators' addresses below /admin/ibkr/: for a person's session, and as far as its scopes go a token of theirs.

A token starts and aborts with the scope `rotate`, and reads health with `read`. Confirming a swap is a decision: no
token decides, so that takes the person's session with its CSRF token.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from audit.services import record
from brokers.models import Login
from cerbero import health
from cerbero.access import Rule
from cerbero.errors import NotFound
from keyrotation import services
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation
from keyrotation.next_step import next_step
from keyrotation.services import PERMISSION, REASON_MAX, Prime


class StartBody(serializers.Serializer):
    login = serializers.SlugField(max_length=64)
    reason = serializers.CharField(max_length=REASON_MAX)
    kind = serializers.ChoiceField(Kind.choices, default=Kind.TOKEN)
    prime = serializers.ChoiceField([each.value for each in Prime], default=Prime.CURRENT.value)


class ShownBody(serializers.Serializer):
    rotation_id = serializers.UUIDField()
    digest = serializers.CharField(max_length=64)


class ConfirmBody(ShownBody):
    assertion = serializers.DictField(
        required=False, help_text="a passkey's answer to `signature`; a sole operator's yes needs one"
    )


class AbortBody(serializers.Serializer):
    rotation_id = serializers.UUIDField()
    reason = serializers.CharField(max_length=REASON_MAX)


class RotationCalls(viewsets.ViewSet):
    """Start, confirm and abort a rotation; and the health of logins with what their keys wait for."""

    basename = "rotate-keys"
    outcome = "ok"
    rules: ClassVar[dict[str, Rule]] = {
        "start": Rule(PERMISSION, "rotate"),
        "signature": Rule(PERMISSION),
        "confirm": Rule(PERMISSION),
        "abort": Rule(PERMISSION, "rotate"),
        "health": Rule("keyrotation.view_rotation", "read"),
    }

    @extend_schema(request=StartBody, responses={201: OpenApiTypes.OBJECT})
    @action(detail=False, methods=["post"])
    def start(self, request: Any) -> Response:
        """Stage a new token or new keys for a login; answers with what a person registers at the broker."""
        sent = _read(StartBody, request)
        login = Login.objects.filter(name=sent["login"]).first()
        if login is None:
            raise NotFound(login=sent["login"])
        started = self._act(
            request,
            services.start_rotation,
            login_id=login.pk,
            reason=sent["reason"],
            kind=Kind(sent["kind"]),
            prime=Prime(sent["prime"]),
        )
        halves = {"signature_key": started.signature, "encryption_key": started.encryption}
        shown = {
            name: {"pem": half.pem, "fingerprint": half.fingerprint} for name, half in halves.items() if half
        }
        return Response(described(started.rotation) | shown, 201)

    @extend_schema(request=ShownBody, responses=OpenApiTypes.OBJECT)
    @action(detail=False, methods=["post"])
    def signature(self, request: Any) -> Response:
        """What a sole operator's passkey is to sign: the options of `navigator.credentials.get`. By session only."""
        _, asked = _asked(_read(ShownBody, request))
        return Response(self._act(request, services.ask_signature, **asked))

    @extend_schema(request=ConfirmBody, responses=OpenApiTypes.OBJECT)
    @action(detail=False, methods=["post"])
    def confirm(self, request: Any) -> Response:
        """Say yes to the swap of a proven set, bound to the digest that was read. By session only."""
        sent = _read(ConfirmBody, request)
        rotation, asked = _asked(sent)
        signed = {"is_yes": True, "assertion": sent.get("assertion")}
        self._act(request, services.decide_rotation, **asked, **signed)
        return Response(_now(rotation))

    @extend_schema(request=AbortBody, responses=OpenApiTypes.OBJECT)
    @action(detail=False, methods=["post"])
    def abort(self, request: Any) -> Response:
        """End a rotation whose keys are not in use; the new ones are destroyed."""
        return Response(described(self._act(request, services.abort_rotation, **_read(AbortBody, request))))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=False, methods=["get"])
    def health(self, request: Any) -> Response:
        """Each login's session, and the rotation that is under way with whom it waits for."""
        under_way = Rotation.objects.unfinished().select_related("login", "request", "credential")
        found = health.examine()
        rows = [described(each) for each in under_way.order_by("created_at")]
        return Response({"status": found["status"], "logins": found["logins"], "rotations": rows})

    def _act(self, request: Any, service: Callable[..., Any], **arguments: Any) -> Any:
        """Call a service, and enter who called by which door and how it ended."""
        # From here on this entry says what came of it (cerbero.middleware.trail_of_refusals).
        request._request.is_in_trail = True
        actor = request.auth
        try:
            return service(actor=actor, **arguments)
        except Exception as error:
            self.outcome = getattr(error, "code", "internal_error")
            raise
        finally:
            details = {"door": actor.door, "tag": actor.tag, "outcome": self.outcome}
            operation = f"{self.basename}.{self.action}"
            record("api.called", actor=actor, subject_kind="api", subject_id=operation, details=details)


def described(rotation: Rotation) -> dict[str, Any]:
    """A rotation as programs read it; nothing secret."""
    coming, request = next_step(rotation), rotation.request
    return {
        "rotation_id": str(rotation.pk),
        "login": rotation.login.name,
        **{name: getattr(rotation, name) for name in ("status", "kind", "mode", "problem", "stopped_at")},
        **{name: getattr(rotation, name) for name in ("dark_since", "dark_until", "retire_at")},
        "digest": request.digest if request and rotation.status == "proven" else "",
        "next": {"who": coming.who, "what": coming.what, "at": coming.at},
    }


def _asked(sent: dict[str, Any]) -> tuple[Rotation, dict[str, Any]]:
    """The rotation, and the question about it by the digest that was read. Raises NotFound before anything is asked."""
    rotation = Rotation.objects.filter(pk=sent["rotation_id"]).first()
    if rotation is None or rotation.request_id is None:
        raise NotFound(rotation_id=str(sent["rotation_id"]))
    return rotation, {"request_id": rotation.request_id, "digest": sent["digest"]}


def _now(rotation: Rotation) -> dict[str, Any]:
    return described(Rotation.objects.select_related("login", "request").get(pk=rotation.pk))


def _read(form: type[serializers.Serializer], request: Any) -> dict[str, Any]:
    body = form(data=request.data)
    body.is_valid(raise_exception=True)
    return body.validated_data


def _address(method: str, name: str, address: str) -> Any:
    return path(address, RotationCalls.as_view({method: name}), name=f"rotate_keys_{name}")


urlpatterns = [
    _address("post", "start", "rotate-keys/start"),
    _address("post", "signature", "rotate-keys/signature"),
    _address("post", "confirm", "rotate-keys/confirm"),
    _address("post", "abort", "rotate-keys/abort"),
    _address("get", "health", "health"),
]
