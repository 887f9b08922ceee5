"""Logins and their keys in admin: to read, and to enter a gateway's, to switch one off, to take a session over."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokers import services
from brokers.admin.pages import attempt, demand
from brokers.entering import GATEWAY_URL, enter_gateway
from brokers.models import Credential, Login, Region, SessionState
from brokers.sessions import take_over_session
from cerbero.models import Environment
from cerbero.site import ReadOnlyAdmin
from orders.templatetags.console import environment_cell

SECRETS = ("session_token", "socket_session")


class GatewayForm(forms.Form):
    name = forms.SlugField(max_length=64, help_text="A short name of your own, such as desk-paper.")
    environment = forms.ChoiceField(
        choices=Environment.choices,
        help_text="What you sign in as. It never changes; the broker's own word is checked.",
    )
    base_url = forms.URLField(
        label="Address", initial=GATEWAY_URL, assume_scheme="https", help_text="On this machine, by https."
    )
    is_verified = forms.BooleanField(
        label="Verify its certificate",
        required=False,
        help_text="The gateway comes with one that nobody signed: leave this off unless you gave it one of yours.",
    )
    region = forms.ChoiceField(
        choices=Region.choices, help_text="Whose nights the broker has, when new orders wait."
    )


@admin.register(Login)
class LoginPage(ReadOnlyAdmin):
    """Sessions and their states; no secret is read, let alone shown. A gateway's login is entered here, others with their keys."""

    list_display = (
        "name",
        environment_cell,
        "state",
        "state_detail",
        "tickled_at",
        "feed_alive_at",
        "is_enabled",
    )
    list_filter = ("environment", "state", "is_enabled")
    search_fields = ("name",)
    ordering = ("name",)
    fields = (
        "name",
        "broker",
        "environment",
        "is_paper",
        "way_in",
        "base_url",
        "is_verified",
        "usability",
        "is_enabled",
        "state",
        "state_detail",
        "state_changed_at",
        "session_token_expires_at",
        "tickled_at",
        "feed_alive_at",
        "cooling_until",
        "failures",
        "retry_at",
        "switching",
        "taking_over",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Login]:
        return super().get_queryset(request).defer(*SECRETS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("brokers.add_login")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A login whose person signs in at IBKR's gateway. One with keys is entered by `ibkr_setup`."""
        demand(request, "brokers.add_login")
        form = GatewayForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            wanted = form.cleaned_data
            done = f"{wanted['name']} is entered; now sign in at the gateway itself."
            if attempt(request, done, enter_gateway, **wanted):
                login = get_object_or_404(Login, name=wanted["name"])
                return HttpResponseRedirect(reverse("admin:brokers_login_change", args=[login.pk]))
        words = {"title": "Enter a login by IBKR's gateway", "form": form, "opts": self.opts}
        return TemplateResponse(
            request, "admin/brokers/gateway.html", {**self.admin_site.each_context(request), **words}
        )

    @admin.display(description="Another platform")
    def taking_over(self, row: Login) -> SafeString | str:
        if row.state != SessionState.COMPETING:
            return "holds nothing of ours"
        return format_html(
            '<a href="{}">Take the session over…</a>', reverse("admin:login_take_over", args=[row.pk])
        )

    @admin.display(description="In use")
    def switching(self, row: Login) -> SafeString:
        words = ("yes", "Switch it off…") if row.is_enabled else ("no", "Switch it on…")
        return format_html(
            '{} <a href="{}">{}</a>', words[0], reverse("admin:login_switch", args=[row.pk]), words[1]
        )

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("<uuid:login_id>/take-over/", protect(self.take_over), name="login_take_over"),
            path("<uuid:login_id>/switch/", protect(self.switch), name="login_switch"),
        ]
        return own + super().get_urls()

    def switch(self, request: HttpRequest, login_id: UUID) -> HttpResponse:
        """Asks first; the POST says whether the login shall be on, so that pressing twice changes nothing more."""
        demand(request, "brokers.change_login")
        login = get_object_or_404(Login, pk=login_id)
        if request.method != "POST":
            title = f"Switch {login} {'off' if login.is_enabled else 'on'}?"
            words = {"title": title, "login": login, "opts": self.opts}
            return TemplateResponse(
                request, "admin/brokers/switch.html", {**self.admin_site.each_context(request), **words}
            )
        is_enabled = request.POST.get("do") == "on"
        done = f"{login} is switched {'on' if is_enabled else 'off'}."
        attempt(request, done, services.set_login_enabled, login=login, is_enabled=is_enabled)
        return HttpResponseRedirect(reverse("admin:brokers_login_change", args=[login.pk]))

    def take_over(self, request: HttpRequest, login_id: UUID) -> HttpResponse:
        """Asks first; the POST evicts the other platform."""
        demand(request, "brokers.change_login")
        login = get_object_or_404(Login, pk=login_id)
        if request.method != "POST":
            words = {"title": f"Take over the session of {login}?", "login": login, "opts": self.opts}
            return TemplateResponse(
                request, "admin/brokers/take_over.html", {**self.admin_site.each_context(request), **words}
            )
        attempt(request, f"The session of {login} was asked for.", take_over_session, login=login)
        return HttpResponseRedirect(reverse("admin:brokers_login_change", args=[login.pk]))


@admin.register(Credential)
class CredentialPage(ReadOnlyAdmin):
    """Which keys are in force, by their fingerprints."""

    list_display = ("login", "consumer_key", "status", "created_at", "activated_at")
    list_filter = ("status", "login")
    list_select_related = ("login",)
    ordering = ("-created_at",)
    fields = (*list_display, "signature_fingerprint", "encryption_fingerprint")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        secret = ("access_token", "access_token_secret", "signature_key", "encryption_key", "dh_prime")
        return super().get_queryset(request).defer(*secret)
