"""Proposing, deciding, canceling and closing. Each function owns its transactions and calls leaves."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.services import record
from brokers.base import Preview
from brokers.models import Account
from brokers.reports import notify_orders
from brokers.services import broker_for
from cerbero import decisions
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given, together
from cerbero.errors import (
    BadInput,
    NotFound,
    PolicyRefused,
    QuoteMissing,
    ReasonRequired,
    RiskRefused,
)
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from orders import breaches, judging, mandates, overrides, policies, policy, risk, trading
from orders.canceling import ask_cancel
from orders.canonical import plain
from orders.closing import close_held, may_close, positions_now
from orders.facts import Facts, as_seen, check_order, find_account, gather
from orders.groups.relations import require_group
from orders.lifecycle import ENDED, ORDER, TICKET, OrderStatus, TicketStatus
from orders.limits import applying, require_figures
from orders.market import require_known
from orders.models import Order, Ticket
from orders.order_types import require_possible
from orders.tickets import (
    Wanted,
    ask_people,
    build,
    decided_on_record,
    deny,
    end_orders,
    insert,
    once,
    require_live,
    sender,
    terms_of,
)

_ASKED = Compiled(
    lambda: (
        Ticket.objects.select_for_update(of=("self",))
        .select_related("account__login")
        .filter(pk=Given("ticket"), request__isnull=False)
    )
)
_OVERDUE = Compiled(
    lambda: DecisionRequest.objects.overdue().filter(ticket__isnull=False).select_related("ticket")
)
_STALE = Compiled(
    lambda: Ticket.objects.filter(
        status=TicketStatus.ALLOWED, request=None, allowance__expires_at__lte=Now()
    ).values_list("pk", flat=True)
)


def place_order(*, actor: Actor, proposal: Wanted) -> Ticket:
    """Propose one order, or a group of them as one; the same key returns the same ticket, the same key with other terms is refused.

    Raises NotFound, EnvironmentMismatch, TradingHalted, LiveTradingDenied, QuoteMissing,
    GroupImpossible, ImpossibleOrder, PolicyUnreadable (nothing is kept; ask again), IdempotencyConflict, or RiskRefused and PolicyRefused
    (kept as a denied ticket).
    """
    actor.require_session()
    if actor.is_person:
        trading.require_permission(actor, "orders.propose_ticket")
    if proposal.group:
        require_group(proposal.group, proposal.legs)
    require_possible(*proposal.legs)
    account = find_account(actor, proposal.account)
    ticket = once(actor, account, proposal, lambda: _propose(actor, account, proposal))
    if ticket.refusal_code == RiskRefused.code:
        raise RiskRefused(ticket_id=str(ticket.pk), checks=ticket.refusal.get("checks", []))
    if ticket.refusal_code == PolicyRefused.code:
        raise PolicyRefused(ticket_id=str(ticket.pk), **ticket.refusal)
    return ticket


def preview_order(*, actor: Actor, proposal: Wanted) -> tuple[list[risk.Check], Preview]:
    """What the order would do: our checks, and the broker's own what-if, of a group's entry. Nothing is kept or sent."""
    require_possible(*proposal.legs)
    account = find_account(actor, proposal.account)
    facts = gather(account, proposal.symbol, bot_of(actor))
    if proposal.group:
        require_group(proposal.group, proposal.legs, facts.market.mid)
    orders = [leg.order(facts, number) for number, leg in enumerate(proposal.legs, 1)]
    checks = check_order(facts, *orders, group=proposal.group)
    with broker_for(account.login) as broker:
        terms = terms_of(orders[0], facts.broker_instrument_id, actor)
        preview = broker.preview(account.broker_account_id, [terms])
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
    row = may_close(actor, account)
    facts = gather(row, symbol, bot_of(actor))
    with broker_for(row.login) as broker:
        held = positions_now(broker, row).get(facts.broker_instrument_id, Decimal(0))
    return close_held(
        actor=actor, facts=facts, held=held, quantity=quantity, idempotency_key=idempotency_key, reason=reason
    )


def ask_signature(*, actor: Actor, ticket_id: UUID, digest: str) -> dict[str, Any]:
    """What a passkey is to sign for a yes to this ticket, for two minutes. Raises as cerbero.people.signing.ask does."""
    actor.require_session()
    trading.require_permission(actor, "orders.decide_ticket")
    ticket = Ticket.objects.filter(pk=ticket_id).exclude(request=None).first()
    if ticket is None or ticket.request_id is None:
        raise NotFound(ticket_id=str(ticket_id))
    with transaction.atomic(durable=True):
        is_live = trading.must_be_signed(ticket.account)
        return signing.ask(actor=actor, request_id=ticket.request_id, digest=digest, is_live=is_live)


def decide_ticket(
    *,
    actor: Actor,
    ticket_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
    is_confirmed: bool = False,
    drift_percent: Decimal | None = None,
) -> Ticket:
    """One person's decision on one ticket. A refused decision is recorded, and changes nothing else.

    A yes on a live account needs `assertion`, a passkey's answer to `ask_signature`. A yes raises FeedDead
    while the feed is, and ConfirmationNeeded for a market that is closed or delayed unless `is_confirmed`.
    A no never needs any of it. `drift_percent` is how far the price may move until the sending, for this
    ticket, instead of the limit that applies; more than that needs a reason, and of several yeses the strictest counts.
    """
    with decided_on_record(actor, ticket_id, is_yes=is_yes):
        trading.require_permission(actor, "orders.decide_ticket")
        conditions = _conditions(drift_percent) if is_yes else {}
        with transaction.atomic(durable=True):
            return _decide(actor, ticket_id, digest, is_yes, reason, assertion, is_confirmed, conditions)


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

    def send() -> None:
        with broker_for(account.login, is_for_cancel=True) as broker:
            named = sender(order, actor.name, actor.is_person)
            broker.cancel(account.broker_account_id, order.broker_order_id, **named)

    problem = ask_cancel(actor, account, order.broker_order_id, send, order)
    outcome = problem.code if problem else "accepted"
    details = {"broker_order_id": order.broker_order_id, "outcome": outcome}
    record("cancel.sent", actor=actor, subject_kind="order", subject_id=order.pk, details=details)


def visible_orders(actor: Actor) -> Any:
    """A bot sees its own orders and what people countered them with; people and the system see all."""
    orders = Order.objects.all()
    own = Q(ticket__bot=actor.id) | Q(ticket__counter_of__bot=actor.id)
    return orders.filter(own) if actor.is_bot else orders


def expire_overdue(*, actor: Actor) -> int:
    """Deny tickets whose approval ran out of time, waiting or approved. Returns how many."""
    count = 0
    overdue, stale = together(_OVERDUE.asked(), _STALE.asked())
    for request in overdue:
        with transaction.atomic(durable=True):
            ticket = Ticket.objects.select_for_update().get(pk=request.ticket.pk)
            request.refresh_from_db()
            if request.status not in {DecisionStatus.PENDING, DecisionStatus.APPROVED}:
                continue
            decisions.expire(request, actor=actor)
            if ticket.status in {TicketStatus.PROPOSED, TicketStatus.ALLOWED}:
                deny(actor, ticket, "approval_expired", {})
                count += 1
    policies.expire_overdue(actor=actor)
    mandates.expire_overdue(actor=actor)
    return count + _expire_unasked(actor, stale)


def _expire_unasked(actor: Actor, stale: Iterable[UUID]) -> int:
    """What passed without people and was not sent in time."""
    count = 0
    for pk in stale:
        with transaction.atomic(durable=True):
            ticket = Ticket.objects.select_for_update().get(pk=pk)
            if ticket.status == TicketStatus.ALLOWED and ticket.request_id is None:
                deny(actor, ticket, "approval_expired", {})
                count += 1
    return count


def require_ready(actor: Actor, facts: Facts) -> None:
    """What would pass later is not kept: halts, clearance and quotes are said, and asked again."""
    state = trading.worst_state(facts.account, facts.bot_id)
    trading.require_open(state, reduce_only=False, by_person=actor.is_person)
    require_live(facts.account)
    age = facts.market.age_seconds
    if age is None or age > facts.bounds.quote_age_max_seconds or facts.market.mid is None:
        raise QuoteMissing(symbol=facts.instrument.symbol, age_seconds=plain(age))
    require_figures(facts.account, facts.bounds)


def bot_of(actor: Actor) -> UUID | None:
    return actor.id if actor.is_bot else None


def _propose(actor: Actor, account: Account, proposal: Wanted) -> Ticket:
    facts = gather(account, proposal.symbol, bot_of(actor))
    require_ready(actor, facts)
    if proposal.group:
        require_group(proposal.group, proposal.legs, facts.market.mid)
    ticket, order = build(actor, facts, proposal)
    checks = check_order(facts, *ticket.legs, group=ticket.group)
    refusals = risk.failed(checks)
    seen = as_seen(facts, order, checks, ticket)
    with transaction.atomic(durable=True):
        judged = None if refusals else judging.judge(ticket, order, facts)
        if refusals:
            ticket.refusal_code = RiskRefused.code
            ticket.refusal = {"checks": [check.as_json() for check in refusals]}
        elif judged is not None:
            judged.mark(ticket)
            if judged.needs.outcome == policy.REFUSE:
                ticket.refusal_code, ticket.refusal = PolicyRefused.code, judged.refusal()
            elif judged.needs.outcome == policy.PEOPLE:
                ticket.request = ask_people(actor, ticket, facts, order, seen, judged)
        if ticket.refusal_code:
            ticket.status, ticket.ended_at = TicketStatus.DENIED, Now()
            for leg in ticket.legs:
                leg.status = OrderStatus.CANCELED
        insert(actor, ticket, "ticket.denied" if ticket.refusal_code else "ticket.proposed")
        if judged is not None and judged.needs.outcome in {policy.ALLOW, policy.MANDATE}:
            judging.allow(actor, ticket, judged, seen | {"policy": judged.as_facts()})
            notify_orders()
        breaches.halt_repeating(ticket, refusals)
    return ticket


def _decide(
    actor: Actor,
    ticket_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str,
    assertion: dict[str, Any] | None,
    is_confirmed: bool,
    conditions: dict[str, str],
) -> Ticket:
    ticket = _ASKED.first(ticket=ticket_id)
    if ticket is None or ticket.request_id is None:
        raise NotFound(ticket_id=str(ticket_id))
    request = ticket.request = signing.decide(
        actor=actor,
        request_id=ticket.request_id,
        digest=digest,
        is_yes=is_yes,
        reason=reason,
        conditions=conditions,
        assertion=assertion,
        is_live=trading.must_be_signed(ticket.account),
    )
    if is_yes:
        require_known(ticket, is_confirmed=is_confirmed)
        _require_why(ticket, conditions, reason)
        overrides.require_first(request, actor.id)
    if request.status == DecisionStatus.REJECTED:
        deny(actor, ticket, "rejected_by_person", {"reason": reason.strip()[:500]})
    elif request.status == DecisionStatus.APPROVED:
        transition(
            ticket, TicketStatus.ALLOWED, moves=TICKET, actor=actor, event="ticket.allowed", allowed_at=Now()
        )
        overrides.tell_approved(request)
        notify_orders()
    return ticket


def _conditions(drift_percent: Decimal | None) -> dict[str, str]:
    if drift_percent is None:
        return {}
    if not drift_percent.is_finite() or not 0 < drift_percent <= risk.DRIFT_PERCENT_MAX:
        raise BadInput(
            "The price may drift by more than nought and at most the cap.", cap=str(risk.DRIFT_PERCENT_MAX)
        )
    return {"drift_percent": plain(drift_percent) or ""}


def _require_why(ticket: Ticket, conditions: dict[str, str], reason: str) -> None:
    """Whoever lets the price of one ticket drift further than its limit says why (gates.md §2, override)."""
    drift = conditions.get("drift_percent")
    if drift is None or reason.strip():
        return
    limit = applying(ticket.account, ticket.bot_id).bounds.drift_percent
    if Decimal(drift) > limit:
        raise ReasonRequired("Say why the price may drift further than the limit.", limit=plain(limit))


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
