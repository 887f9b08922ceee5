"""The relay's rows: what it reads of a login and writes of its stream, each in a thread of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connections

from brokers import quotes
from brokers.base import QuoteRecord
from brokers.ibkr.stream import IbkrStream
from brokers.models import Credential, Login, Report
from brokers.reports import record_reports
from brokers.services import broker_for, socket_session
from brokers.ways import SessionState, WayIn


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Plan:
    """What a login's row says of its stream. A gateway's has no access token."""

    ws_url: str
    access_token: str | None = field(repr=False)
    session_id: str = field(repr=False)
    is_verified: bool = True

    def stream(self) -> IbkrStream:
        """To be entered."""
        return IbkrStream(self.ws_url, self.access_token, self.session_id, is_verified=self.is_verified)


async def in_database(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run it in a thread, and give its connection back to the pool."""

    def work() -> Any:
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


def read_plan(login: Login) -> Plan | None:
    """How to connect now, or None while there is no session to connect with."""
    row = Login.objects.get(pk=login.pk)
    if not row.is_enabled or row.state != SessionState.UP:
        return None
    session_id = socket_session(row)
    if row.way_in == WayIn.GATEWAY:
        return Plan(row.ws_url, None, session_id, row.is_verified) if session_id else None
    active = Credential.objects.filter(login=row, status=Credential.Status.ACTIVE)
    access_token = active.values_list("access_token", flat=True).first()
    return Plan(row.ws_url, access_token, session_id) if access_token and session_id else None


def enabled_logins() -> list[Login]:
    return list(Login.objects.filter(is_enabled=True))


def write_quotes(login: Login, newest: dict[UUID, QuoteRecord], heard_at: datetime) -> None:
    # The feed lives, so what it last said of a price is still what it says.
    quotes.store_quotes(newest, now())
    Login.objects.filter(pk=login.pk).update(feed_alive_at=heard_at)


def poll_orders(login: Login) -> None:
    with broker_for(login) as broker:
        broker.listed_accounts()
        asked_at = now()
        orders = broker.open_orders()
    record_reports(login, Report.Source.POLL, [(order, None) for order in orders], as_of=asked_at)


def make_tickle_due(login: Login) -> None:
    Login.objects.filter(pk=login.pk).update(tickled_at=None)
