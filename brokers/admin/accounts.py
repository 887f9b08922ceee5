"""Accounts as the broker lists them, their questions and their live clearance."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokers import services
from brokers.admin.pages import attempt, demand
from brokers.models import Account, LiveClearance
from cerbero.people.passkeys import answered
from cerbero.site import ReadOnlyAdmin
from orders.templatetags.console import environment_cell

QUESTIONS_HELP = (
    "One id a line, such as o163. Each is answered yes, unasked, for every order of this account."
)


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
        demand(request, "brokers.change_account")
        account = get_object_or_404(Account, pk=account_id)
        form = QuestionsForm(
            request.POST or None, initial={"question_ids": "\n".join(account.allowed_question_ids)}
        )
        if request.method == "POST" and form.is_valid():
            ids = form.cleaned_data["question_ids"].split()
            done = f"{account}: {len(set(ids))} questions are answered yes unasked."
            if attempt(request, done, services.set_allowed_questions, account=account, question_ids=ids):
                return self._back(account)
        return self._page(request, "questions.html", account, form=form)

    def edit_clearance(self, request: HttpRequest, account_id: UUID) -> HttpResponse:
        """Enable with the checklist, confirm as the second person, or take the clearance away."""
        demand(request, "brokers.change_liveclearance")
        account = get_object_or_404(Account.objects.select_related("clearance"), pk=account_id)
        form = ClearanceForm(request.POST if request.POST.get("do") == "enable" else None)
        act, arguments = self._clearing(request, form)
        if request.method == "POST" and act is not None:
            attempt(request, f"Live clearance of {account}: done.", act, account=account, **arguments)
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
