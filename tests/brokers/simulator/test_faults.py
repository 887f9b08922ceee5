"""Bad days on request: lost requests, lost replies, wrong statuses; the book knows what happened."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.brokers.desk import eventually

NO_BRIDGE = {"error": "Bad Request: no bridge", "statusCode": 400}


def coids(simulator):
    return [o["cOID"] for o in simulator.book()["orders"]]


def orders_path(client):
    return f"/iserver/account/{client.account}/orders"


@pytest.mark.parametrize(
    ("kind", "accepted"), [("drop_before", False), ("drop_after", True), ("half_answer", True)]
)
def test_a_broken_connection_before_or_after_acceptance(client, simulator, kind, accepted):
    ticket = client.ticket()
    simulator.fault(kind, path="/orders$", method="POST", times=1)
    with pytest.raises(httpx.TransportError):
        client.place(ticket)
    assert (ticket["cOID"] in coids(simulator)) is accepted


@pytest.mark.parametrize("status", [401, 410, 429, 500, 503])
@pytest.mark.parametrize(("when", "accepted"), [("before", False), ("after", True)])
def test_a_status_before_or_after_acceptance(client, simulator, status, when, accepted):
    ticket = client.ticket()
    simulator.fault("status", path="/orders$", method="POST", times=1, status=status, when=when)
    assert client.request("POST", orders_path(client), {"orders": [ticket]}).status_code == status
    assert (ticket["cOID"] in coids(simulator)) is accepted


def test_an_empty_200_after_acceptance(client, simulator):
    ticket = client.ticket()
    simulator.fault("empty_200", path="/orders$", method="POST", times=1, when="after")
    answer = client.request("POST", orders_path(client), {"orders": [ticket]})
    assert (answer.status_code, answer.content) == (200, b"")
    assert ticket["cOID"] in coids(simulator)


def test_latency_delays_only_what_it_names(client, simulator):
    simulator.fault("latency", path="/portfolio/accounts", seconds=0.5, times=1)
    client.get("/portfolio/subaccounts")
    began = time.monotonic()
    client.get("/portfolio/accounts")
    assert time.monotonic() - began >= 0.5, "the other request used it up"


def test_no_bridge_for_a_number_of_requests_or_a_time(client, simulator):
    simulator.fault("no_bridge", path="/iserver/", times=1)
    assert client.request("GET", "/iserver/accounts").json() == NO_BRIDGE
    assert client.request("GET", "/iserver/accounts").status_code == 200
    simulator.fault("no_bridge", path="/iserver/", seconds=1.0)
    assert client.request("GET", "/iserver/accounts").status_code == 400
    eventually(lambda: client.request("GET", "/iserver/accounts").status_code == 200)


def test_faults_can_be_taken_back(client, simulator):
    simulator.fault("status", status=500)
    assert client.request("GET", "/portfolio/accounts").status_code == 500
    simulator.control("DELETE", "/_sim/faults")
    assert client.request("GET", "/portfolio/accounts").status_code == 200


def test_an_unknown_fault_is_refused(simulator):
    with pytest.raises(AssertionError, match="unknown kind"):
        simulator.fault("gremlins")


def test_too_many_requests_end_in_the_penalty_box(client, simulator):
    simulator.config(pacing=True, penalty_seconds=0.3)
    with ThreadPoolExecutor(12) as pool:
        asked = pool.map(lambda _: client.request("GET", "/portfolio/accounts").status_code, range(36))
    assert Counter(asked).keys() == {200, 429}
    eventually(lambda: client.request("GET", "/portfolio/accounts").status_code == 200)
    simulator.config(pacing=False)
