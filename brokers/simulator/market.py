"""A seeded random walk: bid, ask, sizes, last, volume for every instrument; options follow their model when looked at."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property

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
    # Its own, so that nothing else changes where it walks.
    dice: random.Random = field(default_factory=random.Random, repr=False)


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
    """Moves all quotes by steps. `depth` caps the sizes at the touch; `now` is the exchange's clock."""

    def __init__(
        self,
        universe: Universe,
        *,
        seed: int,
        mids: dict[int, float] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        self._universe, self._seed, self._now = universe, seed, now
        self._known = mids or {}
        # Those that somebody has looked at.
        self._options: dict[int, Quote] = {}

    @cached_property
    def _quotes(self) -> dict[int, Quote]:
        """Begun at the first look, so that a start does not wait for them."""
        mids = self._known
        return {i.conid: self._begin(i, mids.get(i.conid, float(i.price))) for i in self._universe}

    def _begin(self, instrument: Instrument, mid: float) -> Quote:
        quote = Quote(instrument, mid, dice=random.Random(self._seed * 2**32 + instrument.conid))  # noqa: S311
        self._reprice(quote, depth=500)
        close = on_tick(float(quote.last) * (1 + quote.dice.gauss(0, 0.004)), instrument.tick)
        self._open(quote, close)
        return quote

    def _open(self, quote: Quote, close: Decimal) -> None:
        """The day so far: it has just begun, after yesterday's close."""
        quote.prior_close = max(close, quote.instrument.tick)
        quote.open = quote.high = quote.low = quote.last
        quote.volume = quote.dice.randrange(200_000, 3_000_000)

    def quote(self, conid: int) -> Quote | None:
        """The newest state; that of an option, and of what was listed since the start, begins when it is first asked for."""
        return self._quotes.get(conid) or self._options.get(conid) or self._look_at(conid)

    def _look_at(self, conid: int) -> Quote | None:
        option = self._universe.find(conid)
        if option is not None and option.sec_type == "FUT":
            near = [q.mid for q in self._quotes.values() if q.instrument.symbol == option.symbol]
            self._quotes[conid] = self._begin(option, near[-1] if near else float(option.price))
            return self._quotes[conid]
        parent = self._quotes.get(option.underlying) if option else None
        if option is None or parent is None:
            return None
        mid, greeks = option_value(option, parent.mid, self._now())
        quote = self._begin(option, mid)
        quote.greeks = greeks
        close, _ = option_value(option, float(parent.prior_close), self._now())
        self._open(quote, on_tick(close, option.tick))
        quote.volume //= 1000
        self._options[conid] = quote
        return quote

    def mids(self) -> dict[int, float]:
        """What a restart continues from."""
        return {conid: quote.mid for conid, quote in self._quotes.items()}

    def step(self, *, depth: int) -> None:
        """One step of the walk: most instruments move, and options follow their underlying."""
        for quote in self._quotes.values():
            if quote.dice.random() < 0.7:
                self._walk(quote)
                self._reprice(quote, depth)
        self._follow(depth)

    def move(self, conid: int, *, price: Decimal | None = None, percent: Decimal | None = None) -> bool:
        """Set a price, or move it by percent; false for an instrument without a walk of its own."""
        quote = self._quotes.get(conid)
        if quote is None:
            return False
        quote.mid = float(price) if price is not None else quote.mid * (1 + float(percent or 0) / 100)
        self._reprice(quote, depth=500)
        quote.last = on_tick(quote.mid, quote.instrument.step_at(quote.mid))
        self._follow(500)
        return True

    def _walk(self, quote: Quote) -> None:
        sigma = quote.instrument.volatility / math.sqrt(STEPS_PER_YEAR) * LIVELINESS
        pull = PULL * math.log(float(quote.instrument.price) / quote.mid)
        quote.mid *= math.exp(quote.dice.gauss(pull, sigma))

    def _follow(self, depth: int) -> None:
        now = self._now()
        for quote in self._options.values():
            parent = self._quotes[quote.instrument.underlying]
            mid, quote.greeks = option_value(quote.instrument, parent.mid, now)
            if abs(mid - quote.mid) >= 0.005:
                quote.mid = mid
                self._reprice(quote, depth)

    def _reprice(self, quote: Quote, depth: int) -> None:
        tick = quote.instrument.step_at(quote.mid)
        half_ticks = quote.dice.choice((1, 1, 1, 2)) if quote.mid / float(tick) > 50 else 1
        bid = on_tick(quote.mid - float(tick) * half_ticks / 2, tick)
        quote.bid = max(bid, tick)
        quote.ask = quote.bid + tick * half_ticks
        quote.bid_size, quote.ask_size = (quote.dice.randint(1, max(depth, 1)) for _ in range(2))
        self._trade(quote)
        quote.updated_ms = now_ms()

    def _trade(self, quote: Quote) -> None:
        quote.last = quote.dice.choice((quote.bid, quote.ask))
        if quote.instrument.sec_type != "IND":
            quote.last_size = quote.dice.choice((1, 5, 10, 25, 50, 100, 100, 200))
            quote.volume += quote.last_size
        quote.high = max(quote.high, quote.last)
        quote.low = min(quote.low or quote.last, quote.last)
