"""Postgres' own notifications: they wake who polls anyway, so a lost one costs a second and nothing else."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection

# The orders loop has work. The payload is empty: the rows say which.
ORDERS = "cerbero_orders"
# `ticket:<id>` or `order:<id>` changed, by trigger; for the pages.
HINTS = "cerbero_hints"

_CONNECTION = ("dbname", "user", "password", "host", "port")


@contextmanager
def listening(channel: str) -> Iterator[Callable[[float], None]]:
    """A connection of its own; yields a wait of so many seconds that ends at the first notification."""
    with psycopg.connect(**_parameters(), autocommit=True) as heard:
        heard.execute(f"LISTEN {channel}".encode())

        def wait(seconds: float) -> None:
            for _ in heard.notifies(timeout=seconds, stop_after=1):
                pass

        yield wait


async def hear(channel: str) -> AsyncIterator[str]:
    """Each notification's payload, until the connection is lost. Raises psycopg.OperationalError then."""
    async with await psycopg.AsyncConnection.connect(**_parameters(), autocommit=True) as heard:
        await heard.execute(f"LISTEN {channel}".encode())
        async for notification in heard.notifies():
            yield notification.payload


def _parameters() -> dict[str, Any]:
    """Where Django's connection goes, without its pool."""
    known = connection.get_connection_params()
    named = {name: known[name] for name in _CONNECTION if known.get(name)}
    return named | {"application_name": "cerbero-listener", "connect_timeout": 5}
