"""From a name or symbol to one contract, and what the broker says of it. Nothing is guessed between two."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from brokers.answers import Memory
from brokers.asking import A_DAY, ask, candidates_of
from brokers.instruments import front_month, narrowed, only_one
from brokers.market_records import Contract, Found, Rules
from brokers.occ import canonical, option_symbol
from brokers.tools.shapes import OfInstrument, Symbol, ThroughLogin
from cerbero.access import Actor
from cerbero.errors import BadInput, NotFound, NotOfferedYet
from cerbero.tool import READ, Out, tool

SEARCHES = Memory("search", list[Found], seconds=3600, stands_seconds=A_DAY)
CONTRACT = Memory("contract", Contract, seconds=3600, stands_seconds=A_DAY)
VENUE_RULES = Memory("venue_rules", Rules, seconds=3600, stands_seconds=A_DAY)

NOT_OFFERED = frozenset({"event_contract", "combo"})
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Exchange = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9.]{1,16}$")]


class SearchContracts(ThroughLogin):
    """A symbol, or with `by_name` a part of a company's name."""

    text: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9&. /'-]{1,64}$")]
    by_name: bool = False


class SectionOut(Out):
    """One kind of contract on it; `months` as `get_option_chain` takes them."""

    asset_class: str
    months: list[str]
    exchanges: list[str]


class FoundOut(Out):
    broker_instrument_id: str
    symbol: str
    name: str
    exchange: str
    sections: list[SectionOut]


class SearchOut(Out):
    found: list[FoundOut]
    as_of: dt.datetime


class ResolveContract(ThroughLogin):
    """What is left open must not matter: several that fit are refused, with all of them in the details.

    An option is named by its OCC symbol (`AAPL  261218C00200000`), a future by its root with `expires_on` or
    `front_month`, or by its own name (`ESZ6`).
    """

    symbol: Symbol
    asset_class: Literal["stock", "future", "index", "fx", "option", "event_contract", "combo"] | None = (
        Field(None, description="an option where the symbol is one, else a stock")
    )
    currency: Currency | None = None
    exchange: Exchange | None = None
    expires_on: dt.date | None = None
    front_month: bool = Field(False, description="the next future to expire")
    roll_days: int = Field(0, ge=0, le=60, description="the front month ends so many days before it expires")

    @property
    def kind(self) -> str:
        return self.asset_class or ("option" if option_symbol(self.symbol) else "stock")

    @model_validator(mode="after")
    def _only_futures_expire(self) -> Self:
        if self.kind != "future" and (self.expires_on or self.front_month):
            raise ValueError("expires_on and front_month are for futures")
        if self.expires_on and self.front_month:
            raise ValueError("name expires_on or front_month, and not both")
        if self.roll_days and not self.front_month:
            raise ValueError("roll_days says when the front month ends: ask for the front_month")
        return self


class ContractOut(Out):
    broker_instrument_id: str
    symbol: str
    name: str
    asset_class: str
    currency: str
    exchange: str
    multiplier: Decimal | None
    price_increment: Decimal | None
    price_magnifier: int | None
    expires_on: dt.date | None
    strike: Decimal | None
    as_of: dt.datetime


class PriceStepOut(Out):
    lower_edge: Decimal
    increment: Decimal


class RulesOut(Out):
    """The broker's own words in lower case; `problem` says why it takes nothing."""

    order_types: list[str]
    order_types_outside_hours: list[str]
    times_in_force: list[str]
    price_steps: list[PriceStepOut]
    size_increment: Decimal | None
    default_size: Decimal | None
    cash_size_increment: Decimal | None
    takes_fractions: bool
    takes_cash_quantity: bool
    may_be_negative: bool
    trades_overnight: bool
    tradable_in: list[str]
    problem: str


class OfContract(OfInstrument):
    """`venue` asks for the rules of one of its `valid_exchanges`; without it they are those of the broker's own routing."""

    venue: Exchange | None = None


class ContractDetailsOut(Out):
    """`price_magnifier` is how many units of the price make one of the currency: 100 for pence."""

    broker_instrument_id: str
    symbol: str
    local_symbol: str
    name: str
    asset_class: str
    currency: str
    exchange: str
    valid_exchanges: list[str]
    multiplier: Decimal | None
    price_increment: Decimal | None
    price_magnifier: int | None
    expires_on: dt.date | None
    underlying_id: str | None
    trading_class: str
    industry: str
    category: str
    rules: RulesOut
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def search_contracts(actor: Actor, params: SearchContracts) -> SearchOut:
    """What a symbol or a company's name may mean, and which kinds of contracts are traded on it."""
    wanted = params.text.strip()
    known = ask(
        params.login(actor),
        SEARCHES,
        f"{'name' if params.by_name else 'symbol'}:{wanted.upper()}",
        lambda broker: broker.reads.search(wanted, is_name=params.by_name),
    )
    return SearchOut(found=[FoundOut.model_validate(each) for each in known.value], as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def resolve_contract(actor: Actor, params: ResolveContract) -> ContractOut:
    """The one contract that is meant, with the broker's id; where several fit, none, and the details list them."""
    if params.kind in NOT_OFFERED:
        raise NotOfferedYet(asset_class=params.kind)
    known = candidates_of(params.login(actor), canonical(params.symbol), params.kind)
    if not known.value:
        raise NotFound("The broker knows no such contract.", symbol=params.symbol)
    fitting = narrowed(known.value, params.currency, params.exchange)
    if params.expires_on:
        fitting = [each for each in fitting if each.expires_on == params.expires_on]
    elif params.front_month:
        fitting = front_month(fitting, dt.datetime.now(dt.UTC).date() + dt.timedelta(days=params.roll_days))
    chosen = only_one(params.symbol, fitting, known.value)
    return ContractOut(
        **{name: getattr(chosen, name) for name in ContractOut.model_fields if name != "as_of"},
        as_of=known.as_of,
    )


@tool(scope="market:read", effect=READ)
def get_contract_info(actor: Actor, params: OfContract) -> ContractDetailsOut:
    """One contract whole: what it is, where it trades, its price steps, and which orders the broker takes for it."""
    login = params.login(actor)
    broker_id = params.broker_id(login)
    known = ask(login, CONTRACT, broker_id, lambda broker: broker.reads.contract(broker_id))
    said, rules, as_of, venue = known.value, known.value.rules, known.as_of, params.venue
    if venue is not None:
        if venue not in said.valid_exchanges:
            words = "The contract does not trade at this venue."
            raise BadInput(words, venue=venue, venues=list(said.valid_exchanges))
        key = f"{broker_id}:{venue}"
        there = ask(login, VENUE_RULES, key, lambda broker: broker.reads.rules(broker_id, venue))
        rules, as_of = there.value, min(as_of, there.as_of)
    plain = {
        name: getattr(said, name)
        for name in ContractDetailsOut.model_fields
        if name not in ("rules", "as_of")
    }
    return ContractDetailsOut(**plain, rules=RulesOut.model_validate(rules), as_of=as_of)
