"""Questions and replies (§6.4)."""

import time

from tests.brokers.desk import eventually
from tests.brokers.simulator.test_orders import accepted

FAR = {"price": 200.0}


def confirm(client, question, confirmed=True):
    return client.request("POST", f"/iserver/reply/{question[0]['id']}", {"confirmed": confirmed})


def test_a_price_far_away_is_asked_about(client, simulator):
    ticket = client.ticket(**FAR)
    question = client.place(ticket)
    assert question[0]["messageIds"] == ["o163"]
    text = question[0]["message"][0].replace("\n", "")
    assert "price exceeds the Percentage constraint of 3%" in text
    assert ticket["cOID"] not in [o["cOID"] for o in simulator.book()["orders"]]
    assert confirm(client, question).json()[0]["order_status"] == "Submitted"
    assert ticket["cOID"] in [o["cOID"] for o in simulator.book()["orders"]]


def test_a_chain_is_answered_link_by_link(client, simulator):
    simulator.config(no_data_conids=[265598], questions=["o10153"])
    first = client.place(client.ticket(price=255.0))
    assert first[0]["messageIds"] == ["o354"]
    second = confirm(client, first).json()
    assert second[0]["messageIds"] == ["o10153"]
    assert second[0]["id"] != first[0]["id"]
    assert accepted(confirm(client, second).json())


def test_no_discards_the_order(client, simulator):
    ticket = client.ticket(**FAR)
    question = client.place(ticket)
    assert confirm(client, question, False).json() == {"error": "Order not confirmed "}
    assert ticket["cOID"] not in [o["cOID"] for o in simulator.book()["orders"]]
    used = confirm(client, question)
    assert (used.status_code, used.json()) == (400, {"error": f"reply id not found: '{question[0]['id']}'"})


def test_other_order_traffic_makes_a_question_stale(client, simulator):
    ticket = client.ticket(**FAR)
    question = client.place(ticket)
    accepted(client.place(client.ticket()))
    late = confirm(client, question)
    assert (late.status_code, late.json()["error"]) == (503, "Service Unavailable")
    assert ticket["cOID"] not in [o["cOID"] for o in simulator.book()["orders"]]


def test_a_stale_question_may_yet_go_live(client, simulator):
    simulator.config(stale_reply_goes_live=True)
    ticket = client.ticket(**FAR)
    question = client.place(ticket)
    accepted(client.place(client.ticket()))
    assert confirm(client, question).status_code == 503
    eventually(lambda: ticket["cOID"] in [o["cOID"] for o in simulator.book()["orders"]])


def test_a_question_forgotten_by_request_never_goes_live(client, simulator):
    ticket = client.ticket(**FAR)
    client.place(ticket)
    simulator.control("DELETE", "/_sim/question")
    simulator.config(stale_reply_goes_live=True)
    accepted(client.place(client.ticket()))
    time.sleep(0.8)
    assert ticket["cOID"] not in [o["cOID"] for o in simulator.book()["orders"]]


def test_suppression_lasts_for_the_session(client, simulator):
    assert client.post("/iserver/questions/suppress", {"messageIds": ["o163"]}) == {"status": "submitted"}
    accepted(client.place(client.ticket(**FAR)))
    assert client.post("/iserver/questions/suppress/reset") == {"status": "submitted"}
    assert client.place(client.ticket(**FAR))[0]["messageIds"] == ["o163"]
    assert client.request("POST", "/iserver/questions/suppress", {"messageIds": []}).status_code == 500


def test_market_orders_ask_only_when_configured(client, simulator):
    market = {"orderType": "MKT", "price": None, "quantity": 1}
    accepted(client.place(client.ticket(**market)))
    simulator.config(questions=["o10151"])
    assert client.place(client.ticket(**market))[0]["messageIds"] == ["o10151"]
    accepted(client.place(client.ticket()))


def test_a_far_modification_is_asked_about_too(client):
    ticket = client.ticket()
    order_id = accepted(client.place(ticket))
    path = f"/iserver/account/{client.account}/order/{order_id}"
    question = client.post(path, {**ticket, **FAR})
    assert question[0]["messageIds"] == ["o163"]
    assert accepted(confirm(client, question).json()) == order_id
    assert client.row(order_id)["price"] == "200"
