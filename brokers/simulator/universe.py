"""The instruments: a small realistic world. Conids above 900 000 000 are invented; the others are public."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

INVENTED = 900_000_000
OPTION_BASE = 910_000_000
ES_INDEX, MES_INDEX, SPX = 11004968, 362687422, 416904
AAPL, EURUSD = 265598, 12087792
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
STRIKES = tuple(range(200, 305, 5))

# conid, symbol, name, listing exchange, starting price, sector
STOCKS = (
    (265598, "AAPL", "APPLE INC", "NASDAQ", "255.30", "Technology"),
    (272093, "MSFT", "MICROSOFT CORP", "NASDAQ", "415.20", "Technology"),
    (4815747, "NVDA", "NVIDIA CORP", "NASDAQ", "182.40", "Technology"),
    (3691937, "AMZN", "AMAZON.COM INC", "NASDAQ", "221.60", "Communications"),
    (208813719, "GOOGL", "ALPHABET INC-CL A", "NASDAQ", "248.10", "Communications"),
    (208813720, "GOOG", "ALPHABET INC-CL C", "NASDAQ", "249.00", "Communications"),
    (107113386, "META", "META PLATFORMS INC-CLASS A", "NASDAQ", "640.50", "Communications"),
    (76792991, "TSLA", "TESLA INC", "NASDAQ", "402.70", "Consumer, Cyclical"),
    (15124833, "NFLX", "NETFLIX INC", "NASDAQ", "96.40", "Communications"),
    (4391, "AMD", "ADVANCED MICRO DEVICES", "NASDAQ", "214.80", "Technology"),
    (270639, "INTC", "INTEL CORP", "NASDAQ", "36.20", "Technology"),
    (268084, "CSCO", "CISCO SYSTEMS INC", "NASDAQ", "77.10", "Communications"),
    (8314, "IBM", "INTL BUSINESS MACHINES CORP", "NYSE", "291.30", "Technology"),
    (1520593, "JPM", "JPMORGAN CHASE & CO", "NYSE", "309.90", "Financial"),
    (10098, "BAC", "BANK OF AMERICA CORP", "NYSE", "52.30", "Financial"),
    (49462172, "V", "VISA INC-CLASS A SHARES", "NYSE", "338.40", "Financial"),
    (13977, "XOM", "EXXON MOBIL CORP", "NYSE", "117.60", "Energy"),
    (8894, "KO", "COCA-COLA CO/THE", "NYSE", "71.20", "Consumer, Non-cyclical"),
    (10291, "NKE", "NIKE INC -CL B", "NYSE", "64.70", "Consumer, Cyclical"),
    (6459, "DIS", "WALT DISNEY CO/THE", "NYSE", "111.50", "Communications"),
    (13824, "WMT", "WALMART INC", "NASDAQ", "104.90", "Consumer, Cyclical"),
    (756733, "SPY", "SS SPDR S&P 500 ETF TRUST-US", "ARCA", "655.05", None),
    (320227571, "QQQ", "INVESCO QQQ TRUST SERIES 1", "NASDAQ", "588.20", None),
    (9579970, "IWM", "ISHARES RUSSELL 2000 ETF", "ARCA", "247.30", None),
    (51529211, "GLD", "SPDR GOLD SHARES", "ARCA", "382.60", None),
    (15547841, "TLT", "ISHARES 20+ YEAR TREASURY BD", "NASDAQ", "89.40", None),
)


@dataclass(frozen=True)
class Instrument:
    """One contract. `price` is where the walk starts; `volatility` is per year."""

    conid: int
    symbol: str
    sec_type: str
    name: str
    exchange: str
    price: Decimal
    tick: Decimal = Decimal("0.01")
    currency: str = "USD"
    multiplier: int = 1
    sector: str | None = None
    underlying: int = 0
    expiry: date | None = None
    strike: Decimal = Decimal(0)
    right: str = ""
    volatility: float = 0.3

    @property
    def month(self) -> str:
        """The contract month as IBKR writes it, `AUG26`."""
        return f"{MONTHS[self.expiry.month - 1]}{self.expiry:%y}" if self.expiry else ""

    @property
    def local_name(self) -> str:
        """What stands in `contractDesc` and order descriptions."""
        if self.sec_type == "OPT" and self.expiry:
            return f"{self.symbol} {self.expiry:%d}{self.month} {self.strike} {self.right}"
        return f"{self.symbol} {self.month}" if self.sec_type == "FUT" else self.symbol

    @property
    def size_step(self) -> Decimal:
        """Shares are sold in fractions of four places."""
        return Decimal("0.0001") if self.sec_type == "STK" else Decimal(1)

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


def expiries(since: date, today: date, *, step_months: int, count: int) -> list[date]:
    """Third Fridays from `since` until `count` of them lie ahead, every `step_months` months."""
    found: list[date] = []
    year, month = since.year, since.month
    while sum(expiry >= today for expiry in found) < count:
        expiry = third_friday(year, month)
        if expiry >= since and month % step_months == 0:
            found.append(expiry)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found


def _stocks() -> Iterator[Instrument]:
    for conid, symbol, name, exchange, price, sector in STOCKS:
        yield Instrument(conid, symbol, "STK", name, exchange, Decimal(price), sector=sector)


def _futures(since: date, today: date) -> Iterator[Instrument]:
    roots = (("ES", "E-mini S&P 500", 50, ES_INDEX), ("MES", "Micro E-Mini S&P 500", 5, MES_INDEX))
    for number, (symbol, name, multiplier, index) in enumerate(roots):
        for expiry in expiries(since, today, step_months=3, count=2):
            yield Instrument(
                conid=INVENTED + number * 100_000 + expiry.year * 12 + expiry.month,
                symbol=symbol,
                sec_type="FUT",
                name=name,
                exchange="CME",
                price=Decimal("6590.25"),
                tick=Decimal("0.25"),
                multiplier=multiplier,
                underlying=index,
                expiry=expiry,
                volatility=0.18,
            )


def option_conid(expiry: date, strike: int, right: str) -> int:
    """Invented, but the same on every start."""
    months = (expiry.year - 2020) * 12 + expiry.month
    return OPTION_BASE + months * 10_000 + strike * 2 + (right == "P")


def _options(since: date, today: date) -> Iterator[Instrument]:
    for expiry in expiries(since, today, step_months=1, count=3):
        for strike in STRIKES:
            for right in "CP":
                yield Instrument(
                    conid=option_conid(expiry, strike, right),
                    symbol="AAPL",
                    sec_type="OPT",
                    name="APPLE INC",
                    exchange="CBOE",
                    price=Decimal("5.00"),
                    multiplier=100,
                    sector="Technology",
                    underlying=AAPL,
                    expiry=expiry,
                    strike=Decimal(strike),
                    right=right,
                )


class Universe:
    """All instruments of the day, and those expired since `since` (something may still be held)."""

    def __init__(self, today: date, since: date | None = None):
        self._by_conid = {i.conid: i for i in self._all(min(since or today, today), today)}

    @staticmethod
    def _all(since: date, today: date) -> Iterator[Instrument]:
        yield from _stocks()
        yield Instrument(
            SPX, "SPX", "IND", "S&P 500 Stock Index", "CBOE", Decimal("6580.10"), volatility=0.18
        )
        yield Instrument(
            EURUSD, "EUR", "CASH", "European Monetary Union Euro", "IDEALPRO",
            Decimal("1.16540"), tick=Decimal("0.00005"), volatility=0.08,
        )  # fmt: skip
        yield from _futures(since, today)
        yield from _options(since, today)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_conid.values())

    def find(self, conid: int) -> Instrument | None:
        return self._by_conid.get(conid)

    def named(self, symbol: str, *sec_types: str) -> list[Instrument]:
        """All of a symbol, upper-cased, of the given types (any when none is given)."""
        wanted = symbol.strip().upper()
        return [i for i in self if i.symbol == wanted and (not sec_types or i.sec_type in sec_types)]

    def options(self, underlying: int, month: str = "") -> list[Instrument]:
        """The option chain of an underlying, of one month (`AUG26`) when given."""
        found = [i for i in self if i.underlying == underlying and i.sec_type == "OPT"]
        return [i for i in found if not month or i.month == month.upper()]
