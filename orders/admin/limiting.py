"""Limits: two Administrators loosen them, one tightens them, and the page where the second one decides."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from cerbero import decisions
from cerbero.models import User
from cerbero.people.passkeys import answered
from cerbero.site import AuditedAdmin
from orders import limit_changes
from orders.admin.acting import actor_of, attempt, demand, page
from orders.admin.lists import account_cell, column, figure_column
from orders.canonical import plain
from orders.models import Limits, LimitSet


class Figure(forms.DecimalField):
    """A decimal to edit, without the zeros that its column keeps."""

    def prepare_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) else value


class LimitRowAdmin(AuditedAdmin):
    """A form whose change is saved where it only tightens, and waits for a second Administrator otherwise."""

    formfield_overrides = {models.DecimalField: {"form_class": Figure}}

    # Removing a set would loosen it: its fields are emptied, which two people do.
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.waits_for = limit_changes.change_limits(actor=actor_of(request), row=obj)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        if obj.waits_for is None:
            super().log_change(request, obj, message)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        if obj.waits_for is None:
            return super().response_change(request, obj)
        messages.info(
            request, "Nothing has changed yet: this loosens a limit, and another Administrator decides."
        )
        return redirect("console:limit_changes")


@admin.register(Limits)
class LimitsAdmin(LimitRowAdmin):
    """An account's limits. They come and go with the account."""

    list_display = (
        "on_account",
        figure_column("notional_max"),
        figure_column("quantity_max"),
        figure_column("collar_percent", " %"),
        figure_column("drift_percent", " %"),
    )
    list_select_related = ("account",)
    readonly_fields = ("account",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Limits) -> SafeString | str:
        return account_cell(row.account)


@admin.register(LimitSet)
class LimitSetAdmin(LimitRowAdmin):
    """Narrower limits: of a broker, an account's asset class, a bot. They only tighten; an empty field says nothing."""

    list_display = (
        "applies_to",
        figure_column("notional_max"),
        figure_column("quantity_max"),
        figure_column("daily_turnover_max"),
        "orders_per_minute_max",
    )
    list_select_related = ("account", "bot")
    list_filter = ("account", "bot", "asset_class")

    def get_readonly_fields(self, request: HttpRequest, obj: LimitSet | None = None) -> tuple[str, ...]:
        return ("broker", "account", "bot", "asset_class") if obj else ()

    @column("Applies to")
    def applies_to(self, row: LimitSet) -> str:
        return str(row)


@require_GET
def show_changes(request: HttpRequest) -> HttpResponse:
    """What would loosen a limit and waits, value by value."""
    demand(request, "orders.view_limits")
    assert isinstance(request.user, User)
    waiting = decisions.waiting(limit_changes.KIND)
    cards = [(each, _rows(each.facts["change"]), decisions.why_not(each, request.user)) for each in waiting]
    return page(request, "console/limit_changes.html", title="Changes of limits", cards=cards)


@require_POST
def decide_change(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The second Administrator's yes or no, or a sole operator's signed one, bound to what stood on the page."""
    demand(request, limit_changes.PERMISSION)
    is_yes = request.POST.get("do") == "confirm"
    attempt(
        request,
        "Confirmed, and everybody is told." if is_yes else "Refused.",
        limit_changes.decide_limits,
        request_id=request_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason="" if is_yes else request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:limit_changes")


def _rows(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    before, after = facts["before"], facts["after"]
    return [(name.replace("_", " "), before[name] or "none", after[name] or "none") for name in after]
