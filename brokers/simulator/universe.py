"""The instruments: `universe.csv`, and what follows from its rows: futures by root, option chains when they are asked for.

Conids of 900 000 000 and above are invented; the others are public.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from .calendar import is_trading_day

TABLE = Path(__file__).with_name("universe.csv")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DELIVERY_LETTERS = "FGHJKMNQUVXZ"
OPTION_MONTHS = 6
# How an option's conid is made: its chain's first, months since EPOCH_YEAR, the strike twice, and one for a put.
EPOCH_YEAR, A_MONTH, A_CHAIN = 2020, 10_000, 10_000_000
TICK = Decimal("0.01")
# From each price on, so large a step. Options on these two keep a cent at every price.
OPTION_BANDS = ((Decimal(0), TICK), (Decimal(3), Decimal("0.05")))
BY_THE_CENT = frozenset({"SPY", "QQQ"})


@dataclass(frozen=True)
class Chain:
    """The options on an instrument: conids from `base` on, whole strikes from `low` to `high`."""

    base: int
    low: int
    high: int
    step: int

    @property
    def strikes(self) -> range:
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Instrument:
    """One contract. `price` is where the walk starts; `volatility` is per year; `fee` is in USD a contract.

    `magnifier` is how many units of the price make one of the currency: 100 for pence. `delivery` is a day of the
    month that a future is named after, where that is not the month in which it expires.
    """

    conid: int
    symbol: str
    sec_type: str
    name: str
    exchange: str
    price: Decimal
    tick: Decimal = TICK
    currency: str = "USD"
    multiplier: int = 1
    magnifier: int = 1
    sector: str | None = None
    underlying: int = 0
    expiry: date | None = None
    delivery: date | None = None
    strike: Decimal = Decimal(0)
    right: str = ""
    volatility: float = 0.3
    fee: Decimal = Decimal(0)
    chain: Chain | None = None
    # Price steps from each lower edge on; `tick`, the finest, holds for every price where there are none.
    bands: tuple[tuple[Decimal, Decimal], ...] = ()

    def step_at(self, price: Decimal | float) -> Decimal:
        """The price step that holds at a price."""
        return next((step for edge, step in reversed(self.bands) if price >= edge), self.tick)

    @property
    def month(self) -> str:
        """The contract month as IBKR writes it, `AUG26`."""
        named = self.delivery or self.expiry
        return f"{MONTHS[named.month - 1]}{named:%y}" if named else ""

    @property
    def local_name(self) -> str:
        """What stands in `contractDesc` and order descriptions."""
        if self.sec_type == "OPT" and self.expiry:
            return f"{self.symbol} {self.expiry:%d}{self.month} {self.strike} {self.right}"
        if self.sec_type == "CASH":
            return f"{self.symbol}.{self.currency}"
        return f"{self.symbol} {self.month}" if self.sec_type == "FUT" else self.symbol

    @property
    def local_symbol(self) -> str:
        """Its exchange's own name: `ESZ6`, `AAPL  261218C00200000`."""
        if self.sec_type == "OPT" and self.expiry:
            return f"{self.symbol:<6}{self.expiry:%y%m%d}{self.right}{int(self.strike * 1000):08d}"
        named = self.delivery or self.expiry
        if self.sec_type == "FUT" and named:
            return f"{self.symbol}{DELIVERY_LETTERS[named.month - 1]}{named.year % 10}"
        return self.local_name

    @property
    def unit(self) -> Decimal:
        """What one of it is worth in its currency, for each unit of its price."""
        return Decimal(self.multiplier) / self.magnifier

    @property
    def size_step(self) -> Decimal:
        """Shares are sold in fractions of four places."""
        return Decimal("0.0001") if self.sec_type == "STK" else Decimal(1)

    @property
    def is_us(self) -> bool:
        return self.exchange not in ("LSE", "IDEALPRO")

    @property
    def tradable(self) -> bool:
        return self.sec_type != "IND"

    @property
    def needs_manual_indicator(self) -> bool:
        """US futures carry manualIndicator and extOperator (§6.1)."""
        return self.sec_type in ("FUT", "FOP")


def third_friday(year: int, month: int) -> date:
    """The monthly expiry of US options and index futures."""
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def before_25th(year: int, month: int) -> date:
    """Crude oil: three days of trading before the 25th of the month before the one that it is named after."""
    day = date(year, month, 1) - timedelta(days=1)
    day = _trading_day_before(day.replace(day=26))
    for _ in range(3):
        day = _trading_day_before(day)
    return day


def third_last(year: int, month: int) -> date:
    """Metals: the third last day of trading of the month."""
    day = date(year + month // 12, month % 12 + 1, 1)
    for _ in range(3):
        day = _trading_day_before(day)
    return day


def _trading_day_before(day: date) -> date:
    day -= timedelta(days=1)
    while not is_trading_day(day):
        day -= timedelta(days=1)
    return day


EXPIRIES: dict[str, Callable[[int, int], date]] = {
    "third_friday": third_friday,
    "before_25th": before_25th,
    "third_last": third_last,
}


def months_from(day: date) -> Iterator[tuple[int, int]]:
    """Year and month, from a day's own on, without end."""
    number = day.year * 12 + day.month - 1
    while True:
        yield number // 12, number % 12 + 1
        number += 1


def expiries(
    since: date, today: date, *, step_months: int, count: int, rule: Callable[[int, int], date] = third_friday
) -> list[tuple[date, date]]:
    """When they expire and a day of their month: from `since` until `count` lie ahead, every `step_months` months."""
    found: list[tuple[date, date]] = []
    for year, month in months_from(since):
        expiry = rule(year, month)
        if expiry >= since and month % step_months == 0:
            found.append((expiry, date(year, month, 1)))
        if sum(expiry >= today for expiry, _ in found) == count:
            return found
    raise AssertionError("months do not end")


def rows() -> list[dict[str, str]]:
    """The table as it is written."""
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def starting_price(symbol: str) -> Decimal:
    """Where the walk of a symbol starts; of several listings the first."""
    return next(Decimal(row["price"]) for row in rows() if row["symbol"] == symbol)


class Universe:
    """All instruments of the day, and those expired since `since` (something may still be held).

    Options are made when they are asked for: there are thousands, and few are looked at.
    """

    def __init__(self, today: date, since: date | None = None):
        self._since = min(since or today, today)
        self._by_conid: dict[int, Instrument] = {}
        self._by_symbol: dict[str, list[Instrument]] = {}
        self._options: dict[int, Instrument | None] = {}
        self.roll(today)
        self._chains = {i.chain.base: i for i in self if i.chain}

    def roll(self, today: date) -> None:
        """A day begins: what is listed from then on is there; what expired stays, for something may still be held."""
        self.today = today
        for each in (each for row in rows() for each in self._of(row)):
            if each.conid not in self._by_conid:
                self._by_conid[each.conid] = each
                self._by_symbol.setdefault(each.symbol, []).append(each)

    def _of(self, row: dict[str, str]) -> Iterable[Instrument]:
        """The instruments of one row: of a root one for each expiry."""
        base = _instrument(row)
        if base.sec_type != "FUT":
            return [base]
        rule, step, count = row["expiries"].split("/")
        dates = expiries(
            self._since, self.today, step_months=int(step), count=int(count), rule=EXPIRIES[rule]
        )
        return [_future(base, expiry, delivery) for expiry, delivery in dates]

    def __iter__(self) -> Iterator[Instrument]:
        """Everything but options."""
        return iter(self._by_conid.values())

    def find(self, conid: int) -> Instrument | None:
        if conid not in self._by_conid and conid not in self._options:
            self._options[conid] = self._option(conid)
        return self._by_conid.get(conid) or self._options.get(conid)

    def alive(self, conid: int) -> Instrument | None:
        """One that still trades."""
        found = self.find(conid)
        return found if found and (found.expiry is None or found.expiry >= self.today) else None

    def named(self, symbol: str, *sec_types: str) -> list[Instrument]:
        """All of a symbol but options, upper-cased, of the given types (any when none is given)."""
        found = self._by_symbol.get(symbol.strip().upper(), [])
        alive = (i for i in found if i.expiry is None or i.expiry >= self.today)
        return [i for i in alive if not sec_types or i.sec_type in sec_types]

    def option_months(self, underlying: int) -> dict[str, date]:
        """The months of the options on an underlying that have not expired, with their expiry."""
        if underlying not in self._by_conid or self._by_conid[underlying].chain is None:
            return {}
        dates = expiries(self.today, self.today, step_months=1, count=OPTION_MONTHS)
        return {f"{MONTHS[expiry.month - 1]}{expiry:%y}": expiry for expiry, _ in dates}

    def options(self, underlying: int, month: str) -> list[Instrument]:
        """The option chain of an underlying in one month, `AUG26`."""
        expiry = self.option_months(underlying).get(month.upper())
        chain = self._by_conid[underlying].chain if expiry else None
        if expiry is None or chain is None:
            return []
        conids = [option_conid(chain, expiry, strike, right) for strike in chain.strikes for right in "CP"]
        return [option for conid in conids if (option := self.find(conid))]

    def pair(self, base: str, quoted_in: str) -> Instrument | None:
        """`EUR`, `USD`: euros, priced in dollars."""
        return next((i for i in self.named(base, "CASH") if i.currency == quoted_in), None)

    def _option(self, conid: int) -> Instrument | None:
        """The option that a conid stands for, unless it expired before anything here was held."""
        parent = self._chains.get(conid // A_CHAIN * A_CHAIN)
        if parent is None or parent.chain is None:
            return None
        months, rest = divmod(conid - parent.chain.base, A_MONTH)
        expiry = third_friday(EPOCH_YEAR + (months - 1) // 12, (months - 1) % 12 + 1)
        strike, right = rest // 2, "CP"[rest % 2]
        if strike not in parent.chain.strikes or expiry < self._since:
            return None
        return Instrument(
            conid=conid,
            symbol=parent.symbol,
            sec_type="OPT",
            name=parent.name,
            exchange="CBOE",
            price=TICK,
            multiplier=100,
            sector=parent.sector,
            underlying=parent.conid,
            expiry=expiry,
            strike=Decimal(strike),
            right=right,
            volatility=_smile(parent, strike),
            bands=() if parent.symbol in BY_THE_CENT else OPTION_BANDS,
        )


def option_conid(chain: Chain, expiry: date, strike: int, right: str) -> int:
    """Invented, but the same on every start."""
    months = (expiry.year - EPOCH_YEAR) * 12 + expiry.month
    return chain.base + months * A_MONTH + strike * 2 + (right == "P")


def _smile(parent: Instrument, strike: int) -> float:
    """Each strike has its own volatility, higher below the starting price and far above it, and keeps it."""
    away = strike / float(parent.price) - 1
    return round(parent.volatility * (1 - 0.3 * away + away * away), 4)


def _instrument(row: dict[str, str]) -> Instrument:
    base, _, grid = row["chain"].partition("/")
    strikes, _, step = grid.partition("/")
    low, _, high = strikes.partition("-")
    return Instrument(
        conid=int(row["conid"]),
        symbol=row["symbol"],
        sec_type=row["sec_type"],
        name=row["name"],
        exchange=row["exchange"],
        price=Decimal(row["price"]),
        tick=Decimal(row["tick"] or TICK),
        currency=row["currency"],
        multiplier=int(row["multiplier"] or 1),
        magnifier=int(row["magnifier"] or 1),
        sector=row["sector"] or None,
        underlying=int(row["underlying"] or 0),
        volatility=float(row["volatility"]),
        fee=Decimal(row["fee"] or 0),
        chain=Chain(int(base), int(low), int(high), int(step)) if base else None,
    )


def _future(root: Instrument, expiry: date, delivery: date) -> Instrument:
    conid = root.conid + delivery.year * 12 + delivery.month
    return replace(root, conid=conid, expiry=expiry, delivery=delivery)
