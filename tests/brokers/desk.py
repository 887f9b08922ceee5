"""What the conformance tests stand on: adapters, their simulators, and orders to place."""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from brokers.base import Broker, OrderReport, OrderTerms, OrderType, QuoteSource, Side, TimeInForce
from brokers.ibkr.auth import IbkrCredentials
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.gateway import GatewayAccess
from brokers.ibkr.stream import IbkrStream, Timing
from brokers.simulator.universe import Universe
from tests.simulator_process import SimulatorProcess

AAPL, FAR_BELOW = "265598", Decimal("250.00")


def ibkr_credentials(stored: dict[str, Any]) -> IbkrCredentials:
    return IbkrCredentials(
        consumer_key=stored["consumer_key"],
        access_token=stored["access_token"],
        access_token_secret=stored["access_token_secret"],
        dh_prime=int(stored["dh_prime"], 16),
        signature_key_pem=Path(stored["signature_key_path"]).read_bytes(),
        encryption_key_pem=Path(stored["encryption_key_path"]).read_bytes(),
    )


def ibkr_broker(sim: SimulatorProcess, session_token: bytes | None = None, **changes: Any) -> IbkrClient:
    return IbkrClient(sim.base_url, replace(ibkr_credentials(sim.credentials), **changes), session_token)


def gateway_broker(
    sim: SimulatorProcess, session_token: bytes | None = None, *, is_signed_in: bool = True
) -> IbkrClient:
    """By the gateway: the person has signed in there, or out."""
    # A broker that is not there has nobody to sign in.
    with contextlib.suppress(OSError):
        if sim.control("GET", "/_sim/gateway")["signed_in"] is not is_signed_in:
            sim.control("POST", "/_sim/gateway", {"sign_in": is_signed_in})
    base_url = sim.credentials["gateway"]["base_url"]
    return IbkrClient(base_url, GatewayAccess(is_verified=False), session_token)


def gateway_stream(sim: SimulatorProcess, socket_id: str, heartbeat: float = 30) -> IbkrStream:
    ws_url = sim.credentials["gateway"]["ws_url"]
    return IbkrStream(ws_url, None, socket_id, is_verified=False, timing=Timing(heartbeat=heartbeat))


def ibkr_stream(sim: SimulatorProcess, socket_id: str, heartbeat: float = 30) -> IbkrStream:
    return IbkrStream(
        sim.ws_url, sim.credentials["access_token"], socket_id, timing=Timing(heartbeat=heartbeat)
    )


@dataclass(frozen=True)
class Adapter:
    """How to reach one broker by one way in.

    `wrong_keys` are changes that no exchange can survive; `options` those of the simulator.
    """

    broker: Callable[..., Broker]
    stream: Callable[..., QuoteSource]
    wrong_keys: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


ADAPTERS = {
    "keys": Adapter(ibkr_broker, ibkr_stream, {"dh_prime": 2**255 - 19}),
    "gateway": Adapter(
        gateway_broker, gateway_stream, {"is_signed_in": False}, options=("--gateway-port", "0")
    ),
}


@dataclass
class Desk:
    """One adapter with its simulator."""

    adapter: Adapter
    sim: SimulatorProcess
    broker: Broker

    @property
    def account(self) -> str:
        return self.sim.credentials["accounts"][0]

    def arrivals(self, client_order_id: str | None) -> int:
        return sum(client_order_id in arrival["cOIDs"] for arrival in self.sim.book()["arrivals"])

    def find(self, client_order_id: str | None) -> OrderReport | None:
        return next((o for o in self.broker.open_orders() if o.client_order_id == client_order_id), None)


@dataclass
class Own:
    """A simulator of the test's own; what `connect` opened is closed at the end."""

    adapter: Adapter
    sim: SimulatorProcess
    opened: list[Broker] = field(default_factory=list)

    def connect(self, session_token: bytes | None = None, **changes: Any) -> Broker:
        self.opened.append(self.adapter.broker(self.sim, session_token, **changes))
        return self.opened[-1]

    def signed_in(self) -> Broker:
        broker = self.connect()
        broker.mint()
        assert broker.open_session().is_up
        return broker

    def hold_many(self, count: int) -> set[str]:
        """Two units each of so many instruments; the broker's ids."""
        conids = [str(i.conid) for i in Universe(datetime.now(UTC).date()) if i.sec_type in ("STK", "OPT")][
            :count
        ]
        for conid in conids:
            self.sim.control("POST", "/_sim/position", {"conid": conid, "quantity": 2})
        return set(conids)

    @property
    def account(self) -> str:
        return self.sim.credentials["accounts"][0]

    def close(self) -> None:
        for broker in self.opened:
            broker.close()
        self.sim.stop()


def order(**changes: Any) -> OrderTerms:
    """A limit that rests, with an id of its own."""
    fields: dict[str, Any] = {
        "broker_instrument_id": AAPL,
        "side": Side.BUY,
        "quantity": Decimal(1),
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.DAY,
        "limit_price": FAR_BELOW * Decimal("0.8"),
        "client_order_id": uuid.uuid4().hex,
    }
    return OrderTerms(**{**fields, **changes})


def market(**changes: Any) -> OrderTerms:
    return order(order_type=OrderType.MARKET, limit_price=None, **changes)


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` returns, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found
