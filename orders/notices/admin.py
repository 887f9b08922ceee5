"""Webhooks, what was told to whom, and shifts, in admin: lists that only read, and a webhook's own pages."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cerbero import decisions
from cerbero.access import person
from cerbero.errors import CerberoError
from cerbero.people.passkeys import answered
from cerbero.site import ReadOnlyAdmin
from orders.notices import services
from orders.notices.models import EVENTS, Delivery, Duty, Outage, Seen, Webhook


class WebhookForm(forms.Form):
    """Where to tell, and what of."""

    name = forms.CharField(max_length=64, help_text="For people, such as the channel's name.")
    url = forms.CharField(
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Stored encrypted and never shown again: whoever has it can write there. "
        "Its host must be in OUTBOUND_HOSTS or OUTBOUND_INTERNAL_HOSTS.",
    )
    events = forms.MultipleChoiceField(
        choices=list(EVENTS.items()), initial=list(EVENTS), widget=forms.CheckboxSelectMultiple
    )


@admin.register(Webhook)
class WebhookPage(ReadOnlyAdmin):
    """Webhooks by name and host; the secret is shown once, when one is added. A second person switches one on."""

    list_display = ("name", "host", "is_active", "failures", "created_at", "switch")
    list_filter = ("is_active",)
    search_fields = ("name", "host")
    ordering = ("name",)
    fields = readonly_fields = (
        *("name", "host", "events", "is_active", "failures", "rests_until", "created_at"),
    )
    change_list_template = "admin/notices/webhooks.html"

    @admin.display(description="")
    def switch(self, row: Webhook) -> SafeString:
        if row.waits:
            return format_html('<a href="{}">Decide…</a>', reverse("admin:webhook_decide", args=[row.pk]))
        switch, rotate = (reverse(f"admin:webhook_{word}", args=[row.pk]) for word in ("switch", "rotate"))
        word = "Switch off" if row.is_active else "Switch on"
        return format_html('<a href="{}">{}…</a> <a href="{}">Another secret…</a>', switch, word, rotate)

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("new/", protect(self.new), name="webhook_new"),
            path("<uuid:webhook_id>/switch/", protect(self.switched), name="webhook_switch"),
            path("<uuid:webhook_id>/rotate/", protect(self.rotate), name="webhook_rotate"),
            path("<uuid:webhook_id>/decide/", protect(self.decide), name="webhook_decide"),
        ]
        return own + super().get_urls()

    def new(self, request: HttpRequest) -> HttpResponse:
        """The form, and after its POST the signing secret, which no later page can show."""
        if not request.user.has_perm("notices.add_webhook"):
            raise PermissionDenied
        form, secret, title = WebhookForm(request.POST or None), "", "Add a webhook"
        if form.is_valid():
            try:
                _, secret = services.add_webhook(actor=_actor(request), **form.cleaned_data)
                title = "Copy this secret now"
            except CerberoError as refusal:
                form.add_error(None, f"{refusal.message} ({refusal.code})")
        return self._page(request, "webhook.html", {"title": title, "form": form, "secret": secret})

    def rotate(self, request: HttpRequest, webhook_id: Any) -> HttpResponse:
        """Asks first; the POST shows the new signing secret, once. Until the overlap ends deliveries carry both signatures."""
        if not request.user.has_perm("notices.change_webhook"):
            raise PermissionDenied
        webhook = get_object_or_404(Webhook, pk=webhook_id)
        if request.method != "POST":
            return self._page(
                request, "rotate.html", {"title": f"Another secret for {webhook}?", "webhook": webhook}
            )
        secret = services.rotate_webhook_secret(actor=_actor(request), webhook=webhook)
        return self._page(request, "webhook.html", {"title": "Copy this secret now", "secret": secret})

    def switched(self, request: HttpRequest, webhook_id: Any) -> HttpResponse:
        """Asks first; the POST switches it on or off."""
        if not request.user.has_perm("notices.change_webhook"):
            raise PermissionDenied
        webhook = get_object_or_404(Webhook, pk=webhook_id)
        if request.method != "POST":
            word = "off" if webhook.is_active else "on"
            context = {"title": f"Switch {webhook} {word}?", "webhook": webhook, "word": word}
            return self._page(request, "switch.html", context)
        is_active = request.POST.get("to") == "on"
        services.switch_webhook(actor=_actor(request), webhook=webhook, is_active=is_active)
        told = "waits for a second Administrator" if is_active else "is off"
        messages.success(request, f"{webhook} {told}.")
        return HttpResponseRedirect(reverse("admin:notices_webhook_changelist"))

    def decide(self, request: HttpRequest, webhook_id: Any) -> HttpResponse:
        """What would be told to whom; the POST is the second Administrator's word."""
        if not request.user.has_perm("notices.change_webhook"):
            raise PermissionDenied
        webhook = get_object_or_404(Webhook.objects.exclude(request=None), pk=webhook_id)
        if request.method != "POST":
            why_not = why_not_of(webhook, request) if webhook.waits else "Nothing waits here any more."
            context = {"title": f"Switch {webhook} on?", "webhook": webhook, "why_not": why_not}
            return self._page(request, "decide.html", context)
        is_yes = request.POST.get("do") == "confirm"
        try:
            services.decide_webhook(
                actor=_actor(request),
                webhook_id=webhook.pk,
                digest=request.POST.get("digest", ""),
                is_yes=is_yes,
                reason="" if is_yes else request.POST.get("reason", ""),
                assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
            )
        except CerberoError as refusal:
            messages.error(request, f"{refusal.message} ({refusal.code})")
        else:
            messages.success(request, f"{webhook} {'is on' if is_yes else 'was refused'}.")
        return HttpResponseRedirect(reverse("admin:notices_webhook_changelist"))

    def _page(self, request: HttpRequest, name: str, words: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **words}
        return TemplateResponse(request, f"admin/notices/{name}", context)


@admin.register(Delivery)
class DeliveryPage(ReadOnlyAdmin):
    """What was told to whom, how often it was tried, and why it failed."""

    list_display = ("event", "receiver", "subject", "created_at", "sent_at", "tries", "failure")
    list_filter = ("event", "webhook")
    search_fields = ("subject", "person__username", "webhook__name")
    list_select_related = ("webhook", "person")
    ordering = ("-created_at",)

    @admin.display(description="To")
    def receiver(self, row: Delivery) -> str:
        return str(row.webhook or row.person)


@admin.register(Outage)
class OutagePage(ReadOnlyAdmin):
    """What was dead or silent, and for how long."""

    list_display = ("name", "words", "began_at", "ended_at")
    search_fields = ("name", "words")
    ordering = ("-began_at",)


@admin.register(Duty)
class DutyPage(ReadOnlyAdmin):
    list_display = ("person", "starts_at", "ends_at", "created_at")
    list_filter = ("person",)
    list_select_related = ("person",)
    ordering = ("-starts_at",)


@admin.register(Seen)
class SeenPage(ReadOnlyAdmin):
    list_display = ("request", "person", "seen_at")
    list_filter = ("person",)
    search_fields = ("request__summary", "person__username")
    list_select_related = ("request", "person")
    ordering = ("-seen_at",)


def why_not_of(webhook: Webhook, request: HttpRequest) -> str:
    """Why this person cannot decide on it, as a sentence; empty when they can."""
    return decisions.why_not(webhook.request, request.user) if webhook.request else ""  # type: ignore[arg-type]


def _actor(request: HttpRequest) -> Any:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]
