"""What accounts hold, where the broker and we differ, trading states and rates."""

import json
from decimal import Decimal

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from orders.admin.lists import ListAdmin, account_cell, column, figure, order_link
from orders.models import Balance, CurrencyRate, DayReport, Drift, Position, TradingState
from orders.presentation import money, number, percent, price
from orders.risk.time import loss_today
from orders.templatetags.console import age, scope, status_label


@admin.register(Position)
class PositionAdmin(ListAdmin):
    list_display = ("symbol", "on_account", "held", "average", "market", "worth", "asked_at", "close")
    list_filter = ("account__environment", "account")
    search_fields = ("symbol", "broker_instrument_id")
    ordering = ("symbol", "account")
    list_select_related = ("account", "instrument")
    readonly_fields = ("on_account", "held", "average", "market", "worth", "asked_at")
    fields = ("symbol", *readonly_fields, "broker_instrument_id", "currency")

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Position) -> SafeString | str:
        return account_cell(row.account)

    @column("Quantity", "quantity")
    def held(self, row: Position) -> SafeString:
        return figure(number(row.quantity))

    @column("Average price", "average_price")
    def average(self, row: Position) -> SafeString:
        return figure(price(row.average_price, _increment(row)))

    @column("Market price", "market_price")
    def market(self, row: Position) -> SafeString:
        return figure(price(row.market_price, _increment(row)))

    @column("Market value")
    def worth(self, row: Position) -> SafeString:
        return figure(money(_worth(row), row.currency))

    @column("As of", "as_of")
    def asked_at(self, row: Position) -> str:
        return age(row.as_of)

    @column("")
    def close(self, row: Position) -> SafeString | str:
        """The way out; the page behind it asks first, and asks for the permission."""
        if not row.quantity:
            return ""
        url = reverse("console:close", args=[row.account_id, row.broker_instrument_id])
        return format_html('<a href="{}">Close…</a>', url)


@admin.register(Balance)
class BalanceAdmin(ListAdmin):
    list_display = ("on_account", "net", "available", "margin", "cushioned", "lost_today", "asked_at")
    list_filter = ("account__environment",)
    search_fields = ("account__broker_account_id", "account__alias")
    ordering = ("account",)
    list_select_related = ("account",)
    readonly_fields = fields = list_display

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Balance) -> SafeString | str:
        return account_cell(row.account)

    @column("Net liquidation", "net_liquidation")
    def net(self, row: Balance) -> SafeString:
        return figure(money(row.net_liquidation, row.account.currency))

    @column("Available funds", "available_funds")
    def available(self, row: Balance) -> SafeString:
        return figure(money(row.available_funds, row.account.currency))

    @column("Initial margin", "initial_margin")
    def margin(self, row: Balance) -> SafeString:
        return figure(money(row.initial_margin, row.account.currency))

    @column("Cushion", "cushion")
    def cushioned(self, row: Balance) -> SafeString:
        return figure(percent(row.cushion, Decimal(1), 1))

    @column("Lost today")
    def lost_today(self, row: Balance) -> SafeString:
        return figure(money(loss_today(row.net_liquidation, row.day_start), row.account.currency))

    @column("As of", "as_of")
    def asked_at(self, row: Balance) -> str:
        return age(row.as_of)


@admin.register(Drift)
class DriftAdmin(ListAdmin):
    """Every case, settled ones too; people act on the open ones at /admin/drift/."""

    list_display = ("kind", "state", "cause", "on_account", "about", "amount", "order_of", "seen_at")
    list_filter = ("status", "kind", "cause", "account__environment", "account")
    search_fields = ("subject", "about", "reason")
    ordering = ("-seen_at",)
    list_select_related = ("account", "order__instrument", "order__ticket")
    readonly_fields = ("on_account", "order_of", "state", "seen_at")

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Drift) -> SafeString | str:
        return account_cell(row.account)

    @column("Status", "status")
    def state(self, row: Drift) -> SafeString:
        return status_label(row.status)

    @column("Order")
    def order_of(self, row: Drift) -> SafeString | str:
        return order_link(row.order)


@admin.register(DayReport)
class DayReportAdmin(ListAdmin):
    """One account's reconciliation at the end of one trading day."""

    list_display = ("day", "on_account", "is_clean", "made_at")
    list_filter = ("is_clean", "account__environment", "account")
    ordering = ("-day", "account")
    date_hierarchy = "day"
    list_select_related = ("account",)
    readonly_fields = fields = ("on_account", "day", "is_clean", "report", "made_at")

    @column("Account", "account__broker_account_id")
    def on_account(self, row: DayReport) -> SafeString | str:
        return account_cell(row.account)

    @column("Report")
    def report(self, row: DayReport) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.body, indent=2))


@admin.register(TradingState)
class TradingStateAdmin(ListAdmin):
    list_display = ("speaks_for", "label", "changed_by", "reason", "changed_at")
    list_filter = ("state", "scope")
    ordering = ("scope", "scope_id")
    readonly_fields = ("changed_at",)

    @column("For", "scope")
    def speaks_for(self, row: TradingState) -> SafeString | str:
        return scope(row)

    @column("State", "state")
    def label(self, row: TradingState) -> SafeString:
        return status_label(row.state)


@admin.register(CurrencyRate)
class CurrencyRateAdmin(ListAdmin):
    list_display = ("source", "target", "rate", "broker", "asked_at")
    ordering = ("source", "target")

    @column("As of", "as_of")
    def asked_at(self, row: CurrencyRate) -> str:
        return age(row.as_of)


def _increment(row: Position) -> Decimal | None:
    return row.instrument.price_increment if row.instrument else None


def _worth(row: Position) -> Decimal | None:
    """Quantity × price × multiplier; None where any of them is not known."""
    multiplier = row.instrument.multiplier if row.instrument else None
    if row.instrument and multiplier is None and row.instrument.asset_class in {"STK", "ETF", "CASH"}:
        multiplier = Decimal(1)
    if row.market_price is None or multiplier is None:
        return None
    return row.quantity * row.market_price * multiplier
