"""A counter: an approver's no that carries other terms, which another person must then approve."""

from decimal import Decimal
from uuid import UUID

from django.db import transaction

from brokers.base import OrderType, Side, TimeInForce
from cerbero import decisions
from cerbero.access import Actor
from cerbero.errors import BadInput, NotFound, RiskRefused
from cerbero.models import DecisionStatus
from orders import judging, risk, services, trading
from orders.canonical import plain
from orders.facts import as_seen, check_order, find_account, gather
from orders.models import Order, Ticket
from orders.tickets import Proposal, ask_people, build, decided_on_record, deny, insert


def counter_ticket(
    *,
    actor: Actor,
    ticket_id: UUID,
    digest: str,
    reason: str,
    quantity: Decimal | None = None,
    limit_price: Decimal | None = None,
) -> Ticket:
    """Reject a ticket and propose it again, smaller or at a better price, in the approver's own name.

    The bot reads `countered` with the new ticket's id. Nobody who could not decide on the first ticket may
    decide on the second, nor whoever countered. Raises BadInput, RiskRefused, PolicyRefused, or as a decision does.
    """
    with decided_on_record(actor, ticket_id, is_yes=False):
        actor.require_session()
        trading.require_permission(actor, "orders.decide_ticket")
        ticket = Ticket.objects.select_related("account").filter(pk=ticket_id).exclude(request=None).first()
        if ticket is None:
            raise NotFound(ticket_id=str(ticket_id))
        if ticket.group:
            raise BadInput(
                "The orders of a group hang together: reject it, and say in the reason what would do."
            )
        proposal = _better(ticket, ticket.first_order, quantity, limit_price, reason)
        return _propose(actor, ticket, proposal, digest)


def _propose(actor: Actor, ticket: Ticket, proposal: Proposal, digest: str) -> Ticket:
    facts = gather(find_account(actor, proposal.account), proposal.symbol, None)
    services.require_ready(actor, facts)
    made, order = build(actor, facts, proposal)
    made.counter_of = ticket
    checks = check_order(facts, order)
    if refusals := risk.failed(checks):
        raise RiskRefused(checks=[check.as_json() for check in refusals])
    with transaction.atomic(durable=True):
        locked = Ticket.objects.select_for_update(of=("self",)).select_related("request").get(pk=ticket.pk)
        if locked.request_id is None:
            raise NotFound(ticket_id=str(ticket.pk))
        request = decisions.decide(
            actor=actor, request_id=locked.request_id, digest=digest, is_yes=False, reason=proposal.reason
        )
        made.counter_of = locked
        seen = as_seen(facts, order, checks) | {"counter_of": str(locked.pk)}
        made.request = ask_people(actor, made, facts, order, seen, judging.who_decides(made, order, facts))
        insert(actor, made, "ticket.proposed")
        if request.status == DecisionStatus.REJECTED:
            deny(actor, locked, "countered", _told(made, order, proposal.reason))
    return made


def _told(made: Ticket, order: Order, reason: str) -> dict[str, str | None]:
    """What the bot reads of the counter."""
    return {
        "reason": reason,
        "counter_ticket_id": str(made.pk),
        "counter_order_id": str(order.pk),
        "quantity": plain(order.quantity),
        "limit_price": plain(order.limit_price),
    }


def _better(
    ticket: Ticket, order: Order, quantity: Decimal | None, limit_price: Decimal | None, reason: str
) -> Proposal:
    """The countered terms. Raises BadInput unless they are smaller or better, and nowhere worse."""
    size = order.quantity if quantity is None else quantity
    price = order.limit_price if limit_price is None else limit_price
    problems = []
    if not 0 < size <= order.quantity:
        problems.append(f"a counter is for at most {plain(order.quantity)}")
    if price is not None and order.limit_price is None:
        problems.append("this order has no limit price to better")
    elif price is not None and order.limit_price is not None:
        gained = order.limit_price - price if order.side == "buy" else price - order.limit_price
        if gained < 0 or price <= 0:
            problems.append(f"a counter's price is no worse than {plain(order.limit_price)}")
    if (size, price) == (order.quantity, order.limit_price):
        problems.append("these are the same terms")
    if problems:
        raise BadInput("A counter is smaller or at a better price.", problems=problems)
    return Proposal(
        account=ticket.account.broker_account_id,
        symbol=order.instrument.symbol,
        side=Side(order.side),
        quantity=size,
        order_type=OrderType(order.order_type),
        limit_price=price,
        stop_price=order.stop_price,
        trailing_amount=order.trailing_amount,
        trailing_percent=order.trailing_percent,
        offset=order.offset,
        outside_hours=order.outside_hours,
        time_in_force=TimeInForce(order.time_in_force),
        idempotency_key=f"counter-{ticket.pk}",
        reason=reason.strip()[:500],
    )
