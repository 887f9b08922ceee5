"""Contracts and market data (§3, §4)."""

import time
from decimal import Decimal

AAPL = 265598
FIELDS = "31,84,85,86,87,88,7059,6509"


def snapshot(client, conid=AAPL, fields=FIELDS):
    return client.get("/iserver/marketdata/snapshot", conids=conid, fields=fields)[0]


def test_the_first_snapshot_is_a_preflight(client):
    client.get("/iserver/marketdata/unsubscribeall")
    assert snapshot(client) == {"conidEx": "265598", "conid": AAPL}
    row = snapshot(client)
    assert Decimal(row["84"]) < Decimal(row["86"])
    assert row["6509"] == "RpB"
    assert isinstance(row["31"], str)
    assert isinstance(row["87_raw"], float)
    assert client.post("/iserver/marketdata/unsubscribe", {"conid": AAPL}) == {"success": True}
    assert "84" not in snapshot(client)
    assert client.request("POST", "/iserver/marketdata/unsubscribe", {"conid": 8314}).status_code == 500


def test_the_market_moves_and_can_be_frozen_and_set(client, simulator):
    seen = set()
    for _ in range(60):
        seen.add(snapshot(client)["84"])
        if len(seen) > 2:
            break
        time.sleep(0.05)
    assert len(seen) > 2
    simulator.config(freeze=True)
    simulator.control("POST", "/_sim/price", {"conid": AAPL, "price": 123.45})
    first = snapshot(client)
    assert abs(Decimal(first["84"]) - Decimal("123.45")) <= Decimal("0.02")
    assert snapshot(client)["84"] == first["84"]
    simulator.control("POST", "/_sim/price", {"conid": AAPL, "price": "255.30"})


def test_without_data_fields_are_absent(client, simulator):
    simulator.config(no_data_conids=[AAPL])
    snapshot(client)
    assert "84" not in snapshot(client)


def test_stocks_search_rules_and_increments(client):
    assert client.get("/trsrv/stocks", symbols="AAPL,NOPE")["NOPE"] == []
    row = client.post("/iserver/secdef/search", {"symbol": "AAPL"})[0]
    assert (row["conid"], row["restricted"]) == ("265598", None)
    assert client.get("/iserver/secdef/search", symbol="NOPE") == {"error": "No symbol found"}
    rules = client.post("/iserver/contract/rules", {"conid": AAPL, "isBuy": True})
    assert (rules["increment"], rules["incrementDigits"]) == (0.01, 2)
    assert client.get(f"/iserver/contract/{AAPL}/info-and-rules")["rules"]["tifTypes"]
    assert client.get(f"/iserver/contract/{AAPL}/info")["con_id"] == AAPL
    assert client.request("GET", "/iserver/contract/1/info").status_code == 400
    assert client.get("/trsrv/secdef", conids=AAPL)["secdef"][0]["ticker"] == "AAPL"
    assert client.get("/contract/trading-schedule", conid=AAPL)["exchange_time_zone"] == "US/Eastern"


def test_options_need_a_search_first(client):
    month = "JAN30"
    assert client.get("/iserver/secdef/strikes", conid=AAPL, sectype="OPT", month=month) == {
        "call": [],
        "put": [],
    }
    refused = client.request("GET", "/iserver/secdef/info", conid=AAPL, sectype="OPT", month=month)
    assert refused.status_code == 400
    sections = client.get("/iserver/secdef/search", symbol="AAPL")[0]["sections"]
    month = next(s for s in sections if s["secType"] == "OPT")["months"].split(";")[1]
    strikes = client.get("/iserver/secdef/strikes", conid=AAPL, sectype="OPT", month=month)
    assert 255.0 in strikes["call"]
    query = {"conid": AAPL, "sectype": "OPT", "month": month, "strike": 255, "right": "C"}
    (option,) = client.get("/iserver/secdef/info", **query)
    assert option["multiplier"] == "100"
    snapshot(client, option["conid"], "84,7308")
    assert 0 < float(snapshot(client, option["conid"], "84,7308")["7308"]) < 1


def test_history_has_bars_in_order(client):
    body = client.get("/iserver/marketdata/history", conid=AAPL, period="1d", bar="5min")
    times = [bar["t"] for bar in body["data"]]
    assert times == sorted(times)
    assert len(times) == 288
    assert all(
        bar["l"] <= min(bar["o"], bar["c"]) and bar["h"] >= max(bar["o"], bar["c"]) for bar in body["data"]
    )
    assert client.request("GET", "/iserver/marketdata/history", conid=AAPL, bar="soon").status_code == 500


def test_an_index_has_no_book(client):
    snapshot(client, 416904)
    row = snapshot(client, 416904)
    assert "31" in row
    assert "84" not in row
