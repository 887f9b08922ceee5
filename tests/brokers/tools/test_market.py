"""Quotes, tickers, bars, options and scans, over the wire."""

from decimal import Decimal

import pytest

from brokers.bars import BARS, check_bars
from cerbero.errors import BadInput, BrokerUnavailable, NotFound, QuoteMissing
from tests.brokers.tools.conftest import AAPL

IBM, SPX = "8314", "416904"


@pytest.mark.parametrize(
    ("period", "bar", "is_right"),
    [
        ("1d", "1min", True),
        ("1d", "8h", True),
        ("1d", "1d", False),
        ("2d", "5min", False),
        ("2d", "10min", True),
        ("1m", "1h", True),
        ("1m", "30min", False),
        ("5y", "1w", True),
        ("5y", "1d", False),
        ("15y", "1m", True),
        ("16y", "1m", False),
        ("9h", "1min", False),
        ("0d", "1min", False),
        ("1d", "7min", False),
        ("soon", "1min", False),
    ],
)
def test_a_period_takes_only_its_bars(period: str, bar: str, is_right: bool) -> None:
    if is_right:
        check_bars(period, bar)
        return
    with pytest.raises(BadInput) as refused:
        check_bars(period, bar)
    assert refused.value.details.get("fitting") or refused.value.details["most"]["y"] == "15y"


def test_bars_are_read_oldest_first_and_wrong_ones_never_asked_for(ask, simulator) -> None:
    found = ask("get_bars", symbol="AAPL", period="1d", bar="5min")
    starts = [each["starts_at"] for each in found["bars"]]
    assert starts == sorted(starts)
    assert (found["bar_seconds"], found["availability"]) == (300, "live")
    for each in found["bars"]:
        assert Decimal(each["low"]) <= Decimal(each["open"]) <= Decimal(each["high"])
    simulator.fault("status", path="marketdata/history", times=1)
    try:
        with pytest.raises(BadInput):
            ask("get_bars", symbol="AAPL", period="1y", bar="1min")
        assert ask("get_bars", symbol="AAPL", period="1d", bar="5min")["as_of"] == found["as_of"], (
            "it was asked again"
        )
        with pytest.raises(BrokerUnavailable):
            ask("get_bars", symbol="AAPL", period="1w", bar="1h")
    finally:
        simulator.control("DELETE", "/_sim/faults")


def test_five_charts_at_once_are_all_that_a_login_has(ask, login) -> None:
    from cerbero import leases

    held = [leases.hold(f"charts:{login.pk}:{number}", "") for number in range(5)]
    with pytest.raises(BrokerUnavailable) as refused:
        ask("get_bars", symbol="AAPL")
    assert refused.value.details["paced"]
    leases.release(f"charts:{login.pk}:3", held[3])
    assert ask("get_bars", symbol="AAPL")["bars"]


def test_many_quotes_come_at_once_with_how_live_they_are(ask, simulator) -> None:
    simulator.config(availability="DPB", no_data_conids=[int(IBM)])
    try:
        found = ask("get_snapshot", symbols=["aapl"], broker_instrument_ids=[IBM, SPX])
    finally:
        simulator.config(availability="RpB", no_data_conids=[])
    by_id = {each["broker_instrument_id"]: each for each in found["quotes"]}
    assert found["missing"] == [IBM]
    assert by_id[AAPL]["symbol"] == "AAPL"
    assert by_id[AAPL]["availability"] == "delayed"
    assert Decimal(by_id[AAPL]["bid"]) < Decimal(by_id[AAPL]["ask"])
    assert (by_id[SPX]["bid"], by_id[SPX]["last"] is not None) == (None, True)
    with pytest.raises(BadInput):
        ask("get_snapshot")


def test_a_ticker_is_a_quote_and_its_day(ask, simulator) -> None:
    found = ask("get_ticker", symbol="AAPL")
    assert Decimal(found["low"]) <= Decimal(found["last"]) <= Decimal(found["high"])
    assert Decimal(found["last"]) - Decimal(found["prior_close"]) == Decimal(found["change"])
    assert found["availability"] == "live"
    simulator.config(no_data_conids=[int(IBM)])
    try:
        with pytest.raises(QuoteMissing):
            ask("get_ticker", broker_instrument_id=IBM)
    finally:
        simulator.config(no_data_conids=[])


def test_a_chain_has_months_then_strikes_then_contracts(ask) -> None:
    months = ask("get_option_chain", symbol="AAPL")["months"]
    chain = ask("get_option_chain", symbol="AAPL", month=months[0], strikes=["250", "255"])
    assert chain["underlying_id"] == AAPL
    assert chain["calls"] == chain["puts"]
    assert "250.0" in chain["calls"]
    assert [(each["right"], Decimal(each["strike"])) for each in chain["contracts"]] == [
        ("call", 250),
        ("put", 250),
        ("call", 255),
        ("put", 255),
    ]
    assert len(chain["expires_on"]) == 1
    with pytest.raises(BadInput):
        ask("get_option_chain", symbol="AAPL", month="JAN01")
    with pytest.raises(NotFound):
        ask("get_option_chain", symbol="IBM")


def test_after_a_night_options_are_told_without_anybody_searching_again(ask, login, simulator) -> None:
    """What is remembered here is not remembered there: the broker wants a search in each session."""
    from brokers.sessions import keep_session
    from tests.brokers.logins import SYSTEM, ready_again

    months = ask("get_option_chain", symbol="AAPL")["months"]
    simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
    assert keep_session(ready_again(login), SYSTEM) == "up"
    assert ask("get_option_chain", symbol="AAPL", month=months[1], strikes=["250"])["contracts"]


def test_a_derivative_is_quoted_though_nobody_searched_for_it_in_this_session(ask, login, simulator) -> None:
    from brokers.sessions import keep_session
    from tests.brokers.logins import SYSTEM, ready_again

    month = ask("get_option_chain", symbol="SPY")["months"][1]
    call = ask("get_option_chain", symbol="SPY", month=month, strikes=["655"])["contracts"][0]
    gold = ask("resolve_contract", symbol="GC", asset_class="future", front_month=True)
    ids = [call["broker_instrument_id"], gold["broker_instrument_id"], AAPL]
    simulator.config(derivatives_need_search=True)
    try:
        simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
        assert keep_session(ready_again(login), SYSTEM) == "up"
        found = ask("get_snapshot", broker_instrument_ids=ids)
    finally:
        simulator.config(derivatives_need_search=False)
    assert [each["broker_instrument_id"] for each in found["quotes"] if each["bid"]] == ids


def test_greeks_agree_with_the_sides_of_the_chain(ask) -> None:
    months = ask("get_option_chain", symbol="AAPL")["months"]
    contracts = ask("get_option_chain", symbol="AAPL", month=months[1], strikes=["255"])["contracts"]
    ids = {each["right"]: each["broker_instrument_id"] for each in contracts}
    found = ask("get_option_greeks", symbol="AAPL", broker_instrument_ids=[*ids.values(), IBM])
    by_id = {each["broker_instrument_id"]: each for each in found["options"]}
    call, put = (by_id[ids[right]] for right in ("call", "put"))
    assert 0 < Decimal(call["delta"]) < 1
    assert -1 < Decimal(put["delta"]) < 0
    assert abs(Decimal(call["delta"]) - Decimal(put["delta"]) - 1) < Decimal("0.02")
    assert call["implied_volatility"] == put["implied_volatility"], "a strike has one volatility"
    assert abs(Decimal(call["implied_volatility"]) - Decimal("0.3")) < Decimal("0.01")
    assert call["underlying_id"] == AAPL
    assert by_id[IBM]["delta"] is None


def test_a_scan_is_one_of_the_allowed_and_ranked(ask) -> None:
    choices = ask("get_scanner_params")
    offered = {each["code"]: each["is_offered"] for each in choices["scan_types"]}
    assert offered["TOP_PERC_GAIN"]
    assert not offered["HIGH_OPT_IMP_VOLAT"]
    rows = ask("run_scanner", scan_type="TOP_PERC_GAIN", filters=[{"code": "priceAbove", "value": "100"}])[
        "rows"
    ]
    changes = [Decimal(each["value"].rstrip("%")) for each in rows]
    assert changes == sorted(changes, reverse=True)
    assert "INTC" not in {each["symbol"] for each in rows}
    for wrong in (
        {"scan_type": "ALL_OF_THEM"},
        {"scan_type": "MOST_ACTIVE", "location": "STK.MARS"},
        {"scan_type": "MOST_ACTIVE", "filters": [{"code": "priceAbove", "value": "1"}] * 2},
    ):
        with pytest.raises(BadInput):
            ask("run_scanner", **wrong)


def test_every_bar_has_a_length() -> None:
    from brokers.bars import seconds

    assert [seconds(bar) for bar in BARS] == sorted(seconds(bar) for bar in BARS)
