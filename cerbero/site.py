"""Cerbero's own admin site, and what its pages are derived from.

Apart from cerbero/admin.py, whose registrations would otherwise land on a second site: Django makes the site
when the first admin module asks for it, and must not import a module that registers while it does.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

from audit.services import record
from cerbero.access import person
from cerbero.models import User
from cerbero.people import sessions
from cerbero.people.signing_in import ThrottledForm, remember_device


class CerberoAdminSite(AdminSite):
    site_header = site_title = "Cerbero"
    index_title = "Operations"
    enable_nav_sidebar = False
    _empty_value_display = "–"
    login_form = ThrottledForm

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().login(request, extra_context)
        if request.method == "POST" and isinstance(request.user, User):
            remember_device(request, response, request.user)
        return response

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A new password signs out everywhere else, and ends the tokens of one's programs."""
        with transaction.atomic():
            response = super().password_change(request, extra_context)
            if request.method == "POST" and response.status_code == 302 and isinstance(request.user, User):
                keep = request.session.session_key or ""
                actor = person(request.user, request_id=request.request_id)  # type: ignore[attr-defined]
                sessions.shut_out(actor=actor, person=request.user, keep=keep)
        return response


class AuditedAdmin(ModelAdmin):
    """A page that edits: what people change goes into the trail, in the same transaction, by field and not by value.

    Django's LogEntry stays empty: it would be a second history that anybody can edit.
    """

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> None:  # type: ignore[override]
        _record(request, obj, "added", message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:  # type: ignore[override]
        _record(request, obj, "changed", message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> None:  # type: ignore[override]
        for obj in queryset:
            _record(request, obj, "deleted", [])


class ReadOnlyAdmin(ModelAdmin):
    """A page to read: services own these rows, whatever a person's permissions say."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def _record(request: HttpRequest, obj: Model, participle: str, message: Any) -> None:
    kind = str(obj._meta.model_name)
    actor = person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]
    record(
        f"{kind}.{participle}",
        actor=actor,
        subject_kind=kind,
        subject_id=obj.pk,
        details={"label": str(obj), "what": message},
    )
