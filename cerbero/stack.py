"""The whole of Cerbero on one machine: servers, migrations, demo people, every process; for `up`, `demo` and tests."""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TextIO

from cerbero import embedded
from cerbero.errors import CannotStart
from cerbero.processes import BOOTSTRAP, PREPARE, PROCESSES, Process
from cerbero.secret_files import ensure_secrets, make_folder, write_secret
from cerbero.supervisor import BASE_DIR, Supervisor, command_line

READY_SECONDS, LOGIN_SECONDS, STEP_SECONDS = 60.0, 20.0, 180.0
# What a child must not inherit: another role's way in, or the half of a key that is not its own.
PRIVATE = (
    "OWNER_DATABASE_URL",
    "SEALER_DATABASE_URL",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "REDIS_URL",
    "REDIS_URL_FILE",
    "SEAL_KEY",
    "SEAL_KEY_FILE",
)

PORTS = {"port": "--port", "tools_port": "--tools-port", "simulator_port": "--simulator-port"}
BARE_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Options:
    """Where to run and on which ports; port 0 is a free one. `environment` is what the processes inherit."""

    var: Path
    environment: Mapping[str, str]
    port: int = 8000
    tools_port: int = 8001
    simulator_port: int = 5055

    def with_free_ports(self) -> "Options":
        """The same with every 0 replaced. Raises CannotStart where a port that was asked for is taken."""
        with contextlib.ExitStack() as probes:
            ports = {
                name: probes.enter_context(_claim(name, getattr(self, name))).getsockname()[1]
                for name in PORTS
            }
        return replace(self, **ports)


@dataclass(frozen=True)
class Running:
    """A stack that answers; `demo` is what bootstrap_demo printed, passwords only where this run made them."""

    options: Options
    web_url: str
    tools_url: str
    simulator_url: str
    demo: dict[str, Any] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    supervisor: Supervisor = field(repr=False)

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` beside the running processes, as the application's role."""
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(  # noqa: S603
            command, cwd=BASE_DIR, env=self.environment, capture_output=True, text=True, check=False
        )


class Stack:
    """Starts everything in `start()`, and ends it in `stop()`, which is safe to call after a failed start."""

    def __init__(self, options: Options, out: TextIO) -> None:
        self.options = options
        self.supervisor = Supervisor(out)
        # Known before everything answers; passwords are told this once, so whoever starts must print it in any case.
        self.demo: dict[str, Any] | None = None
        self._lock: IO[str] | None = None
        self._postgres: embedded.Postgres | None = None
        self._redis: embedded.Redis | None = None

    def start(self) -> Running:
        """Bring everything up and wait until it answers. Raises CannotStart with what to do about it."""
        make_folder(self.options.var, 0o711)
        self._lock = hold(self.options.var)
        self.options = self.options.with_free_ports()
        ensure_secrets(self.options.var)
        simulator, *others = PROCESSES
        self._start(simulator, self._bare_environment())
        self._start_servers()
        self.supervisor.say(self._run_once(PREPARE, embedded.OWNER).rstrip())
        for process in others:
            self._start(process, self._environment(process.role))
        # Meanwhile: they look for logins and orders again and again, and find the first ones when they are there.
        self._wait_for("simulator", self.options.simulator_port, "/_sim/health")
        self.demo = json.loads(self._run_once(BOOTSTRAP, embedded.APP).strip().splitlines()[-1])
        self._wait_for("web", self.options.port, "/health")
        self._wait_for("tools", self.options.tools_port, "/health")
        self._wait_for_logins()
        return Running(
            options=self.options,
            web_url=f"http://localhost:{self.options.port}",
            tools_url=f"http://localhost:{self.options.tools_port}",
            simulator_url=f"http://127.0.0.1:{self.options.simulator_port}",
            demo=self.demo,
            environment=self._environment(embedded.APP),
            supervisor=self.supervisor,
        )

    def mend_servers(self) -> None:
        """Start an embedded server again that has ended; its users find it by themselves. Raises CannotStart."""
        if self._postgres is not None and self._postgres.process.poll() is not None:
            self.supervisor.say("Postgres ended unexpectedly; starting it again")
            self._postgres = embedded.start_postgres(self.options.var)
        if self._redis is not None and self._redis.process.poll() is not None:
            self.supervisor.say("Redis ended unexpectedly; starting it again")
            self._redis = embedded.start_redis(self.options.var)

    def stop(self) -> None:
        """End the children stage by stage, the servers last, and let go of the folder."""
        for stage in sorted({process.stage for process in PROCESSES}):
            self.supervisor.stop(process.name for process in PROCESSES if process.stage == stage)
        self.supervisor.close()
        for server in (self._redis, self._postgres):
            if server is not None:
                server.stop()
        if self._postgres or self._redis:
            embedded.forget_sockets(self.options.var)
        if self._lock is not None:
            self._lock.close()

    def _start(self, process: Process, environment: Mapping[str, str]) -> None:
        self.supervisor.start(process.name, process.command(**self._values()), environment)

    def _values(self) -> dict[str, Any]:
        ports = {name: getattr(self.options, name) for name in PORTS}
        return {"host": "127.0.0.1", "var": self.options.var, **ports}

    def _given(self, name: str) -> str | None:
        environment = self.options.environment
        if file := environment.get(f"{name}_FILE"):
            return Path(file).read_text().strip()
        return environment.get(name) or None

    def _start_servers(self) -> None:
        var = self.options.var
        for name in ("database_url", "redis_url"):
            (var / "secrets" / name).unlink(missing_ok=True)
        # The files let `manage.py` in another terminal find the servers.
        if not self._given("DATABASE_URL"):
            self._postgres = embedded.start_postgres(var)
            write_secret(var, "database_url", self._postgres.url())
        if not self._given("REDIS_URL"):
            self._redis = embedded.start_redis(var)
            write_secret(var, "redis_url", self._redis.url)

    def _database_url(self, role: str) -> str:
        if self._postgres is not None:
            return self._postgres.url(role)
        own = {embedded.OWNER: "OWNER_DATABASE_URL", embedded.SEALER: "SEALER_DATABASE_URL"}.get(role)
        return (own and self._given(own)) or self._given("DATABASE_URL") or ""

    def _bare_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in self.options.environment.items() if name not in PRIVATE}
        return inherited | {"PYTHONUNBUFFERED": "1"}

    def _environment(self, role: str) -> dict[str, str]:
        environment = self._bare_environment() | {
            "DJANGO_SETTINGS_MODULE": "cerbero.settings",
            "VAR_DIR": str(self.options.var),
            "DATABASE_URL": self._database_url(role),
            "REDIS_URL": self._redis.url if self._redis else self._given("REDIS_URL") or "",
            "EMBEDDED_SERVERS": "1" if self._postgres or self._redis else "0",
        }
        environment.setdefault("PUBLIC_URL", f"http://localhost:{self.options.port}")
        if role != embedded.SEALER:
            return environment | {"SEAL_KEY_FILE": os.devnull}
        given = self.options.environment
        return environment | {name: given[name] for name in ("SEAL_KEY", "SEAL_KEY_FILE") if name in given}

    def _run_once(self, words: Sequence[str], role: str) -> str:
        line = command_line(word.format(**self._values()) for word in words)
        process = subprocess.Popen(  # noqa: S602
            line, shell=True, cwd=BASE_DIR, env=self._environment(role), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=STEP_SECONDS)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        self.supervisor.say(err.rstrip())
        if process.returncode != 0:
            raise CannotStart(
                f"`manage.py {words[1]}` failed (exit code {process.returncode}); its words stand above."
            )
        return out

    def _wait_for(self, name: str, port: int, path: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while _get(port, path) is None:
            if self.supervisor.gave_up:
                raise CannotStart(self.supervisor.gave_up)
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"{name} did not answer on port {port} within {READY_SECONDS:.0f} s; see its lines above."
                )
            time.sleep(0.05)

    def _wait_for_logins(self) -> None:
        # An order needs a session and a feed; a broker that is away is no reason not to start.
        deadline = time.monotonic() + LOGIN_SECONDS
        while not _logins_are_up(_get(self.options.port, "/health/ready")):
            if time.monotonic() > deadline:
                self.supervisor.say("not every login has its session yet; /health/ready says why")
                return
            time.sleep(0.1)


@contextlib.contextmanager
def running_stack(
    var: Path,
    *,
    environment: Mapping[str, str] = BARE_ENVIRONMENT,
    port: int = 0,
    tools_port: int = 0,
    simulator_port: int = 0,
) -> Iterator[Running]:
    """Run everything below `var`, on free ports unless told; lines go to `var/logs/stack.log`. For the main thread."""
    make_folder(var, 0o711)
    make_folder(var / "logs", 0o700)
    options = Options(var.resolve(), environment, port, tools_port, simulator_port)
    with (var / "logs" / "stack.log").open("a") as log:
        stack = Stack(options, log)
        try:
            yield stack.start()
        finally:
            stack.stop()


def hold(var: Path) -> IO[str]:
    """Take the lock on `var`; closing the file lets go, and so does the end of the process, however it ends."""
    try:
        file = (var / "up.lock").open("a+")
    except OSError as error:
        raise CannotStart(
            f"Cannot write to {var}: {error.strerror}. Make it writable, or choose another with --var."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        with file:
            holder = file.read().strip() or "unknown"
        raise CannotStart(
            f"Another run (process {holder}) uses {var}. Stop it with Ctrl-C, or choose another folder with --var."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _claim(name: str, port: int) -> socket.socket:
    probe = socket.socket()
    # As the servers do: a port whose last connections linger is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError as error:
        probe.close()
        raise CannotStart(
            f"Port {port} cannot be used ({error.strerror}). Stop what listens there, "
            f"or choose another: make up ARGS='{PORTS[name]}={port + 10}'."
        ) from None
    return probe


def _get(port: int, path: str) -> bytes | None:
    """The body of a 200, or None for anything else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _logins_are_up(answer: bytes | None) -> bool:
    return answer is not None and all(login["is_ok"] for login in json.loads(answer)["logins"])
