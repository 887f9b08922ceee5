"""What bots read of accounts, holdings, orders and sessions, over the wire."""

import uuid
from datetime import date
from decimal import Decimal

import pytest

from cerbero.errors import BadInput, BrokerUnavailable, EnvironmentMismatch, NotFound, ScopeMissing
from tests.brokers.tools.conftest import AAPL

IBM, FAR = "8314", Decimal("200.00")


@pytest.fixture
def account(simulator) -> str:
    return simulator.credentials["accounts"][0]


@pytest.fixture
def holding(simulator, account):
    """Three shares that came without a fill, and go again."""
    moved = {"account": account, "conid": int(IBM)}
    simulator.control("POST", "/_sim/position", moved | {"quantity": "3"})
    yield IBM
    simulator.control("POST", "/_sim/position", moved | {"quantity": "-3"})


@pytest.fixture
def resting(simulator, account, login):
    """An order that rests at the broker, placed by nobody of ours."""
    placed = simulator.control(
        "POST",
        "/_sim/manual_order",
        {
            "account": account,
            "conid": int(AAPL),
            "side": "BUY",
            "quantity": 1,
            "orderType": "LMT",
            "price": 200,
            "tif": "DAY",
        },
    )
    from brokers.services import broker_for

    yield str(placed["order_id"])
    with broker_for(login) as broker:
        broker.cancel(account, str(placed["order_id"]))


def test_accounts_are_listed_with_what_the_broker_calls_them(ask, simulator, account) -> None:
    found = ask("get_accounts")["accounts"]
    assert [each["account"] for each in found] == sorted(simulator.credentials["accounts"])
    assert {(each["environment"], each["session"]) for each in found} == {("paper", "up")}
    meta = ask("get_account_metadata", account=account)
    assert (meta["kind"], meta["is_paper"], meta["currency"], meta["may_trade"]) == (
        "demo",
        True,
        "USD",
        True,
    )


def test_money_cash_and_positions_are_the_brokers(ask, account, holding) -> None:
    money, ledger = ask("get_account", account=account), ask("get_ledger", account=account)
    assert Decimal(money["net_liquidation"]) > Decimal(money["available_funds"]) > 0
    assert money["day_trades_left"] == -1
    assert {each["currency"] for each in ledger["currencies"]} >= {"USD"}
    dollars = next(each for each in ledger["currencies"] if each["currency"] == "USD")
    assert Decimal(dollars["exchange_rate"]) == 1
    held = {each["broker_instrument_id"]: each for each in ask("get_positions", account=account)["positions"]}
    assert (held[holding]["symbol"], Decimal(held[holding]["quantity"])) == ("IBM", 3)
    assert Decimal(held[holding]["market_value"]) > 0
    one = ask("get_position", account=account, broker_instrument_id=holding)
    assert one["position"]["quantity"] == held[holding]["quantity"]
    none = ask("get_position", account=account, symbol="AAPL")
    assert (none["position"], none["broker_instrument_id"]) == (None, AAPL)


def test_profit_is_told_by_day_and_by_position_though_the_first_answer_is_empty(
    ask, simulator, account, holding
) -> None:
    simulator.config(freeze=True)
    simulator.control("POST", "/_sim/price", {"conid": int(holding), "percent": 1})
    try:
        found = ask("get_pnl", account=account)
    finally:
        simulator.config(freeze=False)
    assert found["daily"] is not None
    assert Decimal(found["net_liquidation"]) > 0
    own = next(each for each in found["positions"] if each["broker_instrument_id"] == holding)
    gained = Decimal(own["unrealized"]) + Decimal(own["realized"])
    assert Decimal(own["unrealized_percent"]) > 0
    assert abs(Decimal(own["daily"]) - gained) <= Decimal("0.02"), "no day has begun since it was bought"


def test_performance_is_a_value_and_a_return_for_each_day(ask, account) -> None:
    found = ask("get_performance", account=account, period="7D")
    assert (found["method"], found["currency"]) == ("twr", "USD")
    days = [date.fromisoformat(each["date"]) for each in found["points"]]
    assert days == sorted(days)
    assert 2 < len(days) <= 8
    assert all(Decimal(each["net_asset_value"]) > 0 for each in found["points"])
    assert ask("get_performance", account=account, period="7D")["as_of"] == found["as_of"]
    with pytest.raises(BadInput):
        ask("get_performance", account=account, period="2W")


def test_fills_and_transactions_are_told_and_days_are_clamped(ask, simulator, account, login) -> None:
    from brokers.services import broker_for
    from tests.brokers.desk import eventually, market

    terms = market(broker_instrument_id=IBM, client_order_id=uuid.uuid4().hex)
    with broker_for(login) as broker:
        broker.place(account, [terms])
        eventually(
            lambda: [
                e
                for e in broker.executions(1, account)
                if e.client_order_id == terms.client_order_id and e.commission
            ]
        )
    found = ask("get_activities", account=account, days=30)
    own = [each for each in found["executions"] if each["client_order_id"] == terms.client_order_id]
    assert found["days"] == 7
    assert (own[0]["side"], Decimal(own[0]["quantity"])) == ("buy", 1)
    said = ask("get_transactions", account=account, broker_instrument_id=IBM, days=5)
    assert (said["transactions"][0]["kind"], Decimal(said["transactions"][0]["quantity"])) == ("buy", 1)
    with broker_for(login) as broker:
        broker.place(account, [market(broker_instrument_id=IBM, side="sell")])


def test_open_orders_history_and_status_are_the_brokers_own(ask, account, resting) -> None:
    working = {each["broker_order_id"]: each for each in ask("get_open_orders", account=account)["orders"]}
    assert (working[resting]["state"], Decimal(working[resting]["limit_price"])) == ("accepted", 200)
    listed = ask("get_order_history", account=account)["orders"]
    assert {each["broker_order_id"] for each in listed} >= set(working)
    status = ask("get_order_status", account=account, broker_order_id=resting)
    assert status["order"]["side"] == "buy"
    portfolio = ask("get_portfolio_snapshot", account=account)
    assert resting in {each["broker_order_id"] for each in portfolio["open_orders"]}
    assert portfolio["account"]["account"] == account
    for unknown in ({"account": account, "broker_order_id": "99"},):
        with pytest.raises(NotFound):
            ask("get_order_status", **unknown)


def test_an_account_of_another_environment_or_of_nobody_is_refused(ask, login, account) -> None:
    from brokers.models import Account

    with pytest.raises(NotFound):
        ask("get_positions", account="DU0000000")
    Account.objects.filter(broker_account_id=account).update(environment="live")
    with pytest.raises(EnvironmentMismatch):
        ask("get_positions", account=account)


def test_a_broker_that_fails_is_told_with_a_stable_code(ask, simulator, account) -> None:
    simulator.fault("status", path="summary", times=1)
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            ask("get_account", account=account)
        assert refused.value.code == "broker_unavailable"
    finally:
        simulator.control("DELETE", "/_sim/faults")


def test_sessions_are_told_from_our_rows_and_renewed_only_with_its_scope(ask, login, account) -> None:
    from brokers.models import Login

    Login.objects.update(state="expired", state_detail="The night.")
    told = ask("get_session_status")["sessions"]
    assert [(each["login"], each["is_up"], each["detail"]) for each in told] == [
        ("desk", False, "The night.")
    ]
    with pytest.raises(ScopeMissing):
        ask("renew_session", account=account)
    assert ask("renew_session", scopes={"session:renew"}, account=account)["is_up"]
    where = ask("environment_info")
    assert (where["environment"], where["live_orders"]) == ("paper", False)
    assert account in where["accounts"]
