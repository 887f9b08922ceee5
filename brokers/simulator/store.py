"""What survives a restart: one SQLite file in the state directory, committed with fsync before any answer."""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS executions (execution_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
SAVE_ORDER = "INSERT INTO orders VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET body = excluded.body"
SAVE_EXECUTION = "INSERT INTO executions VALUES (?, ?)"
SAVE_FACT = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Store:
    """Rows of JSON; every `save` is one durable transaction."""

    def __init__(self, path: Path):
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA)

    def save(
        self,
        *,
        orders: Iterable[tuple[int, dict[str, Any]]] = (),
        executions: Iterable[tuple[str, dict[str, Any]]] = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Write everything or nothing; returns once it is on disk."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(SAVE_ORDER, [(key, json.dumps(body)) for key, body in orders])
            connection.executemany(SAVE_EXECUTION, [(key, json.dumps(body)) for key, body in executions])
            connection.executemany(SAVE_FACT, [(key, json.dumps(v)) for key, v in (facts or {}).items()])

    def orders(self) -> list[dict[str, Any]]:
        """All orders, oldest first."""
        return self._bodies("SELECT body FROM orders ORDER BY order_id")

    def executions(self) -> list[dict[str, Any]]:
        """All executions, oldest first."""
        return self._bodies("SELECT body FROM executions ORDER BY rowid")

    def fact(self, name: str, default: Any) -> Any:
        """A named value."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def close(self) -> None:
        self._connection.close()

    def _bodies(self, query: str) -> list[dict[str, Any]]:
        return [json.loads(body) for (body,) in self._connection.execute(query)]
