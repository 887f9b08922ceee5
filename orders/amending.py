"""Other terms for an order that works: asked for, decided, and put in the queue of the orders process.

Bound to the terms and the fill that the broker names at that moment. What only tightens passes under the first
approval; anything else is asked of people anew (gates.md §8).
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.base import OrderReport, OrderType
from brokers.reports import notify_orders
from brokers.services import broker_for
from cerbero import decisions, proofs
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Compiled
from cerbero.errors import BadInput, ImpossibleOrder, NotFound, OrderMoved, RiskRefused, StateConflict
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import profile, signing
from orders import amended, judging, risk, services, trading
from orders.amended import Terms
from orders.canonical import decision_digest, digest_of, plain
from orders.facts import as_seen, check_sending, gather_for
from orders.groups import amends
from orders.groups.wire import closes
from orders.lifecycle import AMENDMENT, OrderStatus, TicketStatus
from orders.models import Amendment, Order
from orders.order_types import FORMS
from orders.presentation import number, price, sentence
from orders.tickets import decided_on_record

KIND = "amendment"
OPEN = (TicketStatus.PROPOSED, TicketStatus.ALLOWED, TicketStatus.SENT)
AMENDABLE = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
# What passes without people has no approval that would expire.
TIGHTENING_WAITS = timedelta(seconds=60)
_UNSENT = Compiled(lambda: Amendment.objects.filter(status__in=OPEN[:2]).values_list("pk", flat=True))


def amend_order(
    *,
    actor: Actor,
    order_id: UUID,
    quantity: Decimal | None = None,
    quantity_is: Literal["total", "remaining"] | None = None,
    limit_price: Decimal | None = None,
    stop_price: Decimal | None = None,
    reason: str = "",
) -> Amendment:
    """Ask for other terms of a working order; what is not named stays. A repetition returns the open one.

    `quantity_is` says whether `quantity` counts what is filled already. Raises NotFound, BadInput, StateConflict,
    OrderMoved (the broker's terms are not ours), GroupImpossible (what it belongs to), RiskRefused, PolicyRefused, TradingHalted, or BrokerError.
    """
    actor.require_session()
    if actor.is_person:
        trading.require_permission(actor, "orders.propose_ticket")
    order = _order(actor, order_id)
    with broker_for(order.ticket.account.login) as broker:
        row = broker.order(order.broker_order_id)
    if row is None or not amended.has(row, _terms(order)):
        raise OrderMoved(order_id=str(order.pk), ours=_told(_terms(order)))
    filled = row.filled_quantity or Decimal(0)
    wanted = _wanted(order, filled, quantity, quantity_is, limit_price, stop_price)
    waiting = order.amendments.filter(status__in=OPEN).first()
    if waiting is not None:
        if amended.terms(waiting) == wanted:
            return waiting
        raise StateConflict("Another amendment of this order is open; wait for it, or cancel the order.")
    amends.require_fits(order, wanted)
    return _propose(actor, order, row, wanted, reason)


def decide_amendment(
    *,
    actor: Actor,
    amendment_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> Amendment:
    """One person's yes or no to an amendment. Raises as `decisions.decide` does; live ones are signed."""
    with decided_on_record(actor, amendment_id, is_yes=is_yes):
        trading.require_permission(actor, "orders.decide_ticket")
        with transaction.atomic(durable=True):
            amendment = Amendment.objects.select_for_update(of=("self",)).filter(pk=amendment_id).first()
            if amendment is None or amendment.request_id is None:
                raise NotFound(amendment_id=str(amendment_id))
            request = signing.decide(
                actor=actor,
                request_id=amendment.request_id,
                digest=digest,
                is_yes=is_yes,
                reason=reason,
                assertion=assertion,
                is_live=trading.must_be_signed(amendment.order.ticket.account),
            )
            if request.status == DecisionStatus.REJECTED:
                amended.deny(actor, amendment, "rejected_by_person", reason=reason.strip()[:500])
            elif request.status == DecisionStatus.APPROVED:
                _allow(actor, amendment)
    return amendment


def ask_signature(*, actor: Actor, amendment_id: UUID, digest: str) -> dict[str, Any]:
    """What a passkey is to sign for a yes to this amendment. Raises as cerbero.people.signing.ask does."""
    actor.require_session()
    trading.require_permission(actor, "orders.decide_ticket")
    amendment = Amendment.objects.filter(pk=amendment_id).exclude(request=None).first()
    if amendment is None or amendment.request_id is None:
        raise NotFound(amendment_id=str(amendment_id))
    is_live = trading.must_be_signed(amendment.order.ticket.account)
    with transaction.atomic(durable=True):
        return signing.ask(actor=actor, request_id=amendment.request_id, digest=digest, is_live=is_live)


def ask_people(
    actor: Actor, amendment: Amendment, order: Order, questions: list[dict[str, Any]] | None = None
) -> DecisionRequest:
    """Open its question, with the market as it is now. Raises PolicyRefused or PolicyUnreadable."""
    ticket = order.ticket
    changed = amended.amended(order, amended.terms(amendment))
    facts = gather_for(ticket.account, order)
    checks = check_sending(facts, changed, group=ticket.group)
    seen = as_seen(facts, changed, checks) | {"amendment": facts_of(amendment)}
    if questions:
        seen |= {"questions": questions, "asked_again": "broker_asked"}
    judged = judging.who_decides(ticket, changed, facts)
    excluded = {*(profile.excluded_by(ticket.request) if ticket.request else ()), amendment.person_id}
    excluded |= {ticket.bot.owner_id} if ticket.bot else {ticket.person_id}
    return decisions.ask(
        actor=actor,
        subject_kind=KIND,
        subject_id=amendment.pk,
        summary=said(amendment, order),
        digest=decision_digest(amendment.digest, seen),
        facts=seen | {"policy": judged.as_facts()},
        quorum=judged.needs.quorum,
        group=judged.needs.group,
        seconds=judging.seconds_to_decide(ticket, changed, judged.needs),
        excluded_user_ids=sorted(each for each in excluded if each is not None),
    )


def expire_overdue(*, actor: Actor) -> None:
    """End amendments that nobody decided on or sent in time, and those of orders that ended or are canceled."""
    for pk in _UNSENT.rows():
        with transaction.atomic(durable=True):
            row = Amendment.objects.select_for_update(of=("self",)).get(pk=pk)
            if row.status not in OPEN[:2]:
                continue
            code = _why_over(row)
            if not code:
                continue
            if row.request is not None:
                decisions.withdraw(row.request, actor=actor)
            amended.deny(actor, row, code)


def digest_for(amendment: Amendment, order: Order) -> str:
    """SHA-256 over the order, the terms and the fill that it is bound to, and the terms that it asks for."""
    return digest_of(
        {
            "amendment": str(amendment.pk),
            "order": str(order.pk),
            "ticket": order.ticket.digest,
            "broker_order_id": order.broker_order_id,
            "tightens": amendment.tightens,
            **facts_of(amendment),
        }
    )


def proof_of(amendment: Amendment) -> str:
    return proofs.of_body(KIND, _body(amendment))


def is_ours(amendment: Amendment) -> bool:
    """Whether this program made it: what only tightens has no approval that would prove it."""
    return proofs.holds_body(KIND, _body(amendment), amendment.proof)


def facts_of(amendment: Amendment) -> dict[str, Any]:
    """Total and remaining by name; decimals as text."""
    remaining = amendment.quantity - amendment.filled_quantity
    return {
        "was": _told(amended.was(amendment)),
        "terms": _told(amended.terms(amendment)),
        "filled": plain(amendment.filled_quantity),
        "remaining": plain(remaining),
    }


def said(amendment: Amendment, order: Order) -> str:
    """As people read it: `Amend Buy 10 AAPL limit 190.00 day: total 10 → 12 (2 filled, 10 remain)`."""
    step = order.instrument.price_increment
    before, after = amended.was(amendment), amended.terms(amendment)
    changes = []
    if before["quantity"] != after["quantity"]:
        left = amendment.quantity - amendment.filled_quantity
        changes.append(
            f"total {number(before['quantity'])} → {number(after['quantity'])} "
            f"({number(amendment.filled_quantity)} filled, {number(left)} remain)"
        )
    for name, word in (("limit_price", "limit"), ("stop_price", "stop")):
        if before[name] != after[name]:
            changes.append(f"{word} {price(before[name], step)} → {price(after[name], step)}")
    was = amended.amended(order, before)
    return f"Amend {sentence(was)}: {', '.join(changes)}"


def _order(actor: Actor, order_id: UUID) -> Order:
    rows = services.visible_orders(actor).select_related(
        "instrument", "ticket__account__login", "ticket__account__limits", "ticket__bot", "ticket__request"
    )
    order = rows.filter(pk=order_id).first()
    if order is None:
        raise NotFound(order_id=str(order_id))
    if order.status not in AMENDABLE or not order.broker_order_id or order.cancel_requested_at is not None:
        raise StateConflict(
            "Only an order that works, and is not being canceled, is amended.", status=order.status
        )
    if FORMS[OrderType(order.order_type)].moves:
        raise ImpossibleOrder(
            "The broker moves a trailing order's prices with the market: cancel it and place another."
        )
    return order


def _wanted(
    order: Order,
    filled: Decimal,
    quantity: Decimal | None,
    quantity_is: str | None,
    limit_price: Decimal | None,
    stop_price: Decimal | None,
) -> Terms:
    if (quantity is None) != (quantity_is is None):
        raise BadInput("Say with a quantity whether it is total or remaining.", quantity_is=quantity_is)
    before = _terms(order)
    wanted = dict(before)
    if quantity is not None:
        wanted["quantity"] = quantity + filled if quantity_is == "remaining" else quantity
    for name, value in (("limit_price", limit_price), ("stop_price", stop_price)):
        if value is not None and before[name] is None:
            raise BadInput(
                "An order of this type has no such price.", price=name, order_type=order.order_type
            )
        wanted[name] = value if value is not None else before[name]
    if wanted == before:
        raise BadInput("This changes nothing.")
    total = wanted["quantity"]
    if total is None or total <= filled:
        raise BadInput("Nothing would be left to fill: cancel the order.", filled=plain(filled))
    return wanted


def _propose(actor: Actor, order: Order, row: OrderReport, wanted: Terms, reason: str) -> Amendment:
    ticket = order.ticket
    before = _terms(order)
    is_tighter = amended.is_tighter(order, before, wanted)
    if ticket.reduce_only and not is_tighter:
        raise BadInput("A close is amended downward only; close more by another close.")
    _check(actor, order, wanted, is_tighter)
    amendment = Amendment(
        order=order,
        bot_id=actor.id if actor.is_bot else None,
        person_id=actor.id if user_of(actor) else None,
        filled_quantity=row.filled_quantity or Decimal(0),
        tightens=is_tighter,
        reason=reason[:500],
        **wanted,
        **{f"was_{name}": value for name, value in before.items()},
    )
    amendment.digest = digest_for(amendment, order)
    amendment.proof = proof_of(amendment)
    with transaction.atomic(durable=True):
        amends.hold(ticket)
        amends.require_alone(order)
        locked = Order.objects.select_for_update().get(pk=order.pk)
        if _terms(locked) != before or locked.status not in AMENDABLE or locked.cancel_requested_at:
            raise OrderMoved(order_id=str(order.pk), ours=_told(_terms(locked)))
        if not is_tighter:
            amendment.request = ask_people(actor, amendment, order)
        amendment.save(force_insert=True)
        details = {"amendment": said(amendment, order), "tightens": is_tighter, "digest": amendment.digest}
        record(
            "amendment.proposed",
            actor=actor,
            subject_kind=KIND,
            subject_id=amendment.pk,
            details=details,
        )
        if is_tighter:
            _allow(actor, amendment)
    return amendment


def _check(actor: Actor, order: Order, wanted: Terms, is_tighter: bool) -> None:
    """Limits as for a new order; what only tightens is held to the price step, a bot's rate of messages and a halt."""
    facts = gather_for(order.ticket.account, order)
    changed = amended.amended(order, wanted)
    checks = check_sending(facts, changed, group=order.ticket.group)
    if is_tighter or closes(order):
        state = trading.worst_state(order.ticket.account, order.ticket.bot_id)
        trading.require_open(state, reduce_only=True, by_person=False)
        if is_tighter:
            held = {"price_increment", "messages_per_minute_max"} if actor.is_bot else {"price_increment"}
            checks = [check for check in checks if check.code in held]
    else:
        services.require_ready(actor, facts)
    refused = risk.failed(checks)
    if refused:
        raise RiskRefused(checks=[check.as_json() for check in refused])


def _allow(actor: Actor, amendment: Amendment) -> None:
    transition(
        amendment,
        TicketStatus.ALLOWED,
        moves=AMENDMENT,
        actor=actor,
        event="amendment.allowed",
        details={"tightens": amendment.tightens},
        allowed_at=Now(),
    )
    notify_orders()


def _why_over(amendment: Amendment) -> str:
    order = amendment.order
    if order.cancel_requested_at is not None or order.status not in AMENDABLE:
        return "order_moved"
    if amendment.request_id is not None:
        return "approval_expired" if DecisionRequest.objects.overdue().filter(pk=amendment.request_id) else ""
    oldest = Now() - TIGHTENING_WAITS
    is_old = Amendment.objects.filter(pk=amendment.pk, allowed_at__lt=oldest).exists()
    return "not_sent_in_time" if is_old else ""


def _body(amendment: Amendment) -> dict[str, Any]:
    proposer = [str(amendment.bot_id or ""), str(amendment.person_id or "")]
    return {"amendment": str(amendment.pk), "digest": amendment.digest, "proposer": proposer}


def _terms(order: Order) -> Terms:
    return {name: getattr(order, name) for name in amended.TERMS}


def _told(terms: Terms) -> dict[str, str | None]:
    return {name: plain(value) for name, value in terms.items()}
