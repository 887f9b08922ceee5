"""What an entry holds, and what Postgres lets nobody do to it."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from django.db import transaction

from audit import services
from audit.models import Entry
from cerbero import access, embedded
from orders.lifecycle import OrderStatus
from tests.audit.trail import ACTOR, Trail, insert_entry
from tests.rig import Database


def test_details_become_plain_text(db: None) -> None:
    details = {
        "price": Decimal("100.500"),
        "quantity": Decimal("1E+3"),
        "exact": Decimal("1234567890123456789.123456789012345678"),
        "id": UUID(int=1),
        "at": datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
        "status": OrderStatus.FILLED,
        "legs": ({"number": 1, "open": True}, None),
        "scopes": {"b", "a"},
    }
    services.record(
        "order.filled", actor=ACTOR, subject_kind="order", subject_id=UUID(int=2), details=details
    )
    entry = Entry.objects.get()
    assert entry.details == {
        "price": "100.5",
        "quantity": "1000",
        "exact": "1234567890123456789.123456789012345678",
        "id": "00000000-0000-0000-0000-000000000001",
        "at": "2026-01-02T03:04:05.000600Z",
        "status": "filled",
        "legs": [{"number": 1, "open": True}, None],
        "scopes": ["a", "b"],
    }
    assert entry.subject_id == "00000000-0000-0000-0000-000000000002"


def test_text_that_postgres_cannot_store_does_not_keep_an_entry_out(db: None) -> None:
    actor = access.Actor(kind="bot", id=UUID(int=3), name="scanner\0alpha")
    services.record(
        "tool.called", actor=actor, details={"reason": "half \ud800 and nul \0", "a\0b": float("nan")}
    )
    entry = Entry.objects.get()
    assert entry.actor_name == "scanner\ufffdalpha"
    assert entry.details == {"reason": "half ? and nul \ufffd", "a\ufffdb": "nan"}


def test_what_has_no_json_form_is_refused(db: None) -> None:
    with pytest.raises(TypeError, match="bytes has no place"):
        services.record("key.made", actor=ACTOR, details={"key": b"secret"})


def test_an_entry_lives_and_dies_with_its_transaction(trail: Trail) -> None:
    with transaction.atomic():
        services.record("thing.done", actor=ACTOR)
        transaction.set_rollback(True)
    assert not Entry.objects.exists()


def test_time_and_transaction_cannot_be_chosen(fresh_database: Database) -> None:
    with fresh_database.connect() as app, app.transaction():
        app.execute(
            "INSERT INTO audit_entry (transaction_id, at, event, actor_kind, actor_name, subject_kind, subject_id,"
            " request_id, details) VALUES (1, '2001-01-01', 'x.y', 'bot', 'b', '', '', '', '{}')"
        )
        row = app.execute(
            "SELECT transaction_id = pg_current_xact_id()::text::bigint, now() - at < '1 minute' FROM audit_entry"
        ).fetchone()
    assert row == (True, True)


CHANGES = [
    "UPDATE audit_entry SET event = 'other'",
    "DELETE FROM audit_entry",
    "TRUNCATE audit_entry",
    "UPDATE audit_link SET digest = ''",
    "DELETE FROM audit_link",
    "TRUNCATE audit_link",
    "UPDATE audit_checkpoint SET digest = ''",
    "DELETE FROM audit_checkpoint",
    "TRUNCATE audit_checkpoint",
]
FORGERIES = [
    "INSERT INTO audit_link VALUES (10, 10, 'x')",
    "INSERT INTO audit_checkpoint VALUES (10, 'x', 'x', 'x')",
    "INSERT INTO audit_cursor VALUES ('x', 9, 1, 0, 0)",
    "UPDATE audit_cursor SET transaction_id = 0",
    "DELETE FROM audit_cursor",
    "ALTER TABLE audit_entry DISABLE TRIGGER USER",
    "SET session_replication_role = replica",
    "DELETE FROM django_migrations",
]


def test_the_application_can_only_add_entries(sealed: Trail) -> None:
    with sealed.database.connect() as app:
        for statement in CHANGES + FORGERIES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)


def test_even_the_owner_is_refused_while_the_triggers_stand(sealed: Trail) -> None:
    with sealed.database.connect(embedded.OWNER) as owner:
        for statement in CHANGES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                owner.execute(statement)


def test_the_sealer_reads_entries_and_nothing_else_of_the_desk(sealed: Trail) -> None:
    others = ["SELECT * FROM cerbero_user", "SELECT * FROM brokers_credential", "SELECT * FROM orders_ticket"]
    with sealed.database.connect(embedded.SEALER) as sealer:
        for statement in [*CHANGES, *others, "DELETE FROM audit_cursor"]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sealer.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            insert_entry(sealer, "entry.forged")
