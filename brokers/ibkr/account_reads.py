"""IBKR's accounts beside the order path: holdings, profit, performance, transactions (ibkr-web-api.md §4.7, §5)."""

from collections.abc import Sequence
from decimal import Decimal

from brokers.base import PositionRecord
from brokers.ibkr import account_messages as said
from brokers.ibkr import holdings
from brokers.ibkr.asking import Asking, select
from brokers.ibkr.ids import account_id, instrument_id
from brokers.ibkr.snapshots import snapshots
from brokers.read_records import (
    AccountMetadata,
    HoldingProfit,
    Performance,
    PerformancePeriod,
    Profit,
    Transactions,
)
from cerbero.errors import BrokerUnavailable

PROFIT_TRIES = 3
# Each costs one of the login's hundred lines of market data (§4.8), of which the relay uses eighty.
HOLDINGS_MAX = 20


class AccountReads(Asking):
    """The reads of §5, and the profit of §4.7."""

    def metadata(self, broker_account_id: str) -> AccountMetadata:
        return said.metadata(self._object("GET", f"/portfolio/{account_id(broker_account_id)}/meta"))

    def position(self, broker_account_id: str, broker_instrument_id: str) -> PositionRecord | None:
        """One holding; None where nothing is held, which the broker answers with an empty body."""
        path = f"/portfolio/{account_id(broker_account_id)}/position/{instrument_id(broker_instrument_id)}"
        data = self._wire.read("GET", path, may_be_empty=True)
        found = holdings.position_records(data if isinstance(data, list) else [], broker_account_id)
        return next((each for each in found if each.broker_instrument_id == broker_instrument_id), None)

    def profit(self) -> list[Profit]:
        """Today's profit of each account of the login. A session's first answers are empty."""
        path = "/iserver/account/pnl/partitioned"
        for _ in range(PROFIT_TRIES):
            if found := said.profits(self._object("GET", path)):
                return found
        raise BrokerUnavailable("The broker has not loaded its profit and loss yet.", path=path)

    def profit_by_holding(
        self, broker_account_id: str, held: Sequence[PositionRecord]
    ) -> list[HoldingProfit]:
        """Daily profit is told with market data, for the session's account (§4.2): of so many holdings as the relay
        leaves lines for, and only where the row's own position is the one that is held.
        """
        largest = sorted(held, key=lambda each: abs(each.market_value or Decimal(0)), reverse=True)[
            :HOLDINGS_MAX
        ]
        sizes = {each.broker_instrument_id: each.quantity for each in largest}
        if not sizes:
            return []
        select(self._wire, account_id(broker_account_id))
        told = snapshots(
            self._wire,
            [instrument_id(each) for each in sizes],
            said.HOLDING_FIELDS,
            lambda row: said.holding_profit(row, sizes),
            lambda each: each.daily is not None,
            self._wait,
        )
        return [each for each in told if each.daily is not None]

    def performance(self, broker_account_id: str, period: PerformancePeriod) -> Performance:
        """Net asset values and time-weighted returns, day by day."""
        body = {"acctIds": [account_id(broker_account_id)], "period": period.value}
        return said.performance(self._object("POST", "/pa/performance", body=body), broker_account_id)

    def transactions(
        self, broker_account_id: str, broker_instrument_id: str, currency: str, days: int
    ) -> Transactions:
        """What changed one holding in the last `days` days, and the profit that it realised."""
        body = {
            "acctIds": [account_id(broker_account_id)],
            "conids": [int(instrument_id(broker_instrument_id))],
            "currency": currency,
            "days": days,
        }
        return said.transactions(self._object("POST", "/pa/transactions", body=body))
