"""Cash, positions, margin and profit of one account, all computed from its executions and the market.

The formulas, stated so that a test can hold every number against them:
- cash changes by the signed value of each fill (futures: by realised profit only) and by its commission;
- average cost is the running average, without commission; realised profit is against it;
- commission per order, in USD: US stocks 0.005 a share, at least 1.00, at most 1 % of value; London's 5 basis
  points, at least 4.00; options 0.65 a contract, at least 1.00; futures as `universe.csv` says, a contract;
  currencies 0.2 basis points, at least 2.00;
- initial margin 50 % and maintenance 25 % of stock value, 10 % and 9 % of futures value, and the full
  value of options;
- net liquidation = cash in base + stocks + options + open futures profit;
- whatever is not in USD counts at the rate of now.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from .orders import Execution
from .universe import Instrument

CENT = Decimal("0.01")
ZERO = Decimal(0)
INITIAL = {"STK": Decimal("0.5"), "FUT": Decimal("0.1"), "OPT": Decimal(1)}
MAINTENANCE = {"STK": Decimal("0.25"), "FUT": Decimal("0.09"), "OPT": Decimal(1)}
BASE = "USD"


def commission(instrument: Instrument, quantity: Decimal, value: Decimal) -> Decimal:
    """What one whole order costs in USD; `value` is in USD, too."""
    if instrument.sec_type == "OPT":
        fee = max(Decimal("0.65") * quantity, Decimal(1))
    elif instrument.sec_type == "FUT":
        fee = instrument.fee * quantity
    elif instrument.sec_type == "CASH":
        fee = max(value * Decimal("0.00002"), Decimal(2))
    elif not instrument.is_us:
        fee = max(value * Decimal("0.0005"), Decimal(4))
    else:
        fee = min(max(Decimal("0.005") * quantity, Decimal(1)), max(value / 100, CENT))
    return fee.quantize(CENT)


@dataclass
class Position:
    """A holding of one instrument; `average` is per unit, before the multiplier."""

    instrument: Instrument
    quantity: Decimal = ZERO
    average: Decimal = ZERO
    realized: Decimal = ZERO
    # What was realized and not when the day began.
    day_start: Decimal = ZERO

    def apply(self, signed: Decimal, price: Decimal) -> Decimal:
        """Add a fill; returns the profit that it realised, before commission."""
        closing = ZERO
        if self.quantity * signed < 0:
            closing = min(abs(signed), abs(self.quantity))
        direction = 1 if self.quantity > 0 else -1
        profit = (price - self.average) * closing * direction * self.instrument.unit
        opening = abs(signed) - closing
        held = abs(self.quantity) - closing
        if opening:
            self.average = (self.average * held + price * opening) / (held + opening)
        self.quantity += signed
        if not self.quantity:
            self.average = ZERO
        self.realized += profit
        return profit


@dataclass
class Account:
    """One account; `price_of` gives the market price of a conid."""

    account_id: str
    opening_cash: Decimal
    price_of: Callable[[int], Decimal]
    rate_of: Callable[[str], Decimal]
    cash: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    realized: dict[str, Decimal] = field(default_factory=dict)
    day_start: Decimal | None = None

    def __post_init__(self) -> None:
        self.cash = {BASE: self.opening_cash}

    def apply(self, execution: Execution, instrument: Instrument) -> None:
        """Book one fill."""
        signed, value = (
            execution.signed_quantity,
            execution.quantity * execution.price * instrument.unit,
        )
        flow = -value if signed > 0 else value
        if instrument.sec_type == "CASH":
            self._add_cash(instrument.symbol, signed)
            self._add_cash(instrument.currency, flow)
        else:
            position = self.positions.setdefault(instrument.conid, Position(instrument))
            profit = position.apply(signed, execution.price)
            self.realized[instrument.currency] = self.realized.get(instrument.currency, ZERO) + profit
            self._add_cash(instrument.currency, profit if instrument.sec_type == "FUT" else flow)
        self._add_cash(BASE, -execution.commission)

    def adjust(
        self, *, instrument: Instrument | None, currency: str, amount: Decimal, price: Decimal
    ) -> None:
        """What no fill explains: `amount` units of an instrument at `price`, without cash; or cash alone."""
        if instrument is None:
            self._add_cash(currency, amount)
        else:
            profit = self.positions.setdefault(instrument.conid, Position(instrument)).apply(amount, price)
            self.realized[instrument.currency] = self.realized.get(instrument.currency, ZERO) + profit

    def _add_cash(self, currency: str, amount: Decimal) -> None:
        self.cash[currency] = self.cash.get(currency, ZERO) + amount

    def held(self, conid: int) -> Decimal:
        position = self.positions.get(conid)
        return position.quantity if position else ZERO

    def open_positions(self) -> list[Position]:
        return [p for p in self.positions.values() if p.quantity]

    def value(self, position: Position) -> Decimal:
        """Market value in its own currency, signed."""
        i = position.instrument
        return self.price_of(i.conid) * position.quantity * i.unit

    def base_value(self, position: Position) -> Decimal:
        return self.value(position) * self.rate_of(position.instrument.currency)

    def unrealized(self, position: Position) -> Decimal:
        """In its own currency."""
        return self.value(position) - position.average * position.quantity * position.instrument.unit

    def gained(self, position: Position) -> Decimal:
        """All that it ever gained, in its own currency, before commission."""
        return self.unrealized(position) + position.realized

    def begin_day(self) -> None:
        self.day_start = self.net_liquidation
        for position in self.positions.values():
            position.day_start = self.gained(position)

    def total_value(self, sec_type: str, currency: str | None = None) -> Decimal:
        """What is held in one currency, in that; of all of them in base."""
        return self._total(self.value, (sec_type,), currency)

    def total_unrealized(
        self, sec_types: Iterable[str] = ("STK", "OPT", "FUT"), currency: str | None = None
    ) -> Decimal:
        return self._total(self.unrealized, sec_types, currency)

    def _total(
        self, amount: Callable[[Position], Decimal], sec_types: Iterable[str], currency: str | None
    ) -> Decimal:
        held = [p for p in self.open_positions() if p.instrument.sec_type in sec_types]
        if currency is not None:
            return sum((amount(p) for p in held if p.instrument.currency == currency), ZERO)
        return sum((amount(p) * self.rate_of(p.instrument.currency) for p in held), ZERO)

    def total_realized(self, currency: str | None = None) -> Decimal:
        if currency is not None:
            return self.realized.get(currency, ZERO)
        return sum((amount * self.rate_of(name) for name, amount in self.realized.items()), ZERO)

    @property
    def cash_in_base(self) -> Decimal:
        return sum((amount * self.rate_of(currency) for currency, amount in self.cash.items()), ZERO)

    @property
    def net_liquidation(self) -> Decimal:
        futures = self.total_unrealized(("FUT",))
        return self.cash_in_base + self.total_value("STK") + self.total_value("OPT") + futures

    @property
    def gross_position_value(self) -> Decimal:
        held = [p for p in self.open_positions() if p.instrument.sec_type != "FUT"]
        return sum((abs(self.base_value(p)) for p in held), ZERO)

    @property
    def initial_margin(self) -> Decimal:
        return sum((self.margin(p.instrument, p.quantity) for p in self.open_positions()), ZERO)

    @property
    def maintenance_margin(self) -> Decimal:
        held = self.open_positions()
        return sum((self.margin(p.instrument, p.quantity, MAINTENANCE) for p in held), ZERO)

    @property
    def available_funds(self) -> Decimal:
        return self.net_liquidation - self.initial_margin

    @property
    def excess_liquidity(self) -> Decimal:
        return self.net_liquidation - self.maintenance_margin

    @property
    def buying_power(self) -> Decimal:
        return max(self.available_funds, ZERO) * 4

    @property
    def daily_profit(self) -> Decimal:
        start = self.opening_cash if self.day_start is None else self.day_start
        return self.net_liquidation - start

    def margin(
        self, instrument: Instrument, quantity: Decimal, rates: dict[str, Decimal] = INITIAL
    ) -> Decimal:
        """Margin of holding a quantity, in base; currencies need none."""
        rate = rates.get(instrument.sec_type, ZERO) * self.rate_of(instrument.currency)
        return abs(quantity) * self.price_of(instrument.conid) * instrument.unit * rate

    def margin_change(self, instrument: Instrument, signed: Decimal) -> Decimal:
        """How initial margin would change if `signed` were filled now."""
        held = self.held(instrument.conid)
        return self.margin(instrument, held + signed) - self.margin(instrument, held)
