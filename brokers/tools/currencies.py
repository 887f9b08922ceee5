"""Exchange rates and the pairs that are traded."""

import datetime as dt
from decimal import Decimal

from brokers.answers import Memory
from brokers.asking import ask
from brokers.market_records import Pair
from brokers.tools.contracts import A_DAY, Currency
from brokers.tools.shapes import ThroughLogin
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.tool import READ, Out, tool

RATE = Memory("rate", list[Decimal], seconds=10)
PAIRS = Memory("pairs", list[Pair], seconds=A_DAY, stands_seconds=7 * A_DAY)


class OfRate(ThroughLogin):
    source: Currency
    target: Currency


class RateOut(Out):
    """One unit of `source` is worth `rate` units of `target`."""

    source: str
    target: str
    rate: Decimal
    as_of: dt.datetime


class OfCurrency(ThroughLogin):
    currency: Currency


class PairOut(Out):
    """One unit of `base` costs so many of `quoted_in`."""

    broker_instrument_id: str
    symbol: str
    base: str
    quoted_in: str


class PairsOut(Out):
    pairs: list[PairOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_currency_rate(actor: Actor, params: OfRate) -> RateOut:
    """What one unit of a currency is worth in another, at the broker now."""
    source, target = params.source, params.target
    known = ask(
        params.login(actor),
        RATE,
        f"{source}:{target}",
        lambda broker: [each for each in (broker.exchange_rate(source, target),) if each is not None],
    )
    if not known.value:
        raise NotFound("The broker does not convert this.", source=source, target=target)
    return RateOut(source=source, target=target, rate=known.value[0], as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_currency_pairs(actor: Actor, params: OfCurrency) -> PairsOut:
    """The pairs of a currency that are traded at the broker."""
    currency = params.currency
    known = ask(params.login(actor), PAIRS, currency, lambda broker: broker.reads.currency_pairs(currency))
    return PairsOut(pairs=[PairOut.model_validate(each) for each in known.value], as_of=known.as_of)
