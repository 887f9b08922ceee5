"""Tokens for a person's own programs (/api/): each person's own page; Administrators and Auditors see all."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cerbero import tokens
from cerbero.access import PERSON_SCOPES
from cerbero.errors import StateConflict
from cerbero.models import PersonToken
from cerbero.site import ReadOnlyAdmin
from orders.admin.acting import actor_of


class OwnTokenForm(forms.Form):
    """What a program may do for its person; nothing that a session is needed for can be ticked."""

    label = forms.CharField(max_length=64, required=False, help_text="where it will be used")
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {opens}") for scope, opens in PERSON_SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
        initial=["read"],
    )
    days = forms.IntegerField(
        min_value=1, max_value=tokens.DAYS_MAX, initial=90, label="Days until it expires"
    )


@admin.register(PersonToken)
class PersonTokenPage(ReadOnlyAdmin):
    """One's own tokens; all of them for those who may see everybody's."""

    list_display = ("__str__", "person", "label", "carries", "expires_at", "last_used_at", "ended")
    search_fields = ("prefix", "person__username", "label")
    list_select_related = ("person",)
    fields = ("person", "label", "carries", "created_at", "expires_at", "last_used_at", "ended")
    readonly_fields = fields
    ordering = ("-created_at",)
    change_list_template = "admin/cerbero/persontoken/list.html"

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: PersonToken | None = None) -> bool:
        user = request.user
        is_own = obj is None or obj.person_id == user.pk
        return bool(user.is_active and user.is_staff and (is_own or _sees_all(request)))

    def get_queryset(self, request: HttpRequest) -> QuerySet[PersonToken]:
        rows = super().get_queryset(request)
        return rows if _sees_all(request) else rows.filter(person_id=request.user.pk)

    @admin.display(description="Scopes")
    def carries(self, row: PersonToken) -> str:
        return ", ".join(row.scopes)

    @admin.display(description="Revoked")
    def ended(self, row: PersonToken) -> SafeString | str:
        if row.revoked_at:
            return f"{row.revoked_at:%Y-%m-%d %H:%M} UTC"
        return format_html('<a href="{}">Revoke…</a>', reverse("admin:person_token_revoke", args=[row.pk]))

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("issue/", protect(self.issue), name="person_token_issue"),
            path("<uuid:token_id>/revoke/", protect(self.revoke), name="person_token_revoke"),
        ]
        return own + super().get_urls()

    def issue(self, request: HttpRequest) -> HttpResponse:
        """The form, and after its POST the token, which no later page can show."""
        form = OwnTokenForm(request.POST or None)
        issued = form.is_valid() and tokens.issue_own(actor=actor_of(request), **form.cleaned_data)
        title = "Copy this token now" if issued else "A token for your own programs"
        return self._page(request, "issue.html", {"title": title, "form": form, "token": issued})

    def revoke(self, request: HttpRequest, token_id: UUID) -> HttpResponse:
        """Asks first; the POST revokes. One's own, or anybody's for whoever may change tokens."""
        token = get_object_or_404(PersonToken.objects.select_related("person"), pk=token_id)
        if token.person_id != request.user.pk and not request.user.has_perm("cerbero.change_persontoken"):
            raise PermissionDenied
        if request.method != "POST":
            return self._page(request, "revoke.html", {"title": f"Revoke {token}?", "token": token})
        try:
            tokens.revoke_persons(actor=actor_of(request), token=token)
            messages.success(request, f"{token} of {token.person} no longer opens anything.")
        except StateConflict:
            messages.warning(request, f"{token} was revoked before.")
        return HttpResponseRedirect(reverse("admin:cerbero_persontoken_changelist"))

    def _page(self, request: HttpRequest, name: str, words: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **words}
        return TemplateResponse(request, f"admin/cerbero/persontoken/{name}", context)


def _sees_all(request: HttpRequest) -> bool:
    user = request.user
    return user.has_perm("cerbero.view_persontoken") or user.has_perm("cerbero.change_persontoken")
