"""Instruments, quotes and raw reports in admin: to read; an instrument is opened for orders by a service."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from brokers import services
from brokers.admin.pages import attempt
from brokers.models import BrokerInstrument, Instrument, Quote, Report, Subscription
from brokers.occ import canonical
from cerbero.site import AuditedAdmin, ReadOnlyAdmin


class BrokerInstrumentInline(admin.TabularInline):
    model = BrokerInstrument
    fields = readonly_fields = ("broker", "broker_instrument_id", "resolved_at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class InstrumentForm(forms.ModelForm):
    """A symbol as it is compared: in capitals, an option's as OCC writes it."""

    def clean_symbol(self) -> str:
        return canonical(self.cleaned_data["symbol"])


@admin.register(Instrument)
class InstrumentPage(AuditedAdmin):
    """Administrators name instruments and open them for orders; the broker says the rest."""

    form = InstrumentForm
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
            attempt(request, f"{row} {words}.", act, instrument=row, **wanted)


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
