"""What each list can be narrowed by."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.db.models.functions import Now
from rest_framework import serializers

from brokers.models import Instrument
from brokers.occ import canonical
from cerbero.models import DecisionStatus
from orders.api.listing import Filters, Narrow
from orders.lifecycle import AttemptStatus, Group, OrderStatus, TicketStatus
from orders.models import ChangeAttempt, Drift, Order, TradingState
from orders.standing import Mandate, PolicyVersion


class ByAccount(Filters):
    account = serializers.CharField(required=False, help_text="the broker's account id")
    narrow: ClassVar[dict[str, Narrow]] = {"account": "account__broker_account_id"}


class Timed(ByAccount):
    bot = serializers.CharField(required=False, help_text="the bot's name")
    symbol = serializers.CharField(required=False)
    since = serializers.DateTimeField(required=False, help_text="from then on, that moment included")
    until = serializers.DateTimeField(required=False, help_text="before that moment")

    def validate_symbol(self, value: str) -> str:
        return canonical(value)


def _with_symbol(tickets: QuerySet, symbol: str) -> QuerySet:
    return tickets.filter(pk__in=Order.objects.filter(instrument__symbol=symbol).values("ticket_id"))


def _waiting(rows: QuerySet, waits: bool) -> QuerySet:
    """Waiting by the database's clock, as the queue page has it; of tickets and of amendments."""
    open_now = {"request__status": DecisionStatus.PENDING, "request__expires_at__gt": Now()}
    return rows.filter(**open_now) if waits else rows.exclude(**open_now)


_OF_TICKETS: dict[str, Narrow] = {
    "account": "account__broker_account_id",
    "bot": "bot__name",
    "symbol": _with_symbol,
    "since": "created_at__gte",
    "until": "created_at__lt",
}


class ApprovalFilters(Timed):
    status = serializers.ChoiceField(DecisionStatus.choices, required=False)
    waiting = serializers.BooleanField(required=False, help_text="true: what can still be decided on")
    narrow: ClassVar[dict[str, Narrow]] = {
        **_OF_TICKETS,
        "status": "request__status",
        "waiting": _waiting,
    }


class OrderFilters(Timed):
    status = serializers.ChoiceField(OrderStatus.choices, required=False)
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "ticket__account__broker_account_id",
        "bot": "ticket__bot__name",
        "symbol": "instrument__symbol",
        "since": "created_at__gte",
        "until": "created_at__lt",
        "status": "status",
    }


class GroupFilters(Timed):
    group = serializers.ChoiceField(Group.choices, required=False)
    status = serializers.ChoiceField(TicketStatus.choices, required=False, help_text="the ticket's")
    narrow: ClassVar[dict[str, Narrow]] = {
        **_OF_TICKETS,
        "group": "group",
        "status": "status",
    }


class AmendmentFilters(Timed):
    status = serializers.ChoiceField(TicketStatus.choices, required=False)
    waiting = serializers.BooleanField(required=False, help_text="true: what can still be decided on")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "order__ticket__account__broker_account_id",
        "bot": "bot__name",
        "symbol": "order__instrument__symbol",
        "since": "created_at__gte",
        "until": "created_at__lt",
        "status": "status",
        "waiting": _waiting,
    }


class AttemptFilters(ByAccount):
    status = serializers.ChoiceField(AttemptStatus.choices, required=False)
    orderings = ("-prepared_at", "prepared_at")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "ticket__account__broker_account_id",
        "status": "status",
    }


class ChangeFilters(ByAccount):
    status = serializers.ChoiceField(AttemptStatus.choices, required=False)
    kind = serializers.ChoiceField(ChangeAttempt.Kind.choices, required=False)
    orderings = ("-prepared_at", "prepared_at")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "account__broker_account_id",
        "status": "status",
        "kind": "kind",
    }


class SettlingFilters(Filters):
    status = serializers.ChoiceField(DecisionStatus.choices, required=False)
    narrow: ClassVar[dict[str, Narrow]] = {"status": "status"}


class ExecutionFilters(Timed):
    side = serializers.ChoiceField(Order._meta.get_field("side").choices, required=False)
    orderings = ("-executed_at", "executed_at")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "account__broker_account_id",
        "bot": "order__ticket__bot__name",
        "symbol": "instrument__symbol",
        "since": "executed_at__gte",
        "until": "executed_at__lt",
        "side": "side",
    }


class PositionFilters(ByAccount):
    symbol = serializers.CharField(required=False)
    orderings = ("id", "-id")
    narrow: ClassVar[dict[str, Narrow]] = {"account": "account__broker_account_id", "symbol": "symbol"}

    def validate_symbol(self, value: str) -> str:
        return canonical(value)


class DriftFilters(ByAccount):
    status = serializers.ChoiceField(Drift.Status.choices, required=False)
    kind = serializers.ChoiceField(Drift.Kind.choices, required=False)
    orderings = ("-seen_at", "seen_at")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "account__broker_account_id",
        "status": "status",
        "kind": "kind",
    }


class DayReportFilters(ByAccount):
    day = serializers.DateField(required=False)
    orderings = ("-day", "day")
    narrow: ClassVar[dict[str, Narrow]] = {"account": "account__broker_account_id", "day": "day"}


class LimitsFilters(ByAccount):
    orderings = ("pk", "-pk")


class PolicyFilters(Filters):
    status = serializers.ChoiceField(PolicyVersion.Status.choices, required=False)
    orderings = ("-number", "number")
    narrow: ClassVar[dict[str, Narrow]] = {"status": "status"}


def _covering(mandates: QuerySet, symbol: str) -> QuerySet:
    named = Instrument.objects.filter(symbol=symbol).values_list("pk", flat=True)
    return mandates.filter(instrument_ids__overlap=list(named))


class MandateFilters(Timed):
    status = serializers.ChoiceField(Mandate.Status.choices, required=False)
    orderings = ("-proposed_at", "proposed_at")
    narrow: ClassVar[dict[str, Narrow]] = {
        "account": "account__broker_account_id",
        "bot": "bot__name",
        "symbol": _covering,
        "since": "proposed_at__gte",
        "until": "proposed_at__lt",
        "status": "status",
    }


def _in_scope(states: QuerySet, label: Any) -> QuerySet:
    by_label = {word.label: word.value for word in TradingState.Scope}
    return states.filter(scope=by_label[label])


class StateFilters(Filters):
    scope = serializers.ChoiceField([word.label for word in TradingState.Scope], required=False)
    state = serializers.ChoiceField(TradingState.State.choices, required=False)
    orderings = ("id", "-id")
    narrow: ClassVar[dict[str, Narrow]] = {"scope": _in_scope, "state": "state"}
