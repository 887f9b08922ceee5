"""Two tiers of session and their recorded bodies (§2)."""

import pytest

from tests.brokers.desk import eventually

NO_BRIDGE = {"error": "Bad Request: no bridge", "statusCode": 400}
ACCOUNTS_FIRST = {"error": "Bad Request: Please query /accounts first", "statusCode": 400}


@pytest.fixture
def outer(simulator, stranger):
    """A client with a token and without a brokerage session."""
    simulator.control("DELETE", "/_sim/faults")
    simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
    stranger.mint()
    return stranger


def init(client, compete):
    return client.post("/iserver/auth/ssodh/init", {"publish": True, "compete": compete})


@pytest.mark.parametrize(
    "path", ["/iserver/accounts", "/iserver/account/orders", "/iserver/secdef/search?symbol=A"]
)
def test_without_a_brokerage_session_there_is_no_bridge(outer, path):
    path, _, query = path.partition("?")
    answer = outer.request("GET", path, **dict([query.split("=")] if query else []))
    assert (answer.status_code, answer.json()) == (400, NO_BRIDGE)


def test_the_outer_tier_works_without_it(outer):
    assert outer.get("/portfolio/accounts")[0]["type"] == "DEMO"
    assert outer.post("/tickle")["hmds"] == {"error": "no bridge"}
    assert outer.post("/iserver/auth/status")["authenticated"] is False


def test_init_opens_the_session_and_status_says_established(outer):
    opened = init(outer, False)
    assert (opened["authenticated"], opened["established"], opened["competing"]) == (True, False, False)
    status = outer.post("/iserver/auth/status")
    assert status["established"] is True
    assert status["serverInfo"]["serverName"]


def test_orders_and_quotes_want_the_accounts_first(outer):
    init(outer, False)
    for path, query in (
        ("/iserver/account/orders", {}),
        ("/iserver/marketdata/snapshot", {"conids": 265598}),
    ):
        answer = outer.request("GET", path, **query)
        assert (answer.status_code, answer.json()) == (400, ACCOUNTS_FIRST)
    accounts = outer.get("/iserver/accounts")
    assert accounts["isPaper"] is True
    assert outer.get("/iserver/account/orders") == {"orders": [], "snapshot": False}


def test_a_competing_session_is_left_alone_or_evicted(simulator, outer):
    init(outer, False)
    simulator.fault("competing")
    assert outer.post("/iserver/auth/status")["competing"] is True
    assert outer.request("GET", "/iserver/accounts").json() == NO_BRIDGE
    polite = init(outer, False)
    assert (polite["authenticated"], polite["competing"]) == (False, True)
    taken = init(outer, True)
    assert (taken["authenticated"], taken["competing"]) == (True, False)
    assert outer.request("GET", "/iserver/accounts").status_code == 200


def test_a_competing_session_may_end_by_itself(simulator, outer):
    simulator.fault("competing", seconds=1.0)
    assert init(outer, False)["competing"] is True
    eventually(lambda: init(outer, False)["authenticated"])


def test_a_reset_comes_by_the_exchanges_clock_where_it_is_told_to(simulator, outer):
    for nightly, alive in ((False, True), (True, False)):
        outer.post("/iserver/auth/ssodh/init", {"publish": True, "compete": True})
        simulator.config(nightly_reset=nightly)
        moved = simulator.control("POST", "/_sim/clock", {"next": "reset"})
        assert moved["happened"][-1] == "reset"
        assert outer.post("/iserver/auth/status")["authenticated"] is alive
    simulator.config(nightly_reset=False)


def test_the_night_reset_ends_the_session_and_changes_its_id(simulator, outer):
    init(outer, False)
    before = outer.post("/tickle")["session"]
    simulator.control("POST", "/_sim/night_reset", {})
    assert outer.post("/tickle")["session"] != before
    assert outer.request("GET", "/iserver/accounts").json() == NO_BRIDGE


def test_the_bridge_may_come_up_late(simulator, outer):
    simulator.config(bring_up=30)
    init(outer, False)
    assert outer.post("/iserver/auth/status")["established"] is False
    assert outer.request("GET", "/iserver/accounts").json() == NO_BRIDGE
    simulator.config(bring_up=0)


def test_an_unknown_account_differs_by_tier(client):
    bad = client.request("POST", "/iserver/account/DU0/orders", {"orders": [{}]})
    assert (bad.status_code, bad.json()["error"]) == (400, "Bad Request: accountId is not valid: DU0")
    hidden = client.request("GET", "/portfolio/DU0/summary")
    assert (hidden.status_code, hidden.content) == (401, b"")


def test_the_selected_account_can_be_switched(client):
    first, second = client.credentials["accounts"]
    assert client.post("/iserver/account", {"acctId": first}) == {"success": "Account already set"}
    assert client.post("/iserver/account", {"acctId": second}) == {"set": True, "acctId": second}
    client.post("/iserver/account", {"acctId": first})
    assert client.request("POST", "/iserver/account", {"acctId": "DU0"}).status_code == 500
    assert client.request("POST", "/iserver/account", {}).status_code == 400


def test_control_is_refused_to_web_pages(client):
    answer = client.http.post(f"{client.origin}/_sim/night_reset", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
