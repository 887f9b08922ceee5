"""Brackets, OCOs and OTOs whole: each order with its part, and what of the group is open."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from cerbero.access import Rule
from orders.api import filters, shapes
from orders.api.views import Reads, listed, reading
from orders.canonical import plain
from orders.groups import sets
from orders.models import Ticket


class GroupRow(shapes.Row):
    """`group_state` is empty while nothing is wrong; `is_naked` says that what it opened has no stop."""

    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    bot = serializers.CharField(source="bot.name", default=None, allow_null=True)
    person = serializers.CharField(source="person.username", default=None, allow_null=True)
    open_quantity = serializers.SerializerMethodField()
    is_naked = serializers.SerializerMethodField()
    orders = shapes.OrderRow(many=True)

    class Meta:
        model = Ticket
        fields: ClassVar = [
            *("id", "account", "environment", "bot", "person", "group", "group_state", "status"),
            *("refusal_code", "notional", "notional_currency", "open_quantity", "is_naked", "orders"),
            *("reason", "created_at"),
        ]
        read_only_fields = fields

    def get_open_quantity(self, ticket: Ticket) -> str | None:
        return plain(sets.of(ticket).open_quantity)

    def get_is_naked(self, ticket: Ticket) -> bool:
        return sets.of(ticket).is_naked


@listed(filters.GroupFilters)
class Groups(Reads):
    """Every group, whoever proposed it. It is decided on below /approvals, and an order of it read below /orders."""

    queryset = (
        Ticket.objects.exclude(group="")
        .select_related("account", "bot", "person")
        .prefetch_related("orders__instrument", "orders__ticket__account", "orders__ticket__bot")
    )
    serializer_class = GroupRow
    narrowed_by = filters.GroupFilters
    rules: ClassVar = {
        **reading("orders.view_order"),
        "cancel": Rule("orders.cancel_order", "cancel"),
    }

    @extend_schema(request=None, responses=GroupRow)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Any, pk: UUID) -> Response:
        """Cancel all of it that still works, the entry first; what it opened stays open, without its stop."""
        self.act(request, None, sets.cancel, ticket_id=pk)
        return self.shown(pk)
