"""Everything at once: what a program sends for it, and what became of each order and position."""

from typing import Any

from rest_framework import serializers

from cerbero.access import Actor
from orders.api import shapes
from orders.facts import find_account
from orders.models import Order
from orders.reducing import Canceled, cancel_all_orders


class CancelAll(shapes.Body):
    account = serializers.RegexField(shapes.ACCOUNT)


class CloseAll(shapes.Body):
    account = serializers.RegexField(shapes.ACCOUNT)
    idempotency_key = serializers.RegexField(
        r"^[\x21-\x7e]{1,48}$", help_text="with a dot and the broker's id of an instrument it is that close's"
    )
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")


class Refusable(serializers.Serializer):
    """Both are empty where nothing was refused."""

    refusal_code = serializers.SerializerMethodField()
    message = serializers.SerializerMethodField()

    def get_refusal_code(self, row: Any) -> str:
        return row.refusal.code if row.refusal else ""

    def get_message(self, row: Any) -> str:
        return row.refusal.message if row.refusal else ""


class CanceledRow(Refusable):
    order = shapes.OrderRow()


class ClosedRow(Refusable):
    """A position as the broker just had it, and its closing order; `nothing_to_close` where exits work for all of it."""

    broker_instrument_id = serializers.CharField()
    held = shapes.Amount(max_digits=38, decimal_places=18)
    order = serializers.SerializerMethodField()

    def get_order(self, row: Any) -> dict[str, Any] | None:
        return shapes.OrderRow(_whole(row.ticket.first_order)).data if row.ticket else None


def cancel_all(*, actor: Actor, account: str) -> list[Canceled]:
    done = cancel_all_orders(actor=actor, account=find_account(actor, account))
    return [Canceled(_whole(each.order), each.refusal) for each in done]


def _whole(order: Order) -> Order:
    rows = Order.objects.select_related("instrument", "ticket__account", "ticket__bot", "ticket__person")
    return rows.get(pk=order.pk)
