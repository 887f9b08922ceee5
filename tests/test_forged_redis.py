"""Whoever can write to Redis starts nothing of their own: Celery takes JSON alone and no arguments, and obeys no control."""

import base64
import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from audit.models import Entry
from cerbero.models import Lease
from tests.rig import BASE_DIR, Database

KEEP = "brokers.tasks.keep_sessions"


class Payload:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def message(task: str, body: bytes, content_type: str = "application/json", encoding: str = "utf-8") -> bytes:
    """A task as kombu lays it into a Redis list."""
    made = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": encoding,
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "argsrepr": "", "kwargsrepr": ""},
        "properties": {
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "celery"},
        },
    }
    return json.dumps(made).encode()


def arguments(*positional: Any, **named: Any) -> bytes:
    return json.dumps([positional, named, {}]).encode()


@pytest.fixture
def worker(fresh_database: Database, redis_url: str, tmp_path: Path) -> Iterator[subprocess.Popen]:
    words = [sys.executable, "-m", "celery", "-A", "cerbero", "worker", "--pool=threads", "--concurrency=2"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=BASE_DIR, env=fresh_database.environment(), stdout=log, stderr=log
        )
    yield process
    process.terminate()
    process.wait(90)


def until_done(broker: redis.Redis, log: Path) -> None:
    """An honest task that comes after all the others has run."""
    Lease.objects.filter(name="beat:keep_sessions").delete()
    broker.lpush("celery", message(KEEP, arguments()))
    deadline = time.monotonic() + 60
    while not Lease.objects.filter(name="beat:keep_sessions").exclude(succeeded_at=None).exists():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def entries() -> list[str]:
    """But for what the honest task notes: that no orders process runs here."""
    rows = Entry.objects.exclude(event__startswith="outage.").order_by("pk")
    return list(rows.values_list("event", flat=True))


def test_forged_messages_run_nothing_and_do_not_stop_the_worker(
    worker: subprocess.Popen, redis_url: str, tmp_path: Path
) -> None:
    made, log = tmp_path / "made-by-a-pickle", tmp_path / "worker.log"
    pickled = pickle.dumps(Payload(made))
    forged = [
        message(KEEP, pickled, "application/x-python-serialize", "binary"),
        message(KEEP, b"\x80", "application/json"),
        message(KEEP, arguments("an argument"), "application/json"),
        message("os.system", arguments(f"touch {made}")),
        message("celery.chain", arguments()),
        message("orders.services.place_order", arguments(quantity="1000000")),
    ]
    with redis.Redis.from_url(redis_url) as broker:
        until_done(broker, log)
        before = entries()
        for each in forged:
            broker.lpush("celery", each)
        shutdown = {"method": "shutdown", "arguments": {}, "destination": None}
        for name in ("celery.pidbox", "/0.celery.pidbox"):
            broker.publish(name, json.dumps(shutdown))
        until_done(broker, log)
    assert worker.poll() is None
    assert not made.exists()
    assert entries() == [*before, "task.refused"], (
        "the one that names a task of ours, with words that it does not take"
    )
