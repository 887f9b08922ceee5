"""A seeded random walk: bid, ask, sizes, last, volume for every instrument; options follow their model."""

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from .answers import now_ms
from .universe import Instrument, Universe

STEPS_PER_YEAR = 5 * 23_400 * 252
LIVELINESS = 3.0  # the walk is this much faster than a real market, so that a page visibly ticks
PULL = 0.0005  # towards the starting price, so that a demo of days stays plausible


@dataclass
class Quote:
    """The newest state of one instrument. Sizes in units; `updated_ms` when anything changed."""

    instrument: Instrument
    mid: float
    bid: Decimal = Decimal(0)
    ask: Decimal = Decimal(0)
    last: Decimal = Decimal(0)
    bid_size: int = 0
    ask_size: int = 0
    last_size: int = 0
    volume: int = 0
    open: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    low: Decimal = Decimal(0)
    prior_close: Decimal = Decimal(0)
    updated_ms: int = 0
    greeks: dict[str, float] = field(default_factory=dict)


def on_tick(price: float | Decimal, tick: Decimal) -> Decimal:
    """The nearest price that the instrument allows."""
    steps = (Decimal(str(price)) / tick).to_integral_value(ROUND_HALF_EVEN)
    return (steps * tick).quantize(tick)


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def option_value(option: Instrument, spot: float, now: datetime) -> tuple[float, dict[str, float]]:
    """Black-Scholes price and greeks at zero interest; theta per day, vega per point."""
    if option.expiry is None:
        raise ValueError("an option has an expiry")
    strike, sigma = float(option.strike), option.volatility
    days = max((option.expiry - now.date()).days, 0) + 0.5
    root = sigma * math.sqrt(days / 365)
    d1 = (math.log(spot / strike) + root * root / 2) / root
    d2 = d1 - root
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    call = spot * _normal_cdf(d1) - strike * _normal_cdf(d2)
    is_call = option.right == "C"
    greeks = {
        "delta": _normal_cdf(d1) - (0 if is_call else 1),
        "gamma": density / (spot * root),
        "theta": -spot * density * root / (2 * days),
        "vega": spot * density * math.sqrt(days / 365) / 100,
    }
    return max(call if is_call else call - spot + strike, 0.01), greeks


class Market:
    """Moves all quotes by steps. `depth` caps the sizes at the touch."""

    def __init__(self, universe: Universe, *, seed: int, mids: dict[int, float] | None = None):
        self._random = random.Random(seed)  # noqa: S311 - a market, not a secret
        self._universe = universe
        self._quotes: dict[int, Quote] = {}
        known = mids or {}
        for instrument in universe:
            self._add(instrument, known.get(instrument.conid, float(instrument.price)))

    def _add(self, instrument: Instrument, mid: float) -> Quote:
        quote = self._quotes[instrument.conid] = Quote(instrument, mid)
        self._reprice(quote, depth=500)
        close = on_tick(float(quote.last) * (1 + self._random.gauss(0, 0.004)), instrument.tick)
        quote.prior_close = max(close, instrument.tick)
        quote.open = quote.high = quote.low = quote.last
        quote.volume = self._random.randrange(200_000, 3_000_000)
        return quote

    def quote(self, conid: int) -> Quote | None:
        return self._quotes.get(conid)

    def mids(self) -> dict[int, float]:
        """What a restart continues from."""
        return {conid: q.mid for conid, q in self._quotes.items() if q.instrument.sec_type != "OPT"}

    def step(self, *, depth: int) -> None:
        """One step of the walk: most instruments move, and options follow their underlying."""
        for quote in self._quotes.values():
            if quote.instrument.sec_type != "OPT" and self._random.random() < 0.7:
                self._walk(quote)
                self._reprice(quote, depth)
        self._follow(depth)

    def move(self, conid: int, *, price: Decimal | None = None, percent: Decimal | None = None) -> bool:
        """Set a price, or move it by percent; false for an instrument without a walk of its own."""
        quote = self._quotes.get(conid)
        if quote is None or quote.instrument.sec_type == "OPT":
            return False
        quote.mid = float(price) if price is not None else quote.mid * (1 + float(percent or 0) / 100)
        self._reprice(quote, depth=500)
        quote.last = on_tick(quote.mid, quote.instrument.tick)
        self._follow(500)
        return True

    def _walk(self, quote: Quote) -> None:
        sigma = quote.instrument.volatility / math.sqrt(STEPS_PER_YEAR) * LIVELINESS
        pull = PULL * math.log(float(quote.instrument.price) / quote.mid)
        quote.mid *= math.exp(self._random.gauss(pull, sigma))

    def _follow(self, depth: int) -> None:
        now = datetime.now(UTC)
        for quote in self._quotes.values():
            if quote.instrument.sec_type != "OPT":
                continue
            parent = self._quotes.get(quote.instrument.underlying)
            if parent is not None:
                mid, quote.greeks = option_value(quote.instrument, parent.mid, now)
                if abs(mid - quote.mid) >= 0.005 or not quote.updated_ms:
                    quote.mid = mid
                    self._reprice(quote, depth)

    def _reprice(self, quote: Quote, depth: int) -> None:
        tick = quote.instrument.tick
        half_ticks = self._random.choice((1, 1, 1, 2)) if quote.mid / float(tick) > 50 else 1
        bid = on_tick(quote.mid - float(tick) * half_ticks / 2, tick)
        quote.bid = max(bid, tick)
        quote.ask = quote.bid + tick * half_ticks
        quote.bid_size, quote.ask_size = (self._random.randint(1, max(depth, 1)) for _ in range(2))
        self._trade(quote)
        quote.updated_ms = now_ms()

    def _trade(self, quote: Quote) -> None:
        quote.last = self._random.choice((quote.bid, quote.ask))
        if quote.instrument.sec_type != "IND":
            quote.last_size = self._random.choice((1, 5, 10, 25, 50, 100, 100, 200))
            quote.volume += quote.last_size
        quote.high = max(quote.high, quote.last)
        quote.low = min(quote.low or quote.last, quote.last)
