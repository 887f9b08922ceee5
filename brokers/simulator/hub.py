"""All open websockets of the login, and what they are told when something happens (ibkr-web-api.md §7.3)."""

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, web

from .connection import Connection
from .order_rows import fill_delta, id_row, live_row, status_delta, trade_row
from .orders import Execution, Order

if TYPE_CHECKING:
    from .simulator import Simulator


class Hub:
    """All open websockets of the login."""

    def __init__(self, sim: "Simulator"):
        self._sim = sim
        self.connections: set[Connection] = set()

    def on_order(self, order: Order, full: bool) -> None:
        """An order changed: forward-only `sor` rows, as captured."""
        listeners = [c for c in self.connections if c.wants_order(order)]
        if listeners and not self._sim.session.stream_filtered:
            for row in self._order_rows(order, full):
                for connection in listeners:
                    connection.send({"topic": "sor", "args": [row]})

    def _order_rows(self, order: Order, full: bool) -> list[dict[str, Any]]:
        instrument = self._sim.universe.find(order.conid)
        if instrument is None:
            return []
        if full and len(order.history) == 1 and not order.modifications:
            steps = ["PendingSubmit", "PreSubmitted"]
            steps += ["Submitted"] if order.status == "Submitted" else []
            deltas = [status_delta(order, status) for status in steps]
            return [live_row(order, instrument, "Inactive"), id_row(order), *deltas]
        if full:
            return [live_row(order, instrument)]
        return [fill_delta(order) if order.filled else status_delta(order, order.status)]

    def on_execution(self, execution: Execution) -> None:
        """A fill: told at once without commission, and again with it."""
        self._tell_trade(execution, False)
        delay = self._sim.config.commission_delay
        asyncio.get_running_loop().call_later(delay, self._tell_trade, execution, True)

    def _tell_trade(self, execution: Execution, with_commission: bool) -> None:
        instrument = self._sim.universe.find(execution.conid)
        if instrument is None:
            return
        row = trade_row(execution, instrument, with_commission=with_commission)
        for connection in self.connections:
            if connection.trades:
                connection.send({"topic": "str", "args": [row]})

    def tell_status(self) -> None:
        """A change of the brokerage session, as a single-key delta."""
        frame = {"topic": "sts", "args": {"authenticated": self._sim.session.authenticated}}
        for connection in self.connections:
            connection.send(frame)

    def tell(self, frame: dict[str, Any]) -> None:
        """Any frame to everybody (bulletins, notifications)."""
        for connection in self.connections:
            connection.send(frame)

    def forget_subscriptions(self) -> None:
        """The nightly reset: heartbeats go on, and nothing else."""
        for connection in self.connections:
            connection.forget()

    async def close_all(self, app: web.Application | None = None) -> None:
        for connection in list(self.connections):
            await connection.socket.close(code=WSCloseCode.GOING_AWAY)

    async def drop_all(self) -> int:
        """End every socket without a close frame; returns how many there were."""
        count = len(self.connections)
        for connection in list(self.connections):
            connection.abort()
        return count
