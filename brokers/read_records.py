"""What a broker tells of accounts beside the order path, and how everything beside it is asked.

As in `brokers.base`: money and sizes are Decimal, times aware UTC, and what the broker did not say is None.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from brokers.schedules import Schedule

if TYPE_CHECKING:
    from brokers.base import PositionRecord
    from brokers.market_records import (
        Bars,
        Contract,
        Found,
        Greeks,
        OptionContract,
        Pair,
        Right,
        Rules,
        Scan,
        Scanned,
        Strikes,
        Ticker,
    )


class PerformancePeriod(StrEnum):
    """How far back a performance reaches (ibkr-web-api.md §5)."""

    DAY = "1D"
    WEEK = "7D"
    MONTH_TO_DATE = "MTD"
    MONTH = "1M"
    YEAR_TO_DATE = "YTD"
    YEAR = "1Y"


@dataclass(frozen=True)
class AccountMetadata:
    """What kind of account it is. `is_paper` None: the broker did not say."""

    broker_account_id: str
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


@dataclass(frozen=True)
class Profit:
    """Today's profit of one account in its base currency; `daily` is since the last trading day's end."""

    broker_account_id: str
    daily: Decimal | None
    unrealized: Decimal | None
    net_liquidation: Decimal | None
    excess_liquidity: Decimal | None
    market_value: Decimal | None


@dataclass(frozen=True)
class HoldingProfit:
    """What today made of one holding, in its own currency. `unrealized_percent` is of what it cost."""

    broker_instrument_id: str
    daily: Decimal | None
    unrealized_percent: Decimal | None


@dataclass(frozen=True)
class PerformancePoint:
    """One day's end. `cumulative_return` is a fraction since the period began: 0.05 is five per cent."""

    date: dt.date
    net_asset_value: Decimal | None
    cumulative_return: Decimal | None


@dataclass(frozen=True)
class Performance:
    """`method` is twr (time-weighted) or mwr (money-weighted)."""

    currency: str
    method: str
    start_value: Decimal | None
    points: tuple[PerformancePoint, ...]


@dataclass(frozen=True)
class Transaction:
    """What changed a holding: a trade, a dividend, a transfer. `exchange_rate` leads to the base currency."""

    date: dt.date | None
    kind: str
    quantity: Decimal | None
    price: Decimal | None
    amount: Decimal | None
    currency: str
    exchange_rate: Decimal | None
    text: str
    broker_instrument_id: str | None


@dataclass(frozen=True)
class RealizedProfit:
    """A loss is negative."""

    date: dt.date | None
    amount: Decimal | None
    currency: str


@dataclass(frozen=True)
class Transactions:
    """The history of one holding in one account, newest as the broker orders it."""

    currency: str
    realized_total: Decimal | None
    rows: tuple[Transaction, ...]
    realized: tuple[RealizedProfit, ...]


@dataclass(frozen=True)
class DepthLevel:
    """One price of the book. `is_last` marks the price that was traded last, and how much of it."""

    price: Decimal
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    is_last: bool = False
    last_size: Decimal | None = None


@dataclass(frozen=True)
class DepthRecord:
    """The book of one instrument, as one account sees it; the highest price first."""

    broker_account_id: str
    broker_instrument_id: str
    received_at: dt.datetime
    levels: tuple[DepthLevel, ...]


class Reads(Protocol):
    """What an adapter reads beside the order path; each raises a BrokerError, and nothing is sent twice."""

    def metadata(self, broker_account_id: str) -> AccountMetadata: ...
    def position(self, broker_account_id: str, broker_instrument_id: str) -> PositionRecord | None: ...
    def profit(self) -> list[Profit]:
        """Of every account of the login."""
        ...

    def profit_by_holding(
        self, broker_account_id: str, held: Sequence[PositionRecord]
    ) -> list[HoldingProfit]:
        """Of the largest holdings; one of which the broker does not say it is left out."""
        ...

    def performance(self, broker_account_id: str, period: PerformancePeriod) -> Performance: ...
    def transactions(
        self, broker_account_id: str, broker_instrument_id: str, currency: str, days: int
    ) -> Transactions: ...

    def search(self, symbol: str, *, is_name: bool = False) -> list[Found]:
        """What a symbol, or a part of a name, may mean; [] for an unknown one."""
        ...

    def contract(self, broker_instrument_id: str) -> Contract: ...
    def rules(self, broker_instrument_id: str, exchange: str) -> Rules:
        """Those of one venue; `contract` has those of the broker's own routing."""
        ...

    def strikes(self, symbol: str, underlying_id: str, month: str) -> Strikes: ...
    def option_contracts(
        self, symbol: str, underlying_id: str, month: str, strike: Decimal, right: Right | None = None
    ) -> list[OptionContract]: ...
    def currency_pairs(self, currency: str) -> list[Pair]: ...

    def tickers(self, broker_instrument_ids: Sequence[str]) -> list[Ticker]: ...
    def greeks(self, broker_instrument_ids: Sequence[str]) -> list[Greeks]: ...
    def bars(
        self,
        broker_instrument_id: str,
        period: str,
        bar: str,
        *,
        outside_hours: bool = False,
        until: dt.datetime | None = None,
    ) -> Bars:
        """Bars of so long a period that ends now, or at `until`."""
        ...

    def scan_choices(self) -> Scan: ...
    def scan(
        self, scan_type: str, instrument: str, location: str, filters: Mapping[str, Decimal]
    ) -> list[Scanned]: ...

    def schedule(self, broker_instrument_id: str) -> Schedule:
        """The trading days around today of one instrument's exchange."""
        ...
