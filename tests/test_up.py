"""`manage.py up` as a stranger sees it: from the first start to a crash, a stop and a second start."""

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cerbero.errors import CannotStart
from cerbero.leases import MARKS
from cerbero.processes import PROCESSES
from cerbero.stack import BARE_ENVIRONMENT, Options, hold, running_stack
from tests.rig import BASE_DIR, Database

READY_SECONDS = 180
WORKERS = ("web", "worker", "beat", "orders", "relay", "sealer")
FLUSH = "import redis; from django.conf import settings; redis.Redis.from_url(settings.REDIS_URL).flushall()"
SERVERS = (
    ("Postgres", Path("pg/postmaster.pid"), signal.SIGINT),
    ("Redis", Path("redis.pid"), signal.SIGKILL),
)


class Up:
    """One `manage.py up` on free ports; everything it printed is in `text`."""

    def __init__(self, var: Path, *words: str) -> None:
        self.var, self.log = var, var.parent / "up.log"
        ports = ("--port=0", "--tools-port=0", "--simulator-port=0")
        command = [sys.executable, "manage.py", "up", f"--var={var}", *ports, *words]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=BASE_DIR, env=BARE_ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str, times: int = 1) -> None:
        wait_until(lambda: self.text.count(words) >= times, f"{words!r} in:\n{self.text}")

    def children(self) -> dict[str, int]:
        """Each running process's name and pid, by the words that only it has."""
        marks = {process.name: [w for w in process.words if "{" not in w][-1] for process in PROCESSES}
        marks["simulator"] = "brokers.simulator"
        found = {}
        for pid, words in commands_below(self.var).items():
            found |= {name: pid for name, mark in marks.items() if mark in words}
        return found

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not commands_below(self.var), "everything to end")


def wait_until(happened: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def commands_below(var: Path) -> dict[int, list[str]]:
    """Every process that has `var` in its words or its environment."""
    found = {}
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (each / "cmdline").read_bytes().decode().split("\0") if each.name.isdigit() else []
            told = (each / "environ").read_bytes() if words != [""] and words else b""
            if str(var) in " ".join(words) or f"VAR_DIR={var}\0".encode() in told:
                found[int(each.name)] = words
    return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[[], Up]]:
    runs: list[Up] = []

    def start(*words: str) -> Up:
        runs.append(Up(tmp_path / "var", *words))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


def test_the_first_start_a_crash_a_stop_and_a_second_start(up: Callable[[], Up]) -> None:
    first = up()
    first.wait_for("Cerbero is up after")
    first.wait_for("approve it as bob")
    assert set(first.children()) == {process.name for process in PROCESSES}
    assert only_the_sealer_has_its_role_and_key(first)
    assert re.search(r"bob +\S{20} +Operator, Approver", first.text)
    wait_until(lambda: is_proposed(propose(first.text)), "the first quote", seconds=20)
    page = re.search(r"(\S+)/admin/queue/ +approve orders", first.text)
    assert page is not None
    wait_until(lambda: is_ready(page[1]), "everything to be well")
    assert " 0 failed." in manage(first.var, "doctor", "--url", page[1])

    # What Redis carried is gone, and so is every process that works: nobody is needed for all of it to go on.
    manage(first.var, "shell", "-c", FLUSH)
    crashed = {name: first.children()[name] for name in WORKERS}
    for name, pid in crashed.items():
        os.kill(pid, signal.SIGKILL)
        first.wait_for(f"{name} ended unexpectedly (exit code -9)")
    moment = datetime.now(UTC)
    wait_until(lambda: crashed.keys() <= first.children().keys(), "the crashed ones to come back")
    wait_until(lambda: is_whole_since(page[1], moment), "each of them to work again")

    for name, pid_file, how in SERVERS:
        os.kill(int((first.var / pid_file).read_text().split()[0]), how)
        first.wait_for(f"{name} ended unexpectedly")
    wait_until(
        lambda: is_proposed(propose(first.text)), "a proposal on the servers that came back", seconds=40
    )

    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(60) == 0
    assert commands_below(first.var) == {}

    first.log.unlink()
    second = up()
    second.wait_for("password as first printed")
    assert "Migrations: nothing to do." in second.text
    listed = manage(
        second.var, "shell", "-c", "from orders.models import Ticket; print(Ticket.objects.count())"
    )
    assert listed.splitlines()[-1] == "2"

    # Killed without a word: its children and servers must not stay.
    second.process.kill()
    second.process.wait()
    wait_until(lambda: not commands_below(second.var), "everything to end")


def only_the_sealer_has_its_role_and_key(up: Up) -> bool:
    told = {name: environment_of(pid) for name, pid in up.children().items()}
    urls = {name: each.get("DATABASE_URL", "//nobody:") for name, each in told.items()}
    roles = {name: url.split("//")[1].split(":")[0] for name, url in urls.items()}
    keepers = {name for name, each in told.items() if each.get("SEAL_KEY_FILE") != os.devnull}
    servers = {each.get("EMBEDDED_SERVERS") for name, each in told.items() if name != "simulator"}
    expected = {process.name: process.role for process in PROCESSES} | {"simulator": "nobody"}
    return (roles, keepers, servers) == (expected, {"sealer", "simulator"}, {"1"})


def is_proposed(answer: dict) -> bool:
    if answer.get("error", {}).get("retryable"):
        return False
    assert answer.get("status") == "pending", answer
    return True


def is_ready(page: str) -> bool:
    with urllib.request.urlopen(f"{page}/health/ready", timeout=10) as answer:
        return json.load(answer)["status"] == "ready"


def is_whole_since(page: str, moment: datetime) -> bool:
    """Whether the health page is well by marks that were all left after this moment; jobs of every few minutes wait."""
    try:
        with urllib.request.urlopen(f"{page}/health/ready", timeout=10) as answer:
            found = json.load(answer)
    except OSError:
        return False
    told = {each["name"]: each for each in found["dependencies"]}
    marks = [told[name]["succeeded_at"] for name, seconds in MARKS.items() if seconds <= 30]
    is_new = all(mark and datetime.fromisoformat(mark) > moment for mark in marks)
    return is_new and found["status"] == "ready"


def propose(text: str) -> dict:
    """Do what the banner's curl says."""
    line = next(line for line in text.splitlines() if "curl -s" in line)
    words = shlex.split(line.replace("$(date +%s)", str(time.time_ns())))
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1].encode()
    request = urllib.request.Request(words[2], data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return json.load(refused)


def manage(var: Path, *words: str) -> str:
    """`manage.py` in another terminal: it finds the running servers by the files below `var`."""
    command = [sys.executable, "manage.py", *words]
    environment = {**BARE_ENVIRONMENT, "VAR_DIR": str(var)}
    return subprocess.run(
        command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_servers_that_are_given_are_used(tmp_path: Path, fresh_database: Database) -> None:
    given = {
        "DATABASE_URL": fresh_database.url(),
        "OWNER_DATABASE_URL": fresh_database.url("cerbero_owner"),
        "SEALER_DATABASE_URL": fresh_database.url("cerbero_sealer"),
        "REDIS_URL": fresh_database.servers.redis.url,
    }
    with running_stack(tmp_path / "var", environment=BARE_ENVIRONMENT | given) as running:
        told = {name: environment_of(child.pid) for name, child in running.supervisor.children.items()}
        with fresh_database.connect() as app:
            assert app.execute("SELECT count(*) FROM cerbero_user").fetchone() == (4,)
    assert told["sealer"]["DATABASE_URL"] == given["SEALER_DATABASE_URL"]
    assert told["orders"]["DATABASE_URL"] == given["DATABASE_URL"]
    assert told["orders"]["EMBEDDED_SERVERS"] == "0"
    assert not any("OWNER_DATABASE_URL" in each for each in told.values())
    assert not (tmp_path / "var" / "pg").exists()


def refusal(var: Path, *words: str) -> str:
    """Run an `up` that must not start; returns its sentence."""
    command = [sys.executable, "manage.py", "up", f"--var={var}", *words]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=BARE_ENVIRONMENT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        said = refusal(tmp_path / "var", "--port=0", f"--tools-port={port}", "--simulator-port=0")
    assert said == (
        f"Cerbero stopped: Port {port} cannot be used (Address already in use). Stop what listens there, "
        f"or choose another: make up ARGS='--tools-port={port + 10}'."
    )
    assert not (tmp_path / "var" / "pg").exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with hold(tmp_path):
        assert f"Another run (process {os.getpid()}) uses {tmp_path}." in refusal(tmp_path)


def test_a_lock_file_that_nobody_holds_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "up.lock").write_text("4194303\n")
    with hold(tmp_path) as file:
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(BlockingIOError), (tmp_path / "up.lock").open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not file.closed


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(tmp_path / "file" / "var")
    assert f"Cannot write to {tmp_path}/file/var" in said
    assert "choose another with --var" in said


def test_port_zero_is_a_free_one_and_each_is_another(tmp_path: Path) -> None:
    options = Options(tmp_path, {}, 0, 0, 0).with_free_ports()
    ports = {options.port, options.tools_port, options.simulator_port}
    assert len(ports) == 3
    assert 0 not in ports


def test_a_python_that_is_not_supported_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 13, 0, 'final', 0)\n")
    environment = {**BARE_ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "manage.py", "up"]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Cerbero runs on Python 3.11 or 3.12; this is")


def test_a_platform_without_the_wheel_is_told_to_bring_its_own_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cerbero.embedded.find_spec", lambda name: None)
    with (
        pytest.raises(CannotStart, match="set REDIS_URL"),
        running_stack(tmp_path / "var", environment={"DATABASE_URL": "x"}),
    ):
        pass
