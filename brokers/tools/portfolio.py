"""What an account holds at the broker, what it earned, and what changed it."""

import datetime as dt
from decimal import Decimal

from pydantic import Field

from brokers.answers import Known, Memory
from brokers.asking import ask
from brokers.base import PositionRecord
from brokers.read_records import HoldingProfit, Profit, Transactions
from brokers.tools.shapes import FRESH_SECONDS, OfAccount, OfHolding
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.tool import READ, Out, tool

POSITIONS = Memory("positions", list[PositionRecord], seconds=FRESH_SECONDS)
PROFIT = Memory("profit", list[Profit], seconds=5)
BY_HOLDING = Memory("profit_by_holding", list[HoldingProfit], seconds=5)
TRANSACTIONS = Memory("transactions", Transactions, seconds=900, stands_seconds=86_400)


class PositionOut(Out):
    """A holding; negative is short. Prices are per unit, values count the multiplier."""

    broker_instrument_id: str
    symbol: str
    asset_class: str
    currency: str
    quantity: Decimal
    average_price: Decimal | None
    market_price: Decimal | None
    market_value: Decimal | None
    unrealized: Decimal | None
    realized: Decimal | None


class PositionsOut(Out):
    account: str
    positions: list[PositionOut]
    as_of: dt.datetime


class OnePositionOut(Out):
    """`position` is null where the broker holds none."""

    account: str
    broker_instrument_id: str
    position: PositionOut | None
    as_of: dt.datetime


class ProfitOfPositionOut(Out):
    """In its own currency. `daily` and `unrealized_percent` are told of the twenty largest holdings at most.

    Null is what the broker did not say: it has no daily profit of what was closed today.
    """

    broker_instrument_id: str
    symbol: str
    currency: str
    daily: Decimal | None
    unrealized: Decimal | None
    unrealized_percent: Decimal | None
    realized: Decimal | None


class ProfitOut(Out):
    """The account's figures are in its base currency; `daily` is since the end of the last trading day."""

    account: str
    daily: Decimal | None
    unrealized: Decimal | None
    net_liquidation: Decimal | None
    excess_liquidity: Decimal | None
    market_value: Decimal | None
    positions: list[ProfitOfPositionOut]
    as_of: dt.datetime


class OfTransactions(OfHolding):
    """The broker answers one such question in fifteen minutes; `as_of` says how old the answer is."""

    days: int = Field(default=90, ge=1, le=365)
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")


class TransactionOut(Out):
    date: dt.date | None
    kind: str
    quantity: Decimal | None
    price: Decimal | None
    amount: Decimal | None
    currency: str
    exchange_rate: Decimal | None
    text: str


class RealizedOut(Out):
    """A loss is negative."""

    date: dt.date | None
    amount: Decimal | None
    currency: str


class TransactionsOut(Out):
    account: str
    broker_instrument_id: str
    currency: str
    realized_total: Decimal | None
    transactions: list[TransactionOut]
    realized: list[RealizedOut]
    as_of: dt.datetime


def positions_of(actor: Actor, params: OfAccount) -> Known[list[PositionRecord]]:
    account = params.account
    return ask(params.login(actor), POSITIONS, account, lambda broker: broker.positions(account))


@tool(scope="market:read", effect=READ)
def get_positions(actor: Actor, params: OfAccount) -> PositionsOut:
    """Everything that an account holds at the broker, every page of it, read afresh."""
    known = positions_of(actor, params)
    found = [PositionOut.model_validate(each) for each in known.value]
    return PositionsOut(account=params.account, positions=found, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_position(actor: Actor, params: OfHolding) -> OnePositionOut:
    """What an account holds of one instrument; null where it holds none."""
    account, login = params.account, params.login(actor)
    broker_id = params.broker_id(login)
    known = ask(
        login,
        POSITIONS,
        f"{account}:{broker_id}",
        lambda broker: [each for each in (broker.reads.position(account, broker_id),) if each],
    )
    return OnePositionOut(
        account=account,
        broker_instrument_id=broker_id,
        position=PositionOut.model_validate(known.value[0]) if known.value else None,
        as_of=known.as_of,
    )


@tool(scope="market:read", effect=READ)
def get_pnl(actor: Actor, params: OfAccount) -> ProfitOut:
    """An account's profit and loss: of the day, unrealized, and by position."""
    known = ask(params.login(actor), PROFIT, "", lambda broker: broker.reads.profit())
    own = next((each for each in known.value if each.broker_account_id == params.account), None)
    if own is None:
        raise NotFound("The broker says nothing of this account's profit.", account=params.account)
    held = positions_of(actor, params)
    told = ask(
        params.login(actor),
        BY_HOLDING,
        params.account,
        lambda broker: broker.reads.profit_by_holding(params.account, held.value),
    )
    figures = {name: value for name, value in vars(own).items() if name != "broker_account_id"}
    return ProfitOut(
        **figures,
        account=params.account,
        positions=_by_position(held.value, told.value),
        as_of=min(known.as_of, held.as_of, told.as_of),
    )


def _by_position(held: list[PositionRecord], told: list[HoldingProfit]) -> list[ProfitOfPositionOut]:
    known = {each.broker_instrument_id: each for each in told}
    return [
        ProfitOfPositionOut(
            broker_instrument_id=each.broker_instrument_id,
            symbol=each.symbol,
            currency=each.currency,
            daily=own.daily if (own := known.get(each.broker_instrument_id)) else None,
            unrealized=each.unrealized,
            unrealized_percent=own.unrealized_percent if own else None,
            realized=each.realized,
        )
        for each in held
    ]


@tool(scope="market:read", effect=READ)
def get_transactions(actor: Actor, params: OfTransactions) -> TransactionsOut:
    """What changed one holding of an account: trades, dividends, transfers, and the profit that was realized."""
    account, login = params.account, params.login(actor)
    broker_id, currency, days = params.broker_id(login), params.currency, params.days
    known = ask(
        login,
        TRANSACTIONS,
        f"{account}:{broker_id}:{currency}:{days}",
        lambda broker: broker.reads.transactions(account, broker_id, currency, days),
    )
    return TransactionsOut(
        account=account,
        broker_instrument_id=broker_id,
        currency=known.value.currency,
        realized_total=known.value.realized_total,
        transactions=[TransactionOut.model_validate(each) for each in known.value.rows],
        realized=[RealizedOut.model_validate(each) for each in known.value.realized],
        as_of=known.as_of,
    )
