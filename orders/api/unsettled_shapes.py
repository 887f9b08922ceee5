"""What an amendment, a sending, a cancel and a settling by hand look like to a program, and what it sends about them."""

from typing import ClassVar

from rest_framework import serializers

from cerbero.models import DecisionRequest
from orders.api.shapes import Body, DecisionRow, Row
from orders.api.wire import Amount
from orders.models import Amendment, Attempt, ChangeAttempt, Inquiry


class AmendmentRow(Row):
    """Other terms of one order: `was_…` and the new ones, `quantity` in total. `digest` is what a decision must carry;
    null where nobody is asked, since it only tightens. `reason` is untrusted text.
    """

    account = serializers.CharField(source="order.ticket.account.broker_account_id")
    environment = serializers.CharField(source="order.ticket.account.environment")
    symbol = serializers.CharField(source="order.instrument.symbol")
    side = serializers.CharField(source="order.side")
    bot = serializers.CharField(source="bot.name", default=None, allow_null=True)
    person = serializers.CharField(source="person.username", default=None, allow_null=True)
    summary = serializers.CharField(source="request.summary", default=None, allow_null=True)
    digest = serializers.CharField(source="request.digest", default=None, allow_null=True)
    decision = serializers.CharField(source="request.status", default=None, allow_null=True)
    quorum = serializers.IntegerField(source="request.quorum", default=0)
    facts = serializers.JSONField(source="request.facts", default=None, allow_null=True)
    expires_at = serializers.DateTimeField(source="request.expires_at", default=None, allow_null=True)
    decisions = DecisionRow(source="request.decisions", many=True, default=())

    class Meta:
        model = Amendment
        fields: ClassVar = [
            *("id", "order_id", "account", "environment", "symbol", "side", "bot", "person", "status"),
            *("was_quantity", "was_limit_price", "was_stop_price", "filled_quantity"),
            *("quantity", "limit_price", "stop_price", "tightens", "reason", "refusal_code", "refusal"),
            *("summary", "digest", "decision", "quorum", "decisions", "facts", "created_at", "expires_at"),
            *("allowed_at", "ended_at"),
        ]
        read_only_fields = fields


class InquiryRow(Row):
    class Meta:
        model = Inquiry
        fields: ClassVar = ["asked_at", "looked_in", "had_session", "result", "text"]
        read_only_fields = fields


class AttemptRow(Row):
    """One sending of one ticket; while it is `in_doubt` every asking about it is among `inquiries`."""

    account = serializers.CharField(source="ticket.account.broker_account_id")
    environment = serializers.CharField(source="ticket.account.environment")
    inquiries = InquiryRow(many=True)

    class Meta:
        model = Attempt
        fields: ClassVar = [
            *("id", "ticket_id", "number", "account", "environment", "client_order_id", "digest", "status"),
            *("outcome", "prepared_at", "sent_at", "answered_at", "absent_count", "absent_at", "settled_at"),
            "inquiries",
        ]
        read_only_fields = fields


class ChangeRow(Row):
    """One asking for a cancel or an amendment; `broker_order_id` -1 is every order of the account."""

    account = serializers.CharField(source="account.broker_account_id")
    environment = serializers.CharField(source="account.environment")
    inquiries = InquiryRow(many=True)

    class Meta:
        model = ChangeAttempt
        fields: ClassVar = [
            *("id", "kind", "order_id", "amendment_id", "account", "environment", "broker_order_id"),
            *("asked_by", "status", "outcome", "prepared_at", "sent_at", "answered_at", "absent_count"),
            *("absent_at", "settled_at", "inquiries"),
        ]
        read_only_fields = fields


class SettlingRow(Row):
    """A doubt that one person settled on a live account, and a second one is asked about."""

    subject_id = serializers.UUIDField(help_text="of the sending, cancel or amendment in doubt")
    decisions = DecisionRow(many=True)

    class Meta:
        model = DecisionRequest
        fields: ClassVar = [
            *("id", "subject_id", "summary", "requested_by", "status", "digest", "quorum", "group", "facts"),
            *("decisions", "created_at", "expires_at", "decided_at"),
        ]
        read_only_fields = fields


class Amend(Body):
    """What is left out stays as it is."""

    quantity = Amount(max_digits=20, decimal_places=8, required=False)
    quantity_is = serializers.ChoiceField(
        ["total", "remaining"], required=False, help_text="needed beside a quantity"
    )
    limit_price = Amount(max_digits=20, decimal_places=8, required=False)
    stop_price = Amount(max_digits=20, decimal_places=8, required=False)
    reason = serializers.CharField(max_length=500, help_text="whoever decides reads it")


class Settle(Body):
    """How a doubt ended, and how the person knows."""

    verdict = serializers.ChoiceField(["arrived", "never_arrived"])
    reason = serializers.CharField(max_length=300)
    broker_order_id = serializers.CharField(
        required=False, default="", max_length=32, help_text="of a sending that arrived: the broker's number"
    )
