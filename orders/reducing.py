"""Everything at once: canceling what waits or works, closing what is held. What fails is said and stops nothing else."""

from dataclasses import dataclass
from decimal import Decimal

from brokers.models import Account
from brokers.services import broker_for
from cerbero.access import Actor
from cerbero.errors import CerberoError
from orders import services
from orders.closing import close_held, may_close, positions_now
from orders.facts import gather_held
from orders.lifecycle import ENDED
from orders.models import Order, Ticket
from orders.trading import require_permission


@dataclass(frozen=True)
class Canceled:
    """One order after its cancel was asked for, or why that could not be written."""

    order: Order
    refusal: CerberoError | None = None


@dataclass(frozen=True)
class Closed:
    """One position as the broker just had it, with the ticket that closes it, or why there is none."""

    broker_instrument_id: str
    held: Decimal
    ticket: Ticket | None = None
    refusal: CerberoError | None = None


def cancel_all_orders(*, actor: Actor, account: Account | None = None) -> list[Canceled]:
    """Cancel each order that waits or works, the oldest first and an entry before its exits, in one account or in all.

    Bots reach their own orders, people everybody's. What they opened stays open, without its exits.
    Raises PermissionMissing.
    """
    if actor.is_person:
        require_permission(actor, "orders.cancel_order")
    orders = services.visible_orders(actor).exclude(status__in=ENDED)
    if account is not None:
        orders = orders.filter(ticket__account=account)
    rows = orders.select_related("instrument", "ticket__account")
    return [_cancel(actor, order) for order in rows.order_by("ticket__created_at", "ticket_id", "number")]


def close_all_positions(
    *, actor: Actor, account: str, idempotency_key: str, reason: str = ""
) -> list[Closed]:
    """Close all that the broker holds in an account at this moment, each position by a ticket of its own, as
    `close_position` does. The key with the broker's id of an instrument is that ticket's.

    Raises what `close_position` raises of an account, and PositionUnknown.
    """
    row = may_close(actor, account)
    with broker_for(row.login) as broker:
        held = positions_now(broker, row)
    return [_close(actor, row, each, held[each], f"{idempotency_key}.{each}", reason) for each in held]


def _cancel(actor: Actor, order: Order) -> Canceled:
    try:
        return Canceled(services.cancel_order(actor=actor, order_id=order.pk))
    except CerberoError as refusal:
        return Canceled(order, refusal)


def _close(
    actor: Actor, account: Account, broker_instrument_id: str, held: Decimal, key: str, reason: str
) -> Closed:
    try:
        facts = gather_held(account, broker_instrument_id, actor.id if actor.is_bot else None)
        ticket = close_held(actor=actor, facts=facts, held=held, idempotency_key=key, reason=reason)
    except CerberoError as refusal:
        return Closed(broker_instrument_id, held, refusal=refusal)
    return Closed(broker_instrument_id, held, ticket)
