"""Cash, positions, margin and profit that add up (§5)."""

from decimal import Decimal

import pytest

from tests.brokers.simulator.test_orders import accepted

MSFT = 272093


@pytest.fixture
def frozen(client, simulator):
    """A market that stands still, so that numbers can be compared."""
    simulator.config(freeze=True, fills="immediate")
    return client


def trade(client, side, quantity, conid=MSFT):
    order_id = accepted(
        client.place(client.ticket(conid=conid, orderType="MKT", side=side, quantity=quantity, price=None))
    )
    client.wait_status(order_id, "Filled")
    return next(t for t in client.get("/iserver/account/trades", days=1) if t["order_id"] == int(order_id))


def usd(client):
    return Decimal(str(client.get(f"/portfolio/{client.account}/ledger")["USD"]["cashbalance"]))


def test_a_purchase_moves_cash_by_value_and_commission(frozen):
    before = usd(frozen)
    fill = trade(frozen, "BUY", 300)
    assert fill["commission"] == "1.5"
    assert usd(frozen) == before - 300 * Decimal(fill["price"]) - Decimal("1.5")


def test_a_london_stock_is_priced_in_pence_and_paid_in_pounds(frozen):
    vod = next(
        contract["conid"]
        for company in frozen.get("/trsrv/stocks", symbols="VOD")["VOD"]
        for contract in company["contracts"]
        if contract["exchange"] == "LSE"
    )
    fill = trade(frozen, "BUY", 1000, vod)
    pounds = 1000 * Decimal(fill["price"]) / 100
    assert fill["commission"] == "4"
    ledger = frozen.get(f"/portfolio/{frozen.account}/ledger")
    assert Decimal(str(ledger["GBP"]["cashbalance"])) == -pounds.quantize(Decimal("0.01"))
    assert ledger["GBP"]["stockmarketvalue"] == pytest.approx(float(pounds), rel=0.01)
    assert ledger["GBP"]["exchangerate"] > 1
    frozen.get(f"/portfolio/{frozen.account}/positions/0")
    row = next(r for r in frozen.get(f"/portfolio/{frozen.account}/positions/0") if r["conid"] == vod)
    assert (row["currency"], row["isUS"]) == ("GBP", False)
    assert row["mktValue"] == pytest.approx(row["position"] * row["mktPrice"] / 100, abs=0.01)
    assert row["baseMktValue"] == pytest.approx(row["mktValue"] * ledger["GBP"]["exchangerate"], rel=0.001)
    sold = trade(frozen, "SELL", 1000, vod)
    left = frozen.get(f"/portfolio/{frozen.account}/ledger")["GBP"]["cashbalance"]
    assert left == pytest.approx(float(1000 * Decimal(sold["price"]) / 100 - pounds), abs=0.01)


def test_position_profit_and_net_liquidation_agree(frozen):
    trade(frozen, "BUY", 10)
    frozen.get(f"/portfolio/{frozen.account}/positions/0")
    rows = frozen.get(f"/portfolio/{frozen.account}/positions/0")
    row = next(r for r in rows if r["conid"] == MSFT)
    assert row["mktValue"] == pytest.approx(row["position"] * row["mktPrice"], abs=0.01)
    assert row["unrealizedPnl"] == pytest.approx(
        (row["mktPrice"] - row["avgPrice"]) * row["position"], abs=0.01
    )
    base = frozen.get(f"/portfolio/{frozen.account}/ledger")["BASE"]
    held = (
        base["cashbalance"]
        + base["stockmarketvalue"]
        + base["stockoptionmarketvalue"]
        + base["futuremarketvalue"]
    )
    assert base["netliquidationvalue"] == pytest.approx(held, abs=0.05)
    summary = frozen.get(f"/portfolio/{frozen.account}/summary")
    assert summary["netliquidation"]["amount"] == pytest.approx(base["netliquidationvalue"], abs=0.05)
    gap = summary["netliquidation"]["amount"] - summary["initmarginreq"]["amount"]
    assert summary["availablefunds"]["amount"] == pytest.approx(gap, abs=0.05)
    frozen.get("/iserver/account/pnl/partitioned")
    profit = frozen.get("/iserver/account/pnl/partitioned")["upnl"][f"{frozen.account}.Core"]
    assert profit["upl"] == pytest.approx(base["unrealizedpnl"], abs=0.01)
    assert profit["nl"] == pytest.approx(base["netliquidationvalue"], abs=0.05)


def test_a_round_trip_realises_the_difference(frozen, simulator):
    account = f"/portfolio2/{frozen.account}/positions"
    conid = 10098
    bought = trade(frozen, "BUY", 100, conid)
    simulator.control("POST", "/_sim/price", {"conid": conid, "percent": 5})
    sold = trade(frozen, "SELL", 60, conid)
    row = next(r for r in frozen.get(account) if r["conid"] == str(conid))
    gained = (Decimal(sold["price"]) - Decimal(bought["price"])) * 60
    assert row["realizedPnl"] == pytest.approx(float(gained), abs=0.01)
    assert (row["position"], row["avgPrice"]) == (40.0, float(bought["price"]))
    trade(frozen, "SELL", 40, conid)
    assert str(conid) not in [r["conid"] for r in frozen.get(account)]


def test_a_sale_beyond_the_holding_opens_a_short(frozen):
    conid = 13977
    trade(frozen, "BUY", 10, conid)
    sold = trade(frozen, "SELL", 25, conid)
    assert sold["position"] == "-15"
    row = next(r for r in frozen.get(f"/portfolio2/{frozen.account}/positions") if r["conid"] == str(conid))
    assert row["position"] == -15.0
    assert row["avgPrice"] == float(sold["price"])


def test_currencies_move_both_cash_balances(frozen):
    eur = 12087792
    fill = trade(frozen, "BUY", 10_000, eur)
    ledger = frozen.get(f"/portfolio/{frozen.account}/ledger")
    assert ledger["EUR"]["cashbalance"] == 10_000.0
    assert ledger["EUR"]["exchangerate"] == pytest.approx(float(fill["price"]), rel=0.001)


def test_first_reads_are_sparse_and_empty_ones_have_no_body(frozen, simulator):
    trade(frozen, "BUY", 1)
    frozen.post(f"/portfolio/{frozen.account}/positions/invalidate")
    first = frozen.get(f"/portfolio/{frozen.account}/positions/0")[0]
    second = frozen.get(f"/portfolio/{frozen.account}/positions/0")[0]
    assert len(first) == 21
    assert len(second) > 40
    assert second["strike"] == "0"
    assert frozen.get(f"/portfolio/{frozen.account}/positions/9") == []
    empty = frozen.request("GET", f"/portfolio/{frozen.account}/position/4391")
    assert (empty.status_code, empty.content) == (200, b"")


def test_the_summary_has_the_recorded_keys(frozen):
    summary = frozen.get(f"/portfolio/{frozen.account}/summary")
    assert len(summary) == 143
    assert summary["accountcode"]["value"] == frozen.account
    assert summary["accountcode"]["currency"] is None
    assert summary["netliquidation"]["value"] is None


def test_profit_is_empty_at_first(frozen):
    assert frozen.get("/iserver/account/pnl/partitioned") == {"upnl": {}}


def test_daily_profit_of_a_position_begins_anew_each_day_and_is_of_the_selected_account(frozen, simulator):
    conid = 4391
    trade(frozen, "BUY", 2000, conid)
    fields = {"conids": conid, "fields": "76,78,7920,80"}

    def told() -> dict[str, str]:
        simulator.config(snapshot_warmup=0)
        frozen.get("/iserver/marketdata/snapshot", **fields)
        return frozen.get("/iserver/marketdata/snapshot", **fields)[0]

    simulator.control("POST", "/_sim/night_reset", {})
    frozen.bring_up()
    assert (told()["76"], told()["7920"]) == ("2.0K", "0.00")
    simulator.control("POST", "/_sim/price", {"conid": conid, "percent": 2})
    held = next(r for r in frozen.get(f"/portfolio/{frozen.account}/positions/0") if r["conid"] == conid)
    assert 0 < Decimal(told()["7920"]) < Decimal(str(held["mktValue"])) * Decimal("0.03")
    other = next(each for each in simulator.credentials["accounts"] if each != frozen.account)
    frozen.post("/iserver/account", {"acctId": other})
    assert "76" not in told()
    frozen.post("/iserver/account", {"acctId": frozen.account})
