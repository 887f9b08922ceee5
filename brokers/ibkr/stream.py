"""IBKR's websocket as a `QuoteSource` (ibkr-web-api.md §7). One connection; reconnecting is the caller's.

Everything happens inside `events()`: reading, `tic`, renewing subscriptions and watching the heartbeat.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from brokers.base import ListedAccounts, QuoteRecord, Raw, SessionStatus, StreamEvent
from brokers.ibkr import market_messages, messages
from brokers.ibkr.ids import account_id
from brokers.ibkr.tls import trusted
from brokers.ibkr.values import dump_json, load_json, rows, text
from cerbero.errors import SessionExpired, StreamLost

logger = logging.getLogger(__name__)
# Its debug level would write the access token and the session id.
_socket_logger = logging.getLogger(f"{__name__}.socket")
_socket_logger.setLevel(logging.INFO)

USER_AGENT = "ClientPortalGW/1"
CONNECT_SECONDS = 10
FRAME_BYTES_MAX = 8 * 1024 * 1024
ORDER_TOPICS = {"sor": "sor+{}", "str": 'str+{"realtimeUpdatesOnly":false,"days":1}'}


@dataclass(frozen=True)
class Timing:
    """Seconds (§7.2 to §7.4). A subscription ends after 900, a session's socket wants a `tic` each 60."""

    heartbeat: float = 30
    tic: float = 55
    renew: float = 9 * 60
    refused: float = 5


class _Connect(connect):
    """A redirect would carry the session's cookie elsewhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class IbkrStream:
    """`async with IbkrStream(...) as stream`, then `subscribe`, then iterate `events()` once.

    Raises StreamLost when the connection ends or its heartbeat stops, SessionExpired when the broker
    does not take the token. `session_id` is the newest that `tickle` gave. Without an access token it is a gateway's
    socket, which the cookie alone opens.
    """

    def __init__(
        self,
        ws_url: str,
        access_token: str | None,
        session_id: str,
        *,
        is_verified: bool = True,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{ws_url}?oauth_token={quote(access_token, safe='')}" if access_token else ws_url
        self._session_id = session_id
        self._cookie = session_id if access_token else dump_json({"session": session_id})
        self._tls = trusted(ws_url, is_verified=is_verified) if ws_url.startswith("wss:") else None
        self._timing = timing or Timing()
        self._clock = clock
        self._socket: ClientConnection | None = None
        self._wanted: dict[str, float] = {}
        self._ladders: dict[str, str] = {}
        self._fields: dict[str, Raw] = {}
        self._status: Raw = {}
        self._accounts: Raw = {}
        self._refused: dict[str, float] = {}
        self._heartbeat = self._tic = clock()
        self.last_heartbeat_at: datetime | None = None

    async def __aenter__(self) -> "IbkrStream":
        try:
            self._socket = await _Connect(
                self._url,
                additional_headers={"Cookie": f"api={self._cookie}"},
                user_agent_header=USER_AGENT,
                open_timeout=CONNECT_SECONDS,
                close_timeout=2,
                compression=None,
                max_size=FRAME_BYTES_MAX,
                proxy=None,
                ssl=self._tls,
                logger=_socket_logger,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            refusal = SessionExpired if status in (401, 410) else StreamLost
            raise refusal("The broker refused the stream.", http_status=status) from None
        except (OSError, WebSocketException) as error:
            raise StreamLost("The broker's stream cannot be opened.", cause=type(error).__name__) from None
        self._heartbeat = self._tic = self._clock()
        for command in ORDER_TOPICS.values():
            await self._send(command)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def subscribe(self, broker_instrument_ids: Sequence[str]) -> None:
        """Ask for quotes; asking again renews, and brings every field anew."""
        for conid in broker_instrument_ids:
            self._wanted[conid] = self._clock()
            await self._send(f"smd+{int(conid)}+{dump_json({'fields': messages.QUOTE_FIELDS})}")

    async def unsubscribe(self, broker_instrument_ids: Sequence[str]) -> None:
        for conid in broker_instrument_ids:
            self._fields.pop(conid, None)
            if self._wanted.pop(conid, None) is not None:
                await self._send(f"umd+{int(conid)}+{{}}")

    async def show_depth(self, wanted: Mapping[str, str]) -> None:
        """One ladder an account: another instrument takes the place of the one before (§7.3 sbd)."""
        for account, conid in list(self._ladders.items()):
            if wanted.get(account) != conid:
                del self._ladders[account]
                await self._send(f"ubd+{account_id(account)}")
        for account, conid in wanted.items():
            if account not in self._ladders:
                self._ladders[account] = conid
                await self._send(f"sbd+{account_id(account)}+{int(conid)}")

    async def events(self) -> AsyncIterator[tuple[StreamEvent, Raw]]:
        """Each event with its row as the broker wrote it. Ends only by raising StreamLost."""
        while True:
            await self._keep_alive()
            frame = await self._receive()
            if frame is None:
                continue
            if frame.get("message") == "waiting for session":
                await self._send(dump_json({"session": self._session_id}))
            for event in self._read(frame):
                yield event

    async def _receive(self) -> Raw | None:
        """The next frame, or None when it is time to look at the clocks or the frame is not one."""
        try:
            async with asyncio.timeout(self._until_next_duty()):
                content = await self._open_socket().recv(decode=False)
        except TimeoutError:
            return None
        except ConnectionClosed as error:
            raise StreamLost("The broker closed the stream.", reason="closed") from error
        try:
            frame = load_json(content)
        except ValueError:
            logger.warning("stream: a frame of %d bytes is not JSON", len(content))
            return None
        return frame if isinstance(frame, dict) else None

    async def _send(self, command: str) -> None:
        try:
            await self._open_socket().send(command)
        except ConnectionClosed as error:
            raise StreamLost("The broker closed the stream.", reason="closed") from error

    def _open_socket(self) -> ClientConnection:
        if self._socket is None:
            raise StreamLost("The stream is not connected.", reason="not_connected")
        return self._socket

    def _until_next_duty(self) -> float:
        oldest = min(self._wanted.values(), default=self._clock())
        due = [
            self._heartbeat + self._timing.heartbeat,
            self._tic + self._timing.tic,
            oldest + self._timing.renew,
            *self._refused.values(),
        ]
        return max(0.0, min(due) - self._clock()) + 0.001

    async def _keep_alive(self) -> None:
        now = self._clock()
        if now - self._heartbeat > self._timing.heartbeat:
            raise StreamLost("The broker's heartbeat stopped.", reason="no_heartbeat")
        if now - self._tic >= self._timing.tic:
            self._tic = now
            await self._send("tic")
        await self.subscribe([c for c, at in self._wanted.items() if now - at >= self._timing.renew])
        for topic in [t for t, at in self._refused.items() if now >= at]:
            del self._refused[topic]
            await self._ask_again(topic)

    async def _ask_again(self, topic: str) -> None:
        if topic in ORDER_TOPICS:
            await self._send(ORDER_TOPICS[topic])
        elif topic == "sbd":
            wanted, self._ladders = self._ladders, {}
            await self.show_depth(wanted)
        else:
            await self.subscribe(list(self._wanted))

    def _read(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        topic = str(frame.get("topic") or "").partition("+")[0]
        if frame.get("error"):
            logger.warning("stream: the broker refuses %s: %s", topic, str(frame["error"])[:200])
            if topic in ("smd", "sbd") or topic in ORDER_TOPICS:
                self._refused[topic] = self._clock() + self._timing.refused
            return
        reader = self._READERS.get(topic)
        if reader is not None:
            yield from reader(self, frame)

    def _read_quote(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        """Deltas are merged on the wire's own fields, so that each record is whole."""
        conid = text(frame.get("conid")) or str(frame["topic"]).partition("+")[2].partition("@")[0]
        if conid not in self._wanted:
            return
        merged = self._fields.setdefault(conid, {"conid": conid})
        merged.update(frame)
        quote_record: QuoteRecord | None = messages.quote_record(merged, datetime.now(UTC))
        if quote_record is not None:
            yield quote_record, frame

    def _read_depth(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        book = market_messages.depth(str(frame["topic"]), frame.get("data"), datetime.now(UTC))
        if book is not None and self._ladders.get(book.broker_account_id) == book.broker_instrument_id:
            yield book, frame

    def _read_orders(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        for row in rows(frame.get("args")):
            if messages.has_news(row):
                yield messages.order_report(row), row

    def _read_executions(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        """Rows come again, later with their commission; `execution_id` tells."""
        for row in rows(frame.get("args")):
            execution = messages.execution_report(row)
            if execution is not None:
                yield execution, row

    def _read_status(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        """A status also comes one key at a time (§7.2)."""
        args = frame.get("args")
        self._status |= args if isinstance(args, dict) else {}
        if "authenticated" in self._status:
            # What a delta does not mention was last said, or not said to be wrong.
            status: SessionStatus = messages.session_status({"connected": True, **self._status})
            yield status, frame

    def _read_accounts(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        args = frame.get("args")
        self._accounts |= args if isinstance(args, dict) else {}
        yield from self._listed(frame)

    def _read_system(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        if "hb" in frame:
            self._heartbeat = self._clock()
            self.last_heartbeat_at = datetime.now(UTC)
        if "isPaper" in frame:
            self._accounts["isPaper"] = frame["isPaper"]
            yield from self._listed(frame)

    def _listed(self, frame: Raw) -> Iterator[tuple[StreamEvent, Raw]]:
        """Only once the accounts are known: an empty list would read as none."""
        listed: ListedAccounts = messages.listed_accounts(self._accounts)
        if listed.broker_account_ids:
            yield listed, frame

    _READERS = {
        "smd": _read_quote,
        "sbd": _read_depth,
        "sor": _read_orders,
        "str": _read_executions,
        "sts": _read_status,
        "act": _read_accounts,
        "system": _read_system,
    }
