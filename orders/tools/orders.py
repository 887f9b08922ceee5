"""One order at a time: proposing, reading, changing."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from brokers.base import OrderType, Side, TimeInForce
from brokers.models import Account
from cerbero.access import Actor
from cerbero.errors import NotFound, NotOfferedYet
from cerbero.models import DecisionRequest
from cerbero.tool import DESTRUCTIVE, READ, WRITE, Out, Params, tool
from orders import amending, overrides, services
from orders.drift_shapes import AccountId
from orders.groups.wire import role_of
from orders.lifecycle import OrderStatus, TicketStatus
from orders.models import Order, Ticket
from orders.order_types import FIELDS
from orders.tickets import Proposal, Wanted

# Prices and sizes as brokers have them; beyond this no arithmetic of ours could be exact.
Amount = Annotated[Decimal, Field(gt=0, max_digits=20, decimal_places=8)]
Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9. /-]{1,32}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")]
Words = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


class OrderParams(Params):
    """One order; prices in the instrument's own currency and increment. docs/orders.md says what each type needs."""

    account: AccountId
    symbol: Symbol
    side: Side
    quantity: Amount | None = Field(None, description="units; leave it out where `cash_quantity` is given")
    order_type: OrderType
    limit_price: Amount | None = None
    stop_price: Amount | None = Field(None, description="what triggers: stop, touch, or where a trail begins")
    trailing_amount: Amount | None = None
    trailing_percent: Amount | None = None
    offset: Amount | None = Field(None, description="of a relative order: how far inside the market")
    cash_quantity: Amount | None = Field(
        None, description="money in the instrument's currency; Cerbero makes it a quantity, rounded down"
    )
    time_in_force: TimeInForce = TimeInForce.DAY
    outside_hours: bool = False
    algo: str | None = Field(None, max_length=32, description="not offered yet")
    combo: list[str] | None = Field(None, max_length=8, description="not offered yet")

    def proposal(self, **more: Any) -> Proposal:
        """Raises NotOfferedYet for what Cerbero does not send."""
        for name in ("algo", "combo"):
            if getattr(self, name) is not None:
                raise NotOfferedYet(field=name)
        return Proposal(**self.model_dump(exclude={"algo", "combo"}), **more)


class PlaceOrder(OrderParams):
    idempotency_key: Key
    reason: Words = ""


class OrderId(Params):
    order_id: UUID


class AmendOrder(Params):
    """New terms of a working order; what is not named stays. Say whether `quantity` counts what is filled."""

    order_id: UUID
    quantity: Amount | None = None
    quantity_is: Literal["total", "remaining"] | None = None
    limit_price: Amount | None = None
    stop_price: Amount | None = None
    reason: Words = ""


class ClosePosition(Params):
    account: AccountId
    symbol: Symbol
    idempotency_key: Key
    quantity: Amount | None = None
    reason: Words = ""


class ListOrders(Params):
    account: AccountId | None = None
    status: OrderStatus | None = None
    limit: int = Field(default=50, ge=1, le=200)


class OverriddenOut(Out):
    """One limit that a ticket may pass: what it was past it by, and up to what people signed."""

    code: str
    name: str
    limit: str
    value: str
    ceiling: str


class OverrideOut(Out):
    """The limits that a person lets this one ticket pass, who that is, and why."""

    by: str
    reason: str
    limits: list[OverriddenOut]


class OrderOut(Out):
    """One order with its ticket. `decision` says what people are asked or answered. In a group (`group` names its kind)
    `role` says which part it is.

    `policy_version` and `policy_rule` name what judged it, `mandate_id` the mandate under which it passed, and
    `refusal_code` is the stable reason for a no.
    """

    order_id: UUID
    ticket_id: UUID
    group: str
    role: str
    account: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    trailing_amount: Decimal | None
    trailing_percent: Decimal | None
    offset: Decimal | None
    cash_quantity: Decimal | None
    outside_hours: bool
    time_in_force: str
    status: str
    ticket_status: str
    filled_quantity: Decimal
    average_price: Decimal | None
    broker_order_id: str
    text: str
    refusal_code: str
    refusal: dict[str, Any]
    # Why it waits although it is allowed; it is tried again until its approval expires.
    held_for: str
    policy_version: int | None
    policy_rule: str
    mandate_id: UUID | None
    decision: str | None
    expires_at: datetime | None
    # A limit refused it once, and a person lets it pass; people must still decide.
    override: OverrideOut | None
    cancel_requested_at: datetime | None
    created_at: datetime


class AmendmentOut(Out):
    """What was asked of an order: `quantity` is the total, `remaining` what of it was not filled at that moment."""

    amendment_id: UUID
    order_id: UUID
    status: str
    tightens: bool
    quantity: Decimal
    remaining: Decimal
    filled_quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    refusal_code: str
    refusal: dict[str, Any]
    expires_at: datetime | None


class OrdersOut(Out):
    orders: list[OrderOut]


class CheckOut(Out):
    name: str
    ok: bool
    value: str
    limit: str
    says: str
    code: str


class PreviewOut(Out):
    """Our checks, and the broker's what-if; money in the account's currency."""

    checks: list[CheckOut]
    commission: Decimal | None
    commission_currency: str
    initial_margin_before: Decimal | None
    initial_margin_change: Decimal | None
    initial_margin_after: Decimal | None
    maintenance_margin_before: Decimal | None
    maintenance_margin_after: Decimal | None
    equity_after: Decimal | None
    position_after: Decimal | None
    warnings: list[str]
    error: str | None


@tool(scope="orders:write", effect=WRITE)
def place_order(actor: Actor, params: PlaceOrder) -> OrderOut:
    """Propose one order; a person decides. The same idempotency key never places two."""
    ticket = services.place_order(actor=actor, proposal=params.proposal())
    return order_out(ticket.first_order, ticket)


@tool(scope="orders:read", effect=READ)
def preview_order(actor: Actor, params: OrderParams) -> PreviewOut:
    """Say what an order would do: Cerbero's checks and the broker's own what-if. Nothing is kept."""
    return preview_out(actor, params.proposal(idempotency_key="preview"))


def preview_out(actor: Actor, proposal: Wanted) -> PreviewOut:
    checks, preview = services.preview_order(actor=actor, proposal=proposal)
    shown = {name: getattr(preview, name) for name in PreviewOut.model_fields if hasattr(preview, name)}
    return PreviewOut(**shown | {"checks": [CheckOut.model_validate(check) for check in checks]})


@tool(scope="orders:write", effect=WRITE)
def amend_order(actor: Actor, params: AmendOrder) -> AmendmentOut:
    """Change a working order: less, or a less aggressive price, passes at once; anything else a person decides."""
    row = amending.amend_order(actor=actor, **dict(params))
    shown = {name: getattr(row, name) for name in AmendmentOut.model_fields if hasattr(row, name)}
    shown |= {"amendment_id": row.pk, "remaining": row.quantity - row.filled_quantity}
    shown["expires_at"] = row.request.expires_at if row.request else None
    return AmendmentOut(**shown)


@tool(scope="orders:write", effect=DESTRUCTIVE)
def cancel_order(actor: Actor, params: OrderId) -> OrderOut:
    """Cancel one of your orders, in whatever state; the broker's report says when it is done."""
    return one_order(services.cancel_order(actor=actor, order_id=params.order_id))


@tool(scope="orders:write", effect=DESTRUCTIVE)
def close_position(actor: Actor, params: ClosePosition) -> OrderOut:
    """Close a position at market, or part of it; sized by the broker, so no approval is needed."""
    return one_order(services.close_position(actor=actor, **dict(params)).first_order)


@tool(scope="orders:read", effect=READ)
def get_order(actor: Actor, params: OrderId) -> OrderOut:
    """One of your orders: its state, its fills, who must decide, and why it was refused if it was."""
    order = services.visible_orders(actor).filter(pk=params.order_id).first()
    if order is None:
        raise NotFound(order_id=str(params.order_id))
    return one_order(order)


@tool(scope="orders:read", effect=READ)
def list_orders(actor: Actor, params: ListOrders) -> OrdersOut:
    """Your orders, newest first; narrow them by account and status."""
    rows = services.visible_orders(actor).select_related(*ROWS).order_by("-created_at", "-id")
    if params.account:
        rows = rows.filter(ticket__account__broker_account_id=params.account)
    if params.status:
        rows = rows.filter(status=params.status)
    return OrdersOut(orders=[order_out(order, order.ticket) for order in rows[: params.limit]])


ROWS = ("instrument", "ticket__account", "ticket__request", "ticket__policy_version", "ticket__allowance")


def one_order(order: Order) -> OrderOut:
    """The order as the database has it now."""
    fresh = Order.objects.select_related(*ROWS).get(pk=order.pk)
    return order_out(fresh, fresh.ticket)


_OF_ORDER = (
    *("side", "quantity", "order_type", *FIELDS, "cash_quantity", "outside_hours", "time_in_force", "status"),
    *("filled_quantity", "average_price", "broker_order_id", "text", "cancel_requested_at", "created_at"),
)


def order_out(order: Order, ticket: Ticket) -> OrderOut:
    account: Account = ticket.account
    request = ticket.request
    return OrderOut(
        **{name: getattr(order, name) for name in _OF_ORDER},
        order_id=order.pk,
        ticket_id=ticket.pk,
        group=ticket.group,
        role=role_of(order, ticket),
        account=account.broker_account_id,
        symbol=order.instrument.symbol,
        ticket_status=ticket.status,
        refusal_code=ticket.refusal_code,
        held_for=ticket.held_for if ticket.status == TicketStatus.ALLOWED else "",
        refusal=ticket.refusal,
        policy_version=ticket.policy_version.number if ticket.policy_version else None,
        policy_rule=ticket.policy_rule,
        mandate_id=_mandate_id(ticket),
        decision=request.status if request else None,
        expires_at=request.expires_at if request else None,
        override=override_out(request),
    )


def override_out(request: DecisionRequest | None) -> OverrideOut | None:
    said = overrides.of(request)
    return OverrideOut(**{name: said[name] for name in OverrideOut.model_fields}) if said else None


def _mandate_id(ticket: Ticket) -> UUID | None:
    """Of which mandate the ticket used up an order; only what passed unasked has an allowance."""
    passed = ticket.request is None and not ticket.reduce_only and not ticket.refusal_code
    allowance = getattr(ticket, "allowance", None) if passed else None
    return allowance.mandate_id if allowance else None
