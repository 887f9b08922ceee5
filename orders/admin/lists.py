"""Tickets, orders, attempts and executions in admin: to read, search and filter; never to edit.

Services own these rows (house.md §4): no add, change or delete here, whatever a person's permissions say.
"""

import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from brokers.models import Account
from cerbero.site import ReadOnlyAdmin
from orders import overrides, overriding
from orders.admin.stopping import can_cancel
from orders.amending import AMENDABLE
from orders.models import (
    Attempt,
    Execution,
    Order,
    Ticket,
)
from orders.presentation import MISSING, money, number, price, sentence, symbol
from orders.templatetags.console import age, environment_label, status_label, words


class ListAdmin(ReadOnlyAdmin):
    """A list to read. Numbers are trimmed, environments labelled, times with their zone."""

    list_per_page = 50
    show_full_result_count = False
    empty_value_display = MISSING


def column(header: str, order_by: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A list column with its header, sorted by a field."""
    return admin.display(description=header, ordering=order_by, empty_value=MISSING)


def account_cell(account: Account | None) -> SafeString | str:
    """An account, never without its LIVE or PAPER."""
    if account is None:
        return MISSING
    return format_html("{} {}", environment_label(account.environment), account.broker_account_id)


def figure(text: str) -> SafeString:
    return format_html('<span class="num">{}</span>', text)


def figure_column(name: str, unit: str = "") -> Callable[[models.Model], SafeString | str]:
    """A decimal field as a column: trimmed, separated, to the right."""

    @column(name.replace("_", " ").capitalize(), name)
    def cell(row: models.Model) -> SafeString | str:
        value = getattr(row, name)
        return MISSING if value is None else figure(f"{number(value)}{unit}")

    cell.__name__ = name
    return cell


def facts(kept: dict[str, Any]) -> SafeString | str:
    """What a row keeps as JSON, a line for each fact; what is itself a list or an object stays as it is kept."""
    lines = (
        (words(name), json.dumps(value) if isinstance(value, list | dict) else value)
        for name, value in kept.items()
    )
    return format_html_join("", "<div>{}: {}</div>", lines) or MISSING


def side_cell(side: str) -> SafeString:
    return format_html('<span class="{}">{}</span>', side, side.capitalize())


def order_link(order: Order | None) -> SafeString | str:
    if order is None:
        return MISSING
    url = reverse("admin:orders_order_change", args=[order.pk])
    return format_html('<a href="{}">{}</a>', url, str(sentence(order)))


@admin.register(Ticket)
class TicketAdmin(ListAdmin):
    list_display = ("what", "on_account", "proposed_by", "state", "refusal_code", "value", "at")
    list_filter = ("status", "account__environment", "account", "bot", "refusal_code")
    search_fields = ("id", "idempotency_key", "digest", "reason", "tag", "orders__instrument__symbol")
    ordering = ("-created_at",)
    date_hierarchy = "created_at"
    change_form_template = "console/ticket.html"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Ticket]:
        rows = super().get_queryset(request).select_related("account", "bot__owner", "person", "request")
        return rows.prefetch_related("orders__instrument")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        ticket = self.get_object(request, object_id)
        may = request.user.has_perm(overrides.PERMISSION)
        context = {
            "ticket": ticket,
            "can_override": ticket is not None and may and not overriding.why_not(ticket),
            "override": overrides.told(ticket.request) if ticket else {},
            "made": overriding.overridden_by(ticket) if ticket else None,
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    readonly_fields = (
        "what",
        "on_account",
        "proposed_by",
        "state",
        "value",
        "refused_for",
        "created_at",
        "legs",
    )
    fields = (
        "what",
        "on_account",
        "proposed_by",
        "state",
        "value",
        "reason",
        "tag",
        "refusal_code",
        "refused_for",
        "idempotency_key",
        "digest",
        "reduce_only",
        "created_at",
        "allowed_at",
        "ended_at",
        "legs",
    )

    @column("Order")
    def what(self, row: Ticket) -> str:
        return "; ".join(str(sentence(order)) for order in row.orders.all())

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Ticket) -> SafeString | str:
        return account_cell(row.account)

    @column("Proposed by", "bot__name")
    def proposed_by(self, row: Ticket) -> str:
        return row.proposer

    @column("Status", "status")
    def state(self, row: Ticket) -> SafeString:
        return status_label(row.status)

    @column("Notional", "notional")
    def value(self, row: Ticket) -> SafeString:
        return figure(money(row.notional, row.notional_currency))

    @column("Refused for")
    def refused_for(self, row: Ticket) -> SafeString | str:
        return facts(row.refusal)

    @column("Proposed", "created_at")
    def at(self, row: Ticket) -> str:
        return age(row.created_at)

    @column("Orders")
    def legs(self, row: Ticket) -> SafeString:
        return format_html_join(", ", "{}", ((order_link(order),) for order in row.orders.all()))


@admin.register(Order)
class OrderAdmin(ListAdmin):
    list_display = ("what", "on_account", "state", "filled", "average", "by", "at")
    list_filter = ("status", "ticket__account__environment", "ticket__account", "side", "order_type")
    search_fields = ("id", "broker_order_id", "instrument__symbol", "ticket__idempotency_key", "text")
    ordering = ("-created_at",)
    date_hierarchy = "created_at"
    change_form_template = "console/order.html"
    change_list_template = "admin/orders/orders.html"

    readonly_fields = (
        "what",
        "on_account",
        "state",
        "filled",
        "average",
        "by",
        "limit",
        "stop",
        "created_at",
    )
    fields = (
        "what",
        "on_account",
        "state",
        "filled",
        "average",
        "limit",
        "stop",
        "by",
        "broker_order_id",
        "text",
        "ticket",
        "created_at",
        "reported_at",
        "cancel_requested_at",
    )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Order]:
        return (
            super()
            .get_queryset(request)
            .select_related("instrument", "ticket__account", "ticket__bot", "ticket__person")
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        order = self.get_object(request, object_id)
        context = {
            "order": order,
            "can_cancel": bool(order and can_cancel(order) and request.user.has_perm("orders.cancel_order")),
            "can_amend": bool(order and order.status in AMENDABLE)
            and request.user.has_perm("orders.propose_ticket"),
            "changes": order.changes.order_by("prepared_at") if order else (),
            "executions": order.executions.order_by("executed_at") if order else (),
            "attempts": order.ticket.attempts.order_by("number") if order else (),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    @column("Order", "instrument__symbol")
    def what(self, row: Order) -> str:
        return str(sentence(row))

    @column("Account", "ticket__account__broker_account_id")
    def on_account(self, row: Order) -> SafeString | str:
        return account_cell(row.ticket.account)

    @column("Status", "status")
    def state(self, row: Order) -> SafeString:
        return status_label(row.status)

    @column("Filled", "filled_quantity")
    def filled(self, row: Order) -> SafeString:
        return figure(f"{number(row.filled_quantity)} of {number(row.quantity)}")

    @column("Average", "average_price")
    def average(self, row: Order) -> SafeString:
        return figure(price(row.average_price, row.instrument.price_increment))

    @column("Limit")
    def limit(self, row: Order) -> str:
        return price(row.limit_price, row.instrument.price_increment)

    @column("Stop")
    def stop(self, row: Order) -> str:
        return price(row.stop_price, row.instrument.price_increment)

    @column("By", "ticket__bot__name")
    def by(self, row: Order) -> str:
        return row.ticket.proposer

    @column("Made", "created_at")
    def at(self, row: Order) -> str:
        return age(row.created_at)


@admin.register(Attempt)
class AttemptAdmin(ListAdmin):
    list_display = (
        "client_order_id",
        "on_account",
        "number",
        "state",
        "sent_at",
        "answered_at",
        "settled_at",
    )
    list_filter = ("status", "ticket__account__environment", "ticket__account")
    search_fields = ("client_order_id", "ticket__id", "digest")
    ordering = ("-prepared_at",)
    list_select_related = ("ticket__account",)
    readonly_fields = ("state", "on_account", "became", "prepared_at")
    exclude = ("status", "outcome")

    @column("Outcome")
    def became(self, row: Attempt) -> SafeString | str:
        return facts(row.outcome)

    @column("Account", "ticket__account__broker_account_id")
    def on_account(self, row: Attempt) -> SafeString | str:
        return account_cell(row.ticket.account)

    @column("Status", "status")
    def state(self, row: Attempt) -> SafeString:
        return status_label(row.status)


@admin.register(Execution)
class ExecutionAdmin(ListAdmin):
    list_display = ("executed_at", "on_account", "way", "size", "what", "at_price", "fee", "explained_by")
    list_filter = ("account__environment", "account", "side", ("order", admin.EmptyFieldListFilter))
    search_fields = ("execution_id", "instrument__symbol", "order__broker_order_id")
    ordering = ("-executed_at",)
    date_hierarchy = "executed_at"
    list_select_related = ("account", "instrument", "order__instrument", "order__ticket")
    readonly_fields = ("on_account", "way", "size", "what", "at_price", "fee", "explained_by", "recorded_at")
    fields = (*readonly_fields, "execution_id", "broker_instrument_id", "executed_at")

    @column("Account", "account__broker_account_id")
    def on_account(self, row: Execution) -> SafeString | str:
        return account_cell(row.account)

    @column("Side", "side")
    def way(self, row: Execution) -> SafeString:
        return side_cell(row.side)

    @column("Quantity", "quantity")
    def size(self, row: Execution) -> SafeString:
        return figure(number(row.quantity))

    @column("Instrument", "instrument__symbol")
    def what(self, row: Execution) -> str:
        return symbol(row.instrument) if row.instrument else row.broker_instrument_id

    @column("Price", "price")
    def at_price(self, row: Execution) -> SafeString:
        return figure(price(row.price, row.instrument.price_increment if row.instrument else None))

    @column("Commission", "commission")
    def fee(self, row: Execution) -> SafeString:
        return figure(number(row.commission, 2) if row.commission is not None else MISSING)

    @column("Order")
    def explained_by(self, row: Execution) -> SafeString | str:
        return order_link(row.order) if row.order else "none of ours (drift)"
