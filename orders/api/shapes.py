"""What rows look like to a program, and what it sends. Fields are added, never renamed."""

from typing import Any, ClassVar

from django.db import models
from rest_framework import serializers

from brokers.base import OrderType, Side, TimeInForce
from cerbero.models import Decision
from orders.api.wire import Amount
from orders.groups.wire import role_of
from orders.models import DayReport, Drift, Execution, HaltMode, Limits, Order, Position, Ticket, TradingState
from orders.order_types import FIELDS
from orders.standing import Mandate, PolicyVersion

ACCOUNT = r"^[A-Za-z0-9]{1,32}$"
_SYMBOL = r"^[A-Za-z0-9. /-]{1,32}$"
_KEY = r"^[\x21-\x7e]{1,64}$"
_DIGEST = r"^[0-9a-f]{64}$"


class Row(serializers.ModelSerializer):
    """One row to read, with plain decimals."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.DecimalField: Amount
    }


class OrderRow(Row):
    account = serializers.CharField(source="ticket.account.broker_account_id")
    environment = serializers.CharField(source="ticket.account.environment")
    bot = serializers.CharField(source="ticket.bot.name", default=None, allow_null=True)
    person = serializers.CharField(source="ticket.person.username", default=None, allow_null=True)
    symbol = serializers.CharField(source="instrument.symbol")
    ticket_id = serializers.UUIDField()
    ticket_status = serializers.CharField(source="ticket.status")
    group = serializers.CharField(source="ticket.group")
    group_state = serializers.CharField(source="ticket.group_state")
    role = serializers.SerializerMethodField()
    refusal_code = serializers.CharField(source="ticket.refusal_code")

    class Meta:
        model = Order
        fields: ClassVar = [
            *("group", "group_state", "role"),
            *("id", "ticket_id", "number", "account", "environment", "bot", "person", "symbol", "side"),
            *("quantity", "order_type", *FIELDS, "cash_quantity", "outside_hours", "time_in_force", "status"),
            *("ticket_status", "refusal_code", "filled_quantity", "average_price", "broker_order_id", "text"),
            *("cancel_requested_at", "reported_at", "created_at"),
        ]
        read_only_fields = fields

    def get_role(self, order: Order) -> str:
        """What it is in its group; empty for an order alone."""
        return role_of(order, order.ticket)


class Leg(Row):
    """An order as a part of what is decided on."""

    symbol = serializers.CharField(source="instrument.symbol")

    class Meta:
        model = Order
        fields: ClassVar = [
            *(
                "id",
                "number",
                "symbol",
                "side",
                "quantity",
                "order_type",
                *FIELDS,
                "cash_quantity",
                "outside_hours",
            ),
            *("time_in_force", "status", "filled_quantity", "average_price"),
        ]
        read_only_fields = fields


class DecisionRow(Row):
    person = serializers.CharField(source="person.username")

    class Meta:
        model = Decision
        fields: ClassVar = ["person", "is_yes", "reason", "decided_at"]
        read_only_fields = fields


class ApprovalRow(Row):
    """What people are asked about one ticket; `digest` is what a decision must carry. `reason` is untrusted text."""

    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    bot = serializers.CharField(source="bot.name", default=None, allow_null=True)
    person = serializers.CharField(source="person.username", default=None, allow_null=True)
    summary = serializers.CharField(source="request.summary")
    status = serializers.CharField(source="request.status")
    ticket_status = serializers.CharField(source="status")
    digest = serializers.CharField(source="request.digest")
    quorum = serializers.IntegerField(source="request.quorum")
    group = serializers.CharField(source="request.group")
    order_group = serializers.SerializerMethodField()
    facts = serializers.JSONField(source="request.facts")
    expires_at = serializers.DateTimeField(source="request.expires_at")
    decided_at = serializers.DateTimeField(source="request.decided_at", allow_null=True)
    decisions = DecisionRow(source="request.decisions", many=True)
    orders = Leg(many=True)

    class Meta:
        model = Ticket
        fields: ClassVar = [
            *(
                "id",
                "account",
                "environment",
                "bot",
                "person",
                "summary",
                "status",
                "ticket_status",
                "digest",
            ),
            *(
                "quorum",
                "group",
                "order_group",
                "decisions",
                "orders",
                "notional",
                "notional_currency",
                "reason",
                "tag",
            ),
            *("facts", "refusal_code", "refusal", "created_at", "expires_at", "decided_at"),
        ]
        read_only_fields = fields

    def get_order_group(self, ticket: Ticket) -> str:
        """How its orders hang together: bracket, oco or oto; empty for one order."""
        return ticket.group


class ExecutionRow(Row):
    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    symbol = serializers.CharField(source="instrument.symbol", default=None, allow_null=True)
    order_id = serializers.UUIDField(allow_null=True)

    class Meta:
        model = Execution
        fields: ClassVar = [
            *("id", "execution_id", "order_id", "account", "environment", "symbol", "broker_instrument_id"),
            *("side", "quantity", "price", "commission", "executed_at", "recorded_at"),
        ]
        read_only_fields = fields


class PositionRow(Row):
    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")

    class Meta:
        model = Position
        fields: ClassVar = [
            *("id", "account", "environment", "symbol", "broker_instrument_id", "quantity"),
            *("average_price", "market_price", "currency", "as_of"),
        ]
        read_only_fields = fields


class DriftRow(Row):
    """One difference between the broker and us; `cause` is a guess, `amount` what the broker has beyond our book."""

    account = serializers.CharField(source="account.broker_account_id", default=None, allow_null=True)
    environment = serializers.CharField(source="account.environment", default=None, allow_null=True)
    order_id = serializers.UUIDField(allow_null=True)
    execution_id = serializers.CharField(source="execution.execution_id", default=None, allow_null=True)
    settled_by = serializers.CharField(source="settled_by.username", default=None, allow_null=True)

    class Meta:
        model = Drift
        fields: ClassVar = [
            *("id", "account", "environment", "kind", "status", "cause", "about", "amount", "subject"),
            *("order_id", "execution_id", "evidence", "seen_at", "restrained_at", "settled_by", "settled_at"),
            "reason",
        ]
        read_only_fields = fields


class DayReportRow(Row):
    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")

    class Meta:
        model = DayReport
        fields: ClassVar = ["id", "account", "environment", "day", "is_clean", "body", "made_at"]
        read_only_fields = fields


class LimitsRow(Row):
    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    currency = serializers.CharField(source="account.currency")

    class Meta:
        model = Limits
        fields: ClassVar = "__all__"


class StateRow(Row):
    scope = serializers.CharField(source="get_scope_display")

    class Meta:
        model = TradingState
        fields: ClassVar = ["id", "scope", "scope_id", "state", "changed_by", "reason", "changed_at"]
        read_only_fields = fields


class PolicyRow(Row):
    """One version of the policy with its rules, in the order in which they are asked; the first match decides."""

    proposed_by = serializers.CharField(source="proposed_by.username", default=None, allow_null=True)
    activated_by = serializers.CharField(source="activated_by.username", default=None, allow_null=True)

    class Meta:
        model = PolicyVersion
        fields: ClassVar = [
            *("id", "number", "status", "digest", "rules", "reason", "proposed_by", "activated_by"),
            *("proposed_at", "activated_at", "retired_at"),
        ]
        read_only_fields = fields


class MandateRow(Row):
    """A bot's budget and what is used of it; notionals in the account's currency."""

    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    currency = serializers.CharField(source="account.currency")
    bot = serializers.CharField(source="bot.name")
    proposed_by = serializers.CharField(source="proposed_by.username")
    revoked_by = serializers.CharField(source="revoked_by.username", default=None, allow_null=True)
    symbols = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Mandate
        fields: ClassVar = [
            *("id", "account", "environment", "currency", "bot", "status", "symbols", "sides", "order_types"),
            *("order_notional_max", "notional_max", "used_notional", "count_max", "used_count", "hours"),
            *("digest", "reason", "proposed_by", "revoked_by", "proposed_at", "signed_at", "expires_at"),
            *("ended_at",),
        ]
        read_only_fields = fields


class Body(serializers.Serializer):
    """What a program sends: an unknown field is refused by name."""

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(self.initial_data) - set(self.fields):
            raise serializers.ValidationError(dict.fromkeys(sorted(unknown), "there is no such field"))
        return values


class Shown(Body):
    digest = serializers.RegexField(_DIGEST, help_text="of the approval as it was read")


class Sign(Shown):
    assertion = serializers.DictField(
        required=False, help_text="a passkey's answer to `signature`; a live account needs one"
    )


class Approve(Sign):
    is_confirmed = serializers.BooleanField(
        default=False, help_text="decided all the same where the market is closed or its data delayed"
    )
    drift_percent = Amount(
        max_digits=9,
        decimal_places=4,
        required=False,
        help_text="how far the price may move until the sending",
    )
    reason = serializers.CharField(
        required=False, default="", max_length=500, help_text="needed where that is further than the limit"
    )


class Reject(Shown):
    reason = serializers.CharField(max_length=500, help_text="the bot reads it")


class Revoke(Body):
    reason = serializers.CharField(max_length=500)


class Counter(Reject):
    quantity = Amount(
        max_digits=20, decimal_places=8, required=False, help_text="as it was, if left out; never larger"
    )
    limit_price = Amount(
        max_digits=20, decimal_places=8, required=False, help_text="as it was, if left out; never worse"
    )


class Propose(Body):
    account = serializers.RegexField(ACCOUNT)
    symbol = serializers.RegexField(_SYMBOL)
    side = serializers.ChoiceField(Order._meta.get_field("side").choices)
    quantity = Amount(max_digits=20, decimal_places=8, required=False)
    order_type = serializers.ChoiceField(Order._meta.get_field("order_type").choices)
    limit_price = Amount(max_digits=20, decimal_places=8, required=False)
    stop_price = Amount(max_digits=20, decimal_places=8, required=False)
    trailing_amount = Amount(max_digits=20, decimal_places=8, required=False)
    trailing_percent = Amount(max_digits=20, decimal_places=8, required=False)
    offset = Amount(max_digits=20, decimal_places=8, required=False)
    cash_quantity = Amount(max_digits=20, decimal_places=8, required=False)
    outside_hours = serializers.BooleanField(default=False)
    time_in_force = serializers.ChoiceField(
        Order._meta.get_field("time_in_force").choices, default=TimeInForce.DAY.value
    )
    idempotency_key = serializers.RegexField(_KEY)
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        super().validate(values)
        kinds = {"side": Side, "order_type": OrderType, "time_in_force": TimeInForce}
        return {"quantity": None} | values | {name: kind(values[name]) for name, kind in kinds.items()}


class Close(Body):
    account = serializers.RegexField(ACCOUNT)
    symbol = serializers.RegexField(_SYMBOL)
    idempotency_key = serializers.RegexField(_KEY)
    quantity = Amount(
        max_digits=20, decimal_places=8, required=False, help_text="all that is held, if left out"
    )
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")

    def validate_quantity(self, value: Any) -> Any:
        if value <= 0:
            raise serializers.ValidationError("must be greater than 0")
        return value


class Scoped(Body):
    scope = serializers.ChoiceField([word.label for word in TradingState.Scope], default="everything")
    scope_id = serializers.CharField(max_length=64, allow_blank=True, default="")
    reason = serializers.CharField(max_length=300)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        super().validate(values)
        by_label = {word.label: word.value for word in TradingState.Scope}
        return values | {"scope": by_label[values["scope"]]}


class HaltBody(Scoped):
    mode = serializers.ChoiceField(HaltMode.values, default=HaltMode.STOP_AND_CANCEL_OPENING)
    is_drill = serializers.BooleanField(default=False)


class Halted(serializers.Serializer):
    """A halt so far; the two claims are true only when the broker proved them."""

    halt_id = serializers.UUIDField()
    mode = serializers.CharField()
    still_open = serializers.IntegerField()
    kept = serializers.IntegerField()
    no_working_orders = serializers.BooleanField()
    flat = serializers.BooleanField()
    finished_at = serializers.DateTimeField(allow_null=True)
    state = serializers.CharField()
    scope = serializers.CharField()
    scope_id = serializers.CharField()
    in_flight = serializers.ListField(child=serializers.CharField())
    amendments_in_flight = serializers.ListField(child=serializers.CharField())
