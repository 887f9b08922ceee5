"""The canonical form of a ticket and its digest: what people decide on is what is sent, to the last field.

JSON in UTF-8 with sorted keys and no spaces; decimals plain and without trailing zeros. Vectors stand in
tests/orders/test_canonical.py.
"""

import hashlib
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from brokers.models import Account
from cerbero.plain import text
from orders.models import Order, Ticket

# The fields of a leg that a digest covers; a bot that reuses a key is told which of them differ.
TERMS = ("side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force")
# Covered where an order has them, so that what was decided on before they existed keeps its digest.
MORE_TERMS = ("trailing_amount", "trailing_percent", "offset", "cash_quantity", "outside_hours")


def plain(value: Decimal | None) -> str | None:
    """A decimal as people write it: no exponent, no trailing zeros."""
    return None if value is None else text(value)


def leg_terms(order: Order) -> dict[str, Any]:
    """One leg's terms, decimals as text."""
    values = {name: getattr(order, name) for name in TERMS}
    values |= {name: value for name in MORE_TERMS if (value := getattr(order, name))}
    terms = {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    return terms | {"number": order.number, "instrument": str(order.instrument_id)}


def ticket_digest(ticket: Ticket, account: Account, orders: Sequence[Order]) -> str:
    """SHA-256 in hex over account, environment, every leg's every term, how they hang together, and whether it reduces.

    What a leg is to the others follows from the kind of the group and its number (orders/groups/relations.py).
    """
    body: dict[str, Any] = {
        "account": str(account.pk),
        "broker_account_id": account.broker_account_id,
        "environment": account.environment,
        "reduce_only": ticket.reduce_only,
        "orders": [leg_terms(order) for order in sorted(orders, key=lambda order: order.number)],
    }
    if ticket.group:
        body["group"] = ticket.group
    return digest_of(body)


def decision_digest(ticket_digest: str, facts: dict[str, Any]) -> str:
    """What a decision binds: the ticket, the broker's questions that a yes answers, the limits that it lets pass, the
    market when asked again.
    """
    more: dict[str, Any] = {}
    if override := facts.get("override"):
        more["override"] = override
    if question_ids := accepted_question_ids(facts):
        more["questions"] = question_ids
    if "asked_again" in facts:
        # Another question than the first, so that an old page's yes does not answer it.
        more["asked_again"] = {"why": facts["asked_again"], "quote": facts.get("quote")}
    return digest_of({"ticket": ticket_digest, **more}) if more else ticket_digest


def accepted_question_ids(facts: dict[str, Any]) -> list[str]:
    """The broker's message ids that stood on the approval, sorted."""
    return sorted({str(question["id"]) for question in facts.get("questions", [])})


def client_order_id(ticket: Ticket, number: int, leg: int = 1) -> str:
    """32 hex characters from proposer, account, key, attempt number and leg: the same after any restore."""
    proposer = ticket.bot_id or ticket.person_id
    words = f"{ticket.account_id}/{proposer}/{ticket.idempotency_key}/{number}"
    if leg > 1:
        # Not the attempts' separator: the second leg of one key is no second attempt of another.
        words += f" {leg}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def digest_of(body: Any) -> str:
    """SHA-256 in hex of a body's canonical JSON; decimals must be text already."""
    words = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(words.encode()).hexdigest()
