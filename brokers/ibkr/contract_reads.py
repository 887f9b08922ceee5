"""IBKR's contracts and calendars (ibkr-web-api.md §3)."""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from brokers.ibkr import contract_messages as said
from brokers.ibkr.asking import Asking
from brokers.ibkr.ids import instrument_id
from brokers.ibkr.values import rows
from brokers.ibkr.wire import Params
from brokers.market_records import Contract, Found, OptionContract, Pair, Right, Rules, Strikes
from brokers.schedules import Schedule
from cerbero.errors import BrokerRejected

T = TypeVar("T")


class ContractReads(Asking):
    """The reads of §3."""

    def schedule(self, broker_instrument_id: str) -> Schedule:
        """Some days around today; a day without trading is left out."""
        params = {"conid": instrument_id(broker_instrument_id)}
        return said.schedule(self._object("GET", "/contract/trading-schedule", params=params))

    def search(self, symbol: str, *, is_name: bool = False) -> list[Found]:
        """What a symbol, or a part of a company's name, may mean; [] where the broker knows nothing of it."""
        # A search by name does not open the strikes of what it finds.
        params = {"symbol": symbol} | ({"name": "true"} if is_name else {})
        try:
            data = self._wire.read("GET", "/iserver/secdef/search", params=params)
        except BrokerRejected:
            return []
        return [each for row in rows(data) if (each := said.found(row))]

    def contract(self, broker_instrument_id: str) -> Contract:
        path = f"/iserver/contract/{instrument_id(broker_instrument_id)}/info-and-rules"
        return said.contract(broker_instrument_id, self._object("GET", path, params={"isBuy": "true"}))

    def rules(self, broker_instrument_id: str, exchange: str) -> Rules:
        body = {"conid": int(instrument_id(broker_instrument_id)), "exchange": exchange, "isBuy": True}
        return said.rules(self._object("POST", "/iserver/contract/rules", body=body))

    def strikes(self, symbol: str, underlying_id: str, month: str) -> Strikes:
        """`month` as in a search, `DEC26`."""
        params = {"conid": instrument_id(underlying_id), "sectype": "OPT", "month": month}

        def ask() -> Strikes:
            return said.strikes(self._object("GET", "/iserver/secdef/strikes", params=params))

        return self._after_search(symbol, ask, lambda read: bool(read.calls or read.puts))

    def option_contracts(
        self, symbol: str, underlying_id: str, month: str, strike: Decimal, right: Right | None = None
    ) -> list[OptionContract]:
        """The contracts of one strike in one month: one for each expiry and side."""
        params = {
            "conid": instrument_id(underlying_id),
            "sectype": "OPT",
            "month": month,
            "strike": f"{strike:f}",
        }
        if right is not None:
            params["right"] = said.RIGHT_WORDS[right]
        return self._after_search(symbol, lambda: self._options(params), bool)

    def _options(self, params: Params) -> list[OptionContract]:
        try:
            data = self._wire.read("GET", "/iserver/secdef/info", params=params)
        except BrokerRejected:
            return []
        return [each for row in rows(data) if (each := said.option_contract(row))]

    def _after_search(self, symbol: str, ask: Callable[[], T], is_some: Callable[[T], bool]) -> T:
        """Options are told only after a search for their symbol in the same session; nothing says so (§3)."""
        read = ask()
        if is_some(read) or not self.search(symbol):
            return read
        return ask()

    def currency_pairs(self, currency: str) -> list[Pair]:
        """The pairs of one currency; [] for one that is not traded."""
        try:
            data = self._object("GET", "/iserver/currency/pairs", params={"currency": currency})
        except BrokerRejected:
            return []
        return [each for row in rows(data.get(currency)) if (each := said.pair(row))]
