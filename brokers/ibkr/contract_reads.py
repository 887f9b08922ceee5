"""IBKR's contracts and calendars (ibkr-web-api.md §3)."""

from brokers.ibkr import contract_messages as said
from brokers.ibkr.asking import Asking
from brokers.ibkr.ids import instrument_id
from brokers.schedules import Schedule


class ContractReads(Asking):
    """The reads of §3."""

    def schedule(self, broker_instrument_id: str) -> Schedule:
        """Some days around today; a day without trading is left out."""
        params = {"conid": instrument_id(broker_instrument_id)}
        return said.schedule(self._object("GET", "/contract/trading-schedule", params=params))
