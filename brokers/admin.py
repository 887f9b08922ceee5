"""Logins, accounts, instruments, quotes and raw reports in admin: to read. What people own has a page that calls a service."""

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

from brokers import services
from brokers.models import (
    Account,
    BrokerInstrument,
    Credential,
    Instrument,
    LiveClearance,
    Login,
    Quote,
    Report,
    SessionState,
    Subscription,
)
from brokers.sessions import take_over_session
from cerbero.access import Actor, person
from cerbero.errors import CerberoError
from cerbero.people.passkeys import answered
from cerbero.refusals import told_on_page
from cerbero.site import AuditedAdmin, ReadOnlyAdmin
from orders.templatetags.console import environment_cell

SECRETS = ("session_token", "socket_session")
QUESTIONS_HELP = (
    "One id a line, such as o163. Each is answered yes, unasked, for every order of this account."
)


def _actor(request: HttpRequest) -> Actor:
    return person(request.user, request_id=request.request_id)  # type: ignore[arg-type, attr-defined]


def _demand(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied(permission)


def _attempt(request: HttpRequest, done: str, act: Any, **arguments: Any) -> bool:
    """Call a service and say on the next page what became of it."""
    try:
        act(actor=_actor(request), **arguments)
    except CerberoError as refusal:
        told_on_page(request, refusal)
        messages.error(request, f"{refusal.message} ({refusal.code})")
        return False
    messages.success(request, done)
    return True


@admin.register(Login)
class LoginPage(ReadOnlyAdmin):
    """Sessions and their states; no secret is read, let alone shown."""

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
        "base_url",
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
        _demand(request, "brokers.change_login")
        login = get_object_or_404(Login, pk=login_id)
        if request.method != "POST":
            title = f"Switch {login} {'off' if login.is_enabled else 'on'}?"
            words = {"title": title, "login": login, "opts": self.opts}
            return TemplateResponse(
                request, "admin/brokers/switch.html", {**self.admin_site.each_context(request), **words}
            )
        is_enabled = request.POST.get("do") == "on"
        done = f"{login} is switched {'on' if is_enabled else 'off'}."
        _attempt(request, done, services.set_login_enabled, login=login, is_enabled=is_enabled)
        return HttpResponseRedirect(reverse("admin:brokers_login_change", args=[login.pk]))

    def take_over(self, request: HttpRequest, login_id: UUID) -> HttpResponse:
        """Asks first; the POST evicts the other platform."""
        _demand(request, "brokers.change_login")
        login = get_object_or_404(Login, pk=login_id)
        if request.method != "POST":
            words = {"title": f"Take over the session of {login}?", "login": login, "opts": self.opts}
            return TemplateResponse(
                request, "admin/brokers/take_over.html", {**self.admin_site.each_context(request), **words}
            )
        _attempt(request, f"The session of {login} was asked for.", take_over_session, login=login)
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


class QuestionsForm(forms.Form):
    question_ids = forms.CharField(
        label="Broker questions answered yes",
        required=False,
        max_length=1000,
        help_text=QUESTIONS_HELP,
        widget=forms.Textarea(attrs={"rows": 6, "cols": 20}),
    )


class ClearanceForm(forms.Form):
    checklist = forms.MultipleChoiceField(
        label="What holds now",
        required=False,
        choices=[(name, name.replace("_", " ").capitalize()) for name in LiveClearance.CHECKLIST],
        widget=forms.CheckboxSelectMultiple,
    )


@admin.register(Account)
class AccountPage(ReadOnlyAdmin):
    """Accounts as the broker lists them; the allow-list of questions and live clearance have pages of their own."""

    list_display = ("broker_account_id", "alias", "login", environment_cell, "currency", "listed_at")
    list_filter = ("environment", "login")
    search_fields = ("broker_account_id", "alias")
    list_select_related = ("login",)
    ordering = ("broker_account_id",)
    fields = (*list_display, "trading_zone", "roll_over_time", "questions", "live_orders")  # type: ignore[assignment]
    readonly_fields = fields  # type: ignore[assignment]

    @admin.display(description="Broker questions answered yes")
    def questions(self, row: Account) -> SafeString:
        url = reverse("admin:account_questions", args=[row.pk])
        return format_html('{} <a href="{}">Change…</a>', ", ".join(row.allowed_question_ids) or "none", url)

    @admin.display(description="Live orders")
    def live_orders(self, row: Account) -> SafeString:
        missing = [name.replace("_", " ") for name in services.live_missing(row)]
        words = f"denied; missing: {', '.join(missing)}" if missing else "cleared"
        return format_html('{} <a href="{}">Change…</a>', words, reverse("admin:account_live", args=[row.pk]))

    def get_urls(self) -> list[URLPattern]:
        protect = self.admin_site.admin_view
        own = [
            path("<uuid:account_id>/questions/", protect(self.edit_questions), name="account_questions"),
            path("<uuid:account_id>/live/", protect(self.edit_clearance), name="account_live"),
        ]
        return own + super().get_urls()

    def edit_questions(self, request: HttpRequest, account_id: UUID) -> HttpResponse:
        """The allow-list of one account."""
        _demand(request, "brokers.change_account")
        account = get_object_or_404(Account, pk=account_id)
        form = QuestionsForm(
            request.POST or None, initial={"question_ids": "\n".join(account.allowed_question_ids)}
        )
        if request.method == "POST" and form.is_valid():
            ids = form.cleaned_data["question_ids"].split()
            done = f"{account}: {len(set(ids))} questions are answered yes unasked."
            if _attempt(request, done, services.set_allowed_questions, account=account, question_ids=ids):
                return self._back(account)
        return self._page(request, "questions.html", account, form=form)

    def edit_clearance(self, request: HttpRequest, account_id: UUID) -> HttpResponse:
        """Enable with the checklist, confirm as the second person, or take the clearance away."""
        _demand(request, "brokers.change_liveclearance")
        account = get_object_or_404(Account.objects.select_related("clearance"), pk=account_id)
        form = ClearanceForm(request.POST if request.POST.get("do") == "enable" else None)
        act, arguments = self._clearing(request, form)
        if request.method == "POST" and act is not None:
            _attempt(request, f"Live clearance of {account}: done.", act, account=account, **arguments)
            return HttpResponseRedirect(request.path)
        return self._page(
            request,
            "live.html",
            account,
            form=form,
            clearance=getattr(account, "clearance", None),
            missing=[name.replace("_", " ") for name in services.live_missing(account)],
        )

    def _clearing(self, request: HttpRequest, form: ClearanceForm) -> tuple[Any, dict[str, Any]]:
        wanted = request.POST.get("do")
        if wanted == "enable" and form.is_valid():
            return services.enable_live, {"checklist": form.cleaned_data["checklist"]}
        if wanted == "confirm":
            return services.confirm_live, {"assertion": answered(request.POST.get("assertion", ""))}
        return (services.disable_live if wanted == "disable" else None), {}

    def _page(self, request: HttpRequest, name: str, account: Account, **words: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "account": account, **words}
        return TemplateResponse(request, f"admin/brokers/{name}", {"title": str(account), **context})

    def _back(self, account: Account) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:brokers_account_change", args=[account.pk]))


class BrokerInstrumentInline(admin.TabularInline):
    model = BrokerInstrument
    fields = readonly_fields = ("broker", "broker_instrument_id", "resolved_at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Instrument)
class InstrumentPage(AuditedAdmin):
    """Administrators name instruments and open them for orders; the broker says the rest."""

    list_display = ("symbol", "name", "asset_class", "currency", "exchange", "is_allowed", "problem")
    list_filter = ("is_allowed", "asset_class", "currency")
    search_fields = ("symbol", "name", "broker_ids__broker_instrument_id")
    ordering = ("symbol",)
    inlines = (BrokerInstrumentInline,)
    actions = ("allow_orders", "refuse_orders", "stream_quotes", "stop_quotes")

    def get_fields(self, request: HttpRequest, obj: Instrument | None = None) -> tuple[str, ...]:
        named = ("symbol", "asset_class", "currency", "exchange", "underlying", "strike")
        if obj is None:
            return named
        return (
            *named,
            "name",
            "multiplier",
            "price_increment",
            "price_magnifier",
            "is_allowed",
            "problem",
            "resolve_tried_at",
        )

    def has_change_permission(self, request: HttpRequest, obj: Instrument | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Instrument | None = None) -> bool:
        return False

    def has_allow_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("brokers.change_instrument")

    @admin.action(description="Allow orders", permissions=["allow"])
    def allow_orders(self, request: HttpRequest, rows: QuerySet[Instrument]) -> None:
        self._each(request, rows, "may be ordered", services.set_instrument_allowed, is_allowed=True)

    @admin.action(description="Refuse orders", permissions=["allow"])
    def refuse_orders(self, request: HttpRequest, rows: QuerySet[Instrument]) -> None:
        self._each(
            request, rows, "may no longer be ordered", services.set_instrument_allowed, is_allowed=False
        )

    @admin.action(description="Stream quotes", permissions=["allow"])
    def stream_quotes(self, request: HttpRequest, rows: QuerySet[Instrument]) -> None:
        self._each(request, rows, "is streamed", services.set_watched, is_watched=True)

    @admin.action(description="Stop streaming quotes", permissions=["allow"])
    def stop_quotes(self, request: HttpRequest, rows: QuerySet[Instrument]) -> None:
        self._each(request, rows, "is streamed no longer", services.set_watched, is_watched=False)

    def _each(
        self, request: HttpRequest, rows: QuerySet[Instrument], words: str, act: Any, **wanted: bool
    ) -> None:
        for row in rows:
            _attempt(request, f"{row} {words}.", act, instrument=row, **wanted)


@admin.register(Quote)
class QuotePage(ReadOnlyAdmin):
    """The newest stored prices, with their three clocks."""

    list_display = (
        "instrument",
        "bid",
        "ask",
        "last",
        "availability",
        "is_halted",
        "received_at",
        "changed_at",
    )
    list_filter = ("availability", "is_halted")
    search_fields = ("instrument__symbol",)
    list_select_related = ("instrument",)
    ordering = ("instrument__symbol",)


@admin.register(Subscription)
class SubscriptionPage(ReadOnlyAdmin):
    """What each relay streams."""

    list_display = ("instrument", "login", "wanted_at")
    list_filter = ("login",)
    search_fields = ("instrument__symbol",)
    list_select_related = ("instrument", "login")


@admin.register(Report)
class ReportPage(ReadOnlyAdmin):
    """The inbox: what the broker said, as it came and as it was read."""

    list_display = ("id", "login", "kind", "source", "subject", "as_of", "applied_at", "problem")
    list_filter = ("kind", "source", "login")
    search_fields = ("subject",)
    list_select_related = ("login",)
    ordering = ("-id",)
    show_full_result_count = False
