"""Real servers of ours as processes, for the tests that need a socket."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from tests.rig import BASE_DIR, Database

START_SECONDS = 180


@dataclass
class Served:
    """A server that answers at `url`, and where its log goes."""

    url: str
    log: Path

    def ask(
        self, path: str, body: dict | str | None = None, *, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and body; refusals too are answers."""
        sent = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, sent, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, _lower(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), error.read()


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def serve(
    database: Database, folder: Path, *words: str, path: str = "/health", **environment: str
) -> Iterator[Served]:
    """Run `python -m words…` with {port} filled in until the block ends; fails with its log when it does not start."""
    port, log = free_port(), folder / f"{words[0]}.log"
    command = [sys.executable, "-m", *(word.format(port=port) for word in words)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=BASE_DIR,
            env=database.environment(**environment),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    served = Served(f"http://127.0.0.1:{port}", log)
    try:
        _wait(process, served, path)
        yield served
    finally:
        process.terminate()
        process.wait(180)


def _wait(process: subprocess.Popen, served: Served, path: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            served.ask(path)
            return
        time.sleep(0.05)
    raise AssertionError(f"it did not start: {served.log.read_text()}")


GRANIAN = (
    "granian",
    "--interface",
    "wsgi",
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
    "--blocking-threads",
    "4",
)
DAPHNE = ("daphne", "-b", "127.0.0.1", "-p", "{port}", "cerbero.asgi:application")
