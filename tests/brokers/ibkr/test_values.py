"""Strings and numbers of the wire: exact, or None."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from brokers.ibkr import values


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("3,500", "3500"),
        ("42.0%", "42.0"),
        ("C191.24", "191.24"),
        ("H191.24", "191.24"),
        ("+1.5", "1.5"),
        ("-0.25", "-0.25"),
        (12, "12"),
        (Decimal("655.05"), "655.05"),
        (Decimal("1.22E7"), "12200000"),
        (".5", "0.5"),
        ("0", "0"),
    ],
)
def test_a_number_is_read_exactly(wire, expected):
    assert values.number(wire) == Decimal(expected)


@pytest.mark.parametrize(
    "wire",
    [None, "", "NA", "N/A", "nan", "Infinity", True, [], {}, "1e99", "1.2.3", "0x10", "1 2", "٣", "9" * 70],
)
def test_what_is_no_number_is_none(wire):
    assert values.number(wire) is None


@pytest.mark.parametrize(
    ("wire", "expected"), [("12.2M", "12200000"), ("25K", "25000"), ("1.5B", "1500000000"), ("300", "300")]
)
def test_an_abbreviated_volume_is_read(wire, expected):
    assert values.abbreviated(wire) == Decimal(expected)


def test_money_has_its_currency():
    assert values.money("1.01 USD") == (Decimal("1.01"), "USD")
    assert values.money("NA") == (None, "")
    assert values.money(None) == (None, "")


@pytest.mark.parametrize("wire", [1702317649000, "1702317649000", "20231211-18:00:49", "231211180049"])
def test_each_form_of_time_is_utc(wire):
    assert values.moment(wire) == datetime(2023, 12, 11, 18, 0, 49, tzinfo=UTC)


@pytest.mark.parametrize("wire", [None, "", 0, "yesterday", "20231399-18:00:49", 12345])
def test_what_is_no_time_is_none(wire):
    assert values.moment(wire) is None


def test_json_has_exact_decimals_and_no_constants():
    assert values.load_json(b'{"a":0.1}') == {"a": Decimal("0.1")}
    assert values.load_json(b'{"a":"\xff"}') == {"a": "�"}
    with pytest.raises(ValueError, match="NaN"):
        values.load_json("[NaN]")


def test_decimals_go_out_plain():
    assert values.dump_json({"q": Decimal("1E+2"), "p": Decimal("0.00000010")}) == '{"q":100,"p":0.00000010}'
    with pytest.raises(TypeError):
        values.dump_json({"p": Decimal("NaN")})
