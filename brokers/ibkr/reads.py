"""IBKR's reads beside the order path (ibkr-web-api.md §3 to §5). No retries; pacing is the wire's."""

from typing import Any

from brokers.ibkr import read_messages as said
from brokers.ibkr.ids import instrument_id
from brokers.ibkr.wire import Params, Wire
from brokers.schedules import Schedule
from cerbero.errors import BrokerUnavailable


class IbkrReads:
    """The reads of one login, over its wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def schedule(self, broker_instrument_id: str) -> Schedule:
        """§3: some days around today; a day without trading is left out."""
        params = {"conid": instrument_id(broker_instrument_id)}
        return said.schedule(self._object("GET", "/contract/trading-schedule", params=params))

    def _object(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None
    ) -> dict[str, Any]:
        data = self._wire.read(method, path, params=params, body=body)
        if not isinstance(data, dict):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return data
