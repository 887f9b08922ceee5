"""What people's programs may ask: parse, call, return. Each view says by `rules` who may do what."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Func, IntegerField, OuterRef
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from audit.services import record
from brokers.models import Instrument
from cerbero.access import Rule
from orders import amending, halting, mandates, services, trading
from orders.api import filters, reducing_shapes, shapes, unsettled_shapes
from orders.countering import counter_ticket
from orders.models import DayReport, Drift, Execution, Limits, Order, Position, Ticket, TradingState
from orders.reducing import close_all_positions
from orders.standing import Mandate, PolicyVersion
from orders.tickets import Proposal


class Calls(viewsets.GenericViewSet):
    """Every view: an action that its `rules` do not name is refused, and what acts is entered in the trail."""

    rules: ClassVar[dict[str, Rule]] = {}
    narrowed_by: ClassVar[type[filters.Filters]] = filters.Filters
    outcome = "ok"

    def act(
        self, request: Any, body: type[shapes.Body] | None, service: Callable[..., Any], **more: Any
    ) -> Any:
        """Read the body, call a service with it, and enter who called by which door and how it ended."""
        sent = {}
        if body is not None:
            form = body(data=request.data)
            form.is_valid(raise_exception=True)
            sent = form.validated_data
        # From here on this entry says what came of it (cerbero.middleware.trail_of_refusals).
        request._request.is_in_trail = True
        try:
            return service(actor=request.auth, **more, **sent)
        except Exception as error:
            self.outcome = getattr(error, "code", "internal_error")
            raise
        finally:
            actor = request.auth
            details = {"door": actor.door, "tag": actor.tag, "outcome": self.outcome}
            record("api.called", actor=actor, subject_kind="api", subject_id=self.operation, details=details)

    @property
    def operation(self) -> str:
        """`orders.cancel`: what is called, in the trail."""
        return f"{self.basename}.{self.action}"

    def shown(self, pk: Any, status: int = 200) -> Response:
        """The row as it is now, as `retrieve` shows it."""
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)


class Reads(Calls, mixins.ListModelMixin, mixins.RetrieveModelMixin):
    """A list and its rows."""


def reading(permission: str) -> dict[str, Rule]:
    """The rules of a list and its rows: who has the permission, and tokens that read."""
    return {"list": Rule(permission, "read"), "retrieve": Rule(permission, "read")}


def listed(by: type[filters.Filters]) -> Callable[[type], type]:
    """Name a list's filters in the schema."""
    return extend_schema_view(list=extend_schema(parameters=[by]))


@listed(filters.ApprovalFilters)
class Approvals(Reads):
    """What people were asked, waiting and past. Only a signed-in person approves; a token may reject."""

    queryset = (
        Ticket.objects.exclude(request=None)
        .select_related("account", "bot", "person", "request")
        .prefetch_related("orders__instrument", "request__decisions__person")
    )
    serializer_class = shapes.ApprovalRow
    narrowed_by = filters.ApprovalFilters
    rules: ClassVar = {
        **reading("orders.view_ticket"),
        "approve": Rule("orders.decide_ticket"),
        "signature": Rule("orders.decide_ticket"),
        "reject": Rule("orders.decide_ticket", "reject"),
        "counter": Rule("orders.decide_ticket"),
    }

    @extend_schema(request=shapes.Approve, responses=shapes.ApprovalRow)
    @action(detail=True, methods=["post"])
    def approve(self, request: Any, pk: UUID) -> Response:
        """Say yes to exactly what the digest names. By session only."""
        self.act(request, shapes.Approve, services.decide_ticket, ticket_id=pk, is_yes=True)
        return self.shown(pk)

    @extend_schema(request=shapes.Shown, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def signature(self, request: Any, pk: UUID) -> Response:
        """What a passkey is to sign for a yes on a live account: the options of `navigator.credentials.get`."""
        return Response(self.act(request, shapes.Shown, services.ask_signature, ticket_id=pk))

    @extend_schema(request=shapes.Reject, responses=shapes.ApprovalRow)
    @action(detail=True, methods=["post"])
    def reject(self, request: Any, pk: UUID) -> Response:
        """Say no, with a reason that the bot reads."""
        self.act(request, shapes.Reject, services.decide_ticket, ticket_id=pk, is_yes=False)
        return self.shown(pk)

    @extend_schema(request=shapes.Counter, responses={201: shapes.ApprovalRow})
    @action(detail=True, methods=["post"])
    def counter(self, request: Any, pk: UUID) -> Response:
        """Say no with other terms, smaller or at a better price; another person decides on those. By session only."""
        made = self.act(request, shapes.Counter, counter_ticket, ticket_id=pk)
        return self.shown(made.pk, 201)


@listed(filters.OrderFilters)
class Orders(Reads):
    """Every order. A person proposes through the same gate as a bot; another person decides."""

    queryset = Order.objects.select_related("instrument", "ticket__account", "ticket__bot", "ticket__person")
    serializer_class = shapes.OrderRow
    narrowed_by = filters.OrderFilters
    rules: ClassVar = {
        **reading("orders.view_order"),
        "create": Rule("orders.propose_ticket"),
        "cancel": Rule("orders.cancel_order", "cancel"),
        "cancel_all": Rule("orders.cancel_order", "cancel"),
        "amend": Rule("orders.propose_ticket"),
    }

    @extend_schema(request=shapes.Propose, responses={201: shapes.OrderRow})
    def create(self, request: Any) -> Response:
        """Propose one order. By session only; the same idempotency key never places two."""
        ticket = self.act(request, shapes.Propose, _propose)
        return self.shown(ticket.orders.get(number=1).pk, 201)

    @extend_schema(request=None, responses=shapes.OrderRow)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Any, pk: UUID) -> Response:
        """Cancel one order, in whatever state; the broker's report says when it is done."""
        self.act(request, None, services.cancel_order, order_id=pk)
        return self.shown(pk)

    @extend_schema(request=reducing_shapes.CancelAll, responses=reducing_shapes.CanceledRow(many=True))
    @action(detail=False, methods=["post"], url_path="cancel-all")
    def cancel_all(self, request: Any) -> Response:
        """Cancel all that waits or works in an account, exits too; what is open stays open."""
        done = self.act(request, reducing_shapes.CancelAll, reducing_shapes.cancel_all)
        return Response(reducing_shapes.CanceledRow(done, many=True).data)

    @extend_schema(request=unsettled_shapes.Amend, responses={201: unsettled_shapes.AmendmentRow})
    @action(detail=True, methods=["post"])
    def amend(self, request: Any, pk: UUID) -> Response:
        """Ask for other terms: what only tightens passes at once, anything else another person decides. By session only."""
        made = self.act(request, unsettled_shapes.Amend, amending.amend_order, order_id=pk)
        return Response(unsettled_shapes.AmendmentRow(made).data, 201)


@listed(filters.ExecutionFilters)
class Executions(Reads):
    """Every fill; one without an order is drift."""

    queryset = Execution.objects.select_related("account", "instrument")
    serializer_class = shapes.ExecutionRow
    narrowed_by = filters.ExecutionFilters
    rules: ClassVar = reading("orders.view_execution")


@listed(filters.PositionFilters)
class Positions(Reads):
    """What the broker said that accounts hold, as of its last answer."""

    queryset = Position.objects.select_related("account")
    serializer_class = shapes.PositionRow
    narrowed_by = filters.PositionFilters
    rules: ClassVar = {
        **reading("orders.view_position"),
        "close": Rule("orders.close_position", "close"),
        "close_all": Rule("orders.close_position", "close"),
    }

    @extend_schema(request=shapes.Close, responses={201: shapes.OrderRow})
    @action(detail=False, methods=["post"])
    def close(self, request: Any) -> Response:
        """Close a position at market, or part of it, sized by the broker at this moment; needs no approval."""
        ticket = self.act(request, shapes.Close, services.close_position)
        order = Orders.queryset.all().get(ticket=ticket, number=1)
        return Response(shapes.OrderRow(order).data, 201)

    @extend_schema(request=reducing_shapes.CloseAll, responses={201: reducing_shapes.ClosedRow(many=True)})
    @action(detail=False, methods=["post"], url_path="close-all")
    def close_all(self, request: Any) -> Response:
        """Close all that the broker holds in an account at this moment, each position by an order of its own."""
        done = self.act(request, reducing_shapes.CloseAll, close_all_positions)
        return Response(reducing_shapes.ClosedRow(done, many=True).data, 201)


@listed(filters.DriftFilters)
class Drifts(Reads):
    """Where the broker and we differ; people adopt or ignore each case in the console."""

    queryset = Drift.objects.select_related("account", "execution", "settled_by")
    serializer_class = shapes.DriftRow
    narrowed_by = filters.DriftFilters
    rules: ClassVar = reading("orders.view_drift")


@listed(filters.DayReportFilters)
class DayReports(Reads):
    """Each account's reconciliation at the end of each trading day."""

    queryset = DayReport.objects.select_related("account")
    serializer_class = shapes.DayReportRow
    narrowed_by = filters.DayReportFilters
    rules: ClassVar = reading("orders.view_dayreport")


@listed(filters.LimitsFilters)
class LimitsOfAccounts(Reads):
    """Each account's limits; they are set in admin."""

    queryset = Limits.objects.select_related("account")
    serializer_class = shapes.LimitsRow
    narrowed_by = filters.LimitsFilters
    rules: ClassVar = reading("orders.view_limits")


@listed(filters.StateFilters)
class TradingStates(Reads):
    """Active, reducing or halted, by scope."""

    queryset = TradingState.objects.all()
    serializer_class = shapes.StateRow
    narrowed_by = filters.StateFilters
    rules: ClassVar = {
        **reading("orders.view_tradingstate"),
        "halt": Rule("orders.halt_trading", "halt"),
        "resume": Rule("orders.resume_trading"),
    }

    @extend_schema(request=shapes.HaltBody, responses=shapes.Halted)
    @action(detail=False, methods=["post"])
    def halt(self, request: Any) -> Response:
        """Stop everything new in a scope, and cancel by mode. What is in flight and still open is listed."""
        done = self.act(request, shapes.HaltBody, halting.halt_trading)
        return Response({name: done[name] for name in shapes.Halted().fields})

    @extend_schema(request=shapes.Scoped, responses=shapes.StateRow)
    @action(detail=False, methods=["post"])
    def resume(self, request: Any) -> Response:
        """Make a scope active again. By session only."""
        self.act(request, shapes.Scoped, trading.resume_trading)
        return self.shown(TradingState.objects.get(**_scope_of(request)).pk)


@listed(filters.PolicyFilters)
class Policies(Reads):
    """Every version of the policy; people propose and activate them in the console."""

    queryset = PolicyVersion.objects.select_related("proposed_by", "activated_by")
    serializer_class = shapes.PolicyRow
    narrowed_by = filters.PolicyFilters
    rules: ClassVar = reading("orders.view_policyversion")


# The instruments whose ids a mandate names.
_COVERED = Instrument.objects.annotate(
    place=Func(OuterRef("instrument_ids"), F("pk"), function="array_position", output_field=IntegerField())
).filter(place__isnull=False)


@listed(filters.MandateFilters)
class Mandates(Reads):
    """Every mandate and how far it has burned down. Only a signed-in person signs, declines and revokes."""

    queryset = Mandate.objects.select_related("account", "bot", "proposed_by", "revoked_by").annotate(
        symbols=ArraySubquery(_COVERED.order_by("symbol").values("symbol"))
    )
    serializer_class = shapes.MandateRow
    narrowed_by = filters.MandateFilters
    rules: ClassVar = {
        **reading("orders.view_mandate"),
        "sign": Rule("orders.decide_ticket"),
        "signature": Rule("orders.decide_ticket"),
        "decline": Rule("orders.decide_ticket"),
        "revoke": Rule("orders.revoke_mandate"),
    }

    @extend_schema(request=shapes.Sign, responses=shapes.MandateRow)
    @action(detail=True, methods=["post"])
    def sign(self, request: Any, pk: UUID) -> Response:
        """Sign exactly the terms that the digest names. By session only."""
        self.act(request, shapes.Sign, mandates.decide_mandate, mandate_id=pk, is_yes=True)
        return self.shown(pk)

    @extend_schema(request=shapes.Shown, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def signature(self, request: Any, pk: UUID) -> Response:
        """What a passkey is to sign for a mandate on a live account: the options of `navigator.credentials.get`."""
        return Response(self.act(request, shapes.Shown, mandates.ask_signature, mandate_id=pk))

    @extend_schema(request=shapes.Reject, responses=shapes.MandateRow)
    @action(detail=True, methods=["post"])
    def decline(self, request: Any, pk: UUID) -> Response:
        """Refuse to sign, with a reason; one no ends the proposal. By session only."""
        self.act(request, shapes.Reject, mandates.decide_mandate, mandate_id=pk, is_yes=False)
        return self.shown(pk)

    @extend_schema(request=shapes.Revoke, responses=shapes.MandateRow)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Any, pk: UUID) -> Response:
        """End a mandate at once. By session only."""
        self.act(request, shapes.Revoke, mandates.revoke_mandate, mandate_id=pk)
        return self.shown(pk)


def _propose(*, actor: Any, **fields: Any) -> Ticket:
    return services.place_order(actor=actor, proposal=Proposal(**fields))


def _scope_of(request: Any) -> dict[str, str]:
    form = shapes.Scoped(data=request.data)
    form.is_valid(raise_exception=True)
    return {"scope": form.validated_data["scope"], "scope_id": form.validated_data["scope_id"]}
