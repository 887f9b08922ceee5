"""People, bots, their tokens, and the decisions that people took."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cerbero import tokens
from cerbero.access import DEFAULT_SCOPES, SCOPES, person
from cerbero.errors import StateConflict
from cerbero.models import AccessToken, Bot, Decision, DecisionRequest, User
from cerbero.people import changes
from cerbero.site import AuditedAdmin, ReadOnlyAdmin
from orders.templatetags.console import environment_cell
from orders.trading import ensure_states

admin.site.unregister(Group)


@admin.register(Group)
class GroupPage(ReadOnlyAdmin, GroupAdmin):
    """To read: the migrate step owns what each group may do."""


@admin.register(User)
class UserPage(AuditedAdmin, UserAdmin):
    """People. Nobody becomes a superuser here, and nobody changes what they may do themselves."""

    list_display = ("username", "first_name", "last_name", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("May do", {"fields": ("is_active", "is_staff", "groups")}),
        ("Times", {"fields": readonly_fields}),
    )
    filter_horizontal = ("groups",)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return obj != request.user and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """What takes away is done at once; what gives waits for a second Administrator."""
        before = User.objects.get(pk=obj.pk) if change else None
        given = [name for name in changes.FLAGS if before and getattr(obj, name) > getattr(before, name)]
        for name in given:
            setattr(obj, name, False)
        super().save_model(request, obj, form, change)
        wanted = form.cleaned_data.get("groups")
        had = set(obj.groups.all())
        added = [] if wanted is None else [group.name for group in wanted if group not in had]
        if given or added:
            changes.propose_grant(actor=_actor(request), person=obj, groups=added, flags=given)
            messages.info(request, f"What gives {obj} more waits for a second Administrator.")
        if wanted is not None:
            form.cleaned_data["groups"] = [group for group in wanted if group in had]

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """A new password for another person; it counts once a second Administrator has confirmed it."""
        user = self.get_object(request, id)
        if user is None or not self.has_change_permission(request, user):
            raise PermissionDenied
        form = SetPasswordForm(user, request.POST or None)
        if form.is_valid():
            with transaction.atomic():
                changes.propose_password(
                    actor=_actor(request), person=user, password=form.cleaned_data["new_password1"]
                )
            messages.info(request, f"The new password of {user} waits for a second Administrator.")
            return HttpResponseRedirect(reverse("admin:cerbero_user_change", args=[user.pk]))
        words = {"title": f"A new password for {user}", "form": form, "opts": self.opts}
        context = {**self.admin_site.each_context(request), **words}
        return TemplateResponse(request, "admin/cerbero/user/password.html", context)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # Who decided on what must stay readable; make a person inactive instead.
        return False


@admin.register(Bot)
class BotPage(AuditedAdmin):
    """Bots. Name and environment stay as they were made: tickets and tokens refer to them."""

    list_display = ("name", environment_cell, "owner", "is_active", "created_at")
    list_filter = ("environment", "is_active")
    search_fields = ("name", "owner__username")
    autocomplete_fields = ("owner",)
    fields = ("name", "environment", "owner", "is_active")

    def get_readonly_fields(self, request: HttpRequest, obj: Bot | None = None) -> tuple[str, ...]:
        return ("name", "environment") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Bot | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Bot, form: Any, change: bool) -> None:
        """A new owner waits for a second Administrator: owners cannot decide, whoever was one can."""
        wanted = obj.owner
        if change and "owner" in form.changed_data:
            obj.owner = Bot.objects.get(pk=obj.pk).owner
            changes.propose_owner(actor=_actor(request), bot=obj, owner=wanted)
            messages.info(request, "The new owner waits for a second Administrator.")
        super().save_model(request, obj, form, change)
        ensure_states(bot=obj)


class TokenForm(forms.Form):
    """What a new token is for."""

    bot = forms.ModelChoiceField(Bot.objects.filter(is_active=True).order_by("name"))
    label = forms.CharField(max_length=64, required=False, help_text="Where it will be used.")
    scopes = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {words}") for name, words in SCOPES.items()],
        initial=DEFAULT_SCOPES,
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        min_value=1, max_value=tokens.DAYS_MAX, initial=90, help_text="Until it expires."
    )


@admin.register(AccessToken)
class TokenPage(ReadOnlyAdmin):
    """Tokens by their prefix; issuing shows one once, revoking ends it at once."""

    list_display = ("__str__", "bot", "label", environment_cell, "expires_at", "last_used_at", "ended")
    list_filter = ("environment", "bot")
    search_fields = ("prefix", "bot__name", "label")
    list_select_related = ("bot",)
    fields = (*list_display, "scopes", "created_at", "revoked_at")  # type: ignore[assignment]
    readonly_fields = fields  # type: ignore[assignment]
    ordering = ("-created_at",)
    change_list_template = "admin/cerbero/accesstoken/list.html"

    @admin.display(description="Revoked")
    def ended(self, row: AccessToken) -> SafeString | str:
        if row.revoked_at:
            return f"{row.revoked_at:%Y-%m-%d %H:%M} UTC"
        rotate, revoke = (reverse(f"admin:token_{word}", args=[row.pk]) for word in ("rotate", "revoke"))
        return format_html('<a href="{}">Rotate…</a> <a href="{}">Revoke…</a>', rotate, revoke)

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("issue/", protect(self.issue), name="token_issue"),
            path("<uuid:token_id>/rotate/", protect(self.rotate), name="token_rotate"),
            path("<uuid:token_id>/revoke/", protect(self.revoke), name="token_revoke"),
        ]
        return own + super().get_urls()

    def issue(self, request: HttpRequest) -> HttpResponse:
        """The form, and after its POST the token, which no later page can show."""
        if not request.user.has_perm("cerbero.add_accesstoken"):
            raise PermissionDenied
        form = TokenForm(request.POST or None)
        issued = form.is_valid() and tokens.issue(actor=_actor(request), **form.cleaned_data)
        words = {"title": "Copy this token now" if issued else "Issue a token", "form": form, "token": issued}
        return self._page(request, "issue.html", words)

    def rotate(self, request: HttpRequest, token_id: Any) -> HttpResponse:
        """Asks first; the POST shows the new token, which no later page can show. The old one works a while longer."""
        if not request.user.has_perm("cerbero.add_accesstoken"):
            raise PermissionDenied
        token = get_object_or_404(AccessToken.objects.select_related("bot"), pk=token_id)
        if request.method != "POST":
            words = {"title": f"Rotate {token}?", "token": token, "hours": tokens.OVERLAP_HOURS}
            return self._page(request, "rotate.html", words)
        try:
            issued = tokens.rotate(actor=_actor(request), token=token)
        except StateConflict:
            messages.warning(request, f"{token} no longer works; issue a new one.")
            return HttpResponseRedirect(reverse("admin:cerbero_accesstoken_changelist"))
        return self._page(request, "issue.html", {"title": "Copy this token now", "token": issued})

    def revoke(self, request: HttpRequest, token_id: Any) -> HttpResponse:
        """Asks first; the POST revokes."""
        if not request.user.has_perm("cerbero.change_accesstoken"):
            raise PermissionDenied
        token = get_object_or_404(AccessToken.objects.select_related("bot"), pk=token_id)
        if request.method != "POST":
            return self._page(request, "revoke.html", {"title": f"Revoke {token}?", "token": token})
        try:
            tokens.revoke(actor=_actor(request), token=token)
            messages.success(request, f"{token} of {token.bot} no longer opens anything.")
        except StateConflict:
            messages.warning(request, f"{token} was revoked before.")
        return HttpResponseRedirect(reverse("admin:cerbero_accesstoken_changelist"))

    def _page(self, request: HttpRequest, name: str, words: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **words}
        return TemplateResponse(request, f"admin/cerbero/accesstoken/{name}", context)


class DecisionInline(admin.TabularInline):
    model = Decision
    fields = readonly_fields = ("person", "is_yes", "reason", "decided_at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(DecisionRequest)
class DecisionRequestPage(ReadOnlyAdmin):
    """What people were asked, and what they answered."""

    list_display = ("summary", "subject_kind", "requested_by", "status", "created_at", "expires_at")
    list_filter = ("status", "subject_kind")
    search_fields = ("summary", "requested_by", "subject_id", "digest")
    ordering = ("-created_at",)
    inlines = (DecisionInline,)


@admin.register(Decision)
class DecisionPage(ReadOnlyAdmin):
    """Each yes and no by itself, to search."""

    list_display = ("request", "person", "is_yes", "reason", "decided_at")
    list_filter = ("is_yes",)
    search_fields = ("request__summary", "person__username", "reason")
    list_select_related = ("request", "person")
    ordering = ("-decided_at",)


def _actor(request: HttpRequest) -> Any:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]
