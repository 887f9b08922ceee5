"""The life of an order on the wire (§6)."""

import secrets
import time
from decimal import Decimal

import pytest

from tests.brokers.desk import eventually

SPY = 756733
SPX = 416904


def accepted(answer):
    """The order id of an accepted answer."""
    assert isinstance(answer, list), answer
    assert "order_id" in answer[0], answer
    return answer[0]["order_id"]


def marketable(client, **changes):
    return client.ticket(price=round(float(client.quote()["86"]) * 1.01, 2), **changes)


def of_book(simulator, order_id):
    return next(o for o in simulator.book()["orders"] if o["order_id"] == int(order_id))


def test_a_limit_near_the_market_is_accepted_without_a_question(client):
    ticket = client.ticket()
    (row,) = client.place(ticket)
    assert row["order_status"] == "Submitted"
    assert row["local_order_id"] == ticket["cOID"]
    assert isinstance(row["order_id"], str)
    live = client.row(row["order_id"])
    assert live["order_ref"] == ticket["cOID"]
    assert (live["status"], live["timeInForce"], live["sizeAndFills"]) == ("Submitted", "CLOSE", "0/10")
    assert live["price"] == f"{ticket['price']}".rstrip("0").rstrip(".")
    assert isinstance(live["orderId"], int)


def test_status_has_snake_case_and_strings(client):
    order_id = accepted(client.place(client.ticket(tif="GTC")))
    status = client.get(f"/iserver/account/order/status/{order_id}")
    assert (status["order_id"], status["side"], status["total_size"]) == (int(order_id), "B", "10.0")
    assert (status["order_status"], status["tif"], status["cum_fill"]) == ("Submitted", "GTC", "0.0")
    assert client.request("GET", "/iserver/account/order/status/1").status_code == 400


def test_a_marketable_limit_fills_and_shows_as_a_trade(client, simulator):
    order_id = accepted(client.place(marketable(client)))
    live = client.wait_status(order_id, "Filled")
    assert (live["filledQuantity"], live["remainingQuantity"], live["sizeAndFills"]) == (10.0, 0.0, "10")
    trade = next(t for t in client.get("/iserver/account/trades", days=1) if t["order_id"] == int(order_id))
    assert (trade["side"], trade["size"], trade["commission"]) == ("B", 10.0, "1")
    assert Decimal(trade["price"]) == Decimal(of_book(simulator, order_id)["spent"]) / 10


def test_a_large_order_fills_in_parts_that_add_up(client, simulator):
    order_id = accepted(client.place(marketable(client, quantity=1200, conid=265598)))
    client.wait_status(order_id, "Filled")
    fills = [e for e in simulator.book()["executions"] if e["order_id"] == int(order_id)]
    assert len(fills) >= 3
    assert sum(Decimal(e["quantity"]) for e in fills) == 1200
    assert sum(Decimal(e["commission"]) for e in fills) == Decimal("6.00")
    assert len({e["execution_id"] for e in fills}) == len(fills)


def test_a_resting_order_fills_when_the_market_comes_to_it(client, simulator):
    order_id = accepted(client.place(client.ticket()))
    price = Decimal(client.row(order_id)["price"])
    simulator.control("POST", "/_sim/price", {"conid": 265598, "price": str(price - 1)})
    client.wait_status(order_id, "Filled")
    simulator.control("POST", "/_sim/price", {"conid": 265598, "price": "255.30"})


def test_fills_can_be_withheld_or_given_by_hand(client, simulator):
    simulator.config(fills="never")
    order_id = accepted(client.place(marketable(client)))
    client.wait_status(order_id, "Submitted")
    time.sleep(0.5)
    assert client.row(order_id)["status"] == "Submitted"
    simulator.control("POST", "/_sim/fill", {"order_id": int(order_id), "quantity": 4, "price": "255.25"})
    live = client.row(order_id)
    assert (live["status"], live["sizeAndFills"], live["avgPrice"]) == ("Submitted", "4/10", "255.25")


def test_a_partial_fill_rests(client, simulator):
    simulator.config(fills="partial")
    order_id = accepted(client.place(marketable(client)))
    eventually(lambda: client.row(order_id)["sizeAndFills"] == "5/10")
    time.sleep(0.3)
    assert client.row(order_id)["sizeAndFills"] == "5/10"


def test_the_same_client_order_id_is_accepted_once_even_after_cancel(client, simulator):
    ticket = client.ticket()
    order_id = accepted(client.place(ticket))
    client.request("DELETE", f"/iserver/account/{client.account}/order/{order_id}")
    client.wait_status(order_id, "Cancelled")
    again = client.place(ticket)
    said = f"Order couldn't be submitted: Local order ID={ticket['cOID']} is already registered."
    assert again == {"error": said}
    simulator.config(duplicate_id_status=400)
    refused = client.request("POST", f"/iserver/account/{client.account}/orders", {"orders": [ticket]})
    simulator.config(duplicate_id_status=200)
    assert (refused.status_code, refused.json()) == (400, {"error": said})
    assert [o["cOID"] for o in simulator.book()["orders"]].count(ticket["cOID"]) == 1


def test_cancel_is_acknowledged_first_and_done_later(client, simulator):
    simulator.config(cancel_delay=1.5)
    order_id = accepted(client.place(client.ticket()))
    said = client.request("DELETE", f"/iserver/account/{client.account}/order/{order_id}").json()
    assert (said["msg"], said["order_id"]) == ("Request was submitted", int(order_id))
    assert client.row(order_id)["status"] == "PendingCancel"
    client.wait_status(order_id, "Cancelled")
    simulator.config(cancel_delay=0.1)
    again = client.request("DELETE", f"/iserver/account/{client.account}/order/{order_id}")
    assert (again.status_code, again.json()) == (400, {"error": "Order is inactive"})


def test_cancel_of_an_unknown_order_is_a_400_and_minus_one_cancels_all(client):
    path = f"/iserver/account/{client.account}/order"
    unknown = client.request("DELETE", f"{path}/1")
    assert (unknown.status_code, unknown.json()) == (400, {"error": "OrderID 1 doesn't exist"})
    ids = [accepted(client.place(client.ticket())) for _ in range(2)]
    client.request("DELETE", f"{path}/-1")
    for order_id in ids:
        client.wait_status(order_id, "Cancelled")


def test_live_orders_start_empty_and_force_empties_them(client):
    order_id = accepted(client.place(client.ticket()))
    assert client.row(order_id)
    assert client.get("/iserver/account/orders", force="True") == {"orders": [], "snapshot": False}
    assert client.get("/iserver/account/orders")["snapshot"] is True


def test_filters_are_snake_case_and_camel_case_breaks(client):
    accepted(client.place(client.ticket()))
    rows = client.get("/iserver/account/orders", filters="submitted,pre_submitted")["orders"]
    assert rows
    assert {row["status"] for row in rows} <= {"Submitted", "PreSubmitted"}
    assert client.request("GET", "/iserver/account/orders", filters="Submitted").status_code == 500


def test_accounts_do_not_see_each_others_orders(client):
    second = client.credentials["accounts"][1]
    order_id = accepted(client.place(client.ticket(), account=second))
    ids = [row["orderId"] for row in client.get("/iserver/account/orders")["orders"]]
    assert int(order_id) not in ids
    rows = client.get("/iserver/account/orders", accountId=second)["orders"]
    assert int(order_id) in [row["orderId"] for row in rows]


def test_modify_changes_price_and_quantity(client, simulator):
    ticket = client.ticket(price=250.0)
    order_id = accepted(client.place(ticket))
    changed = {**ticket, "price": 251.5, "quantity": 7}
    answer = client.post(f"/iserver/account/{client.account}/order/{order_id}", changed)
    assert accepted(answer) == order_id
    live = client.row(order_id)
    assert (live["price"], live["totalSize"]) == ("251.5", 7.0)
    missing = client.request("POST", f"/iserver/account/{client.account}/order/1", changed)
    assert missing.status_code == 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"price": 100.005}, "minimum price variation"),
        ({"price": None}, "invalid order price fields"),
        ({"price": -5}, "invalid order price fields"),
        ({"quantity": 0}, "quantity must be positive"),
        ({"orderType": "STP_LMT"}, "Invalid order type"),
        ({"tif": "SOON"}, "Invalid time in force"),
        ({"conid": SPX}, "No trading permissions."),
        ({"conid": 1}, "No contract found"),
        ({"quantity": 90_000}, "MUST EXCEED THE INITIAL MARGIN"),
        ({"parentId": "nobody"}, "parent order not found"),
    ],
)
def test_business_rejects_are_a_200_with_an_error(client, simulator, change, said):
    before = len(simulator.book()["orders"])
    assert said in client.place(client.ticket(**{"price": 255.0, **change}))["error"]
    assert len(simulator.book()["orders"]) == before


def test_malformed_bodies_are_a_400(client):
    path = f"/iserver/account/{client.account}/orders"
    for body in ({}, {"orders": []}, {"orders": [client.ticket(side="HOLD")]}, {"orders": [{"conid": "x"}]}):
        assert client.request("POST", path, body).status_code == 400


def test_unrelated_orders_do_not_travel_together(client):
    body = {"orders": [client.ticket(), client.ticket()]}
    assert client.request("POST", f"/iserver/account/{client.account}/orders", body).status_code == 400


def test_the_sixteenth_order_on_one_side_is_refused(client):
    second = client.credentials["accounts"][1]
    for _ in range(15):
        accepted(client.place(client.ticket(conid=8894, price=70.5, quantity=1), account=second))
    answer = client.place(client.ticket(conid=8894, price=70.5, quantity=1), account=second)
    assert "orders working on either the buy or sell side" in answer["error"]


def test_a_bracket_waits_for_its_parent_and_one_exit_cancels_the_other(client, simulator):
    simulator.config(fills="never")
    simulator.control("POST", "/_sim/price", {"conid": SPY, "price": "655.00"})
    parent = client.ticket(conid=SPY, price=650.0)
    exits = {"conid": SPY, "side": "SELL", "parentId": parent["cOID"], "cOID": None}
    target = client.ticket(**exits, price=670.0)
    stop = client.ticket(**exits, orderType="STP", price=640.0)
    question = client.place(parent, target, stop)
    assert question[0]["messageIds"] == ["o10331"]
    rows = client.post(f"/iserver/reply/{question[0]['id']}", {"confirmed": True})
    assert [row.get("parent_order_id") is None for row in rows] == [False, False, True]
    stop_id, target_id, parent_id = (row["order_id"] for row in rows)
    assert [row["order_status"] for row in rows] == ["PreSubmitted", "PreSubmitted", "Submitted"]
    simulator.control("POST", "/_sim/fill", {"order_id": int(parent_id)})
    assert client.row(target_id)["status"] == "Submitted"
    simulator.control("POST", "/_sim/fill", {"order_id": int(target_id)})
    assert client.row(stop_id)["status"] == "Cancelled"


def test_a_child_that_fails_leaves_an_inactive_parent(client):
    parent = client.ticket(price=250.0)
    child = client.ticket(side="SELL", parentId=parent["cOID"], cOID=None, price=-1)
    rows = client.place(parent, child)
    assert [row["order_status"] for row in rows] == ["Failed", "Inactive"]


def test_a_stop_triggers_and_fills(client, simulator):
    simulator.control("POST", "/_sim/price", {"conid": 8314, "price": "291.30"})
    question = client.place(client.ticket(conid=8314, orderType="STP", price=295.0))
    order_id = accepted(client.post(f"/iserver/reply/{question[0]['id']}", {"confirmed": True}))
    assert client.row(order_id)["status"] == "PreSubmitted"
    simulator.control("POST", "/_sim/price", {"conid": 8314, "price": "296.00"})
    client.wait_status(order_id, "Filled")


def test_an_ioc_order_never_rests(client):
    order_id = accepted(client.place(client.ticket(tif="IOC")))
    client.wait_status(order_id, "Cancelled")


def test_futures_want_the_manual_indicator(client):
    future = client.get("/trsrv/futures", symbols="MES")["MES"][0]["conid"]
    ticket = client.ticket(conid=future, quantity=1, orderType="MKT", price=None)
    refused = client.request("POST", f"/iserver/account/{client.account}/orders", {"orders": [ticket]})
    assert refused.status_code == 400
    named = {**ticket, "manualIndicator": False, "extOperator": "scanner-alpha"}
    client.wait_status(accepted(client.place(named)), "Filled")


def test_what_if_shows_numbers_as_text(client):
    body = client.post(
        f"/iserver/account/{client.account}/orders/whatif", {"orders": [client.ticket(price=250.0)]}
    )
    assert body["amount"] == {
        "amount": "2,500 USD (10 Shares)",
        "commission": "1.00 USD",
        "total": "2,501 USD",
    }
    assert set(body["initial"]) == {"current", "change", "after"}
    assert body["error"] is None
    bad = {"orders": [client.ticket(conid=1, price=2.0)]}
    assert client.request("POST", f"/iserver/account/{client.account}/orders/whatif", bad).status_code == 400


def test_an_order_from_tws_is_seen_without_a_reference(client, simulator):
    terms = {"conid": 265598, "side": "SELL", "quantity": 3, "price": 300}
    made = simulator.control("POST", "/_sim/manual_order", terms)
    live = client.row(made["order_id"])
    assert "order_ref" not in live
    assert live["side"] == "SELL"


def test_the_book_counts_arrivals_that_were_not_accepted(client, simulator):
    coid = secrets.token_hex(16)
    client.place(client.ticket(cOID=coid, price=100.005))
    (arrival,) = [a for a in simulator.book()["arrivals"] if a["cOIDs"] == [coid]]
    assert arrival["outcome"].startswith("rejected")
