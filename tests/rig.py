"""The servers of one test run, and databases cloned from one migrated template."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import psycopg
from psycopg import sql

from cerbero import embedded
from cerbero.errors import CannotStart
from cerbero.stack import hold
from tests import kept

BASE_DIR = Path(__file__).resolve().parent.parent
TEMPLATE = "cerbero_template"
PREFIX, LEFT_OVER_SECONDS = "cerbero-tests-", 600
MEMORY, MEMORY_BYTES_MIN = Path("/dev/shm"), 4 * 2**30
# A developer's own environment must not change what the tests prove.
FOREIGN = (
    "DEBUG",
    "PUBLIC_URL",
    "LIVE_TRADING",
    "TRUST_PROXY",
    "READY_FAILS_ON_DEGRADED",
    "EXTRA_HOSTS",
    "LOG_LEVEL",
)


@dataclass
class Servers:
    """Postgres and Redis for one test run, in a folder that goes with them."""

    root: Path
    postgres: embedded.Postgres
    redis: embedded.Redis
    lock: IO[str]
    is_migrated: bool

    @classmethod
    def start(cls) -> "Servers":
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=roomy_folder()))
        lock = hold(root)
        _sweep()
        try:
            is_migrated = kept.restore(root.parent, root)
            redis = embedded.start_redis(root)
            # fsync proves nothing in a cluster that is thrown away.
            return cls(root, embedded.start_postgres(root, durable=False), redis, lock, is_migrated)
        except BaseException:
            lock.close()
            shutil.rmtree(root, ignore_errors=True)
            raise

    @classmethod
    def prepare(cls) -> None:
        """Leave a migrated cluster to those who start next, so that not each of them makes one."""
        servers = cls.start()
        try:
            servers.migrate_template()
        finally:
            servers.stop()

    def stop(self) -> None:
        self.postgres.stop()
        self.redis.stop()
        self.lock.close()
        _forget(self.root)

    def environment(self, database: str, role: str = embedded.APP) -> dict[str, str]:
        """What settings.py reads, for a process that uses `database` as `role`."""
        return {
            "DJANGO_SETTINGS_MODULE": "cerbero.settings",
            "VAR_DIR": str(self.root),
            "DATABASE_URL": self.postgres.url(role, database),
            "REDIS_URL": self.redis.url,
            "EMBEDDED_SERVERS": "1",
            # Every database has a trail of its own, and so an anchor.
            "ANCHOR_PATH": str(self.root / "anchors" / database / "checkpoints.log"),
        }

    def create_database(self, template: str = TEMPLATE) -> "Database":
        """A database of its own, a copy of the migrated template (about 15 ms)."""
        name = f"test_{uuid4().hex[:12]}"
        # Copied as files: half the work of writing every page to the log.
        words = "CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy"
        self._as_admin(words, name, template, embedded.OWNER)
        return Database(self, name)

    def drop_database(self, name: str) -> None:
        self._as_admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def migrate_template(self) -> None:
        """Make the template, unless a run before this one kept it."""
        if self.is_migrated:
            return
        self._migrate_template()
        self.postgres.stop()
        kept.keep(self.root.parent, self.root)
        self.postgres = embedded.start_postgres(self.root, durable=False)
        self.is_migrated = True

    def _migrate_template(self) -> None:
        """The owner migrates it, as the production shape's one-shot step does."""
        self._as_admin("CREATE DATABASE {} OWNER {}", TEMPLATE, embedded.OWNER)
        template = Database(self, TEMPLATE)
        template.manage("prepare_database", role=embedded.OWNER)
        # What the migrate step entered into the trail would be in every test's count.
        with template.connect(embedded.ADMIN) as admin:
            guards = admin.execute(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_entry'::regclass AND tgenabled = 'A'"
            ).fetchall()
            admin.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
            admin.execute("DELETE FROM audit_entry")
            admin.execute("ALTER TABLE audit_entry ALTER COLUMN id RESTART")
            admin.execute("ALTER TABLE audit_entry ENABLE TRIGGER USER")
            for (guard,) in guards:
                words = sql.SQL("ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER {}")
                admin.execute(words.format(sql.Identifier(guard)))

    def keep_commits(self) -> None:
        """What is committed outlives a crash of Postgres, though not of the machine: for whoever kills it."""
        self._as_admin("ALTER ROLE {} SET synchronous_commit = on", embedded.APP)

    def _as_admin(self, words: str, *names: str) -> None:
        with psycopg.connect(self.postgres.url(embedded.ADMIN, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(words).format(*map(sql.Identifier, names)))


def roomy_folder() -> Path:
    """In memory where there is enough of it: hundreds of databases come and go."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN
    return MEMORY if is_roomy else Path(tempfile.gettempdir())


def _sweep() -> None:
    # A run that was killed ends its servers with it, and leaves its folder.
    for folder in roomy_folder().glob(f"{PREFIX}*"):
        with contextlib.suppress(CannotStart, OSError):
            if time.time() - (folder / "up.lock").stat().st_mtime > LEFT_OVER_SECONDS:
                hold(folder).close()
                _forget(folder)


def _forget(root: Path) -> None:
    embedded.forget_sockets(root)
    shutil.rmtree(root, ignore_errors=True)


@dataclass
class Database:
    """One database of the test cluster."""

    servers: Servers
    name: str

    def url(self, role: str = embedded.APP) -> str:
        return self.servers.postgres.url(role, self.name)

    def environment(self, role: str = embedded.APP, **extra: str) -> dict[str, str]:
        """The whole environment for a process of ours that uses this database."""
        return os.environ | self.servers.environment(self.name, role) | extra

    def connect(self, role: str = embedded.APP) -> psycopg.Connection:
        """A connection outside Django, in autocommit; the caller closes it."""
        return psycopg.connect(self.url(role), autocommit=True)

    def manage(self, *words: str, role: str = embedded.APP, code: int = 0) -> subprocess.CompletedProcess:
        """Run `manage.py` as another process; fails the test when its exit code is not `code`."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=BASE_DIR,
            env=self.environment(role),
            capture_output=True,
            text=True,
            # A guard against what hangs: a busy machine takes minutes to migrate.
            timeout=600,
        )
        assert done.returncode == code, f"manage.py {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@contextlib.contextmanager
def django_uses(database: Database) -> Iterator[None]:
    """Point Django's default connection, pool included, at `database`."""
    from django.db import connection, connections

    old = connection.settings_dict["NAME"]
    connections.close_all()
    connection.close_pool()
    connection.settings_dict["NAME"] = database.name
    try:
        yield
    finally:
        connections.close_all()
        connection.close_pool()
        connection.settings_dict["NAME"] = old


def run_together(*functions: Callable[[], Any]) -> list[Any]:
    """Run functions in threads that start at one moment; returns each one's result or exception, in order.

    On a busy machine a thread may wait long for its connection; what races is tried here, not the pool's patience.
    """
    from django.db import connection, connections

    if connection.pool is not None:
        connection.pool.timeout = 60
    gate = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(index: int, function: Callable[[], Any]) -> None:
        gate.wait(60)
        try:
            results[index] = function()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
        assert not thread.is_alive(), "a thread hangs"
    return results
