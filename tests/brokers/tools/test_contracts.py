"""From symbols to contracts, rates and pairs, over the wire; and what IBKR does not offer."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from brokers.base import InstrumentRecord
from brokers.instruments import choose, front_month, narrowed, only_one
from cerbero.errors import (
    BadInput,
    BrokerRejected,
    ContractAmbiguous,
    NotFound,
    NotOfferedByBroker,
    NotOfferedYet,
)
from tests.brokers.tools.conftest import AAPL


def listing(broker_id: str, currency: str = "USD", exchange: str = "NASDAQ", **more) -> InstrumentRecord:
    fields = {"symbol": "X", "name": "X INC", "asset_class": "stock", "multiplier": Decimal(1)}
    return InstrumentRecord(
        broker_instrument_id=broker_id,
        currency=currency,
        exchange=exchange,
        price_increment=None,
        **fields | more,
    )


def test_a_search_says_what_is_traded_on_a_symbol(ask) -> None:
    (found,) = ask("search_contracts", text="aapl")["found"]
    assert (found["broker_instrument_id"], found["name"], found["exchange"]) == (AAPL, "APPLE INC", "NASDAQ")
    options = next(each for each in found["sections"] if each["asset_class"] == "option")
    assert len(options["months"]) == 6
    by_name = ask("search_contracts", text="alphabet", by_name=True)["found"]
    assert {each["symbol"] for each in by_name} == {"GOOG", "GOOGL"}
    assert ask("search_contracts", text="NOPE")["found"] == []


def test_a_contract_is_resolved_once_and_remembered_with_its_age(ask, simulator) -> None:
    first = ask("resolve_contract", symbol="AAPL", currency="USD")
    assert (first["broker_instrument_id"], first["asset_class"]) == (AAPL, "stock")
    simulator.fault("status", path="trsrv/stocks", times=1)
    try:
        assert ask("resolve_contract", symbol="aapl")["as_of"] == first["as_of"]
    finally:
        simulator.control("DELETE", "/_sim/faults")
    with pytest.raises(NotFound):
        ask("resolve_contract", symbol="NOPE")
    with pytest.raises(NotFound) as elsewhere:
        ask("resolve_contract", symbol="AAPL", exchange="LSE")
    assert [each["exchange"] for each in elsewhere.value.details["candidates"]] == ["NASDAQ"]


def test_of_several_futures_none_is_guessed_and_the_front_month_is_the_next_to_expire(ask) -> None:
    with pytest.raises(ContractAmbiguous) as ambiguous:
        ask("resolve_contract", symbol="ES", asset_class="future")
    days = sorted(each["expires_on"] for each in ambiguous.value.details["candidates"])
    assert len(days) == 4
    front = ask("resolve_contract", symbol="ES", asset_class="future", front_month=True)
    assert front["expires_on"] == days[0].isoformat()
    assert Decimal(front["multiplier"]) == 50
    later = ask("resolve_contract", symbol="ES", asset_class="future", expires_on=days[1])
    assert later["broker_instrument_id"] != front["broker_instrument_id"]
    for wrong in ({"asset_class": "stock", "front_month": True}, {"asset_class": "swap"}):
        with pytest.raises(BadInput):
            ask("resolve_contract", symbol="ES", **wrong)


def test_a_london_stock_is_in_pence_and_is_not_its_american_receipt(ask) -> None:
    with pytest.raises(ContractAmbiguous) as ambiguous:
        ask("resolve_contract", symbol="VOD")
    assert {each["exchange"] for each in ambiguous.value.details["candidates"]} == {"LSE", "NASDAQ"}
    london = ask("resolve_contract", symbol="VOD", currency="GBP")
    assert (london["exchange"], london["price_magnifier"]) == ("LSE", 100)
    assert ask("resolve_contract", symbol="VOD", currency="USD")["price_magnifier"] is None
    clock = ask("get_clock", broker_instrument_id=london["broker_instrument_id"])
    assert clock["zone"] == "Europe/London"


def test_an_option_is_named_as_occ_writes_it_wherever_an_instrument_is(ask) -> None:
    month = ask("get_option_chain", symbol="AAPL")["months"][1]
    (call,) = [
        each
        for each in ask("get_option_chain", symbol="AAPL", month=month, strikes=["255"])["contracts"]
        if each["right"] == "call"
    ]
    name = f"AAPL  {date.fromisoformat(call['expires_on']):%y%m%d}C00255000"
    resolved = ask("resolve_contract", symbol=name.replace(" ", "").lower())
    assert (resolved["symbol"], resolved["asset_class"]) == (name, "option")
    assert (resolved["broker_instrument_id"], resolved["strike"]) == (call["broker_instrument_id"], "255")
    assert (resolved["multiplier"], resolved["expires_on"]) == ("100", call["expires_on"])
    assert ask("get_contract_info", symbol=name)["local_symbol"] == name
    assert Decimal(ask("get_ticker", symbol=name)["bid"]) > 0
    with pytest.raises(NotFound):
        ask("resolve_contract", symbol=name.replace("255", "256"))
    with pytest.raises(BadInput, match="OCC"):
        ask("resolve_contract", symbol="AAPL", asset_class="option")


def test_an_option_that_an_administrator_named_gets_its_strike_and_what_it_is_written_on(ask, login) -> None:
    from brokers.instruments import resolve_instruments
    from brokers.models import Instrument
    from brokers.services import broker_for
    from cerbero.access import system

    month = ask("get_option_chain", symbol="AAPL")["months"][2]
    chain = ask("get_option_chain", symbol="AAPL", month=month, strikes=["250"])
    name = f"AAPL  {date.fromisoformat(chain['expires_on'][0]):%y%m%d}P00250000"
    put = Instrument.objects.create(symbol=name, asset_class="OPT")
    with broker_for(login) as broker:
        assert resolve_instruments(login, broker, system("test")) == 1
    put.refresh_from_db()
    assert (put.strike, put.multiplier, put.underlying.symbol, put.problem) == (250, 100, "AAPL", "")
    assert ask("get_ticker", symbol=name.lower())["symbol"] == name


def test_a_future_is_named_by_its_own_name_too(ask) -> None:
    front = ask("resolve_contract", symbol="ES", asset_class="future", front_month=True)
    again = ask("resolve_contract", symbol=front["symbol"].lower(), asset_class="future")
    assert again["broker_instrument_id"] == front["broker_instrument_id"]
    decade = front["symbol"][:-1] + front["expires_on"][2:4]
    long = ask("resolve_contract", symbol=decade, asset_class="future")
    assert long["broker_instrument_id"] == front["broker_instrument_id"]
    left = (date.fromisoformat(front["expires_on"]) - datetime.now(UTC).date()).days
    if left < 60:
        rolled = ask(
            "resolve_contract", symbol="ES", asset_class="future", front_month=True, roll_days=left + 1
        )
        assert rolled["expires_on"] > front["expires_on"]
    with pytest.raises(BadInput):
        ask("resolve_contract", symbol="ES", asset_class="future", roll_days=3)


@pytest.mark.parametrize("kind", ["event_contract", "combo"])
def test_event_contracts_and_combos_are_not_offered_yet(ask, kind) -> None:
    with pytest.raises(NotOfferedYet):
        ask("resolve_contract", symbol="FF", asset_class=kind)


def test_two_listings_are_told_apart_by_currency_and_exchange_or_not_at_all() -> None:
    from brokers.models import Instrument

    home, london, mexico = (
        listing("1", is_us=True),
        listing("2", "GBP", "LSE"),
        listing("3", "USD", "MEXI"),
    )
    found = [home, london, mexico]
    assert narrowed(found, "USD", None) == [home]
    assert narrowed(found, None, "LSE") == [london]
    row = Instrument(symbol="X", currency="GBP")
    assert (
        choose(row, [london, listing("4", "GBP", "AQSE")])
        == "Several listings fit (AQSE, LSE); set the exchange."
    )
    months = [listing("5", exchange="CME", symbol=name, is_us=True) for name in ("ESH7", "ESZ6")]
    assert choose(Instrument(symbol="ES"), months).endswith("own name: ESH7, ESZ6.")
    with pytest.raises(ContractAmbiguous) as ambiguous:
        only_one("X", narrowed(found, None, None), found)
    assert len(ambiguous.value.details["candidates"]) == 3


def test_the_front_month_needs_an_expiry() -> None:
    today = date(2026, 12, 18)
    december, march = listing("1", expires_on=today), listing("2", expires_on=date(2027, 3, 19))
    assert front_month([march, december], today) == [december]
    assert front_month([march, december], date(2026, 12, 19)) == [march]
    assert front_month([listing("3")], today) == []


def test_a_contract_tells_its_trading_rules(ask) -> None:
    info = ask("get_contract_info", symbol="AAPL")
    assert (info["currency"], info["industry"], info["expires_on"]) == ("USD", "Technology", None)
    assert "limit" in info["rules"]["order_types"]
    assert info["rules"]["price_steps"] == [{"lower_edge": "0.0", "increment": "0.01"}]
    assert Decimal(info["rules"]["size_increment"]) == 1
    there = ask("get_contract_info", symbol="AAPL", venue="IEX")
    assert there["rules"]["price_steps"] == info["rules"]["price_steps"]
    with pytest.raises(BadInput) as elsewhere:
        ask("get_contract_info", symbol="AAPL", venue="LSE")
    assert "IEX" in elsewhere.value.details["venues"]
    with pytest.raises(BrokerRejected):
        ask("get_contract_info", broker_instrument_id="1")


def test_rates_and_pairs_are_the_brokers(ask) -> None:
    there = ask("get_currency_rate", source="EUR", target="USD")
    back = ask("get_currency_rate", source="USD", target="EUR")
    assert abs(Decimal(there["rate"]) * Decimal(back["rate"]) - 1) < Decimal("0.01")
    with pytest.raises(NotFound):
        ask("get_currency_rate", source="EUR", target="XXX")
    pairs = {each["symbol"]: each for each in ask("get_currency_pairs", currency="USD")["pairs"]}
    assert {"EUR.USD", "GBP.USD", "USD.JPY"} < set(pairs)
    assert (pairs["USD.JPY"]["base"], pairs["USD.JPY"]["quoted_in"]) == ("USD", "JPY")
    yen = Decimal(ask("get_currency_rate", source="JPY", target="USD")["rate"])
    assert 0 < yen < Decimal("0.02")


def test_what_the_broker_does_not_offer_is_said_so(ask, simulator) -> None:
    account = simulator.credentials["accounts"][0]
    for name, named in (
        ("get_news", {"symbol": "AAPL"}),
        ("get_fundamentals", {"symbol": "AAPL"}),
        ("get_transfer_history", {"account": account}),
    ):
        with pytest.raises(NotOfferedByBroker) as refused:
            ask(name, **named)
        assert refused.value.as_json()["code"] == "not_offered_by_broker"
        assert not refused.value.retryable
