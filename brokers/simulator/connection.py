"""One websocket: its subscriptions, its frames, its clock (ibkr-web-api.md §7.2, §7.3)."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import account_bodies, history
from .answers import Refusal, encode, now_ms
from .login_body import accounts_body
from .order_rows import trade_row
from .orders import Order
from .quote_fields import DEFAULT_FIELDS, envelope, values

if TYPE_CHECKING:
    from .simulator import Simulator

QUEUE_LIMIT = 20_000
ACCOUNT_SECONDS = 10.0
PROFIT_SECONDS = 1.0
TOPIC_LENGTH = 3


@dataclass
class Feed:
    """One `smd` subscription; `sent` is what the client knows."""

    fields: tuple[str, ...]
    began_at: float = field(default_factory=time.monotonic)
    sent: dict[str, Any] = field(default_factory=dict)


class Connection:
    """A client's socket. `send` never blocks; one writer drains the queue."""

    def __init__(self, sim: "Simulator", socket: web.WebSocketResponse, transport: asyncio.Transport | None):
        self._sim, self.socket, self._transport = sim, socket, transport
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_LIMIT)
        self.forget()
        self._commands: dict[str, Callable[[str, dict[str, Any]], object]] = {
            "smd": self._subscribe_quotes,
            "umd": lambda target, _: self._feeds.pop(_conid(target), None),
            "smh": self._subscribe_history,
            "umh": lambda target, _: self.send({"message": f"Unsubscribed {target}"}),
            "sbd": self._subscribe_ladder,
            "ubd": lambda target, _: self._ladders.pop(target, None),
            "sor": self._subscribe_orders,
            "uor": lambda *_: self._set_orders(None),
            "str": self._subscribe_trades,
            "utr": lambda *_: self._set_trades(False),
            "spl": lambda *_: self._set_profit(True),
            "upl": lambda *_: self._set_profit(False),
            "ssd": lambda target, args: self._subscribe_account(self._summaries, target, args),
            "usd": lambda target, _: self._leave(self._summaries, target, "summary"),
            "sld": lambda target, args: self._subscribe_account(self._ledgers, target, args),
            "uld": lambda target, _: self._leave(self._ledgers, target, "ledger"),
        }

    def forget(self) -> None:
        """No subscription is left; the client is not told."""
        self._feeds: dict[int, Feed] = {}
        self._ladders: dict[str, int] = {}
        self._summaries: dict[str, list[str]] = {}
        self._ledgers: dict[str, list[str]] = {}
        self._orders: list[str] | None = None
        self._profit = self.trades = False

    def wants_order(self, order: Order) -> bool:
        """`sor` is on, and its CamelCase filters let this status pass."""
        return self._orders is not None and (not self._orders or order.status in self._orders)

    def send(self, frame: dict[str, Any]) -> None:
        """Queue a frame; while the stream is stalled it is lost, and a hopeless reader is cut off."""
        fault = self._sim.faults.stalled()
        if fault is not None and not (fault.heartbeats and "hb" in frame):
            return
        try:
            self._queue.put_nowait(encode(frame))
        except asyncio.QueueFull:
            self.abort()

    def abort(self) -> None:
        """End the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    async def serve(self) -> None:
        """Initial frames, then frames both ways until the client leaves."""
        self._greet()
        tasks = [asyncio.create_task(work()) for work in (self._write, self._beat, self._pump)]
        try:
            async for message in self.socket:
                if message.type.name == "TEXT":
                    self.handle(message.data)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _greet(self) -> None:
        sim = self._sim
        paper = not sim.registrations.live
        name = sim.registrations.username
        self.send({"topic": "system", "success": name, "isFT": False, "isPaper": paper})
        self.send({"topic": "act", "args": accounts_body(sim)})
        status = sim.session.status()
        server = status.pop("serverInfo", {})
        shown = {k: v for k, v in status.items() if k not in ("MAC", "hardware_info")}
        self.send({"topic": "sts", "args": shown | server | {"username": name}})

    # Clocks

    async def _write(self) -> None:
        while True:
            text = await self._queue.get()
            if self._sim.config.binary_frames:
                await self.socket.send_bytes(text.encode())
            else:
                await self.socket.send_str(text)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._sim.config.heartbeat_seconds)
            self.send({"topic": "system", "hb": now_ms()})

    async def _pump(self) -> None:
        profit_at = account_at = time.monotonic()
        while True:
            await asyncio.sleep(self._sim.config.conflation_seconds)
            if self._sim.faults.stalled():
                continue
            now = time.monotonic()
            self._push_quotes(now)
            if now - profit_at >= PROFIT_SECONDS:
                profit_at = now
                self._push_profit()
            if now - account_at >= ACCOUNT_SECONDS:
                account_at = now
                self._push_accounts()

    # From the client

    def handle(self, text: str) -> None:
        """One text frame: `TOPIC+TARGET+{json}`, with or without target and arguments."""
        text = text.strip()
        if text.startswith("tic"):
            session = self._sim.session
            self.send({"topic": "tic", "alive": True, "id": session.session_id, "lastAccessed": now_ms()})
            return
        head, brace, tail = text.partition("{")
        topic, target = head[:TOPIC_LENGTH], head[TOPIC_LENGTH:].strip("+")
        try:
            arguments = json.loads(brace + tail) if brace else {}
        except ValueError:
            arguments = None
        command = self._commands.get(topic)
        if command is None or not isinstance(arguments, dict):
            self.send({"error": "unknown topic or malformed arguments", "code": 400, "topic": topic})
        else:
            command(target, arguments)

    def _refused(self, topic: str) -> bool:
        """Brokerage topics need the bridge, and market data needs /iserver/accounts."""
        session = self._sim.session
        reason = None
        if not session.established or self._sim.config.refuse_streams:
            reason = "unable to subscribe"
        elif topic == "smd" and not session.accounts_listed:
            reason = "No accounts"
        if reason:
            self.send({"error": reason, "code": 500, "topic": topic})
        return reason is not None

    def _subscribe_quotes(self, target: str, arguments: dict[str, Any]) -> None:
        conid = _conid(target)
        if self._refused("smd") or self._sim.market.quote(conid) is None:
            return
        fields = tuple(str(code) for code in arguments.get("fields") or DEFAULT_FIELDS)
        self._feeds[conid] = Feed(fields)
        self._push_quote(conid, self._feeds[conid])

    def _subscribe_history(self, target: str, arguments: dict[str, Any]) -> None:
        quote = self._sim.market.quote(_conid(target))
        if self._refused("smh") or quote is None:
            return
        try:
            body = history.body(quote, str(arguments.get("period", "1w")), str(arguments.get("bar", "1d")))
        except Refusal as refusal:
            self.send({"error": str(refusal.body), "code": refusal.status, "topic": "smh"})
            return
        self.send(body | {"topic": f"smh+{target}"})

    def _subscribe_ladder(self, target: str, arguments: dict[str, Any]) -> None:
        account, _, rest = target.partition("+")
        if not self._refused("sbd"):
            self._ladders[account] = _conid(rest)

    def _subscribe_orders(self, target: str, arguments: dict[str, Any]) -> None:
        if not self._refused("sor"):
            self._set_orders([str(status) for status in arguments.get("filters", [])])

    def _subscribe_trades(self, target: str, arguments: dict[str, Any]) -> None:
        if self._refused("str"):
            return
        self._set_trades(True)
        self.send({"topic": "str", "args": []})
        if arguments.get("realtimeUpdatesOnly") is True:
            return
        since = now_ms() - int(arguments.get("days", 1)) * 86_400_000
        known = [e for e in self._sim.book.executions if e.executed_ms >= since]
        rows = [trade_row(e, i) for e in known if (i := self._sim.universe.find(e.conid))]
        if rows:
            self.send({"topic": "str", "args": rows})

    def _subscribe_account(self, kept: dict[str, list[str]], target: str, arguments: dict[str, Any]) -> None:
        if target in self._sim.accounts:
            kept[target] = [str(key) for key in arguments.get("keys", [])]
            self._push_accounts(only=kept)

    def _leave(self, kept: dict[str, list[str]], target: str, name: str) -> None:
        kept.pop(target, None)
        self.send({"result": f"unsubscribed from {name}"})

    def _set_orders(self, filters: list[str] | None) -> None:
        self._orders = filters

    def _set_trades(self, wanted: bool) -> None:
        self.trades = wanted

    def _set_profit(self, wanted: bool) -> None:
        self._profit = wanted
        self._push_profit()

    # To the client

    def _push_quotes(self, now: float) -> None:
        for conid, feed in list(self._feeds.items()):
            if now - feed.began_at > self._sim.config.stream_seconds or not self._sim.session.established:
                del self._feeds[conid]
            else:
                self._push_quote(conid, feed)
        for account, conid in self._ladders.items():
            self._push_ladder(account, conid)

    def _push_quote(self, conid: int, feed: Feed) -> None:
        """The first frame is full, later ones carry what changed."""
        quote = self._sim.market.quote(conid)
        if quote is None:
            return
        current = values(quote, feed.fields, self._sim.config)
        changed = {k: v for k, v in current.items() if feed.sent.get(k) != v}
        if changed:
            feed.sent |= changed
            self.send({**envelope(quote), **changed, "topic": f"smd+{conid}"})

    def _push_ladder(self, account: str, conid: int) -> None:
        quote = self._sim.market.quote(conid)
        if quote is None:
            return
        rows: list[dict[str, Any]] = [
            {"row": 0, "focus": 0, "price": f"{quote.ask}", "ask": str(quote.ask_size)},
            {"row": 1, "focus": 1, "price": f"{quote.last_size} @ {quote.last}"},
            {"row": 2, "focus": 0, "price": f"{quote.bid}", "bid": str(quote.bid_size)},
        ]
        self.send({"topic": f"sbd+{account}+{conid}", "data": rows})

    def _push_profit(self) -> None:
        if self._profit:
            self.send({"topic": "spl", "args": account_bodies.profit_rows(self._sim.accounts.values())})

    def _push_accounts(self, only: dict[str, list[str]] | None = None) -> None:
        if only is None or only is self._summaries:
            for account, keys in self._summaries.items():
                rows = account_bodies.summary_rows(self._sim.accounts[account], keys)
                self.send({"result": rows, "topic": f"ssd+{account}"})
        if only is None or only is self._ledgers:
            for account, keys in self._ledgers.items():
                rows = account_bodies.ledger_rows(self._sim.accounts[account], keys)
                self.send({"result": rows, "topic": f"sld+{account}"})


def _conid(target: str) -> int:
    """The number of `265598@NYSE`; 0 for anything else."""
    number = target.partition("@")[0].partition("+")[0]
    return int(number) if number.isdigit() else 0
