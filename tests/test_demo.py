"""`manage.py demo` from outside, and what it says of steps that do not hold."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cerbero.management.commands.demo import STEPS, Page, StepFailed, Walk, descendants, run_steps
from tests.rig import BASE_DIR


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    return Walk(tmp_path)


def test_the_whole_walk_holds_and_its_last_line_is_json() -> None:
    # Neither the tests' servers nor anything else of this environment may be needed.
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo", "--json"],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    told = json.loads(last)
    assert told["ok"] is True
    assert [step["name"] for step in told["steps"]] == [name for name, _ in STEPS]
    assert all(step["ok"] and step["seconds"] >= 0 and step["detail"] for step in told["steps"])
    assert len(lines) == len(STEPS)


def test_an_interrupted_demo_leaves_nothing_running() -> None:
    with subprocess.Popen(
        [sys.executable, "manage.py", "demo"],
        cwd=BASE_DIR,
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("ok ")
        started = descendants(demo.pid)
        demo.send_signal(signal.SIGTERM)
        rest = demo.stdout.read()
    assert demo.returncode == 1
    assert "interrupted" in rest
    assert rest.splitlines()[-1].startswith("ok ")
    assert len(started) > 10
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_after_a_step_that_does_not_hold_only_the_last_one_runs(walk: Walk) -> None:
    ran: list[str] = []

    def good(walk: Walk) -> str:
        ran.append("good")
        return "fine"

    def bad(walk: Walk) -> str:
        raise StepFailed("seen otherwise")

    said: list[str] = []
    told = run_steps((("a", good), ("b", bad), ("c", good), ("end", good)), walk, said.append)
    assert [step["ok"] for step in told] == [True, False, False, True]
    assert [step["detail"] for step in told] == ["fine", "StepFailed: seen otherwise", "not reached", "fine"]
    assert ran == ["good", "good"]
    assert [line[:4] for line in said] == ["ok  ", "FAIL", "FAIL", "ok  "]


def test_an_interrupted_step_is_a_step_that_does_not_hold(walk: Walk) -> None:
    def interrupted(walk: Walk) -> str:
        raise KeyboardInterrupt

    told = run_steps((("a", interrupted), ("end", lambda walk: "stopped")), walk, lambda line: None)
    assert [(step["ok"], step["detail"]) for step in told] == [(False, "interrupted"), (True, "stopped")]


def test_a_signal_between_two_steps_lets_only_the_last_one_run(walk: Walk) -> None:
    steps = tuple((name, lambda walk: "fine") for name in ("a", "b", "end"))
    told = run_steps(steps, walk, lambda line: walk.interrupt())
    assert [step["detail"] for step in told] == ["fine", "interrupted", "fine"]


def test_a_page_is_read_by_its_forms_and_rows() -> None:
    page = Page(
        '<header data-socket="/ws/live/"><form action="/out"><input name="csrfmiddlewaretoken" value="x"></form>'
        '</header><table><tr data-instrument="7"><td class="symbol">AAPL<small>APPLE INC</small></td></tr></table>'
    )
    assert (page.socket, page.csrf) == ("/ws/live/", "x")
    assert page.forms == {"/out": {"csrfmiddlewaretoken": "x"}}
    assert page.rows == [{"instrument": "7", "symbol": "AAPL"}]


def test_descendants_are_children_and_theirs() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 30 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        grandchild = int(shell.stdout.readline())
        found = descendants()
        os.kill(grandchild, signal.SIGKILL)
    assert {shell.pid, grandchild} <= set(found)
