"""Postgres or Redis goes away under running processes: what must go on goes on, and the rest comes back by itself."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from cerbero import embedded, leases
from cerbero.access import issue_token
from cerbero.leases import database_now
from cerbero.models import Bot, Lease, User
from tests.doors import GRANIAN, Served, serve
from tests.rig import BASE_DIR, Database, Servers

CELERY = ("celery", "-A", "cerbero", "worker", "--pool=threads", "--beat", "--schedule={folder}/beat")
PROCESSES = (
    ("-m", *CELERY),
    ("manage.py", "run_orders"),
    ("manage.py", "run_relay"),
    ("manage.py", "run_sealer"),
)

# What these leave in the database; people's pages are not among them.
OURS = leases.MARKS.keys() - {"process:web"}


@contextlib.contextmanager
def running(database: Database, folder: Path) -> Iterator[None]:
    """Every process of ours that is no door."""
    children = []
    for number, words in enumerate(PROCESSES):
        role = embedded.SEALER if "run_sealer" in words else embedded.APP
        with (folder / f"process-{number}.log").open("wb") as log:
            command = [sys.executable, *(word.format(folder=folder) for word in words)]
            environment = database.environment(role)
            children.append(subprocess.Popen(command, cwd=BASE_DIR, env=environment, stdout=log, stderr=log))
    try:
        yield
        assert [child.poll() for child in children] == [None] * len(children), "one of them ended"
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(90)


def ask(tools: Served, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "X_Bot_Tag": "test-1", "Content_Type": "application/json"}
    return tools.ask("/tools/list_orders", {}, method="POST", **headers)[0]


def until(happened: Callable[[], Any], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def marked_since(moment: datetime, names: Iterable[str]) -> bool:
    marks = Lease.objects.filter(name__in=names, succeeded_at__gt=moment)
    return marks.count() == len(list(names))


@pytest.mark.usefixtures("redis_url")
def test_a_restart_of_postgres_is_survived_by_every_process_and_the_first_call_after_it(
    servers: Servers, fresh_database: Database, tmp_path: Path
) -> None:
    bot = Bot.objects.create(
        name="scanner-alpha", owner=User.objects.create_user("alice"), environment="paper"
    )
    token = issue_token(bot, days=1)
    began, doors = database_now(), (*GRANIAN, "cerbero.wsgi:tools_application")
    with running(fresh_database, tmp_path), serve(fresh_database, tmp_path, *doors) as tools:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: ask(tools, token), range(40))) == {200}
        # The whole of it, and so well before the first minute of what runs once a minute.
        until(lambda: marked_since(began, OURS), "every process to work")

        connections.close_all()
        servers.postgres.stop()
        assert ask(tools, token) == 503
        servers.postgres = embedded.start_postgres(servers.root, durable=False)

        assert ask(tools, token) == 200
        back, often = database_now(), [name for name in OURS if leases.MARKS[name] <= 30]
        until(lambda: marked_since(back, often), "every process to come back")
