"""What becomes of a holding when its contract ends, as adjustments of the account: no execution tells of it.

An option a cent or more in the money is exercised, or assigned, by itself: shares at the strike. Any other one is worth
nothing. A future is settled in cash at its last price. None of it costs a commission.
"""

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

from .accounting import CENT, ZERO, Account, Position

Adjustment = dict[str, str]


def settlements(account: Account, through: date, price_of: Callable[[int], Decimal]) -> Iterator[Adjustment]:
    """What ends every holding of the account whose contract expired on that day or before."""
    for held in account.open_positions():
        if held.instrument.expiry is not None and held.instrument.expiry <= through:
            parts = _option(held, price_of) if held.instrument.sec_type == "OPT" else _future(held, price_of)
            yield from ({"account": account.account_id} | part for part in parts)


def _option(held: Position, price_of: Callable[[int], Decimal]) -> Iterator[Adjustment]:
    option, sign = held.instrument, 1 if held.instrument.right == "C" else -1
    yield {"conid": str(option.conid), "amount": str(-held.quantity), "price": "0"}
    if (price_of(option.underlying) - option.strike) * sign >= CENT:
        shares = held.quantity * option.multiplier * sign
        yield {"conid": str(option.underlying), "amount": str(shares), "price": str(option.strike)}
        yield {"currency": option.currency, "amount": str(-shares * option.strike)}


def _future(held: Position, price_of: Callable[[int], Decimal]) -> Iterator[Adjustment]:
    future, price = held.instrument, price_of(held.instrument.conid)
    yield {"conid": str(future.conid), "amount": str(-held.quantity), "price": str(price)}
    gained = (price - held.average) * held.quantity * future.unit
    if gained != ZERO:
        yield {"currency": future.currency, "amount": str(gained)}
