"""Option symbols, as OCC writes them and as people type them."""

from datetime import date
from decimal import Decimal

import pytest

from brokers.market_records import Right
from brokers.occ import canonical, option_symbol


@pytest.mark.parametrize("typed", ["AAPL  261218C00200000", "AAPL261218C00200000", " aapl 261218c00200000 "])
def test_an_option_symbol_is_read_however_its_root_is_padded(typed):
    option = option_symbol(typed)
    assert option is not None
    assert (option.root, option.right, option.strike) == ("AAPL", Right.CALL, Decimal(200))
    assert option.expires_on == date(2026, 12, 18)
    assert str(option) == canonical(typed) == "AAPL  261218C00200000"


def test_strikes_have_thousandths():
    option = option_symbol("SPXW  270115P05912500")
    assert option is not None
    assert (option.strike, option.right, str(option)) == (
        Decimal("5912.5"),
        Right.PUT,
        "SPXW  270115P05912500",
    )


@pytest.mark.parametrize(
    "typed", ["AAPL", "EUR.USD", "AAPL  261318C00200000", "AAPL  261218X00200000", "C00200000"]
)
def test_nothing_else_is_an_option_symbol(typed):
    assert option_symbol(typed) is None
    assert canonical(typed.lower()) == typed
