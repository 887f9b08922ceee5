"""Rotations for people: the list, a stepper that says what comes next and who must do it, and the public halves."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from audit.models import Entry
from brokers.models import Login
from cerbero import decisions
from cerbero.access import Actor, person
from cerbero.errors import BadInput, CerberoError
from cerbero.models import DecisionStatus, User
from cerbero.people.passkeys import answered
from cerbero.site import ReadOnlyAdmin
from keyrotation import services, swapping
from keyrotation.calendar import ages
from keyrotation.lifecycle import MOVES, Kind, RotationStatus
from keyrotation.models import Rotation
from keyrotation.next_step import next_step, steps
from keyrotation.services import PERMISSION, PUBLIC_FILES, Prime

Status = RotationStatus

# What the trail's events are called on the page.
SAID = {
    "rotation.requested": "Asked for",
    "rotation.generated": "New set made",
    "rotation.registered": "Registered at the broker",
    "rotation.not_proven": "Not taken by the broker yet",
    "rotation.went_dark": "Dark: the old set works no longer",
    "rotation.grew_light": "The old set works again",
    "rotation.proven": "Proven, not in use",
    "rotation.activated": "In use",
    "rotation.settled": "Proven in use",
    "rotation.stopped": "Stopped, asks for a person",
    "rotation.retried": "Tried again",
    "rotation.rolled_back": "The old set put back",
    "rotation.aborted": "Aborted",
    "rotation.retired": "Old set destroyed",
}


class StartForm(forms.Form):
    """What is replaced, and why."""

    login = forms.ModelChoiceField(Login.objects.order_by("name"))
    kind = forms.ChoiceField(
        label="Replace",
        choices=[
            (
                Kind.TOKEN,
                "The access token and its secret, under the same keys. Works within about a minute.",
            ),
            (
                Kind.KEYS,
                "The keys themselves, with a new token. May be dark until the broker's nightly reset.",
            ),
        ],
        initial=Kind.TOKEN,
        widget=forms.RadioSelect,
    )
    prime = forms.ChoiceField(
        label="Diffie-Hellman prime",
        choices=[
            (Prime.CURRENT, "Keep the current one"),
            (Prime.GROUP_14, "A well-known one (RFC 3526)"),
            (Prime.OWN, "Search for one of our own; takes minutes"),
        ],
        help_text="For new keys only. It is no secret.",
    )
    reason = forms.CharField(max_length=services.REASON_MAX, help_text="Stands in the audit trail.")


class Unshown(forms.Textarea):
    """A field for a secret: what was typed never stands in a page again, not even beside its mistake."""

    def format_value(self, value: Any) -> str:
        return ""


class RegisterForm(forms.Form):
    """What the broker's portal shows. The secret is not shown again, here or anywhere."""

    consumer_key = forms.CharField(max_length=32, help_text="Nine capital letters.")
    access_token = forms.CharField(max_length=200, help_text="Twenty digits and letters from a to f.")
    access_token_secret = forms.CharField(
        max_length=2000,
        widget=Unshown(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
    )


@admin.register(Rotation)
class RotationPage(ReadOnlyAdmin):
    """The list leads to the stepper; every button calls a service."""

    list_display = (
        "login",
        "status",
        "kind",
        "waits_for",
        "requested_by",
        "reason",
        "created_at",
        "ended_at",
    )
    list_filter = ("status", "login")
    search_fields = ("login__name", "requested_by", "reason")
    list_select_related = ("login", "request")
    ordering = ("-created_at",)
    change_list_template = "admin/keyrotation/list.html"

    @admin.display(description="Next")
    def waits_for(self, row: Rotation) -> str:
        return "" if row.ended_at else next_step(row).who

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("calendar/", protect(self.calendar), name="keyrotation_calendar"),
            path("start/", protect(self.start), name="rotation_start"),
            path("<uuid:rotation_id>/change/", protect(self.show), name="keyrotation_rotation_change"),
            path("<uuid:rotation_id>/state.json", protect(self.state), name="rotation_state"),
            path("<uuid:rotation_id>/act/", protect(self.act), name="rotation_act"),
            path("<uuid:rotation_id>/end/", protect(self.end), name="rotation_end"),
            path("<uuid:rotation_id>/<slug:which>.pem", protect(self.download), name="rotation_public"),
        ]
        return own + super().get_urls()

    def calendar(self, request: HttpRequest) -> HttpResponse:
        """Every secret with its age and when it is due."""
        _demand(request, "keyrotation.view_rotation")
        return self._page(request, "calendar.html", {"title": "Age of every secret", "ages": ages()})

    def start(self, request: HttpRequest) -> HttpResponse:
        """The form, and after its POST the stepper."""
        _demand(request, PERMISSION)
        form = StartForm(request.POST or None, initial={"login": request.GET.get("login")})
        if request.method == "POST" and form.is_valid():
            typed = form.cleaned_data
            started = _attempt(
                request,
                "The new set is staged; nothing uses it yet.",
                services.start_rotation,
                login_id=typed["login"].pk,
                reason=typed["reason"],
                kind=Kind(typed["kind"]),
                prime=Prime(typed["prime"]),
            )
            if started:
                return _to(started.rotation.pk)
        return self._page(request, "start.html", {"title": "Replace keys", "form": form})

    def show(self, request: HttpRequest, rotation_id: UUID) -> HttpResponse:
        """Where it stands, what comes next, and who must do it."""
        _demand(request, "keyrotation.view_rotation")
        return self._stepper(request, _rotation(rotation_id))

    def state(self, request: HttpRequest, rotation_id: UUID) -> JsonResponse:
        """What the page that shows it is read by its script for: whether anything has changed."""
        _demand(request, "keyrotation.view_rotation")
        return JsonResponse({"state": _state(_rotation(rotation_id))})

    def act(self, request: HttpRequest, rotation_id: UUID) -> HttpResponse:
        """What brings it forward: register, confirm, retire."""
        _demand(request, PERMISSION)
        rotation, do = _rotation(rotation_id), request.POST.get("do")
        if do == "register":
            return self._register(request, rotation)
        if do == "confirm" and rotation.request is not None:
            words = "Confirmed. The swap follows within seconds."
            _attempt(request, words, services.decide_rotation, **_answer(request, rotation, is_yes=True))
        elif do == "retire":
            _attempt(request, "The old set is destroyed.", swapping.retire_rotation, rotation_id=rotation.pk)
        return _to(rotation.pk)

    def end(self, request: HttpRequest, rotation_id: UUID) -> HttpResponse:
        """What leads back or looks again: reject, abort, roll back, try again. Never asked for a second factor."""
        _demand(request, PERMISSION)
        rotation, do = _rotation(rotation_id), request.POST.get("do")
        about = {"rotation_id": rotation.pk, "reason": request.POST.get("reason", "")}
        if do == "reject" and rotation.request is not None:
            words = "Rejected: the new set is destroyed, the keys in use stay in use."
            _attempt(request, words, services.decide_rotation, **_answer(request, rotation, is_yes=False))
        elif do == "abort":
            words = "Aborted: the new set is destroyed, the keys in use stay in use."
            _attempt(request, words, services.abort_rotation, **about)
        elif do == "roll_back":
            _attempt(request, "The old set is in use again.", swapping.roll_back_rotation, **about)
        elif do == "retry":
            _attempt(request, "It is tried again now.", services.retry_rotation, rotation_id=rotation.pk)
        return _to(rotation.pk)

    def download(self, request: HttpRequest, rotation_id: UUID, which: str) -> HttpResponse:
        """A public half as the portal takes it: PEM with plain line endings. No private half has an address."""
        _demand(request, PERMISSION)
        pems = services.public_halves(_rotation(rotation_id))
        if which not in pems:
            raise Http404
        headers = {
            "Content-Disposition": f'attachment; filename="{PUBLIC_FILES[which]}"',
            "Cache-Control": "no-store",
        }
        return HttpResponse(pems[which], content_type="application/x-pem-file", headers=headers)

    def _register(self, request: HttpRequest, rotation: Rotation) -> HttpResponse:
        form = _register_form(rotation, request.POST)
        if form.is_valid():
            try:
                services.register_rotation(
                    actor=_actor(request), rotation_id=rotation.pk, **form.cleaned_data
                )
            except BadInput as wrong:
                for each in wrong.details.get("fields", []):
                    name = each["field"] if each["field"] in form.fields else None
                    form.add_error(name, each["problem"])
            except CerberoError as refusal:
                messages.error(request, f"{refusal.message} ({refusal.code})")
                return _to(rotation.pk)
            else:
                messages.success(request, "Entered. The new set is tried at the broker within seconds.")
                return _to(rotation.pk)
        return self._stepper(request, rotation, form)

    def _stepper(self, request: HttpRequest, rotation: Rotation, form: Any = None) -> HttpResponse:
        user = request.user
        may_act = isinstance(user, User) and user.has_perm(PERMISSION)
        asked = rotation.request if rotation.status == Status.PROVEN else None
        if asked is not None and asked.status != DecisionStatus.PENDING:
            asked = None
        can_register = rotation.status in {Status.GENERATED, Status.REGISTERED}
        words = {
            "title": f"Keys of {rotation.login}",
            "rotation": rotation,
            "steps": steps(rotation),
            "next": None if rotation.ended_at and not rotation.problem else next_step(rotation),
            "is_again": may_act and rotation.status == Status.REGISTERED,
            "form": form or (_register_form(rotation) if can_register and may_act else None),
            "public": _fingerprints(rotation) if rotation.kind == Kind.KEYS and can_register else [],
            "asked": asked,
            "why_not": decisions.why_not(asked, user) if asked and isinstance(user, User) else "",
            "may_act": may_act,
            "can_abort": Status.ABORTED in MOVES[rotation.status],
            "can_roll_back": rotation.status == Status.ACTIVE,
            "history": _history(rotation),
            "state": _state(rotation),
        }
        return self._page(request, "rotation.html", words)

    def _page(self, request: HttpRequest, name: str, words: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **words}
        return TemplateResponse(request, f"admin/keyrotation/{name}", context)


def _rotation(rotation_id: UUID) -> Rotation:
    rows = Rotation.objects.select_related("login", "credential", "previous", "request")
    found = rows.filter(pk=rotation_id).first()
    if found is None:
        raise Http404
    return found


def _state(rotation: Rotation) -> str:
    asked = rotation.request.status if rotation.request else ""
    return f"{rotation.status} {rotation.failures} {rotation.primes_tried} {rotation.stopped_at} {rotation.settled_at} {asked}"


def _history(rotation: Rotation) -> list[dict[str, Any]]:
    rows = Entry.objects.filter(subject_kind="rotation", subject_id=str(rotation.pk)).order_by("id")
    said = ("reason", "why", "broker_says", "mode")
    return [
        {
            "at": row.at,
            "said": SAID.get(row.event, row.event),
            "actor_name": row.actor_name,
            "why": next((row.details[name] for name in said if row.details.get(name)), ""),
        }
        for row in rows
    ]


def _fingerprints(rotation: Rotation) -> list[tuple[str, str, str]]:
    keys = rotation.credential
    if keys is None:
        return []
    return [
        ("signature", PUBLIC_FILES["signature"], keys.signature_fingerprint),
        ("encryption", PUBLIC_FILES["encryption"], keys.encryption_fingerprint),
        ("dhparam", PUBLIC_FILES["dhparam"], ""),
    ]


def _register_form(rotation: Rotation, data: Any = None) -> RegisterForm:
    form = RegisterForm(data)
    if rotation.kind == Kind.TOKEN:
        del form.fields["consumer_key"]
    return form


def _answer(request: HttpRequest, rotation: Rotation, *, is_yes: bool) -> dict[str, Any]:
    return {
        "request_id": rotation.request_id,
        "digest": request.POST.get("digest", ""),
        "is_yes": is_yes,
        "reason": request.POST.get("reason", ""),
        "assertion": answered(request.POST.get("assertion", "")) if is_yes else None,
    }


def _attempt(request: HttpRequest, done: str, act: Callable[..., Any], **arguments: Any) -> Any:
    """Call a service and say on the next page what became of it; a refusal is told, never raised."""
    try:
        result = act(actor=_actor(request), **arguments)
    except CerberoError as refusal:
        messages.error(request, f"{refusal.message} Nothing was changed. ({refusal.code})")
        return None
    messages.success(request, done)
    return result


def _actor(request: HttpRequest) -> Actor:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]


def _demand(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied(permission)


def _to(rotation_id: UUID) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:keyrotation_rotation_change", args=[rotation_id]))
