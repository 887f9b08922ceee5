"""One trail of a test's own: write to it, seal it, spoil it as the tables' owner could, verify it."""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from django.core.management import call_command
from django.db import connection, connections

from audit import services, verifying
from cerbero import access, embedded
from cerbero.settings import database as parse_url
from tests.rig import Database

ACTOR = access.system("orders")


@contextlib.contextmanager
def acting_as(database: Database, role: str) -> Iterator[None]:
    """Let Django, threads included, connect as another role."""
    parsed = parse_url(database.url(role))
    old = {key: connection.settings_dict[key] for key in ("USER", "PASSWORD")}
    connections.close_all()
    connection.close_pool()
    connection.settings_dict.update({key: parsed[key] for key in old})
    try:
        yield
    finally:
        connections.close_all()
        connection.close_pool()
        connection.settings_dict.update(old)


@dataclass
class Trail:
    """Write, seal, spoil and verify one trail."""

    database: Database
    anchor: Path

    def write(self, count: int = 1) -> None:
        for number in range(count):
            services.record("thing.done", actor=ACTOR, subject_kind="thing", subject_id=number)

    def seal(self) -> None:
        with acting_as(self.database, embedded.SEALER):
            call_command("run_sealer", once=True, anchor=self.anchor)

    def verify(self) -> verifying.Verdict:
        return verifying.verify(
            anchor=self.anchor, public_key=self.anchor.with_name(f"{self.anchor.name}.pub")
        )

    def spoil(self, *statements: str) -> None:
        """Do what the tables' owner can: switch the guards off, change the rows, switch them on again."""
        tables = ("audit_entry", "audit_link", "audit_checkpoint")
        with self.database.connect(embedded.OWNER) as owner, owner.transaction():
            for table in tables:
                owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for statement in statements:
                owner.execute(statement)
            for table in tables:
                owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    def links(self) -> list[tuple[int, int]]:
        """(position, entry id), in order."""
        return self.rows("SELECT position, entry_id FROM audit_link ORDER BY position")

    def rows(self, words: str) -> list[tuple]:
        with self.database.connect() as app:
            return app.execute(words).fetchall()

    def says(self, *words: str, code: int = 0, role: str = embedded.APP) -> str:
        """What `manage.py verify_audit` prints as that role; fails the test when its exit code is not `code`."""
        out = io.StringIO()
        ended: int | str | None = 0
        with acting_as(self.database, role):
            try:
                call_command("verify_audit", "--anchor", str(self.anchor), *words, stdout=out)
            except SystemExit as end:
                ended = end.code
        assert ended == code, f"verify_audit {words}: {ended}\n{out.getvalue()}"
        return out.getvalue()

    def command(self, *words: str, code: int = 0) -> dict:
        return json.loads(self.says("--json", *words, code=code))


def insert_entry(other: psycopg.Connection, event: str) -> int:
    """Insert an entry on a connection of the test's own; returns its id."""
    row = other.execute(
        "INSERT INTO audit_entry (event, actor_kind, actor_name, subject_kind, subject_id, request_id, details)"
        " VALUES (%s, 'system', 'test', '', '', '', '{}') RETURNING id",
        [event],
    ).fetchone()
    assert row is not None
    return row[0]
