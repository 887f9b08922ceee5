"""Option symbols as the Options Clearing Corporation writes them: `AAPL  261218C00200000`. Pure.

The root takes six characters, padded; then the expiry YYMMDD, C or P, and the strike in thousandths, eight digits.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from brokers.market_records import Right

_WRITTEN = re.compile(r"([A-Z][A-Z0-9.]{0,5}) *(\d{6})([CP])(\d{8})")
_RIGHTS = {"C": Right.CALL, "P": Right.PUT}
THOUSANDTHS = 1000


@dataclass(frozen=True)
class OptionSymbol:
    """What an option symbol says; `str()` is the symbol in its padded form."""

    root: str
    expires_on: date
    right: Right
    strike: Decimal

    def __str__(self) -> str:
        letter = next(letter for letter, right in _RIGHTS.items() if right == self.right)
        return f"{self.root:<6}{self.expires_on:%y%m%d}{letter}{int(self.strike * THOUSANDTHS):08d}"


def option_symbol(text: str) -> OptionSymbol | None:
    """What it says, however its root is padded; None for what is no option symbol."""
    found = _WRITTEN.fullmatch(text.strip().upper())
    if found is None:
        return None
    root, day, letter, strike = found.groups()
    try:
        expires_on = datetime.strptime(day, "%y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return OptionSymbol(root, expires_on, _RIGHTS[letter], Decimal(strike).scaleb(-3).normalize())


def canonical(symbol: str) -> str:
    """How Cerbero stores and compares a symbol: in capitals, an option's padded."""
    option = option_symbol(symbol)
    return str(option) if option else symbol.strip().upper()
