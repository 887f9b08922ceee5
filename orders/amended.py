"""Old terms and new: what an amendment changes, and which of the two the broker's own row proves.

An amendment in doubt is never sent again. The broker is asked for the order: it works on the new terms, or on the
old ones more than once over a grace.
"""

import copy
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from brokers.base import Broker, BrokerOrderState, OrderReport, Side
from brokers.models import Account, Report
from brokers.reports import record_reports
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given
from cerbero.errors import BrokerError
from cerbero.lifecycle import transition
from orders.groups.relations import ENTRY, role
from orders.lifecycle import AMENDMENT, ATTEMPT, AttemptStatus, Group, TicketStatus
from orders.models import Amendment, ChangeAttempt, Inquiry, Order

TERMS = ("quantity", "limit_price", "stop_price")
# What the broker's own row calls them.
_THEIRS = {"quantity": "total_quantity", "limit_price": "limit_price", "stop_price": "stop_price"}
AT_WORK = {BrokerOrderState.ACCEPTED, None}
IN_THE_AIR = (AttemptStatus.SENT, AttemptStatus.IN_DOUBT)

# Asked for often enough and found on the old terms.
OVER = "over"

_FLYING = Compiled(
    lambda: (
        ChangeAttempt.objects.select_related("amendment")
        .filter(order=Given("order"), kind="amend", status__in=IN_THE_AIR)
        .order_by("pk")
    )
)
_LAST = Compiled(
    lambda: Amendment.objects.filter(order=Given("order"), status=TicketStatus.DONE).order_by("-ended_at")[:1]
)

Terms = dict[str, Decimal | None]


def terms(amendment: Amendment) -> Terms:
    return {name: getattr(amendment, name) for name in TERMS}


def was(amendment: Amendment) -> Terms:
    return {name: getattr(amendment, f"was_{name}") for name in TERMS}


def amended(order: Order, wanted: Terms) -> Order:
    """The order as it would be, in the place that it has in its group: a copy that is never saved."""
    changed = copy.copy(order)
    changed.number = place_of(order)
    for name, value in wanted.items():
        setattr(changed, name, value)
    return changed


def place_of(order: Order) -> int:
    """Its number in its group; what was sent again has that of what it stands for."""
    return order.completes.number if order.completes is not None else order.number


def as_approved(order: Order) -> Order:
    """The order on the terms that its ticket was approved with: those before the first amendment that the broker took."""
    first = order.amendments.filter(status=TicketStatus.DONE).order_by("ended_at").first()
    return amended(order, was(first)) if first is not None else order


def is_tighter(order: Order, before: Terms, wanted: Terms) -> bool:
    """Whether it passes under the first approval. Less of an exit, or further away, protects less: people are asked."""
    return role(order.ticket.group, place_of(order)) in {"", ENTRY} and tightens(order.side, before, wanted)


def tightens(side: str, before: Terms, wanted: Terms) -> bool:
    """Nothing grows, and the limit moves away from the market; another trigger is another order (gates.md §8)."""
    if wanted["stop_price"] != before["stop_price"] or not _at_most(wanted["quantity"], before["quantity"]):
        return False
    if side == Side.BUY:
        return _at_most(wanted["limit_price"], before["limit_price"])
    return _at_most(before["limit_price"], wanted["limit_price"])


def has(fact: OrderReport, wanted: Terms, names: Any = TERMS) -> bool:
    """Whether the broker's row shows these terms; what it does not show proves nothing."""
    return all(
        getattr(fact, _THEIRS[name]) == wanted[name] for name in names if wanted[name] is not None
    ) and any(wanted[name] is not None for name in names)


def most(order: Order) -> Decimal:
    """The largest total that may be at the broker: an amendment in the air may have been taken."""
    flying = _flying(order)
    return max(order.quantity, flying.amendment.quantity) if flying and flying.amendment else order.quantity


def hear(actor: Actor, order: Order, fact: OrderReport, as_of: datetime) -> bool:
    """Whether an amendment explains the terms of this report; one in doubt that they prove is settled.

    Runs in the reducer's transaction, with the order locked; `order` carries its new terms afterwards.
    """
    row = _flying(order)
    if row is not None and row.amendment is not None:
        differ = _differing(row.amendment)
        if has(fact, terms(row.amendment), differ):
            if row.status == AttemptStatus.IN_DOUBT:
                taken(actor, row, order, found="report")
            return True
        return has(fact, was(row.amendment), differ)
    last = _LAST.first(order=order.pk)
    # Read before the broker took the new terms.
    return last is not None and last.ended_at is not None and as_of < last.ended_at


def taken(actor: Actor, row: ChangeAttempt, order: Order, **more: Any) -> None:
    """The broker works on the new terms: they are the order's now. In the caller's transaction."""
    amendment = row.amendment
    if amendment is None:
        raise ValueError("a cancel amends nothing")
    is_answer = row.status == AttemptStatus.SENT
    Order.objects.filter(pk=order.pk).update(**terms(amendment))
    for name, value in terms(amendment).items():
        setattr(order, name, value)
    _revalue(order, amendment)
    outcome = row.outcome | {"taken": True, **more}
    when: dict[str, Any] = {"answered_at": Now()} if is_answer else {"settled_at": Now()}
    to = AttemptStatus.ANSWERED if is_answer else AttemptStatus.SETTLED
    event = "amend.answered" if is_answer else "amend.settled"
    transition(row, to, moves=ATTEMPT, actor=actor, event=event, outcome=outcome, **when)
    told = {name: str(value) for name, value in terms(amendment).items() if value is not None}
    transition(
        amendment,
        TicketStatus.DONE,
        moves=AMENDMENT,
        actor=actor,
        event="amendment.taken",
        details={"order": str(order.pk), **told},
        ended_at=Now(),
    )


def _revalue(order: Order, amendment: Amendment) -> None:
    """Limits count a ticket's value by unit (orders/limit_statements.py): it follows the size, and a price only upward."""
    ticket = order.ticket
    if place_of(order) > 1 and ticket.group != Group.OCO:
        return
    before, after = was(amendment), terms(amendment)
    prices = [each["limit_price"] or each["stop_price"] for each in (before, after)]
    dearer = max(Decimal(1), prices[1] / prices[0]) if prices[0] and prices[1] else Decimal(1)
    larger = amendment.quantity / amendment.was_quantity
    type(ticket).objects.filter(pk=ticket.pk).update(notional=F("notional") * larger * dearer)


def not_taken(actor: Actor, row: ChangeAttempt, code: str, **details: Any) -> None:
    """It ended without the new terms; the order keeps its own. In the caller's transaction."""
    settle_unheard(actor, row, **details)
    if row.amendment is not None:
        deny(actor, row.amendment, code, **details)


def settle_unheard(actor: Actor, row: ChangeAttempt, **details: Any) -> None:
    """It was not taken, as far as asking can tell or as a person says. In the caller's transaction."""
    transition(
        row,
        AttemptStatus.SETTLED,
        moves=ATTEMPT,
        actor=actor,
        event="amend.settled",
        outcome=row.outcome | {"taken": False, **details},
        settled_at=Now(),
    )


def deny(actor: Actor, amendment: Amendment, code: str, **details: Any) -> None:
    """Refuse it; the order stays as it is. In the caller's transaction."""
    transition(
        amendment,
        TicketStatus.DENIED,
        moves=AMENDMENT,
        actor=actor,
        event="amendment.denied",
        details={"code": code},
        refusal_code=code,
        refusal=details,
        ended_at=Now(),
    )


def ask_about(actor: Actor, row: ChangeAttempt, broker: Broker, grace: timedelta, times: int) -> str:
    """Ask for the order of an amendment in doubt, keep the asking, and say what it proves: an Inquiry.Result."""
    asked_at = timezone.now()
    try:
        fact = broker.order(row.broker_order_id)
    except BrokerError as problem:
        _keep(row, asked_at, Inquiry.Result.FAILED, problem.code, had_session=False)
        return Inquiry.Result.FAILED
    result = proves(row, fact)
    words = "" if fact is None else f"{fact.state or ''} {fact.filled_quantity or 0} of {fact.total_quantity}"
    _keep(row, asked_at, result, words.strip())
    if fact is not None and row.order is not None:
        record_reports(row.account.login, Report.Source.POLL, [(fact, None)], as_of=asked_at)
    if result == Inquiry.Result.FOUND:
        with transaction.atomic(durable=True):
            order = locked_order(row)
            row.refresh_from_db()
            if row.status == AttemptStatus.IN_DOUBT:
                taken(actor, row, order, found="order status")
    elif result == Inquiry.Result.ABSENT:
        ChangeAttempt.objects.filter(pk=row.pk).update(absent_count=F("absent_count") + 1, absent_at=asked_at)
        row.refresh_from_db(fields=["absent_count"])
        waited = row.sent_at is not None and asked_at - row.sent_at >= grace
        ended = fact is not None and fact.state not in AT_WORK
        if ended or (waited and row.absent_count >= times):
            return OVER
    return result


def in_doubt(account: Account) -> Any:
    rows = ChangeAttempt.objects.filter(account=account, status=AttemptStatus.IN_DOUBT, kind="amend")
    return rows.select_related("order__ticket__account__login", "account__login", "amendment__request")


def locked_order(row: ChangeAttempt) -> Order:
    return Order.objects.select_for_update().get(changes=row)


def proves(row: ChangeAttempt, fact: OrderReport | None) -> str:
    """Whether the broker's row shows the new terms or the old ones: an Inquiry.Result."""
    if fact is None or row.amendment is None:
        return Inquiry.Result.UNCLEAR
    differ = _differing(row.amendment)
    if has(fact, terms(row.amendment), differ):
        return Inquiry.Result.FOUND
    return Inquiry.Result.ABSENT if has(fact, was(row.amendment), differ) else Inquiry.Result.UNCLEAR


def _keep(row: ChangeAttempt, at: datetime, result: str, text: str, *, had_session: bool = True) -> None:
    inquiry = Inquiry(change=row, asked_at=at, looked_in="order status", result=result, text=text[:300])
    inquiry.had_session = had_session
    inquiry.save(force_insert=True)


def _differing(amendment: Amendment) -> list[str]:
    return [name for name in TERMS if terms(amendment)[name] != was(amendment)[name]]


def _flying(order: Order) -> ChangeAttempt | None:
    return _FLYING.first(order=order.pk)


def _at_most(value: Decimal | None, bound: Decimal | None) -> bool:
    return value == bound if value is None or bound is None else value <= bound
