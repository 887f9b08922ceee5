"""Quotes, tickers and bars, asked of the broker at that moment; the streamed ones are in `streaming`."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from brokers.answers import Memory
from brokers.asking import ask, broker_ids
from brokers.bars import BARS, check_bars
from brokers.base import Availability
from brokers.market_records import Bars, Ticker
from brokers.models import Login
from brokers.occ import canonical
from brokers.pacing import one_of
from brokers.services import broker_for
from brokers.tools.shapes import BrokerId, OfInstrument, Symbol, ThroughLogin
from cerbero.access import Actor
from cerbero.errors import QuoteMissing
from cerbero.tool import READ, Out, tool

INSTRUMENTS_MAX = 50
# Concurrent charts of one login (ibkr-web-api.md §4.4).
CHARTS_MAX = 5
TICKERS = Memory("ticker", list[Ticker], seconds=1, stands_seconds=60)
BARS_KNOWN = Memory("bars", Bars, seconds=15)


class QuoteOut(Out):
    """`availability` is the broker's word: live, delayed, frozen or none. Three clocks: heard, changed, available."""

    broker_instrument_id: str
    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None
    volume: Decimal | None
    prior_close: Decimal | None
    availability: Availability
    is_halted: bool
    received_at: dt.datetime
    changed_at: dt.datetime | None


class TickerOut(QuoteOut):
    """`change_percent` is in per cent of the prior close."""

    last_size: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    change: Decimal | None
    change_percent: Decimal | None
    mark: Decimal | None
    year_high: Decimal | None
    year_low: Decimal | None
    average_volume: Decimal | None
    shortable_shares: Decimal | None


class OfInstruments(ThroughLogin):
    """Up to fifty: symbols that Cerbero knows, broker's ids, or some of each."""

    symbols: list[Symbol] = Field(default=[], max_length=INSTRUMENTS_MAX)
    broker_instrument_ids: list[BrokerId] = Field(default=[], max_length=INSTRUMENTS_MAX)

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if not 1 <= len(self.symbols) + len(self.broker_instrument_ids) <= INSTRUMENTS_MAX:
            raise ValueError(f"name 1 to {INSTRUMENTS_MAX} instruments")
        return self

    def named(self, login: Login) -> dict[str, str]:
        """The symbol of each broker's id; "" for one that was named by its id."""
        known = {broker_id: symbol for symbol, broker_id in broker_ids(login, self.symbols).items()}
        return dict.fromkeys(self.broker_instrument_ids, "") | known


class SnapshotOut(Out):
    """`missing` are those of which the broker says nothing."""

    quotes: list[QuoteOut]
    missing: list[str]


class OfBars(OfInstrument):
    """`period` is a number and min, h, d, w, m or y; which bars it takes is checked before the broker is asked."""

    period: str = Field(default="1d", max_length=8)
    bar: str = Field(default="5min", json_schema_extra={"enum": list(BARS)})
    outside_hours: bool = False
    until: Annotated[AwareDatetime | None, Field(description="The period's end; now if it is left out.")] = (
        None
    )


class BarOut(Out):
    starts_at: dt.datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None


class BarsOut(Out):
    """Oldest first. `delay_seconds` is how far the newest lags behind the market."""

    broker_instrument_id: str
    period: str
    bar: str
    bar_seconds: int | None
    delay_seconds: Decimal | None
    availability: Availability
    bars: list[BarOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_ticker(actor: Actor, params: OfInstrument) -> TickerOut:
    """One instrument's quote and its day: open, high, low, change, volumes, and how live the broker's data is."""
    login = params.login(actor)
    broker_id = params.broker_id(login)
    known = ask(login, TICKERS, broker_id, lambda broker: broker.reads.tickers([broker_id]))
    if not known.value:
        raise QuoteMissing("The broker has no quote of this instrument now.", broker_instrument_id=broker_id)
    found = known.value[0]
    more = {name: value for name, value in vars(found).items() if name != "quote"}
    return TickerOut(**vars(found.quote), **more, symbol=canonical(params.symbol or ""))


@tool(scope="market:read", effect=READ)
def get_snapshot(actor: Actor, params: OfInstruments) -> SnapshotOut:
    """Quotes of many instruments at once, asked of the broker now, each with how live its data is."""
    login = params.login(actor)
    named = params.named(login)
    with broker_for(login) as broker:
        found = broker.snapshot(list(named))
    quotes = [QuoteOut(**vars(each), symbol=named[each.broker_instrument_id]) for each in found]
    told = {each.broker_instrument_id for each in quotes}
    return SnapshotOut(quotes=quotes, missing=[each for each in named if each not in told])


@tool(scope="market:read", effect=READ)
def get_bars(actor: Actor, params: OfBars) -> BarsOut:
    """Bars of one instrument over a period; a bar that the period does not take is refused with those that fit."""
    period, bar, until = params.period, params.bar, params.until
    check_bars(period, bar)
    login = params.login(actor)
    broker_id = params.broker_id(login)

    def read_bars() -> Bars:
        with one_of(CHARTS_MAX, f"charts:{login.pk}"), broker_for(login) as broker:
            return broker.reads.bars(broker_id, period, bar, outside_hours=params.outside_hours, until=until)

    key = f"{broker_id}:{period}:{bar}:{params.outside_hours:d}:{until.isoformat() if until else ''}"
    known = BARS_KNOWN.ask(login, key, read_bars)
    return BarsOut(
        broker_instrument_id=broker_id,
        period=period,
        bar=bar,
        bar_seconds=known.value.bar_seconds,
        delay_seconds=known.value.delay_seconds,
        availability=known.value.availability,
        bars=[BarOut.model_validate(each) for each in known.value.bars],
        as_of=known.as_of,
    )
