"""Making a half-taken group safe, once every order of it is known: orders/groups/verdicts.py says how.

The watching needs no session: cancels and pages go out without one. What is sent again is an attempt of the same
approval, under its own client order id, for no more than is open.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from django.utils import timezone

from audit.services import record
from brokers.base import Broker, Side
from brokers.models import BrokerInstrument, Login, Report
from brokers.reports import parse
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given
from cerbero.lifecycle import transition
from orders import services
from orders.canonical import MORE_TERMS, TERMS, client_order_id, plain
from orders.closing import closable, positions_now
from orders.facts import gather_for
from orders.groups import wire
from orders.groups.verdicts import LINGER, Verdict, guard_of, may_be_oversized, open_quantity, verdict
from orders.holding import hold_back
from orders.lifecycle import (
    ATTEMPT,
    ORDER,
    TICKET,
    WORKING,
    AttemptStatus,
    GroupState,
    OrderStatus,
    TicketStatus,
)
from orders.locks import locked
from orders.models import TICKET_ROWS, Attempt, HaltedOrder, Order, Position, Ticket
from orders.notices.alerting import alert
from orders.presentation import number, sentence
from orders.recheck import Denied, Waits, look_at_completion, may_pass
from orders.submission import Hold, send
from orders.tickets import terms_of, told
from orders.trading import worst_state

_UNSETTLED = (AttemptStatus.PREPARED, AttemptStatus.SENT, AttemptStatus.IN_DOUBT)
_WATCHED = Compiled(
    lambda: (
        Ticket.objects.filter(
            account__login=Given("login"), status__in=[TicketStatus.SENT, TicketStatus.DONE]
        )
        .exclude(group="")
        .exclude(group_state=GroupState.SETTLED)
        .annotate(is_unsettled=Exists(Attempt.objects.filter(ticket=OuterRef("pk"), status__in=_UNSETTLED)))
        .select_related(*TICKET_ROWS)
    )
)


def watch(actor: Actor, login: Login) -> list[Ticket]:
    """Look at every group of a login that is not over: cancel, tell, and return those of which an exit must be sent again."""
    lacking: list[Ticket] = []
    for ticket in _WATCHED.rows(login=login.pk):
        if ticket.is_unsettled:
            _say_while_in_doubt(ticket)
            continue
        found = _judge(actor, ticket)
        for order in found.cancel:
            _cancel(actor, order)
        if found.complete is not None:
            lacking.append(ticket)
    return lacking


def complete(*, actor: Actor, ticket: Ticket, broker: Broker, hold: Hold) -> None:
    """Send the exit again that the broker did not take, or took away, alone and for no more than the broker holds.

    Raises PositionUnknown, and LeaseLost when this process may no longer send.
    """
    if not may_pass(ticket, worst_state(ticket.account, ticket.bot_id), completes=True):
        hold_back(actor, ticket, "trading_halted")
        return
    held = positions_now(broker, ticket.account)
    with transaction.atomic(durable=True):
        state, fresh = locked(ticket, hold)
        orders = list(fresh.orders.select_related("instrument"))
        guard = verdict(fresh.group, orders, timezone.now()).complete
        if guard is None or fresh.attempts.filter(status__in=_UNSETTLED).exists():
            return
        size = min(guard.quantity, open_quantity(orders))
        try:
            _look_at_wish(guard)
            look_at_completion(fresh, state)
            size = _covered(fresh, guard, size, held)
            if size <= 0:
                raise Waits("position_changed")
        except Waits as wait:
            hold_back(actor, fresh, wait.code)
            return
        except Denied as refusal:
            _enter(actor, fresh, Verdict(GroupState.NAKED, says=_cannot(refusal.code), is_urgent=True))
            return
        attempt, order = _write(actor, fresh, guard, size, hold)
    send(actor, attempt, [terms_of(order, _broker_instrument_id(order))], broker, hold)


def resume(*, actor: Actor, attempt: Attempt, broker: Broker, hold: Hold) -> None:
    """Try again what certainly did not leave, by the same attempt, while it is still what is open."""
    held = positions_now(broker, attempt.ticket.account)
    with transaction.atomic(durable=True):
        state, fresh = locked(attempt.ticket, hold)
        attempt.ticket = fresh
        order = attempt.carried.select_related("instrument", "completes").get()
        try:
            if order.status != OrderStatus.SUBMITTED or order.quantity > open_quantity(
                list(fresh.orders.all())
            ):
                raise Denied("position_changed")
            if order.completes is None or _kept(order) != _kept(order.completes):
                raise Denied("terms_changed")
            look_at_completion(fresh, state)
            if _covered(fresh, order, order.quantity, held) < order.quantity:
                raise Denied("position_changed")
        except Waits as wait:
            hold_back(actor, fresh, wait.code)
            return
        except Denied as refusal:
            _give_up(actor, attempt, order, refusal.code)
            return
        Attempt.objects.filter(pk=attempt.pk).update(fence=hold.fence)
    send(actor, attempt, [terms_of(order, _broker_instrument_id(order))], broker, hold)


def _judge(actor: Actor, ticket: Ticket) -> Verdict:
    with transaction.atomic(durable=True):
        locked = Ticket.objects.select_for_update(of=("self",)).get(pk=ticket.pk)
        orders = list(locked.orders.select_related("instrument", "ticket__account__login"))
        found = verdict(locked.group, orders, timezone.now())
        if found.state == GroupState.COMPLETING and locked.group_state == GroupState.NAKED:
            # Kept back for good: said once, and tried no more.
            found = Verdict(GroupState.NAKED)
        if _is_closed(locked, orders, found):
            found = Verdict(GroupState.SETTLED)
        _enter(actor, locked, found)
        for order in may_be_oversized(locked.group, orders, timezone.now()):
            _say_oversized(locked, order, next(each for each in orders if each.number == 1))
        asked = tuple(order for order in found.cancel if _ask(actor, order))
    return Verdict(found.state, asked, found.complete, found.says, found.is_urgent)


def _enter(actor: Actor, ticket: Ticket, found: Verdict) -> None:
    """The new state and its words, once. In the caller's transaction."""
    if found.state != ticket.group_state:
        Ticket.objects.filter(pk=ticket.pk).update(group_state=found.state)
        details = {"from": ticket.group_state, "to": found.state, "says": found.says}
        record("group.moved", actor=actor, subject_kind="ticket", subject_id=ticket.pk, details=details)
        ticket.group_state = found.state
    if found.says:
        _tell(ticket, f"{found.state}:{found.says[:20]}", found.says, is_urgent=found.is_urgent)


def _say_oversized(ticket: Ticket, order: Order, entry: Order) -> None:
    """By the newest that the broker said of it. People amend it, or cancel it."""
    rows = Report.objects.filter(
        login=ticket.account.login, kind=Report.Kind.ORDER, subject=order.broker_order_id
    )
    newest = rows.order_by("-id").first()
    total = getattr(parse(newest), "total_quantity", None) if newest is not None else None
    if total is None or total <= entry.filled_quantity:
        return
    alert(
        f"oversized:{order.pk}:{total}",
        f"An exit is larger than what its entry opened: {sentence(order)} on {ticket.account}",
        f"Only {number(entry.filled_quantity)} are open: it would open the other way. Amend it to that, or cancel it.",
        path=f"/admin/orders/order/{order.pk}/change/",
        is_urgent=True,
    )


def _tell(ticket: Ticket, key: str, says: str, *, is_urgent: bool) -> None:
    title = "Naked position" if "NAKED" in says else f"Half of this {ticket.group} was taken"
    alert(
        f"group:{ticket.pk}:{key}",
        f"{title}: {told(ticket)} on {ticket.account}",
        says,
        path=f"/admin/orders/order/{ticket.first_order.pk}/change/",
        is_urgent=is_urgent,
    )


def _say_while_in_doubt(ticket: Ticket) -> None:
    """The entry fills while it is not known whether its exit arrived: that is being asked, and is said at once."""
    if ticket.group not in {"bracket", "oto"} or not ticket.first_order.filled_quantity:
        return
    guard = guard_of(ticket.group, ticket.legs)
    if guard.status == OrderStatus.SUBMITTED and not guard.broker_order_id:
        says = "The entry fills, and whether its exit arrived is not known yet: perhaps NAKED. The broker is being asked."
        _tell(ticket, "doubt", says, is_urgent=True)


def _is_closed(ticket: Ticket, orders: list[Order], found: Verdict) -> bool:
    """Whether the broker, asked since, holds nothing on the entry's side any more. A fill of just now it may not show yet."""
    if found.cancel or found.state not in {GroupState.NAKED, GroupState.COMPLETING}:
        return False
    entry = ticket.first_order
    balance = getattr(ticket.account, "balance", None)
    last = _last_word(orders)
    grace = LINGER if found.complete is not None else timedelta(0)
    if balance is None or last is None or balance.as_of <= last + grace:
        return False
    rows = Position.objects.filter(account=ticket.account, instrument=entry.instrument_id)
    held = sum((row.quantity for row in rows), start=0 * entry.quantity)
    return held <= 0 if entry.side == "buy" else held >= 0


def _last_word(orders: Sequence[Order]) -> datetime | None:
    return max((each.reported_at for each in orders if each.reported_at is not None), default=None)


def _look_at_wish(guard: Order) -> None:
    """What a halt set out to cancel is not put back, though it went with its entry before its turn came."""
    if HaltedOrder.objects.filter(
        order=guard, action=HaltedOrder.Action.CANCEL, halt__is_drill=False
    ).exists():
        raise Denied("canceled_before_sending")


def _covered(ticket: Ticket, exit_: Order, size: Decimal, held: dict[str, Decimal]) -> Decimal:
    """As much of `size` as the broker's position leaves to other exits: it may have been closed by other ways meanwhile.

    Raises Waits where it holds less than a fill of just now should have made it.
    """
    facts = gather_for(ticket.account, exit_)
    position = held.get(facts.broker_instrument_id, Decimal(0))
    left = Decimal(0)
    if position and (position > 0) == (exit_.side == Side.SELL):
        left = min(size, closable(ticket.account, facts, position, but=ticket.pk))
    last = _last_word(list(ticket.orders.all()))
    if left < size and last is not None and timezone.now() - last < LINGER:
        raise Waits("position_changed")
    return left


def _ask(actor: Actor, order: Order) -> bool:
    """Ask once; orders/loop.py asks again for what goes on working. In the caller's transaction."""
    rows = Order.objects.filter(pk=order.pk, cancel_requested_at=None)
    if rows.update(cancel_requested_at=Now()) != 1:
        return False
    details = {"why": "group"}
    record("cancel.requested", actor=actor, subject_kind="order", subject_id=order.pk, details=details)
    if order.status in WORKING - {OrderStatus.PENDING_CANCEL}:
        transition(order, OrderStatus.PENDING_CANCEL, moves=ORDER, actor=actor, event="order.cancel_pending")
    return True


def _cancel(actor: Actor, order: Order) -> None:
    if order.broker_order_id:
        services.send_cancel(actor, order)


def _kept(order: Order) -> dict[str, Any]:
    """The terms that an exit sent again has from the one it stands for; its size is what is open."""
    return {name: getattr(order, name) for name in (*TERMS, *MORE_TERMS) if name != "quantity"}


def _write(actor: Actor, ticket: Ticket, guard: Order, size: Decimal, hold: Hold) -> tuple[Attempt, Order]:
    """The exit once more with its approved terms, as an attempt of the same approval. In the caller's transaction."""
    if ticket.status == TicketStatus.DONE:
        transition(
            ticket, TicketStatus.SENT, moves=TICKET, actor=actor, event="ticket.revived", ended_at=None
        )
    order = Order(
        ticket=ticket,
        number=ticket.orders.count() + 1,
        completes=guard,
        instrument=guard.instrument,
        quantity=size,
        reference_price=guard.reference_price,
        **_kept(guard),
    )
    order.save(force_insert=True)
    number = ticket.attempts.count() + 1
    own = client_order_id(ticket, number)
    attempt = Attempt(
        ticket=ticket, number=number, client_order_id=own, digest=ticket.digest, fence=hold.fence
    )
    attempt.save(force_insert=True)
    wire.enter_legs(attempt, [order])
    Ticket.objects.filter(pk=ticket.pk).exclude(held_for="").update(held_for="")
    details = {"client_order_id": own, "ticket": str(ticket.pk), "completes": str(guard.pk)}
    details["quantity"] = plain(order.quantity) or ""
    record("attempt.prepared", actor=actor, subject_kind="attempt", subject_id=attempt.pk, details=details)
    transition(order, OrderStatus.SUBMITTED, moves=ORDER, actor=actor, event="order.submitted")
    return attempt, order


def _give_up(actor: Actor, attempt: Attempt, order: Order, code: str) -> None:
    """It never left and may not leave any more; the next look says what that makes of the group."""
    outcome = {"why": code, "sent": False}
    transition(
        attempt,
        AttemptStatus.SETTLED,
        moves=ATTEMPT,
        actor=actor,
        event="attempt.settled",
        outcome=outcome,
        settled_at=Now(),
    )
    if order.status == OrderStatus.SUBMITTED:
        transition(order, OrderStatus.CANCELED, moves=ORDER, actor=actor, event="order.not_sent", text=code)


def _broker_instrument_id(order: Order) -> str:
    broker = order.ticket.account.login.broker
    rows = BrokerInstrument.objects.filter(instrument=order.instrument, broker=broker)
    return rows.values_list("broker_instrument_id", flat=True).get()


def _cannot(code: str) -> str:
    return f"NAKED: the exit cannot be sent again ({code}). Close the position, or protect it anew."
