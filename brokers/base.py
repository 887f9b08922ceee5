"""What crosses the line between Cerbero and a broker: two protocols and the records that pass through them.

Adapters translate the wire into these records and raise exactly four errors (`cerbero.errors`):
BrokerUnavailable (certainly not sent), OutcomeUnknown (perhaps sent), BrokerRejected, SessionExpired.
Quantities and prices are Decimal in the instrument's own units; times are aware UTC.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from brokers.read_records import DepthRecord, Reads


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    MARKET_IF_TOUCHED = "market_if_touched"
    LIMIT_IF_TOUCHED = "limit_if_touched"
    TRAILING_STOP = "trailing_stop"
    TRAILING_STOP_LIMIT = "trailing_stop_limit"
    MIDPRICE = "midprice"
    RELATIVE = "relative"
    MARKET_ON_CLOSE = "market_on_close"
    LIMIT_ON_CLOSE = "limit_on_close"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    # At the opening: the auction or nothing.
    OPG = "opg"
    OVERNIGHT = "overnight"


class Availability(StrEnum):
    """What the broker calls its own data (ibkr-web-api.md §4.1, field 6509)."""

    LIVE = "live"
    DELAYED = "delayed"
    FROZEN = "frozen"
    NONE = "none"


class BrokerOrderState(StrEnum):
    """The states that a broker may prove; `orders.lifecycle.REPORTS` says where each leads."""

    ACCEPTED = "accepted"
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True)
class InstrumentRecord:
    """One tradable thing as the broker names it. `multiplier` is 1 for stocks; None is unknown.

    `is_us` says that the listing is in the United States: one symbol is listed in many places.
    """

    broker_instrument_id: str
    symbol: str
    name: str
    asset_class: str
    currency: str
    exchange: str
    multiplier: Decimal | None
    price_increment: Decimal | None
    is_us: bool = False
    # How many units of the quoted price make one of the currency (100 for pence); None is one.
    price_magnifier: int | None = None
    expires_on: date | None = None
    # The price step from each lower edge on, ascending; empty where one step holds for all prices.
    price_bands: tuple[tuple[Decimal, Decimal], ...] = ()
    # The step of a quantity; None is whole units.
    size_increment: Decimal | None = None
    strike: Decimal | None = None


@dataclass(frozen=True)
class QuoteRecord:
    """The newest known prices; a field that the broker did not send is None.

    `received_at` is our clock; `changed_at` is the broker's stamp of its newest change.
    """

    broker_instrument_id: str
    received_at: datetime
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    volume: Decimal | None = None
    prior_close: Decimal | None = None
    availability: Availability = Availability.NONE
    is_halted: bool = False
    changed_at: datetime | None = None


@dataclass(frozen=True)
class OrderTerms:
    """One leg, as it goes to the wire. `orders.order_types` says what each type needs.

    `stop_price` is what triggers: the stop, the touch, or where a trail begins. `offset` is how far a relative
    order is pegged inside the market.
    A bracket's children carry `parent_client_order_id` and no id of their own. Of legs with `one_cancels_other`, which
    travel together, the broker cancels the rest when one fills. US futures need `manual_indicator` and `ext_operator`
    (CME rule 536-B, ibkr-web-api.md §6.1).
    """

    broker_instrument_id: str
    side: Side
    quantity: Decimal
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    client_order_id: str | None = None
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    offset: Decimal | None = None
    outside_hours: bool = False
    parent_client_order_id: str | None = None
    one_cancels_other: bool = False
    manual_indicator: bool | None = None
    ext_operator: str | None = None


@dataclass(frozen=True)
class Question:
    """What the broker asks before it takes an order; stale once anything else is sent (§6.4)."""

    reply_id: str
    message_ids: tuple[str, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class OrderReport:
    """What the broker says of one order, from a reply, a stream or a poll.

    `state` is None where the wire's word proves nothing (a full row that only carries sizes).
    """

    broker_order_id: str
    state: BrokerOrderState | None
    client_order_id: str | None = None
    broker_account_id: str | None = None
    broker_instrument_id: str | None = None
    side: Side | None = None
    order_type: str | None = None
    total_quantity: Decimal | None = None
    filled_quantity: Decimal | None = None
    average_price: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    parent_order_id: str | None = None
    text: str = ""
    time_in_force: str | None = None
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    offset: Decimal | None = None
    outside_hours: bool | None = None


@dataclass(frozen=True)
class Answer:
    """What came back from a placement or a reply: a question, or a row for each leg."""

    question: Question | None = None
    orders: tuple[OrderReport, ...] = ()


@dataclass(frozen=True)
class ExecutionReport:
    """One fill. `commission` arrives later than the fill itself (§7.3 str)."""

    execution_id: str
    broker_account_id: str
    broker_instrument_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    executed_at: datetime
    broker_order_id: str | None = None
    client_order_id: str | None = None
    commission: Decimal | None = None
    is_liquidation: bool = False


@dataclass(frozen=True)
class PositionRecord:
    """A holding; negative is short. `average_price` is per unit, without the multiplier."""

    broker_account_id: str
    broker_instrument_id: str
    symbol: str
    quantity: Decimal
    average_price: Decimal | None
    market_price: Decimal | None
    currency: str
    asset_class: str
    market_value: Decimal | None = None
    unrealized: Decimal | None = None
    realized: Decimal | None = None


@dataclass(frozen=True)
class CashRecord:
    """What an account has in one currency. `dividends` and `interest` are accrued and not yet paid.

    `exchange_rate` is what one unit is worth in the account's base currency.
    """

    currency: str
    balance: Decimal
    dividends: Decimal | None = None
    interest: Decimal | None = None
    settled: Decimal | None = None
    net_liquidation: Decimal | None = None
    stock_value: Decimal | None = None
    option_value: Decimal | None = None
    future_value: Decimal | None = None
    unrealized: Decimal | None = None
    realized: Decimal | None = None
    exchange_rate: Decimal | None = None


@dataclass(frozen=True)
class AccountSummary:
    """Money in the account's base currency. `day_trades_left` is -1 for any number; None is not given."""

    broker_account_id: str
    currency: str
    net_liquidation: Decimal | None
    available_funds: Decimal | None
    buying_power: Decimal | None
    initial_margin: Decimal | None
    maintenance_margin: Decimal | None
    cushion: Decimal | None = None
    look_ahead_excess: Decimal | None = None
    day_trades_left: int | None = None


@dataclass(frozen=True)
class Preview:
    """A what-if (§6.5). Money in `currency`; None where the broker says nothing or NA."""

    commission: Decimal | None
    commission_currency: str
    initial_margin_after: Decimal | None
    initial_margin_change: Decimal | None
    maintenance_margin_after: Decimal | None
    equity_after: Decimal | None
    position_after: Decimal | None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    initial_margin_before: Decimal | None = None
    maintenance_margin_before: Decimal | None = None


@dataclass(frozen=True)
class SessionStatus:
    """Whether the brokerage session is usable: authenticated, connected and not competing (§2.2)."""

    authenticated: bool
    connected: bool
    competing: bool
    established: bool | None = None
    message: str = ""

    @property
    def is_up(self) -> bool:
        return self.authenticated and self.connected and not self.competing and self.established is not False


@dataclass(frozen=True)
class ListedAccounts:
    """What `/iserver/accounts` lists, and whether the broker calls it paper. None: it did not say."""

    broker_account_ids: tuple[str, ...]
    is_paper: bool | None


@dataclass(frozen=True)
class SessionToken:
    """A live session token. `secret` is the raw key: encrypt it at once, never log it."""

    secret: bytes = field(repr=False)
    expires_at: datetime


class Broker(Protocol):
    """One login at one broker, synchronous: the order path and everything that polls."""

    @property
    def credential_id(self) -> UUID | None:
        """The stored set of keys that it speaks with; None where they are not of ours."""

    @property
    def reads(self) -> Reads:
        """Markets, contracts and accounts, beside the order path."""

    def close(self) -> None:
        """Close our connection; the broker's session goes on."""

    def mint(self) -> SessionToken: ...
    def open_session(self, *, compete: bool = False) -> SessionStatus: ...
    def session_status(self) -> SessionStatus: ...
    def tickle(self) -> tuple[str, SessionStatus]:
        """Keep the session alive; returns the socket's session id and the status."""

    def listed_accounts(self) -> ListedAccounts: ...

    def find_instruments(self, symbol: str, asset_class: str) -> list[InstrumentRecord]: ...
    def snapshot(self, broker_instrument_ids: Sequence[str]) -> list[QuoteRecord]: ...

    def preview(self, broker_account_id: str, legs: Sequence[OrderTerms]) -> Preview: ...
    def place(
        self, broker_account_id: str, legs: Sequence[OrderTerms], *, before: Callable[[], None] | None = None
    ) -> Answer:
        """Send once. `before` is called when nothing but the wire is left to wait for; what it raises is raised
        here, and then certainly nothing was sent. The same holds for `amend` and `answer`.
        """

    def amend(
        self,
        broker_account_id: str,
        broker_order_id: str,
        terms: OrderTerms,
        *,
        before: Callable[[], None] | None = None,
    ) -> Answer:
        """Put these terms, with the quantity in total, in place of those of a working order. Never sent twice."""

    def answer(
        self, question: Question, *, confirmed: bool, before: Callable[[], None] | None = None
    ) -> Answer:
        """After a "no" the Answer is empty: the absence of the order is not proven by it."""

    def cancel(
        self,
        broker_account_id: str,
        broker_order_id: str,
        *,
        manual_indicator: bool | None = None,
        ext_operator: str | None = None,
    ) -> None:
        """Ask for a cancel; only a later report proves it. The last two are for US futures."""

    def cancel_all(self, broker_account_id: str) -> None:
        """Ask, in one request, for the cancel of everything that works in an account."""

    def open_orders(self, broker_account_id: str | None = None) -> list[OrderReport]:
        """Today's orders, done ones too, of one account or of every account of the login."""

    def order(self, broker_order_id: str) -> OrderReport | None: ...
    def executions(self, days: int = 1, broker_account_id: str | None = None) -> list[ExecutionReport]: ...
    def positions(self, broker_account_id: str) -> list[PositionRecord]: ...
    def cash(self, broker_account_id: str) -> list[CashRecord]: ...
    def summary(self, broker_account_id: str) -> AccountSummary: ...
    def exchange_rate(self, source: str, target: str) -> Decimal | None:
        """What one unit of `source` is worth in `target`; None where the broker does not say."""


StreamEvent = QuoteRecord | DepthRecord | OrderReport | ExecutionReport | SessionStatus | ListedAccounts
Raw = dict[str, Any]


class QuoteSource(Protocol):
    """One login's websocket, asynchronous: events as they come, with the raw frame beside each."""

    async def subscribe(self, broker_instrument_ids: Sequence[str]) -> None: ...
    # Exactly these books: one instrument's for each account.
    async def show_depth(self, wanted: Mapping[str, str]) -> None: ...
    def events(self) -> AsyncIterator[tuple[StreamEvent, Raw]]: ...
