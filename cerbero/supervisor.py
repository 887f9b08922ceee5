"""Children in sessions of their own: started, their lines printed, restarted when they die, stopped in order."""

import contextlib
import datetime
import json
import os
import queue
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process as ChildProcess

BASE_DIR = Path(__file__).resolve().parent.parent
QUICK_DEATH_SECONDS, QUICK_DEATHS_MAX, BACKOFF_SECONDS = 20.0, 5, 0.5
STOP_SECONDS, LOOK_SECONDS = 10.0, 0.1


class ReadablePrinter(Printer):
    """Prints `time name | level event key=value`, whether a line is one of our JSON logs or plain text."""

    def write(self, message: Message) -> None:
        text = message.data.decode("utf-8", "replace") if isinstance(message.data, bytes) else message.data
        super().write(message._replace(data="\n".join(readable(line) for line in text.splitlines())))


def readable(line: str) -> str:
    """One of our JSON log lines as `level event key=value …`; any other line as it is."""
    try:
        entry = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    entry.pop("timestamp", None)
    level, event, trace = (entry.pop(key, "") for key in ("level", "event", "exception"))
    pairs = " ".join(f"{key}={value}" for key, value in entry.items() if value not in (None, ""))
    return "\n".join(filter(None, (f"{level:<7} {event} {pairs}".rstrip(), trace)))


@dataclass
class Child:
    """One supervised process; `pid` is 0 while there is none, `restart_at` is by the monotonic clock."""

    name: str
    command: str
    environment: Mapping[str, str]
    colour: str
    pid: int = 0
    running: bool = False
    wanted: bool = True
    started_at: float = 0.0
    restart_at: float | None = None
    deaths: list[int] = field(default_factory=list)


class Supervisor:
    """Runs children until told to stop; `gave_up` holds a sentence once one of them cannot be kept alive."""

    def __init__(self, out: TextIO) -> None:
        self.gave_up: str | None = None
        self.children: dict[str, Child] = {}
        self._printer = ReadablePrinter(out, width=10)
        self._events: queue.Queue[Message] = queue.Queue()
        self._colours = get_colours()
        self._closed = threading.Event()
        self._restarting = threading.Lock()
        self._pump = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._pump.start()

    def start(self, name: str, words: Iterable[str], environment: Mapping[str, str]) -> None:
        """Start one child and keep it alive. `words` follow `python` or `python -m`."""
        child = Child(name, command_line(words), environment, next(self._colours))
        self.children[name] = child
        self._launch(child)

    def say(self, text: str, name: str = "system") -> None:
        """Print a line among the children's."""
        self._events.put(Message("line", text, datetime.datetime.now(), name, None))  # noqa: DTZ005

    def stop(self, names: Iterable[str]) -> None:
        """End some children: SIGTERM, and SIGKILL for those that are still there after STOP_SECONDS."""
        leaving = [self.children[name] for name in names if name in self.children]
        with self._restarting:
            for child in leaving:
                child.wanted = False
        signalled: set[int] = set()
        deadline = time.monotonic() + STOP_SECONDS
        while any(child.running for child in leaving):
            for child in leaving:
                if child.running and child.pid and child.pid not in signalled:
                    signalled.add(child.pid)
                    _send(child.pid, signal.SIGTERM)
            if time.monotonic() > deadline:
                deadline += STOP_SECONDS
                for child in filter(lambda each: each.running and each.pid, leaving):
                    self.say(f"{child.name} did not stop within {STOP_SECONDS:.0f} s and was killed")
                    _send(-child.pid, signal.SIGKILL)
            time.sleep(0.02)

    def close(self) -> None:
        """Print what is left to print and end; all children must be stopped."""
        self._closed.set()
        self._pump.join()

    def _launch(self, child: Child) -> None:
        child.running, child.pid, child.restart_at, child.started_at = True, 0, None, time.monotonic()
        process = ChildProcess(
            child.command, child.name, child.colour, env=dict(child.environment), cwd=BASE_DIR
        )
        threading.Thread(target=process.run, args=(self._events,), name=child.name, daemon=True).start()

    def _run(self) -> None:
        looked_at = 0.0
        while True:
            if time.monotonic() - looked_at > LOOK_SECONDS:
                self._look_after_children()
                looked_at = time.monotonic()
            try:
                self._take(self._events.get(timeout=LOOK_SECONDS))
            except queue.Empty:
                if self._closed.is_set():
                    return

    def _take(self, message: Message) -> None:
        if message.type == "line":
            self._printer.write(message)
        elif message.type == "start":
            self.children[message.name].pid = message.data["pid"]
        else:
            self._ended(self.children[message.name], message.data["returncode"])

    def _look_after_children(self) -> None:
        for child in list(self.children.values()):
            if child.pid and child.running and _is_dead(child.pid):
                # Its own children still hold the pipe, and perhaps its port.
                _send(-child.pid, signal.SIGKILL)
            with self._restarting:
                if child.wanted and child.restart_at is not None and time.monotonic() >= child.restart_at:
                    self._launch(child)

    def _ended(self, child: Child, code: int) -> None:
        lived = time.monotonic() - child.started_at
        child.running, child.pid = False, 0
        if not child.wanted or self.gave_up:
            return
        child.deaths = [*child.deaths, code] if lived < QUICK_DEATH_SECONDS else [code]
        if len(child.deaths) >= QUICK_DEATHS_MAX:
            self.gave_up = f"{child.name} ended {len(child.deaths)} times at its start (exit code {code}); see its log above."
            return
        wait = BACKOFF_SECONDS * 2 ** (len(child.deaths) - 1)
        child.restart_at = time.monotonic() + wait
        self.say(f"{child.name} ended unexpectedly (exit code {code}); starting it again in {wait:g} s")


def command_line(words: Iterable[str]) -> str:
    """The shell line for one of our processes, which also ends when this process is killed."""
    first, *rest = words
    program = [sys.executable, first] if first.endswith(".py") else [sys.executable, "-m", first]
    setpriv = shutil.which("setpriv")
    return "exec " + shlex.join([*((setpriv, "--pdeathsig", "TERM") if setpriv else ()), *program, *rest])


def _send(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(-pid, how) if pid < 0 else os.kill(pid, how)


def _is_dead(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
