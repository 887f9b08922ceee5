"""Option chains and greeks."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from brokers.answers import Memory
from brokers.asking import A_DAY, ask
from brokers.base import Availability, Broker
from brokers.market_records import Found, Greeks, OptionContract, Right, Strikes
from brokers.models import Login
from brokers.tools.contracts import SEARCHES
from brokers.tools.shapes import BrokerId, Symbol, ThroughLogin
from cerbero.access import Actor
from cerbero.errors import BadInput, NotFound
from cerbero.tool import READ, Out, tool

# Each strike whose contracts are asked for costs a request of the login's ten a second.
STRIKES_MAX = 10
OPTIONS_MAX = 20
STRIKES = Memory("strikes", Strikes, seconds=3600, stands_seconds=A_DAY)
OPTIONS = Memory("option_contracts", list[OptionContract], seconds=A_DAY, stands_seconds=7 * A_DAY)
GREEKS = Memory("greeks", list[Greeks], seconds=1, stands_seconds=60)

Price = Annotated[Decimal, Field(gt=0, max_digits=18)]


class OfChain(ThroughLogin):
    """`symbol` is what the options are written on; name strikes for their contracts, ten at most."""

    symbol: Symbol
    month: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}[0-9]{2}$")] | None = None
    strikes: list[Price] = Field(default=[], max_length=STRIKES_MAX)

    @model_validator(mode="after")
    def _strikes_are_of_a_month(self) -> Self:
        if self.strikes and self.month is None:
            raise ValueError("strikes are of a month: name one")
        return self


class OptionOut(Out):
    broker_instrument_id: str
    right: Right
    strike: Decimal
    expires_on: dt.date
    multiplier: Decimal | None
    currency: str
    trading_class: str


class ChainOut(Out):
    """Without a month only the months; with one its strikes on both sides, and the contracts of those named."""

    symbol: str
    underlying_id: str
    months: list[str]
    month: str | None
    calls: list[Decimal]
    puts: list[Decimal]
    expires_on: list[dt.date]
    contracts: list[OptionOut]
    as_of: dt.datetime


class OfGreeks(ThroughLogin):
    """`symbol` is what the options are written on; the ids are those of `get_option_chain`."""

    symbol: Symbol
    broker_instrument_ids: list[BrokerId] = Field(min_length=1, max_length=OPTIONS_MAX)


class GreeksOut(Out):
    """The broker's model. `implied_volatility` is a fraction a year, `theta` a day, `vega` a point of volatility."""

    broker_instrument_id: str
    delta: Decimal | None
    gamma: Decimal | None
    theta: Decimal | None
    vega: Decimal | None
    implied_volatility: Decimal | None
    open_interest: Decimal | None
    underlying_id: str | None
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    availability: Availability
    received_at: dt.datetime


class AllGreeksOut(Out):
    """`missing` are those of which the broker says nothing."""

    symbol: str
    options: list[GreeksOut]
    missing: list[str]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_option_chain(actor: Actor, params: OfChain) -> ChainOut:
    """The options on a symbol: its months; of a month the strikes of both sides; of strikes the contracts with their expiry."""
    login, symbol, month = params.login(actor), params.symbol.strip().upper(), params.month
    searched = ask(login, SEARCHES, f"symbol:{symbol}", lambda broker: broker.reads.search(symbol))
    underlying, months = _written_on(symbol, searched.value)
    if month is None:
        return ChainOut(
            symbol=symbol,
            underlying_id=underlying,
            months=months,
            month=None,
            calls=[],
            puts=[],
            expires_on=[],
            contracts=[],
            as_of=searched.as_of,
        )
    if month not in months:
        raise BadInput("There are no options of this month.", month=month, months=months)
    strikes = ask(
        login,
        STRIKES,
        f"{underlying}:{month}",
        lambda broker: broker.reads.strikes(symbol, underlying, month),
    )
    contracts = [
        each for strike in params.strikes for each in _contracts(login, symbol, underlying, month, strike)
    ]
    return ChainOut(
        symbol=symbol,
        underlying_id=underlying,
        months=months,
        month=month,
        calls=list(strikes.value.calls),
        puts=list(strikes.value.puts),
        expires_on=sorted({each.expires_on for each in contracts}),
        contracts=[OptionOut.model_validate(each) for each in contracts],
        as_of=strikes.as_of,
    )


@tool(scope="market:read", effect=READ)
def get_option_greeks(actor: Actor, params: OfGreeks) -> AllGreeksOut:
    """Delta, gamma, theta, vega and implied volatility of options, by the broker's model, beside their quotes."""
    login, symbol = params.login(actor), params.symbol.strip().upper()
    wanted = list(dict.fromkeys(params.broker_instrument_ids))
    known = ask(login, GREEKS, ",".join(wanted), lambda broker: _greeks(broker, symbol, wanted))
    told = {each.quote.broker_instrument_id for each in known.value}
    return AllGreeksOut(
        symbol=symbol,
        options=[_greeks_out(each) for each in known.value],
        missing=[each for each in wanted if each not in told],
        as_of=known.as_of,
    )


def _written_on(symbol: str, found: list[Found]) -> tuple[str, list[str]]:
    """The underlying's id and its months. Raises NotFound where no options are traded on it."""
    for row in found:
        for section in row.sections:
            if section.asset_class == "option" and section.months:
                return row.broker_instrument_id, list(section.months)
    raise NotFound("The broker has no options on this symbol.", symbol=symbol)


def _contracts(
    login: Login, symbol: str, underlying: str, month: str, strike: Decimal
) -> list[OptionContract]:
    key = f"{underlying}:{month}:{strike.normalize():f}"
    return ask(
        login,
        OPTIONS,
        key,
        lambda broker: broker.reads.option_contracts(symbol, underlying, month, strike),
    ).value


def _greeks(broker: Broker, symbol: str, wanted: list[str]) -> list[Greeks]:
    # A snapshot of a derivative needs a search of its symbol in the same session (ibkr-web-api.md §4.1).
    broker.reads.search(symbol)
    return broker.reads.greeks(wanted)


def _greeks_out(each: Greeks) -> GreeksOut:
    quote = {name: getattr(each.quote, name) for name in GreeksOut.model_fields if hasattr(each.quote, name)}
    model = {name: value for name, value in vars(each).items() if name != "quote"}
    return GreeksOut(**quote, **model)
