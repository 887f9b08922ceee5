"""Accounts as the broker tells them: which there are, what kind, their money, profit and performance."""

import datetime as dt
from decimal import Decimal
from typing import Any

from brokers.answers import Memory
from brokers.asking import ask
from brokers.base import AccountSummary, CashRecord
from brokers.models import Account, SessionState
from brokers.read_records import AccountMetadata, Performance, PerformancePeriod
from brokers.tools.shapes import FRESH_SECONDS, Everything, OfAccount
from cerbero.access import Actor
from cerbero.models import Environment
from cerbero.tool import READ, Out, tool

METADATA = Memory("account_metadata", AccountMetadata, seconds=3600, stands_seconds=86_400)
SUMMARY = Memory("account_summary", AccountSummary, seconds=FRESH_SECONDS)
LEDGER = Memory("ledger", list[CashRecord], seconds=FRESH_SECONDS)
PERFORMANCE = Memory("performance", Performance, seconds=900, stands_seconds=86_400)


class ListedAccountOut(Out):
    """`environment` is the broker's word; `as_of` is when the broker last listed the account."""

    account: str
    alias: str
    currency: str
    environment: Environment
    login: str
    session: SessionState
    as_of: dt.datetime | None


class AccountsOut(Out):
    accounts: list[ListedAccountOut]


class AccountMetadataOut(Out):
    """`kind` is demo for paper; `may_trade` says whether the broker lets its client trade at all."""

    account: str
    title: str
    alias: str | None
    currency: str
    kind: str
    customer: str
    trading_type: str
    entity: str
    is_paper: bool | None
    is_advisor: bool
    may_trade: bool
    as_of: dt.datetime


class AccountOut(Out):
    """Money in the base currency. `day_trades_left` is -1 for any number; null is what the broker did not say."""

    account: str
    currency: str
    net_liquidation: Decimal | None
    available_funds: Decimal | None
    buying_power: Decimal | None
    initial_margin: Decimal | None
    maintenance_margin: Decimal | None
    cushion: Decimal | None
    look_ahead_excess: Decimal | None
    day_trades_left: int | None
    as_of: dt.datetime


class CashOut(Out):
    """One currency; `exchange_rate` is what one unit is worth in the account's base currency."""

    currency: str
    balance: Decimal
    settled: Decimal | None
    dividends: Decimal | None
    interest: Decimal | None
    net_liquidation: Decimal | None
    stock_value: Decimal | None
    option_value: Decimal | None
    future_value: Decimal | None
    unrealized: Decimal | None
    realized: Decimal | None
    exchange_rate: Decimal | None


class LedgerOut(Out):
    account: str
    currencies: list[CashOut]
    as_of: dt.datetime


class OfPerformance(OfAccount):
    """The broker answers one such question in fifteen minutes; `as_of` says how old the answer is."""

    period: PerformancePeriod = PerformancePeriod.MONTH


class PointOut(Out):
    date: dt.date
    net_asset_value: Decimal | None
    cumulative_return: Decimal | None


class PerformanceOut(Out):
    """`cumulative_return` is a fraction since the period began; `method` is twr (time-weighted) or mwr."""

    account: str
    period: PerformancePeriod
    currency: str
    method: str
    start_value: Decimal | None
    points: list[PointOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_accounts(actor: Actor, params: Everything) -> AccountsOut:
    """The accounts of your environment as the broker last listed them, and whether each one's session is up."""
    rows = Account.objects.select_related("login").filter(environment=actor.environment)
    return AccountsOut(
        accounts=[
            ListedAccountOut(
                account=row.broker_account_id,
                alias=row.alias,
                currency=row.currency,
                environment=Environment(row.environment),
                login=row.login.name,
                session=SessionState(row.login.state),
                as_of=row.listed_at,
            )
            for row in rows.order_by("login__name", "broker_account_id")
        ]
    )


@tool(scope="market:read", effect=READ)
def get_account_metadata(actor: Actor, params: OfAccount) -> AccountMetadataOut:
    """What kind of account it is: base currency, customer, entity, paper or not, and whether it may trade."""
    known = ask(
        params.login(actor), METADATA, params.account, lambda broker: broker.reads.metadata(params.account)
    )
    return AccountMetadataOut(**_fields(known.value), account=params.account, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_account(actor: Actor, params: OfAccount) -> AccountOut:
    """An account's money: net liquidation, available funds, buying power, margins, day trades left."""
    known = ask(params.login(actor), SUMMARY, params.account, lambda broker: broker.summary(params.account))
    return AccountOut(**_fields(known.value), account=params.account, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_ledger(actor: Actor, params: OfAccount) -> LedgerOut:
    """An account's cash by currency, with what is held, earned and accrued in each."""
    known = ask(params.login(actor), LEDGER, params.account, lambda broker: broker.cash(params.account))
    found = [CashOut.model_validate(each) for each in known.value]
    return LedgerOut(account=params.account, currencies=found, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_performance(actor: Actor, params: OfPerformance) -> PerformanceOut:
    """An account's value and time-weighted return, day by day over a period."""
    account, period = params.account, params.period
    known = ask(
        params.login(actor),
        PERFORMANCE,
        f"{account}:{period}",
        lambda broker: broker.reads.performance(account, period),
    )
    return PerformanceOut(
        account=params.account,
        period=params.period,
        currency=known.value.currency,
        method=known.value.method,
        start_value=known.value.start_value,
        points=[PointOut.model_validate(each) for each in known.value.points],
        as_of=known.as_of,
    )


def _fields(record: AccountMetadata | AccountSummary) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name != "broker_account_id"}
