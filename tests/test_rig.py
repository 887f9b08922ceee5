"""The test rig keeps what it promises, since every other test stands on it."""

from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection

from cerbero import embedded
from tests.rig import Database, run_together
from tests.shares import LONGEST, in_shares


def test_ordinary_tests_run_as_the_role_that_owns_nothing(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_database()")
        user, database = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")
        owned = cursor.fetchone()[0]
    assert (user, owned) == (embedded.APP, 0)
    assert database.startswith("test_")


def test_a_fresh_database_is_what_django_and_other_processes_use(fresh_database: Database) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (fresh_database.name,)
    with fresh_database.connect() as other:
        assert other.execute("SELECT current_database()").fetchone() == (fresh_database.name,)


def test_the_application_role_cannot_change_the_schema(fresh_database: Database) -> None:
    with fresh_database.connect() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("ALTER TABLE django_migrations ADD COLUMN own text")
    with fresh_database.connect() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("CREATE TABLE mine (id int)")


def test_threads_of_a_race_leave_no_connection_open(fresh_database: Database) -> None:
    def who() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            return cursor.fetchone()[0]

    assert run_together(*[who] * 6) == [embedded.APP] * 6


def test_redis_begins_empty(redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 16])
def test_every_test_goes_to_one_worker_and_the_longest_begin_the_shares(workers: int) -> None:
    names = [f"tests/a/test_{number}.py" for number in range(990)] + [f"{name}::x" for name in LONGEST]
    ordered = [item.nodeid for item in in_shares([SimpleNamespace(nodeid=name) for name in names], workers)]
    assert sorted(ordered) == sorted(names)
    begins, left = 0, len(ordered)
    for number in range(min(workers, len(LONGEST))):
        assert ordered[begins].startswith(LONGEST[number])
        size = left // (workers - number)
        begins, left = begins + size, left - size
