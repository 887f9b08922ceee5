"""Children are kept alive, given up on, and stopped; their lines can be read."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cerbero import supervisor as module
from cerbero.supervisor import Supervisor, readable

SLEEPS = "import time\nprint('awake', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(out: io.StringIO) -> Iterator[Supervisor]:
    running = Supervisor(out)
    yield running
    running.stop(list(running.children))
    running.close()


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def script(tmp_path: Path, text: str) -> tuple[str]:
    path = tmp_path / "child.py"
    path.write_text(text)
    return (str(path),)


def test_a_child_that_crashes_is_started_again_and_the_log_says_so(
    supervisor: Supervisor, out: io.StringIO, tmp_path: Path
) -> None:
    supervisor.start("orders", script(tmp_path, SLEEPS), {})
    child = supervisor.children["orders"]
    wait_for(lambda: "awake" in out.getvalue())
    first = child.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child.pid not in {0, first})
    assert "orders ended unexpectedly (exit code -9); starting it again in 0.5 s" in out.getvalue()
    assert supervisor.gave_up is None


def test_a_child_that_cannot_live_is_given_up_on(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)
    supervisor.start("relay", script(tmp_path, "raise SystemExit(7)"), {})
    wait_for(lambda: supervisor.gave_up is not None)
    assert supervisor.gave_up == "relay ended 5 times at its start (exit code 7); see its log above."


def test_a_child_runs_in_a_session_of_its_own_and_stops_when_told(
    supervisor: Supervisor, out: io.StringIO, tmp_path: Path
) -> None:
    supervisor.start("web", script(tmp_path, SLEEPS), {})
    wait_for(lambda: "awake" in out.getvalue())
    child = supervisor.children["web"]
    pid = child.pid
    assert os.getsid(pid) == pid
    supervisor.stop(["web"])
    assert not child.running
    assert not Path(f"/proc/{pid}").exists()
    time.sleep(0.7)
    assert not child.running


def test_a_child_that_ignores_the_signal_is_killed(
    supervisor: Supervisor, out: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.3)
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
    supervisor.start("worker", script(tmp_path, deaf), {})
    wait_for(lambda: "awake" in out.getvalue())
    supervisor.stop(["worker"])
    wait_for(lambda: "worker did not stop within 0 s and was killed" in out.getvalue())


def test_what_a_crashed_child_had_started_does_not_keep_it_from_coming_back(
    supervisor: Supervisor, out: io.StringIO, tmp_path: Path
) -> None:
    parent = (
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    supervisor.start("tools", script(tmp_path, parent + SLEEPS), {})
    wait_for(lambda: "awake" in out.getvalue())
    child = supervisor.children["tools"]
    first = child.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child.pid not in {0, first})
    wait_for(lambda: not group_lives(first))


def test_our_json_lines_are_printed_for_people() -> None:
    line = (
        '{"event": "ticket.sent", "level": "info", "ticket_id": "7", "timestamp": "2026-01-01", "user": null}'
    )
    assert readable(line) == "info    ticket.sent ticket_id=7"
    assert readable("plain words") == "plain words"
    assert readable('{"half": ') == '{"half": '
    assert readable('{"event": "x", "level": "error", "exception": "Traceback\\n  boom"}').splitlines() == [
        "error   x",
        "Traceback",
        "  boom",
    ]
