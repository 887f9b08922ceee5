"""Decimals cross the doors exactly."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerbero import plain
from cerbero.errors import MalformedRequest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E+5", "100000"),
        ("1.500", "1.5"),
        ("100", "100"),
        ("0.00", "0"),
        ("-0.0", "0"),
        ("1E-18", "0.000000000000000001"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
    ],
)
def test_a_decimal_is_written_without_exponent_or_rounding(value: str, text: str) -> None:
    assert plain.text(Decimal(value)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**19), max_value=10**19))
def test_a_decimal_comes_back_as_it_left(value: Decimal) -> None:
    assert Decimal(plain.text(value)) == value


def test_numbers_arrive_as_decimals_and_never_as_floats() -> None:
    found = plain.loads(b'{"price": 0.1, "big": 12345678901234567890.12345678901234567, "whole": 3}')
    assert found == {
        "price": Decimal("0.1"),
        "big": Decimal("12345678901234567890.12345678901234567"),
        "whole": 3,
    }
    assert not any(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000]
)
def test_what_is_not_plain_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        plain.loads(body)


def test_times_and_ids_are_text_and_anything_else_is_a_mistake() -> None:
    at, key = datetime(2026, 11, 21, 8, 0, tzinfo=UTC), UUID(int=7)
    assert plain.dumps([at, key, {"b", "a"}]) == (
        '["2026-11-21T08:00:00Z","00000000-0000-0000-0000-000000000007",["a","b"]]'
    )
    with pytest.raises(TypeError):
        plain.dumps(object())
