"""Amendments, and what is in doubt: who may read them, decide on them and settle them."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.response import Response

from cerbero.access import Rule
from cerbero.models import DecisionRequest
from orders import amending, hand_settling
from orders.api import filters, shapes, unsettled_shapes
from orders.api.views import Reads, listed, reading
from orders.models import Amendment, Attempt, ChangeAttempt


@listed(filters.AmendmentFilters)
class Amendments(Reads):
    """Other terms for orders that work, waiting and past. Only a signed-in person approves; a token may reject."""

    queryset = Amendment.objects.select_related(
        "order__instrument", "order__ticket__account", "bot", "person", "request"
    ).prefetch_related("request__decisions__person")
    serializer_class = unsettled_shapes.AmendmentRow
    narrowed_by = filters.AmendmentFilters
    rules: ClassVar = {
        **reading("orders.view_order"),
        "approve": Rule("orders.decide_ticket"),
        "signature": Rule("orders.decide_ticket"),
        "reject": Rule("orders.decide_ticket", "reject"),
    }

    @extend_schema(request=shapes.Sign, responses=unsettled_shapes.AmendmentRow)
    @action(detail=True, methods=["post"])
    def approve(self, request: Any, pk: UUID) -> Response:
        """Say yes to exactly what the digest names. By session only."""
        self.act(request, shapes.Sign, amending.decide_amendment, amendment_id=pk, is_yes=True)
        return self.shown(pk)

    @extend_schema(request=shapes.Shown, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def signature(self, request: Any, pk: UUID) -> Response:
        """What a passkey is to sign for a yes on a live account: the options of `navigator.credentials.get`."""
        return Response(self.act(request, shapes.Shown, amending.ask_signature, amendment_id=pk))

    @extend_schema(request=shapes.Reject, responses=unsettled_shapes.AmendmentRow)
    @action(detail=True, methods=["post"])
    def reject(self, request: Any, pk: UUID) -> Response:
        """Say no, with a reason; the order stays as it is."""
        self.act(request, shapes.Reject, amending.decide_amendment, amendment_id=pk, is_yes=False)
        return self.shown(pk)


class Doubtful(Reads):
    """Rows that may be in doubt; a person says what became of one, by session only."""

    rules: ClassVar = {
        **reading("orders.view_attempt"),
        "settle": Rule("orders.decide_ticket"),
    }

    @extend_schema(request=unsettled_shapes.Settle, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def settle(self, request: Any, pk: UUID) -> Response:
        """Settle it by hand, with a reason. On a live account another person decides on `settling`; else that is null."""
        asked = self.act(request, unsettled_shapes.Settle, hand_settling.settle_doubt, attempt_id=pk)
        row = self.get_serializer(self.get_queryset().get(pk=pk)).data
        return Response(row | {"settling": str(asked.pk) if asked else None})


@listed(filters.AttemptFilters)
class Attempts(Doubtful):
    """Every sending of a ticket."""

    queryset = Attempt.objects.select_related("ticket__account").prefetch_related("inquiries")
    serializer_class = unsettled_shapes.AttemptRow
    narrowed_by = filters.AttemptFilters


@listed(filters.ChangeFilters)
class Changes(Doubtful):
    """Every asking for a cancel or an amendment."""

    queryset = ChangeAttempt.objects.select_related("account").prefetch_related("inquiries")
    serializer_class = unsettled_shapes.ChangeRow
    narrowed_by = filters.ChangeFilters


@listed(filters.SettlingFilters)
class Settlings(Reads):
    """Doubts that one person settled on a live account; another one agrees, or leaves them in doubt."""

    queryset = DecisionRequest.objects.filter(subject_kind=hand_settling.KIND).prefetch_related(
        "decisions__person"
    )
    serializer_class = unsettled_shapes.SettlingRow
    narrowed_by = filters.SettlingFilters
    rules: ClassVar = {
        **reading("orders.view_attempt"),
        "approve": Rule("orders.decide_ticket"),
        "reject": Rule("orders.decide_ticket"),
    }

    @extend_schema(request=shapes.Sign, responses=unsettled_shapes.SettlingRow)
    @action(detail=True, methods=["post"])
    def approve(self, request: Any, pk: UUID) -> Response:
        """Agree with exactly what the digest names. By session only."""
        self.act(request, shapes.Sign, hand_settling.decide_settling, request_id=pk, is_yes=True)
        return self.shown(pk)

    @extend_schema(request=shapes.Reject, responses=unsettled_shapes.SettlingRow)
    @action(detail=True, methods=["post"])
    def reject(self, request: Any, pk: UUID) -> Response:
        """Leave it in doubt, with a reason. By session only."""
        self.act(request, shapes.Reject, hand_settling.decide_settling, request_id=pk, is_yes=False)
        return self.shown(pk)
