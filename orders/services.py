"""Proposing, deciding, canceling and closing. Each function owns its transactions and calls leaves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.services import record
from brokers.base import OrderTerms, OrderType, Preview, Side, TimeInForce
from brokers.models import Account
from brokers.reports import notify_orders
from brokers.services import broker_for, live_missing
from cerbero import decisions
from cerbero.access import Actor
from cerbero.errors import (
    BrokerError,
    CerberoError,
    IdempotencyConflict,
    LiveTradingDenied,
    NotFound,
    NothingToClose,
    PermissionMissing,
    QuoteMissing,
    RiskRefused,
)
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest, DecisionStatus
from orders import policy, risk, trading
from orders.canonical import TERMS, decision_digest, plain, ticket_digest
from orders.closing import closable, position_now
from orders.facts import Facts, as_seen, find_account, gather, leg_of
from orders.lifecycle import ENDED, ORDER, TICKET, OrderStatus, TicketStatus
from orders.models import Order, Ticket


@dataclass(frozen=True)
class Proposal:
    """What a caller wants; units and prices are the instrument's own."""

    account: str
    symbol: str
    side: Side
    quantity: Decimal
    order_type: OrderType
    idempotency_key: str
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    reason: str = ""

    def order(self, facts: Facts) -> Order:
        return Order(
            instrument=facts.instrument,
            side=self.side,
            quantity=self.quantity,
            order_type=self.order_type,
            limit_price=self.limit_price,
            stop_price=self.stop_price,
            time_in_force=self.time_in_force,
        )


def place_order(*, actor: Actor, proposal: Proposal) -> Ticket:
    """Propose one order; the same key returns the same ticket, the same key with other terms is refused.

    Raises NotFound, EnvironmentMismatch, TradingHalted, LiveTradingDenied, QuoteMissing (nothing is
    kept; ask again), IdempotencyConflict, or RiskRefused (kept as a denied ticket).
    """
    account = find_account(actor, proposal.account)
    ticket = _existing(actor, account, proposal)
    if ticket is None:
        facts = gather(account, proposal.symbol)
        _require_ready(actor, facts)
        ticket = _once(actor, account, proposal, lambda: _propose(actor, facts, proposal))
    if ticket.refusal_code == RiskRefused.code:
        raise RiskRefused(ticket_id=str(ticket.pk), checks=ticket.refusal.get("checks", []))
    return ticket


def preview_order(*, actor: Actor, proposal: Proposal) -> tuple[list[risk.Check], Preview]:
    """What the order would do: our checks, and the broker's own what-if. Nothing is kept or sent."""
    account = find_account(actor, proposal.account)
    facts = gather(account, proposal.symbol)
    order = proposal.order(facts)
    checks = risk.check_all(leg_of(order, facts.instrument), facts.market, facts.bounds)
    with broker_for(account.login) as broker:
        preview = broker.preview(account.broker_account_id, [terms_of(order, facts.broker_instrument_id)])
    return checks, preview


def close_position(
    *,
    actor: Actor,
    account: str,
    symbol: str,
    idempotency_key: str,
    quantity: Decimal | None = None,
    reason: str = "",
) -> Ticket:
    """Close what the broker says that we hold, or `quantity` of it, at market; no approval is needed.

    Sized from the position read from the broker at this moment, net of exits that are working or in
    doubt. Raises PositionUnknown when it cannot be read, NothingToClose, or TradingHalted for a bot.
    """
    if actor.is_person:
        trading.require_permission(actor, "orders.close_position")
    row = find_account(actor, account)
    trading.require_open(
        trading.worst_state(row, actor.id if actor.is_bot else None),
        reduce_only=True,
        by_person=actor.is_person,
    )
    require_live(row)
    facts = gather(row, symbol)
    with broker_for(row.login) as broker:
        held = position_now(broker, row, facts.broker_instrument_id)
    size = closable(row, facts, held)
    if quantity is not None:
        size = min(size, quantity)
    if size <= 0:
        raise NothingToClose(position=plain(held), symbol=symbol)
    proposal = Proposal(
        account=account,
        symbol=symbol,
        side=Side.SELL if held > 0 else Side.BUY,
        quantity=size,
        order_type=OrderType.MARKET,
        idempotency_key=idempotency_key,
        reason=reason,
    )
    return _once(actor, row, proposal, lambda: _allow_close(actor, replace(facts, position=held), proposal))


def decide_ticket(*, actor: Actor, ticket_id: UUID, digest: str, is_yes: bool, reason: str = "") -> Ticket:
    """One person's decision on one ticket. A refused decision is recorded, and changes nothing else."""
    try:
        trading.require_permission(actor, "orders.decide_ticket")
        with transaction.atomic(durable=True):
            return _decide(actor, ticket_id, digest, is_yes, reason)
    except CerberoError as refusal:
        with transaction.atomic(durable=True):
            details = {"code": refusal.code, "is_yes": is_yes}
            record(
                "decision.refused", actor=actor, subject_kind="ticket", subject_id=ticket_id, details=details
            )
        raise


def cancel_order(*, actor: Actor, order_id: UUID) -> Order:
    """Cancel in whatever state: withdraw what was not sent, ask the broker for the rest, at once.

    An order that ended stays as it is. Raises NotFound; a broker that cannot be reached is asked again by
    the orders process, and the answer says so through `cancel_requested_at`.
    """
    order = (
        visible_orders(actor)
        .filter(pk=order_id)
        .select_related("ticket__account__login", "ticket__request")
        .first()
    )
    if order is None:
        raise NotFound(order_id=str(order_id))
    if actor.is_person:
        trading.require_permission(actor, "orders.cancel_order")
    if order.status not in ENDED:
        with transaction.atomic(durable=True):
            _request_cancel(actor, order)
        if order.status == OrderStatus.PENDING_CANCEL and order.broker_order_id:
            send_cancel(actor, order)
    order.refresh_from_db()
    return order


def send_cancel(actor: Actor, order: Order) -> None:
    """Ask the broker. Whatever it answers, only its reports move the order; a failure is asked again."""
    account = order.ticket.account
    outcome = "accepted"
    try:
        with broker_for(account.login) as broker:
            broker.cancel(account.broker_account_id, order.broker_order_id)
    except BrokerError as problem:
        outcome = problem.code
    details = {"broker_order_id": order.broker_order_id, "outcome": outcome}
    record("cancel.sent", actor=actor, subject_kind="order", subject_id=order.pk, details=details)


def visible_orders(actor: Actor) -> Any:
    """A bot sees its own orders; people and the system see all."""
    orders = Order.objects.all()
    return orders.filter(ticket__bot_id=actor.id) if actor.is_bot else orders


def expire_overdue(*, actor: Actor) -> int:
    """Deny tickets whose approval ran out of time, waiting or approved. Returns how many."""
    count = 0
    for request in DecisionRequest.objects.overdue().filter(ticket__isnull=False).select_related("ticket"):
        with transaction.atomic(durable=True):
            ticket = Ticket.objects.select_for_update().get(pk=request.ticket.pk)
            request.refresh_from_db()
            if request.status not in {DecisionStatus.PENDING, DecisionStatus.APPROVED}:
                continue
            decisions.expire(request, actor=actor)
            if ticket.status in {TicketStatus.PROPOSED, TicketStatus.ALLOWED}:
                deny(actor, ticket, "approval_expired", {})
                count += 1
    return count


def deny(actor: Actor, ticket: Ticket, code: str, refusal: dict[str, Any]) -> None:
    """Refuse a ticket that has not been sent, and end its orders. Runs in the caller's transaction."""
    transition(
        ticket,
        TicketStatus.DENIED,
        moves=TICKET,
        actor=actor,
        event="ticket.denied",
        details={"code": code},
        refusal_code=code,
        refusal=refusal,
        ended_at=Now(),
    )
    end_orders(actor, ticket, "order.denied")


def end_orders(actor: Actor, ticket: Ticket, event: str, text: str = "") -> None:
    for order in ticket.orders.exclude(status__in=ENDED):
        transition(order, OrderStatus.CANCELED, moves=ORDER, actor=actor, event=event, text=text)


def ask_people(
    actor: Actor, ticket: Ticket, facts: Facts, order: Order, seen: dict[str, Any]
) -> DecisionRequest:
    """Open the decision request of a ticket; its facts are what the approver sees."""
    needed = policy.requirement(facts.account.environment)
    return decisions.ask(
        actor=actor,
        subject_kind="ticket",
        subject_id=ticket.pk,
        summary=sentence(order),
        digest=decision_digest(ticket.digest, seen),
        facts=seen,
        quorum=needed.quorum,
        group=needed.group,
        seconds=settings.APPROVAL_SECONDS,
        excluded_user_ids=_excluded(ticket),
    )


def sentence(order: Order) -> str:
    """The whole order in one line, as people read it."""
    prices = [plain(price) or "" for price in (order.limit_price, order.stop_price) if price is not None]
    kind = order.order_type.replace("_", " ")
    words = [order.side.capitalize(), plain(order.quantity) or "", order.instrument.symbol, kind, *prices]
    return " ".join([*words, str(order.time_in_force)])


def terms_of(order: Order, broker_instrument_id: str, client_order_id: str | None = None) -> OrderTerms:
    """The leg as it goes to the adapter."""
    return OrderTerms(
        broker_instrument_id=broker_instrument_id,
        side=Side(order.side),
        quantity=order.quantity,
        order_type=OrderType(order.order_type),
        time_in_force=TimeInForce(order.time_in_force),
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        client_order_id=client_order_id,
    )


def require_live(account: Account) -> None:
    """Raises LiveTradingDenied while the broker has not said what the account is, or a live one is not cleared."""
    if not account.environment:
        raise LiveTradingDenied(missing=["the broker has not yet said whether this account is paper or live"])
    missing = live_missing(account) if account.environment == "live" else []
    if missing:
        raise LiveTradingDenied(missing=missing)


def _require_ready(actor: Actor, facts: Facts) -> None:
    """What would pass later is not kept: halts, clearance and quotes are said, and asked again."""
    state = trading.worst_state(facts.account, actor.id if actor.is_bot else None)
    trading.require_open(state, reduce_only=False, by_person=actor.is_person)
    require_live(facts.account)
    age = facts.market.age_seconds
    if age is None or age > facts.bounds.quote_age_max_seconds or facts.market.mid is None:
        raise QuoteMissing(symbol=facts.instrument.symbol, age_seconds=plain(age))


def _propose(actor: Actor, facts: Facts, proposal: Proposal) -> Ticket:
    ticket, order = _build(actor, facts, proposal)
    checks = risk.check_all(leg_of(order, facts.instrument), facts.market, facts.bounds)
    refusals = risk.failed(checks)
    with transaction.atomic(durable=True):
        if refusals:
            ticket.status, ticket.ended_at = TicketStatus.DENIED, Now()
            ticket.refusal_code = RiskRefused.code
            ticket.refusal = {"checks": [check.as_json() for check in refusals]}
            order.status = OrderStatus.CANCELED
        else:
            ticket.request = ask_people(actor, ticket, facts, order, as_seen(facts, order, checks))
        _insert(actor, ticket, order, "ticket.denied" if refusals else "ticket.proposed")
    return ticket


def _allow_close(actor: Actor, facts: Facts, proposal: Proposal) -> Ticket:
    ticket, order = _build(actor, facts, proposal, reduce_only=True)
    with transaction.atomic(durable=True):
        ticket.status, ticket.allowed_at = TicketStatus.ALLOWED, Now()
        _insert(actor, ticket, order, "ticket.allowed")
        notify_orders()
    return ticket


def _build(
    actor: Actor, facts: Facts, proposal: Proposal, *, reduce_only: bool = False
) -> tuple[Ticket, Order]:
    order = proposal.order(facts)
    ticket = Ticket(
        account=facts.account,
        bot_id=actor.id if actor.is_bot else None,
        person_id=actor.id if actor.is_person else None,
        idempotency_key=proposal.idempotency_key,
        reduce_only=reduce_only,
        reason=proposal.reason,
        tag=actor.tag,
        notional=risk.notional(leg_of(order, facts.instrument), facts.market, facts.bounds),
        notional_currency=facts.account.currency,
    )
    order.ticket = ticket
    ticket.digest = ticket_digest(ticket, facts.account, [order])
    return ticket, order


def _insert(actor: Actor, ticket: Ticket, order: Order, event: str) -> None:
    ticket.save(force_insert=True)
    order.save(force_insert=True)
    details = {"order": sentence(order), "account": str(ticket.account), "digest": ticket.digest}
    if ticket.refusal_code:
        details["code"] = ticket.refusal_code
    record(event, actor=actor, subject_kind="ticket", subject_id=ticket.pk, details=details)


def _once(actor: Actor, account: Account, proposal: Proposal, write: Callable[[], Ticket]) -> Ticket:
    """Write under the unique key; whoever comes second is given the first one's ticket."""
    ticket = _existing(actor, account, proposal)
    if ticket is not None:
        return ticket
    try:
        return write()
    except IntegrityError:
        ticket = _existing(actor, account, proposal)
        if ticket is None:
            raise
        return ticket


def _existing(actor: Actor, account: Account, proposal: Proposal) -> Ticket | None:
    """The ticket of this key. Raises IdempotencyConflict, naming the fields, when its terms differ."""
    key = Q(account=account, idempotency_key=proposal.idempotency_key)
    mine = Q(bot_id=actor.id) if actor.is_bot else Q(person_id=actor.id)
    ticket = Ticket.objects.filter(key & mine).first()
    if ticket is None:
        return None
    order = ticket.orders.select_related("instrument").get(number=1)
    differs = [name for name in TERMS if getattr(order, name) != getattr(proposal, name)]
    if order.instrument.symbol != proposal.symbol.upper():
        differs.append("symbol")
    if differs and not ticket.reduce_only:
        raise IdempotencyConflict(ticket_id=str(ticket.pk), differs=differs)
    return ticket


def _decide(actor: Actor, ticket_id: UUID, digest: str, is_yes: bool, reason: str) -> Ticket:
    ticket = Ticket.objects.select_for_update(of=("self",)).filter(pk=ticket_id).exclude(request=None).first()
    if ticket is None or ticket.request_id is None:
        raise NotFound(ticket_id=str(ticket_id))
    request = decisions.decide(
        actor=actor, request_id=ticket.request_id, digest=digest, is_yes=is_yes, reason=reason
    )
    if request.status == DecisionStatus.REJECTED:
        deny(actor, ticket, "rejected_by_person", {"reason": reason.strip()[:500]})
    elif request.status == DecisionStatus.APPROVED:
        transition(
            ticket, TicketStatus.ALLOWED, moves=TICKET, actor=actor, event="ticket.allowed", allowed_at=Now()
        )
        notify_orders()
    return ticket


def _request_cancel(actor: Actor, order: Order) -> None:
    """In the caller's transaction: withdraw, or mark and move; the broker is asked after the commit."""
    ticket = Ticket.objects.select_for_update().get(pk=order.ticket_id)
    locked = Order.objects.select_for_update().get(pk=order.pk)
    order.status, order.broker_order_id = locked.status, locked.broker_order_id
    if ticket.status in {TicketStatus.PROPOSED, TicketStatus.ALLOWED}:
        _withdraw(actor, ticket)
        return
    Order.objects.filter(pk=order.pk).update(cancel_requested_at=Now())
    record("cancel.requested", actor=actor, subject_kind="order", subject_id=order.pk)
    if order.status in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}:
        transition(order, OrderStatus.PENDING_CANCEL, moves=ORDER, actor=actor, event="order.cancel_pending")


def _withdraw(actor: Actor, ticket: Ticket) -> None:
    if ticket.request_id:
        decisions.withdraw(DecisionRequest.objects.get(pk=ticket.request_id), actor=actor)
    transition(
        ticket, TicketStatus.WITHDRAWN, moves=TICKET, actor=actor, event="ticket.withdrawn", ended_at=Now()
    )
    end_orders(actor, ticket, "order.withdrawn")


def _excluded(ticket: Ticket) -> list[UUID]:
    """Whoever asked, and the owner of the bot that asked, as of now (gates.md §1)."""
    if ticket.bot is not None:
        return [ticket.bot.owner_id]
    if ticket.person_id is None:
        raise PermissionMissing("A ticket needs a proposer.")
    return [ticket.person_id]
