"""Settings: whole or not at all, by whatever door the processes start."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client

from cerbero import checks
from cerbero import settings as module
from cerbero.errors import CannotStart
from tests.doors import DAPHNE, GRANIAN
from tests.rig import BASE_DIR, Database, Servers

LIVE = {"LIVE_TRADING": "enabled", "EMBEDDED_SERVERS": "0", "PUBLIC_URL": "https://desk.example"}
HALF = {
    "misspelt": ({"LIVE_TRADING": "true"}, "must be 'enabled' or 'disabled'"),
    "embedded": (LIVE | {"EMBEDDED_SERVERS": "1"}, "does not go with embedded servers"),
    "plain http": (LIVE | {"PUBLIC_URL": "http://desk.example"}, "begins with https://"),
    "fail point": (LIVE | {"FAIL_POINT": "SIGKILL place.before_send 1"}, "does not go with FAIL_POINT"),
    "debug": (LIVE | {"DEBUG": "1"}, "does not go with DEBUG"),
}
# The relay asks as `orders` does; it is started below, without a process of its own.
DOORS = {
    "manage.py": ["manage.py", "check"],
    "tools": ["-m", *GRANIAN, "cerbero.wsgi:tools_application"],
    "web": ["-m", *DAPHNE],
    "worker": ["-m", "celery", "-A", "cerbero", "worker", "--pool=solo"],
    "orders": ["manage.py", "run_orders"],
    "sealer": ["manage.py", "run_sealer"],
}


def run(
    servers: Servers, words: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess:
    whole = os.environ | servers.environment("cerbero") | environment
    return subprocess.run(
        [sys.executable, *(word.format(folder=folder, port=0) for word in words)],
        cwd=BASE_DIR,
        env=whole,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_half_set_live_flags_start_nothing(servers: Servers, tmp_path: Path) -> None:
    environment, sentence = HALF["embedded"]
    with ThreadPoolExecutor() as pool:
        ends = pool.map(lambda words: run(servers, words, environment, tmp_path), DOORS.values())
    for door, done in zip(DOORS, ends, strict=True):
        assert done.returncode != 0, door
        assert sentence in done.stdout + done.stderr, door


@pytest.mark.parametrize("half", sorted(HALF))
def test_each_half_is_refused_with_its_sentence(settings, half: str) -> None:
    environment, sentence = HALF[half]
    settings.LIVE_TRADING = environment["LIVE_TRADING"]
    settings.EMBEDDED_SERVERS = environment.get("EMBEDDED_SERVERS") == "1"
    settings.PUBLIC_URL = environment.get("PUBLIC_URL", "http://localhost:8000")
    settings.DEBUG = environment.get("DEBUG") == "1"
    settings.FAIL_POINT = environment.get("FAIL_POINT", "")
    with pytest.raises(CannotStart, match=sentence):
        checks.refuse_half_set_flags()


def test_the_relay_does_not_start_with_half_of_them(settings) -> None:
    settings.LIVE_TRADING = "true"
    with pytest.raises(CommandError, match="must be 'enabled' or 'disabled'"):
        call_command("run_relay")


def test_whole_flags_and_no_flags_are_both_fine(settings) -> None:
    checks.refuse_half_set_flags()
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    settings.PUBLIC_URL, settings.DEBUG = "https://desk.example", False
    checks.refuse_half_set_flags()


@pytest.mark.parametrize("proxy", ["0", "1"])
def test_check_deploy_has_nothing_to_say_in_the_production_shape(
    servers: Servers, tmp_path: Path, proxy: str
) -> None:
    production = LIVE | {"TRUST_PROXY": proxy}
    done = run(servers, ["manage.py", "check", "--deploy", "--fail-level", "WARNING"], production, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


def test_plain_http_is_sent_to_https_but_for_the_probes(client: Client, settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    moved = client.get("/apidocs")
    assert (moved.status_code, moved["Location"]) == (301, "https://testserver/apidocs")
    assert client.get("/health").status_code == 200
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert client.get("/apidocs", headers={"X-Forwarded-Proto": "https"}).status_code == 200


def test_the_safe_side_is_the_default(settings) -> None:
    assert settings.DEBUG is False
    assert settings.LIVE_TRADING == "disabled"
    assert settings.SESSION_COOKIE_HTTPONLY
    assert settings.CELERY_ACCEPT_CONTENT == ["json"]
    assert settings.CELERY_WORKER_ENABLE_REMOTE_CONTROL is False
    assert "locmem" in settings.CACHES["default"]["BACKEND"]


def test_celery_finds_its_application_by_the_package() -> None:
    from celery.app.utils import find_app

    assert find_app("cerbero").main == "cerbero"


def test_a_flag_is_true_or_false_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, value in (
        ("1", True),
        ("Yes", True),
        ("on", True),
        ("0", False),
        ("", False),
        ("False", False),
    ):
        monkeypatch.setenv("SOME_FLAG", text)
        assert module.flag("SOME_FLAG") is value
    monkeypatch.setenv("SOME_FLAG", "maybe")
    with pytest.raises(ImproperlyConfigured, match="SOME_FLAG must be true or false"):
        module.flag("SOME_FLAG")


def test_a_whole_number_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.whole("SOME_NUMBER", 7) == 7
    monkeypatch.setenv("SOME_NUMBER", "7.5")
    with pytest.raises(ImproperlyConfigured, match="must be a whole number"):
        module.whole("SOME_NUMBER", 7)


def test_a_secret_comes_from_its_variable_or_its_file_or_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ImproperlyConfigured, match="SOME_SECRET is missing"):
        module.secret("SOME_SECRET")
    path = tmp_path / "some_secret"
    path.write_text("from-file\n")
    monkeypatch.setenv("SOME_SECRET_FILE", str(path))
    assert module.secret("SOME_SECRET") == "from-file"
    monkeypatch.setenv("SOME_SECRET", "from-variable")
    assert module.secret("SOME_SECRET") == "from-variable"


def test_a_database_url_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module.database("postgresql://us%40er:p%2Fw@/desk?host=%2Ftmp%2Fpg&sslmode=require")
    assert (found["USER"], found["PASSWORD"], found["NAME"], found["HOST"]) == (
        "us@er",
        "p/w",
        "desk",
        "/tmp/pg",
    )
    assert found["OPTIONS"]["sslmode"] == "require"
    with pytest.raises(ImproperlyConfigured, match="Postgres is the only database"):
        module.database("mysql://x")


def test_a_foreign_page_cannot_open_our_socket(fresh_database: Database) -> None:
    from cerbero.asgi import own_origins

    assert "http://localhost:8000" in own_origins()
    assert all(origin.endswith(":8000") for origin in own_origins())
