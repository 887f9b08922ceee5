"""What each family of reads stands on: the wire, and answers of the expected form."""

from typing import Any

from brokers.ibkr.wire import Params, Wire
from cerbero.errors import BrokerUnavailable


class Asking:
    """Reads over one login's wire. No retries; pacing is the wire's."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def _object(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None
    ) -> dict[str, Any]:
        data = self._wire.read(method, path, params=params, body=body)
        if not isinstance(data, dict):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return data

    def _list(self, method: str, path: str, *, params: Params | None = None) -> list[Any]:
        data = self._wire.read(method, path, params=params)
        if not isinstance(data, list):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return data
