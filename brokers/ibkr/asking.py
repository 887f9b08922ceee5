"""What each family of reads stands on: the wire, and answers of the expected form."""

import time
from collections.abc import Callable
from typing import Any

from brokers.ibkr.wire import Params, Wire
from cerbero.errors import BrokerUnavailable


def select(wire: Wire, account: str) -> bool:
    """Make it the session's account (§2.2); whether it was already."""
    said = wire.read("POST", "/iserver/account", body={"acctId": account})
    return isinstance(said, dict) and "set" not in said


class Asking:
    """Reads over one login's wire. No retries; pacing is the wire's."""

    def __init__(self, wire: Wire, wait: Callable[[float], None] = time.sleep) -> None:
        self._wire, self._wait = wire, wait

    def _object(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None
    ) -> dict[str, Any]:
        data = self._wire.read(method, path, params=params, body=body)
        if not isinstance(data, dict):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return data
