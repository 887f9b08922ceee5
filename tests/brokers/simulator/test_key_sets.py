"""Several key sets at once, as in the weeks of a rotation: who may do what with which of them, and since when."""

import pytest

from brokers.simulator.credentials import GROUP_14_PRIME, new_key_pairs, private_pem, public_pem
from tests.brokers.simulator.wire_client import WireClient
from tests.simulator_process import start_simulator

ORDINARY = {"activation_seconds": 0, "save_replaces": False, "mint_ends_session": False}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    process = start_simulator(tmp_path_factory.mktemp("simulator"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Public halves for the portal, and where the private ones lie."""
    pairs = dict(zip(("signature", "encryption"), new_key_pairs(), strict=True))
    folder = tmp_path_factory.mktemp("keys")
    for name, key in pairs.items():
        (folder / name).write_text(private_pem(key))
    public = {f"{name}_public_key": public_pem(key) for name, key in pairs.items()}
    return public, {f"{name}_key_path": str(folder / name) for name in pairs}


@pytest.fixture
def register(simulator, keys):
    simulator.config(**ORDINARY)
    opened = []

    def register(**more):
        public, paths = keys
        body = {"consumer_key": "newkeyset", "dh_prime": f"{GROUP_14_PRIME:x}", **public, **more}
        issued = simulator.control("POST", "/_sim/keys", body)
        stored = simulator.credentials | paths | issued
        opened.append(WireClient(stored | {"consumer_key": "NEWKEYSET", "dh_prime": f"{GROUP_14_PRIME:x}"}))
        return opened[-1]

    yield register
    for client in opened:
        client.close()


@pytest.fixture
def old(simulator):
    client = WireClient(simulator.credentials)
    yield client
    client.close()


def test_two_sets_work_side_by_side_on_one_brokerage_session(old, register):
    old.bring_up()
    new = register()
    new.mint()
    for client in (old, new, old):
        assert client.request("POST", "/iserver/auth/status").json()["authenticated"] is True


def test_a_set_that_waits_for_its_activation_is_an_invalid_consumer_until_the_night(simulator, register):
    simulator.config(activation_seconds=3600)
    new = register(consumer_key="waitingset")
    new.credentials["consumer_key"] = "WAITINGSET"
    answer = new.mint_request(99)
    assert (answer.status_code, "invalid consumer" in answer.text) == (401, True)
    simulator.control("POST", "/_sim/night_reset", {})
    assert new.mint()


def test_a_secret_that_does_not_match_gives_no_token(register):
    assert register(misfit=True).mint_request(99).status_code == 401


def test_a_set_may_pass_the_proof_and_open_nothing_of_the_brokerage(simulator, register):
    new = register(refuses="/iserver/")
    new.mint()
    assert new.request("GET", "/portfolio/accounts").status_code == 200
    assert new.request("POST", "/iserver/auth/status").status_code == 401
    simulator.control("POST", f"/_sim/keys/{new.credentials['access_token']}", {"refuses": ""})
    assert new.request("POST", "/iserver/auth/status").status_code == 200


def test_a_token_is_renewed_under_the_same_keys(simulator, register):
    new = register()
    issued = simulator.control("POST", "/_sim/keys", {"renews": new.credentials["access_token"]})
    assert issued["access_token"] != new.credentials["access_token"]
    new.mint()
    new.credentials |= issued
    new.mint()


def test_a_mint_by_another_token_ends_the_running_sessions_where_the_broker_is_like_that(
    simulator, old, register
):
    old.bring_up()
    simulator.config(mint_ends_session=True)
    new = register()
    new.mint()
    assert old.request("GET", "/portfolio/accounts").status_code == 401
    assert new.request("POST", "/iserver/auth/status").json()["authenticated"] is False


def test_a_revoked_set_opens_nothing(simulator, register):
    new = register()
    new.mint()
    assert simulator.control("DELETE", f"/_sim/keys/{new.credentials['access_token']}") == {"revoked": True}
    assert new.request("GET", "/portfolio/accounts").status_code == 401


def test_saving_replaces_what_was_there_where_the_portal_is_like_that(simulator, old, register):
    old.mint()
    simulator.config(save_replaces=True)
    new = register()
    assert old.request("GET", "/portfolio/accounts").status_code == 401
    assert old.mint_request(99).status_code == 401
    assert new.mint()
    assert len(simulator.control("GET", "/_sim/keys")) == 1
