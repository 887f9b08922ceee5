"""What a state directory keeps: keys, orders, executions, cash, client order ids, live session tokens."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.simulator.test_orders import accepted, marketable
from tests.brokers.simulator.wire_client import WireClient
from tests.simulator_process import ROOT, start_simulator

CREDENTIALS = {
    "base_url",
    "ws_url",
    "consumer_key",
    "access_token",
    "access_token_secret",
    "dh_prime",
    "signature_key_path",
    "encryption_key_path",
    "accounts",
}


@pytest.fixture
def running(tmp_path):
    """Starts simulators on one directory, and ends whatever still runs."""
    started = []

    def start(*args):
        started.append(start_simulator(tmp_path / "state", *args))
        return started[-1]

    yield start
    for process in started:
        if process.process.is_alive():
            process.kill()


def test_credentials_are_complete_private_and_random(running, tmp_path):
    process = running()
    path = tmp_path / "state" / "credentials.json"
    content = json.loads(path.read_text())
    assert set(content) == CREDENTIALS
    assert len(content["consumer_key"]) == 9
    assert content["consumer_key"].isalpha()
    assert content["consumer_key"].isupper()
    assert len(content["access_token_secret"]) == 344
    for name in ("credentials.json", "registrations.json", "state.db"):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600
    for name in ("signature_key_path", "encryption_key_path"):
        assert stat.S_IMODE(Path(content[name]).stat().st_mode) == 0o600
    assert all(account.startswith("DU") and len(account) == 9 for account in process.credentials["accounts"])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_orders_fills_and_cash_survive_a_restart(running, end):
    first = running()
    client = WireClient(first.credentials).bring_up()
    first.config(fills="immediate")
    resting = client.ticket()
    resting_id = accepted(client.place(resting))
    filled_id = accepted(client.place(marketable(client)))
    client.wait_status(filled_id, "Filled")
    before = first.book()
    client.http.close()
    getattr(first, end)()

    second = running()
    assert second.credentials == first.credentials
    after = second.book()
    assert [o["order_id"] for o in after["orders"]] == [int(resting_id), int(filled_id)]
    assert after["executions"] == before["executions"]
    assert {k: v["cash"] for k, v in after["accounts"].items()} == {
        k: v["cash"] for k, v in before["accounts"].items()
    }
    again = WireClient(second.credentials).bring_up()
    assert again.row(resting_id)["status"] == "Submitted"
    assert "already registered" in again.place(resting)["error"]
    again.http.close()


def test_a_live_session_token_survives_and_the_brokerage_session_does_not(running):
    first = running()
    client = WireClient(first.credentials).bring_up()
    first.kill()
    running()
    assert client.request("GET", "/portfolio/accounts").status_code == 200
    assert client.request("GET", "/iserver/accounts").status_code == 400
    client.close()


def test_a_live_login_calls_itself_live(running):
    process = running("--live")
    client = WireClient(process.credentials).bring_up()
    assert client.get("/iserver/accounts")["isPaper"] is False
    assert client.get("/portfolio/accounts")[0]["type"] != "DEMO"
    assert all(account.startswith("U") for account in client.get("/iserver/accounts")["accounts"])
    client.close()


def test_a_paper_directory_is_not_started_as_live(running):
    running().stop()
    with pytest.raises(RuntimeError, match="holds a paper login"):
        running("--live")


def test_two_simulators_do_not_share_a_directory(running, tmp_path):
    running()
    command = [
        sys.executable,
        "-m",
        "brokers.simulator",
        "--port",
        "0",
        "--state-dir",
        str(tmp_path / "state"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 1
    assert "another simulator is running" in done.stderr


def test_a_port_in_use_is_said_so(running, tmp_path):
    process = running()
    port = process.origin.rpartition(":")[2]
    command = [
        sys.executable,
        "-m",
        "brokers.simulator",
        "--port",
        port,
        "--state-dir",
        str(tmp_path / "other"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr


def test_a_second_key_set_works_beside_the_first_until_revoked(running, tmp_path):
    process = running()
    old = WireClient(process.credentials)
    names = ("signature", "encryption")
    publics = {f"{n}_public_key": _public(process.credentials[f"{n}_key_path"]) for n in names}
    wanted = {k: process.credentials[k] for k in ("consumer_key", "dh_prime")}
    issued = process.control("POST", "/_sim/keys", {**wanted, **publics})
    new = WireClient({**process.credentials, **issued})
    old.mint()
    new.mint()
    assert new.request("GET", "/portfolio/accounts").status_code == 200
    process.control("DELETE", f"/_sim/keys/{process.credentials['access_token']}")
    assert old.request("GET", "/portfolio/accounts").status_code == 401
    assert new.request("GET", "/portfolio/accounts").status_code == 200
    old.close()
    new.close()


def _public(path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(path).read_bytes(), None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()
