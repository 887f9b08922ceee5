"""What a person's word on a doubt is held against, and what it then does: by kind of what is in doubt.

A sending that arrived is the broker's order of that number, on these terms. An amendment or a cancel is about an order
that is known: its own row says what it can, and the person's word stands where that says nothing.
"""

from dataclasses import replace
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from brokers.base import OrderReport
from brokers.models import Report
from brokers.reports import record_reports
from brokers.services import broker_for
from cerbero.access import Actor
from cerbero.errors import BadInput, BrokerError
from orders import amend_sending, amended, amending, canceling, doubts, tickets
from orders.canceling import EVERY_ORDER, HEARD
from orders.groups import wire
from orders.lifecycle import AttemptStatus
from orders.models import Attempt, ChangeAttempt, Inquiry, Order
from orders.presentation import sentence

Doubted = Attempt | ChangeAttempt
Verdict = Literal["arrived", "never_arrived"]


def told(row: Doubted) -> str:
    """What is in doubt, as people read it."""
    if isinstance(row, Attempt):
        return tickets.told(row.ticket)
    if row.amendment is not None and row.order is not None:
        return amending.said(row.amendment, row.order)
    if row.broker_order_id == EVERY_ORDER:
        return f"Cancel every order of {row.account}"
    return f"Cancel {sentence(row.order) if row.order else row.broker_order_id}"


def known_by(row: Doubted, broker_order_id: str) -> dict[str, str]:
    """By which ids the broker knows it: facts of the question to the second person."""
    if isinstance(row, Attempt):
        return {"client_order_id": row.client_order_id, "broker_order_id": broker_order_id}
    return {"client_order_id": "", "broker_order_id": row.broker_order_id}


def read(row: Doubted, verdict: str, broker_order_id: str) -> OrderReport | None:
    """The broker's own row, where the verdict needs one. Raises BadInput where it shows something else, or BrokerError."""
    if isinstance(row, Attempt):
        if verdict == "never_arrived" and doubts.is_found(row.ticket.account, row):
            raise BadInput("The broker has told of it: it arrived.", client_order_id=row.client_order_id)
        return _sent(row, broker_order_id) if verdict == "arrived" else None
    if row.broker_order_id == EVERY_ORDER:
        return None
    try:
        with broker_for(row.account.login) as broker:
            fact = broker.order(row.broker_order_id)
    except BrokerError:
        if verdict == "arrived":
            raise
        return None
    if row.amendment is not None:
        _hold_to_terms(row, fact, verdict)
    elif verdict == "arrived" and (fact is None or fact.state not in HEARD):
        raise BadInput("The broker's order still works: the cancel was not heard, and is asked for again.")
    return fact


def arrived(actor: Actor, row: Doubted, fact: OrderReport | None, reason: str) -> None:
    """It arrived: the broker's row is reported, and does the rest as any report would. In the caller's transaction."""
    login = row.ticket.account.login if isinstance(row, Attempt) else row.account.login
    if isinstance(row, ChangeAttempt):
        by_hand = {"by": actor.name, "reason": reason}
        if row.amendment is None:
            canceling.settle(actor, row, heard=True, **by_hand)
        else:
            order = amended.locked_order(row)
            row.refresh_from_db(fields=["status", "outcome"])
            if row.status == AttemptStatus.IN_DOUBT:
                amended.taken(actor, row, order, found="order status", **by_hand)
    if fact is not None:
        record_reports(login, Report.Source.POLL, [(fact, None)], as_of=timezone.now())


def never_arrived(actor: Actor, row: Doubted, reason: str) -> None:
    """It never did: a sending is ended, an order keeps its terms, and a cancel is asked for again while the order works."""
    by_hand: dict[str, Any] = {"by": actor.name, "reason": reason}
    if isinstance(row, Attempt):
        doubts.never_arrived(actor, row, **by_hand)
    elif row.amendment is not None:
        amend_sending.over(actor, row, **by_hand)
    else:
        with transaction.atomic(durable=True):
            canceling.settle(actor, row, heard=False, **by_hand)


def _hold_to_terms(row: ChangeAttempt, fact: OrderReport | None, verdict: str) -> None:
    proven = amended.proves(row, fact)
    if verdict == "arrived" and proven != Inquiry.Result.FOUND:
        raise BadInput("The broker's order does not show the new terms.", broker_order_id=row.broker_order_id)
    if verdict == "never_arrived" and proven == Inquiry.Result.FOUND:
        raise BadInput(
            "The broker's order shows the new terms: it arrived.", broker_order_id=row.broker_order_id
        )


def _sent(attempt: Attempt, broker_order_id: str) -> OrderReport:
    """The broker's own row, which must be of this account and these terms."""
    account = attempt.ticket.account
    if not (broker_order_id.isascii() and broker_order_id.isdecimal()):
        raise BadInput("Name the broker's order by its number.", broker_order_id=broker_order_id[:32])
    with broker_for(account.login) as broker:
        row = broker.order(broker_order_id)
    order = _meant(attempt, row) if row is not None else None
    if row is None or order is None or row.broker_account_id not in {None, account.broker_account_id}:
        raise BadInput("The broker's order of this number is not this one.", broker_order_id=broker_order_id)
    return replace(row, client_order_id=_own_id(attempt, order))


def _meant(attempt: Attempt, row: OrderReport) -> Order | None:
    """Which order of the sending has these terms; of a group only what the broker has not named yet."""
    left = wire.missing(attempt) if attempt.ticket.group else attempt.carried
    fitting = [
        order
        for order in left
        if row.side == order.side and amended.has(row, {name: getattr(order, name) for name in amended.TERMS})
    ]
    return fitting[0] if len(fitting) == 1 else None


def _own_id(attempt: Attempt, order: Order) -> str:
    leg = attempt.legs.filter(order=order).first()
    return leg.client_order_id if leg else attempt.client_order_id
