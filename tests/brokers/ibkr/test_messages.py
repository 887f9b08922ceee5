"""Wire and domain: the recorded rows of ibkr-web-api.md, and rows that nobody promised."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.base import Availability, BrokerOrderState, OrderTerms, OrderType, Side, TimeInForce
from brokers.ibkr import account_messages, holdings, messages
from brokers.ibkr.client import _check_group

NOW = datetime(2026, 4, 1, 23, 20, tzinfo=UTC)
LIMIT = OrderTerms(
    "265598",
    Side.BUY,
    Decimal("5"),
    OrderType.LIMIT,
    TimeInForce.DAY,
    Decimal("187.10"),
    client_order_id="ours",
)
# §6.9, recorded.
STATUS = json.loads(
    '{"order_id":1020484121,"conidex":"756733","conid":756733,"symbol":"SPY","side":"B","size":"1.0",'
    '"total_size":"1.0","currency":"USD","account":"DU1234567","order_type":"LIMIT","limit_price":"1.00",'
    '"cum_fill":"0.0","order_status":"PreSubmitted","order_ccp_status":"0","tif":"GTC",'
    '"size_and_fills":"0/1","order_time":"260401231429"}'
)
LIVE = {
    "acct": "DU1234567",
    "conid": 265598,
    "orderId": 912091175,
    "sizeAndFills": "2/5",
    "filledQuantity": 2,
    "totalSize": 5,
    "status": "Submitted",
    "avgPrice": "187.05",
    "origOrderType": "LIMIT",
    "orderType": "Limit",
    "price": "187.10",
    "order_ref": "ours",
    "side": "BUY",
    "timeInForce": "CLOSE",
    "lastExecutionTime_r": 1775085600000,
}
TRADE = {
    "execution_id": "0000e0d5.6576fd38.01.01",
    "side": "S",
    "order_ref": "ours",
    "trade_time": "20231211-18:00:49",
    "trade_time_r": 1702317649000,
    "size": 5,
    "price": "192.26",
    "commission": "1.01",
    "account": "DU1234567",
    "conid": 265598,
    "order_id": 912091175,
    "liquidation_trade": "0",
}


@pytest.mark.parametrize(
    ("order_type", "limit_price", "stop_price", "expected"),
    [
        (OrderType.MARKET, None, None, {"orderType": "MKT"}),
        (OrderType.LIMIT, "9", None, {"orderType": "LMT", "price": Decimal(9)}),
        (OrderType.STOP, None, "8", {"orderType": "STP", "price": Decimal(8)}),
        (
            OrderType.STOP_LIMIT,
            "9",
            "8",
            {"orderType": "STOP_LIMIT", "price": Decimal(9), "auxPrice": Decimal(8)},
        ),
    ],
)
def test_a_stop_goes_where_the_wire_wants_it(order_type, limit_price, stop_price, expected):
    terms = replace(
        LIMIT,
        order_type=order_type,
        limit_price=limit_price and Decimal(limit_price),
        stop_price=stop_price and Decimal(stop_price),
    )
    ticket = messages.ticket("DU1234567", terms)
    assert {
        name: ticket.get(name) for name in ("orderType", "price", "auxPrice") if name in ticket
    } == expected


ASKED: dict[OrderType, tuple[dict, dict]] = {
    OrderType.MARKET_IF_TOUCHED: ({"stop_price": "8"}, {"orderType": "MIT", "price": "8"}),
    OrderType.LIMIT_IF_TOUCHED: (
        {"limit_price": "9", "stop_price": "8"},
        {"orderType": "LIT", "price": "9", "auxPrice": "8"},
    ),
    OrderType.TRAILING_STOP: (
        {"trailing_percent": "2"},
        {"orderType": "TRAIL", "trailingAmt": "2", "trailingType": "%"},
    ),
    OrderType.TRAILING_STOP_LIMIT: (
        {"limit_price": "9", "stop_price": "8", "trailing_amount": "1"},
        {"orderType": "TRAILLMT", "price": "9", "auxPrice": "8", "trailingAmt": "1", "trailingType": "amt"},
    ),
    OrderType.MIDPRICE: ({}, {"orderType": "MIDPRICE"}),
    OrderType.RELATIVE: (
        {"limit_price": "9", "offset": "1"},
        {"orderType": "REL", "price": "9", "auxPrice": "1"},
    ),
    OrderType.MARKET_ON_CLOSE: ({}, {"orderType": "MOC"}),
    OrderType.LIMIT_ON_CLOSE: ({"limit_price": "9"}, {"orderType": "LOC", "price": "9"}),
}


@pytest.mark.parametrize("kind", ASKED)
def test_each_type_has_its_own_words_both_ways(kind):
    prices, expected = ASKED[kind]
    wanted = {name: Decimal(value) for name, value in prices.items()}
    terms = replace(LIMIT, **{"limit_price": None, "order_type": kind} | wanted)
    sent = messages.ticket("DU1234567", terms)
    names = ("orderType", "price", "auxPrice", "trailingAmt", "trailingType")
    assert {name: str(sent[name]) for name in names if name in sent} == expected
    told = {name: str(sent[name]) for name in names if name in sent}
    heard = messages.order_report({"orderId": 7, "status": "Submitted", **told})
    assert (heard.order_type, {name: getattr(heard, name) for name in wanted}) == (kind, wanted)


def test_the_auctions_and_the_night_have_words_of_their_own():
    for time, word in ((TimeInForce.OPG, "OPG"), (TimeInForce.OVERNIGHT, "OVT")):
        assert messages.ticket("DU1234567", replace(LIMIT, time_in_force=time))["tif"] == word
        assert messages.time_in_force_of(word) == time


def test_a_contracts_steps_are_read_from_its_rules():
    rules = {"incrementRules": [{"lowerEdge": 3, "increment": 0.05}, {"lowerEdge": 0, "increment": 0.01}]}
    info = {
        "instrument_type": "STK",
        "symbol": "X",
        "rules": {**rules, "fraqTypes": ["limit"], "sizeIncrement": 100},
    }
    found = messages.instrument_record("1", info, exchange="NYSE", is_us=True)
    assert found.price_bands == ((Decimal(0), Decimal("0.01")), (Decimal(3), Decimal("0.05")))
    assert found.size_increment == Decimal("0.0001")


def test_an_order_without_its_price_does_not_become_another_order():
    with pytest.raises(ValueError, match="price"):
        messages.ticket("DU1234567", replace(LIMIT, limit_price=None))
    with pytest.raises(ValueError, match="price"):
        messages.ticket("DU1234567", replace(LIMIT, order_type=OrderType.STOP_LIMIT))


def test_a_futures_ticket_carries_the_operator():
    ticket = messages.ticket("DU1234567", replace(LIMIT, manual_indicator=False, ext_operator="alice"))
    assert (ticket["manualIndicator"], ticket["extOperator"]) == (False, "alice")
    assert "manualIndicator" not in messages.ticket("DU1234567", LIMIT)


def test_a_bracket_is_one_parent_with_our_id_and_children_that_name_it():
    child = replace(LIMIT, side=Side.SELL, client_order_id=None, parent_client_order_id="ours")
    _check_group([LIMIT, child, child])
    assert messages.ticket("DU1234567", child)["parentId"] == "ours"
    assert "cOID" not in messages.ticket("DU1234567", child)
    for legs in ([], [child], [LIMIT, LIMIT], [LIMIT, replace(child, parent_client_order_id="other")]):
        with pytest.raises(ValueError):  # noqa: PT011
            _check_group(legs)


def test_an_accepted_placement_has_a_row_for_each_leg():
    answer = messages.placement_answer(
        [
            {"order_id": "3", "order_status": "PreSubmitted", "parent_order_id": "2"},
            {"order_id": "2", "order_status": "Submitted", "local_order_id": "ours", "encrypt_message": "1"},
        ]
    )
    assert [o.broker_order_id for o in answer.orders] == ["3", "2"]
    assert [o.state for o in answer.orders] == [BrokerOrderState.ACCEPTED] * 2
    assert answer.orders[0].parent_order_id == "2"
    assert answer.orders[1].client_order_id == "ours"


def test_a_failed_leg_is_rejected_and_has_no_id_that_could_be_cancelled():
    answer = messages.placement_answer(
        [
            {"order_id": "-1", "order_status": "Failed", "text": "invalid price", "parent_order_id": "2"},
            {"order_id": "2", "order_status": "Inactive", "local_order_id": "ours"},
        ]
    )
    failed, parent = answer.orders
    assert (failed.state, failed.broker_order_id, failed.text) == (
        BrokerOrderState.REJECTED,
        "",
        "invalid price",
    )
    assert parent.state is None


def test_a_question_keeps_the_brokers_words():
    answer = messages.placement_answer(
        [
            {
                "id": "07a1",
                "message": ["Are you sure?"],
                "isSuppressed": False,
                "messageIds": ["o163"],
                "messageOptions": ["Yes"],
            }
        ]
    )
    assert answer.question.reply_id == "07a1"
    assert answer.question.message_ids == ("o163",)
    assert answer.question.messages == ("Are you sure?",)


@pytest.mark.parametrize(
    "data",
    [None, [], {}, "x", [1], [{}], [{"order_id": "1"}], [{"id": "1"}], [{"id": "1", "message": []}, {"id": "2", "message": []}],
     [{"order_id": "1", "order_status": "Submitted"}, {"error": "x"}]],
)  # fmt: skip
def test_an_answer_of_no_known_form_is_none(data):
    assert messages.placement_answer(data) is None


def test_a_recorded_order_status_is_read():
    report = messages.order_report(STATUS, read_at=NOW)
    assert report.broker_order_id == "1020484121"
    assert report.state is BrokerOrderState.ACCEPTED
    assert (report.side, report.order_type) == (Side.BUY, "limit")
    assert (report.total_quantity, report.filled_quantity, report.limit_price) == (1, 0, 1)
    assert (report.broker_account_id, report.broker_instrument_id) == ("DU1234567", "756733")


def test_a_live_order_is_read():
    report = messages.order_report(LIVE, read_at=NOW)
    assert (report.broker_order_id, report.client_order_id) == ("912091175", "ours")
    assert (report.filled_quantity, report.average_price) == (2, Decimal("187.05"))
    assert report.limit_price == Decimal("187.10")


def test_fills_are_read_from_sizes_when_nothing_else_says_them():
    rest = {"orderId": 1, "status": "Submitted"}
    assert messages.order_report({**rest, "sizeAndFills": "2/5"}).filled_quantity == 2
    assert messages.order_report({**rest, "sizeAndFills": "5"}).filled_quantity is None
    assert messages.order_report({"orderId": 1, "status": "Filled", "sizeAndFills": "5"}).filled_quantity == 5


def test_the_price_of_a_stop_is_its_trigger():
    stop = messages.order_report({**LIVE, "origOrderType": "STOP", "price": "180"})
    assert (stop.stop_price, stop.limit_price) == (180, None)
    both = messages.order_report({**LIVE, "origOrderType": "STOP_LIMIT", "price": "179", "auxPrice": "180"})
    assert (both.stop_price, both.limit_price, both.order_type) == (180, 179, "stop_limit")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Submitted", BrokerOrderState.ACCEPTED),
        ("pre_submitted", BrokerOrderState.ACCEPTED),
        ("PendingCancel", BrokerOrderState.PENDING_CANCEL),
        ("Cancelled", BrokerOrderState.CANCELED),
        ("Filled", BrokerOrderState.FILLED),
        ("PendingSubmit", None),
        ("WarnState", None),
        ("SomethingNew", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_status_proves_only_what_it_says(word, state):
    assert messages.state_of(word) is state


def test_inactive_is_a_rejection_only_in_a_poll_and_after_a_moment():
    row = {**LIVE, "status": "Inactive", "filledQuantity": 0}
    placed_at = datetime.fromtimestamp(1775085600, UTC)
    assert messages.order_report(row).state is None
    assert messages.order_report(row, read_at=placed_at + timedelta(seconds=1)).state is None
    assert (
        messages.order_report(row, read_at=placed_at + timedelta(seconds=4)).state
        is BrokerOrderState.REJECTED
    )
    filled = {**row, "filledQuantity": 2}
    assert messages.order_report(filled, read_at=placed_at + timedelta(seconds=4)).state is None


def test_a_fill_is_read():
    fill = messages.execution_report(TRADE)
    assert (fill.execution_id, fill.side, fill.quantity) == ("0000e0d5.6576fd38.01.01", Side.SELL, 5)
    assert (fill.price, fill.commission) == (Decimal("192.26"), Decimal("1.01"))
    assert fill.executed_at == datetime(2023, 12, 11, 18, 0, 49, tzinfo=UTC)
    assert (fill.broker_order_id, fill.client_order_id, fill.is_liquidation) == ("912091175", "ours", False)


def test_a_fills_commission_may_come_later():
    row = {name: value for name, value in TRADE.items() if name != "commission"}
    assert messages.execution_report(row).commission is None


def test_a_liquidation_is_named():
    assert messages.execution_report({**TRADE, "liquidation_trade": "1"}).is_liquidation


@pytest.mark.parametrize("missing", ["execution_id", "price", "size", "side", "conid", "account"])
def test_a_row_that_lacks_what_a_fill_has_is_none(missing):
    assert messages.execution_report({**TRADE, missing: None}) is None


def test_an_exercise_is_no_fill():
    assert messages.execution_report({**TRADE, "side": "EXER"}) is None


def test_a_quote_is_read():
    row = {"conid": 756733, "_updated": 1775086883187, "6509": "DPB", "31": "655.05", "84": "655.04", "86": "655.06",
           "88": "1,200", "85": "900", "87": "12.2M", "87_raw": Decimal("1.22E7"), "7762": "12,203,345", "7741": "650.00"}  # fmt: skip
    quote = messages.quote_record(row, NOW)
    assert (quote.bid, quote.ask, quote.last) == (Decimal("655.04"), Decimal("655.06"), Decimal("655.05"))
    assert (quote.bid_size, quote.ask_size, quote.volume) == (1200, 900, 12203345)
    assert (quote.prior_close, quote.availability, quote.is_halted) == (650, Availability.DELAYED, False)
    assert quote.received_at == NOW
    assert quote.changed_at == datetime(2026, 4, 1, 23, 41, 23, 187000, tzinfo=UTC)


def test_a_close_is_not_a_last_price():
    quote = messages.quote_record({"conid": 1, "31": "C191.24"}, NOW)
    assert (quote.last, quote.prior_close) == (None, Decimal("191.24"))


def test_a_halt_is_named():
    quote = messages.quote_record({"conid": 1, "31": "H191.24"}, NOW)
    assert (quote.last, quote.is_halted) == (Decimal("191.24"), True)


@pytest.mark.parametrize(
    ("letters", "availability"),
    [("RpB", "live"), ("DPB", "delayed"), ("ZB", "frozen"), ("YB", "frozen"), ("N", "none"), ("O", "none"), (None, "none"), ("?", "none")],
)  # fmt: skip
def test_availability_is_what_the_broker_says_and_nothing_more(letters, availability):
    assert messages.quote_record({"conid": 1, "6509": letters}, NOW).availability == availability


def test_a_session_is_up_only_where_the_broker_says_so():
    up = {"authenticated": True, "connected": True, "competing": False}
    assert messages.session_status(up).is_up
    assert messages.session_status({**up, "established": True}).is_up
    assert not messages.session_status({**up, "established": False}).is_up
    assert not messages.session_status({**up, "competing": True}).is_up
    assert not messages.session_status({}).is_up
    assert not messages.session_status(None).is_up
    assert not messages.session_status({**up, "authenticated": "true"}).is_up


def test_paper_is_only_what_is_said():
    assert messages.listed_accounts({"accounts": ["DU1"], "isPaper": True}).is_paper is True
    assert messages.listed_accounts({"accounts": ["DU1"], "isPaper": "true"}).is_paper is None
    assert messages.listed_accounts({}).broker_account_ids == ()


def test_a_sparse_position_is_enough():
    row = {"acctId": "DU1234567", "conid": 756733, "contractDesc": "SPY", "position": Decimal("22.0"), "mktPrice": "655",
           "currency": "USD", "avgPrice": Decimal("600.5"), "assetClass": "STK", "multiplier": None, "strike": Decimal(0)}  # fmt: skip
    position = holdings.position_record(row, "DU1234567")
    assert (position.symbol, position.quantity, position.average_price) == ("SPY", 22, Decimal("600.5"))
    assert (position.asset_class, position.market_price) == ("stock", 655)


def test_a_summary_is_read_and_a_null_is_none():
    def entry(amount, is_null=False):
        return {"amount": Decimal(amount), "currency": "USD", "isNull": is_null, "value": None}

    summary = holdings.account_summary(
        {"netliquidation": entry("1005602.5"), "availablefunds": entry("0", True), "buyingpower": entry("0")},
        "DU1",
    )
    assert (summary.net_liquidation, summary.currency) == (Decimal("1005602.5"), "USD")
    assert (summary.available_funds, summary.buying_power, summary.initial_margin) == (None, 0, None)


def test_a_what_if_is_read():
    preview = messages.preview(
        {
            "amount": {"amount": "1 USD (1 Shares)", "commission": "0.01 USD", "total": "1.01 USD"},
            "equity": {"current": "1,005,602", "change": "163", "after": "1,005,765"},
            "initial": {"current": "6,712", "change": "164", "after": "6,876"},
            "maintenance": {"current": "6,712", "change": "164", "after": "6,876"},
            "position": {"current": "22", "change": "1", "after": "23"},
            "warn": "21/careful",
            "warns": ["21/careful"],
            "error": None,
        }
    )
    assert (preview.commission, preview.commission_currency) == (Decimal("0.01"), "USD")
    assert (preview.initial_margin_after, preview.initial_margin_change) == (6876, 164)
    assert preview.initial_margin_before == 6712
    assert (preview.equity_after, preview.position_after) == (1005765, 23)
    assert (preview.warnings, preview.error) == (("careful",), None)


def test_a_price_step_is_the_one_in_force_or_the_finest():
    info = {"instrument_type": "STK", "symbol": "AAPL", "currency": "USD", "multiplier": None}
    rules = {"increment": "0.01", "incrementRules": [{"lowerEdge": "0", "increment": "0.0001"}]}
    record = messages.instrument_record("265598", {**info, "rules": rules}, exchange="NASDAQ", is_us=True)
    assert (record.price_increment, record.multiplier, record.exchange) == (Decimal("0.01"), 1, "NASDAQ")
    rules = {"incrementRules": [{"increment": "0.01"}, {"increment": "0.0001"}]}
    record = messages.instrument_record("265598", {**info, "rules": rules}, exchange=None, is_us=True)
    assert record.price_increment == Decimal("0.0001")


def test_a_future_without_a_multiplier_has_none():
    info = {"instrument_type": "FUT", "symbol": "ES", "local_symbol": "ESZ6", "multiplier": "0.0"}
    record = messages.instrument_record("1", info, exchange="CME", is_us=True)
    assert (record.symbol, record.multiplier, record.price_increment) == ("ESZ6", None, None)


ANYTHING = st.sampled_from(
    [None, True, 0, -1, 2**70, Decimal("NaN"), Decimal("1E+40"), "", "-1", "C", "9" * 99, "1/", "nan", "Inactive",
     "1775085600000", 9999999999999, "20260401-99:99:99", "260401239999", "\x00", "\ud800", [], [None], [[1]], ["x"],
     {}, {"increment": []}, {"after": {}, "amount": [], "commission": 7, "isNull": "x"}]
)  # fmt: skip
NAMES = sorted(
    {
        *LIVE,
        *STATUS,
        *TRADE,
        *messages.QUOTE_FIELDS,
        "position",
        "rules",
        "id",
        "message",
        "order_id",
        "error",
    }
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=12))
def test_no_row_is_strange_enough_to_crash(row):
    messages.order_report(row)
    messages.order_report(row, read_at=NOW)
    messages.has_news(row)
    messages.execution_report(row)
    messages.quote_record(row, NOW)
    holdings.position_record(row, "DU1")
    holdings.account_summary(row, "DU1")
    messages.preview(row)
    messages.instrument_record("1", row, exchange=None, is_us=False)
    messages.session_status(row)
    messages.listed_accounts(row)
    messages.placement_answer([row])


@pytest.mark.parametrize(
    ("row", "daily"),
    [
        ({"76": "1.2K", "78": "-3.1K", "78_raw": -3100.25, "80": "-2.5%"}, "-3100.25"),
        ({"76": "1,234", "78": "15.5", "7920": "15.51"}, "15.51"),
        ({"76": "1,234"}, None),
        ({"76": "-1.2K", "7920": "15.51"}, None),
        ({"76": "3", "7920": "15.51"}, None),
        ({"7920": "15.51"}, None),
    ],
)
def test_daily_profit_is_believed_only_of_the_position_that_is_held(row, daily):
    told = account_messages.holding_profit({"conid": 265598} | row, {"265598": Decimal(1234)})
    assert told is not None
    assert told.daily == (None if daily is None else Decimal(daily))
