"""The embedded servers keep data, keep strangers out, and say what is wrong."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg.conninfo import make_conninfo
from redis.backoff import NoBackoff
from redis.retry import Retry

from cerbero import embedded
from cerbero.errors import CannotStart
from cerbero.secret_files import IRREPLACEABLE, SECRETS, ensure_secrets, read_secret
from tests.rig import Servers


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder below pytest's own, which is closed to other users, as a checkout under /root is."""
    yield tmp_path / "var"
    embedded.forget_sockets(tmp_path / "var")


def test_data_survives_a_stop_and_a_start(root: Path) -> None:
    first = embedded.start_postgres(root)
    with psycopg.connect(first.url(embedded.OWNER)) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    second = embedded.start_postgres(root)
    try:
        with psycopg.connect(second.url(embedded.OWNER)) as owner:
            assert owner.execute("SELECT answer FROM kept").fetchone() == (42,)
            assert owner.execute("SHOW fsync").fetchone() == ("on",)
    finally:
        second.stop()


def test_what_a_killed_run_left_behind_is_ended_first(root: Path) -> None:
    lost = embedded.start_postgres(root), embedded.start_redis(root)
    again = embedded.start_postgres(root), embedded.start_redis(root)
    try:
        assert [server.process.wait(60) is not None for server in lost] == [True, True]
        with psycopg.connect(again[0].url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        for server in again:
            server.stop()


def test_a_pid_file_of_nobody_is_no_obstacle(root: Path) -> None:
    embedded.start_postgres(root).stop()
    (root / "pg" / "postmaster.pid").write_text("4194303\n")
    os.chown(root / "pg" / "postmaster.pid", (root / "pg").stat().st_uid, -1)
    embedded.start_postgres(root).stop()


def test_half_a_cluster_is_made_anew(root: Path) -> None:
    (root / "pg.part").mkdir(parents=True)
    (root / "pg.part" / "PG_VERSION").write_text("18\n")
    embedded.start_postgres(root).stop()
    assert not (root / "pg.part").exists()


def test_neither_server_listens_on_tcp(servers: Servers) -> None:
    for process in (servers.postgres.process, servers.redis.process):
        inodes = {os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
        tcp = (
            Path("/proc/net/tcp").read_text().splitlines()[1:]
            + Path("/proc/net/tcp6").read_text().splitlines()[1:]
        )
        assert not {f"socket:[{line.split()[9]}]" for line in tcp} & inodes


@pytest.mark.parametrize("role", [embedded.ADMIN, embedded.OWNER, embedded.APP, embedded.SEALER])
def test_a_wrong_password_is_refused_over_the_socket(servers: Servers, role: str) -> None:
    right = servers.postgres.url(role, "postgres")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(make_conninfo(right, password="wrong"))


def test_redis_refuses_who_has_no_password(servers: Servers) -> None:
    path = servers.redis.url.partition("@")[2].partition("?")[0]
    no_retry = Retry(NoBackoff(), 0)
    with (
        redis.Redis(unix_socket_path=path, retry=no_retry) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("anything")


def test_redis_gives_our_user_no_power_over_the_server(servers: Servers) -> None:
    with redis.Redis.from_url(servers.redis.url) as client:
        for words in (("CONFIG", "SET", "dir", "/tmp"), ("SHUTDOWN",), ("ACL", "LIST"), ("MODULE", "LIST")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)


def test_secrets_are_random_and_for_their_owner_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ensure_secrets(tmp_path / name)
    for secret in SECRETS:
        mode = (tmp_path / "one" / "secrets" / secret).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert read_secret(tmp_path / "one", secret) != read_secret(tmp_path / "two", secret)
    assert stat.S_IMODE((tmp_path / "one" / "secrets").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", sorted(IRREPLACEABLE))
def test_data_without_its_key_is_a_reason_to_stop(tmp_path: Path, name: str) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("18\n")
    (tmp_path / "secrets" / name).unlink()
    with pytest.raises(CannotStart, match=f"{name} is missing"):
        ensure_secrets(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"Cannot write to .*file/var"):
        ensure_secrets(tmp_path / "file" / "var")


def test_the_cluster_lies_closed_in_a_folder_that_can_be_passed(servers: Servers) -> None:
    modes = {name: stat.S_IMODE((servers.root / name).stat().st_mode) for name in ("pg", "secrets", ".")}
    assert modes == {"pg": 0o700, "secrets": 0o700, ".": 0o711}
    if os.geteuid() == 0:
        assert (servers.root / "pg").stat().st_uid != 0
