"""What an attacker's hands do at the doors: sign in, press, send a token."""

import uuid
from typing import Any

from django.test import Client

from cerbero.access import issue_token
from orders.models import Ticket


def address(ticket: Ticket, word: str = "approve") -> str:
    return f"/admin/queue/{ticket.pk}/{word}/"


def signed_in(siege: Any, name: str, **options: Any) -> Client:
    client = Client(raise_request_exception=False, **options)
    client.force_login(siege.desk.people[name])
    return client


def press(client: Client, ticket: Ticket, word: str = "approve", **fields: str) -> Any:
    ticket = Ticket.objects.select_related("request").get(pk=ticket.pk)
    return client.post(address(ticket, word), {"digest": ticket.request.digest, **fields})


def bearer(siege: Any, **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue_token(siege.desk.bot, **options)}", "X-Bot-Tag": "test-1"}


def place(headers: dict[str, str], siege: Any, key: str = "", **fields: Any) -> Any:
    """One order to buy, by the tool."""
    body = {
        "account": siege.desk.account.broker_account_id,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "1",
        "order_type": "limit",
        "limit_price": str(siege.resting),
        "idempotency_key": key or uuid.uuid4().hex,
    }
    client = Client(raise_request_exception=False)
    return client.post(
        "/tools/place_order", {**body, **fields}, content_type="application/json", headers=headers
    )
