"""Live frames to browsers: one Redis subscription a process, one slot and one writer a socket.

A slot holds what changed since its last frame, never a queue: a slow browser gets fewer frames and always
the newest, and nobody waits for it. daphne buffers without end, so the browser says when it has seen a frame.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError

from audit.sparing import Sparing
from brokers.quotes import Hint, NewestQuotes, QuoteFrame, subscribe
from cerbero.access import person
from cerbero.people.sessions import still_open

PERMISSION = "orders.view_order"
FRAME_SECONDS = 0.05
# Pages without quotes only follow the feed's age and the hints.
CALM_SECONDS = 1.0
# A client that never says "seen" gets frames at this pace.
PATIENCE_SECONDS = 1.0
# A session that ended closes its sockets within this time; a permission that was lost, within the second one.
SESSION_SECONDS, RECHECK_SECONDS = 1.0, 30.0
HINTS_MAX = 200
_TRAIL = Sparing(most_a_minute=60)

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Slot:
    """What one socket has not been sent yet. Newer news of the same thing takes the place of older."""

    wants_quotes: bool
    session_key: str = ""
    quotes: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    session_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def take_quotes(self, ids: Iterable[str]) -> None:
        if self.wants_quotes:
            self.quotes.update(ids)
        self.ready.set()

    def take_hint(self, hint: str) -> None:
        if len(self.changed) < HINTS_MAX:
            self.changed.add(hint)
        self.ready.set()


class Hub:
    """The process' one subscription, its newest quotes, and the slots that it fills."""

    def __init__(self) -> None:
        self.newest = NewestQuotes()
        self.slots: set[Slot] = set()
        self._texts: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def join(self, wants_quotes: bool, session_key: str) -> Slot:
        """A slot that begins with everything that is known."""
        slot = Slot(wants_quotes, session_key)
        slot.take_quotes(self._texts)
        self.slots.add(slot)
        start = asyncio.get_running_loop().create_task
        if self._task is None or self._task.done():
            self._task = start(self._run())
        if self._watch is None or self._watch.done():
            self._watch = start(self._watch_sessions())
        return slot

    def leave(self, slot: Slot) -> None:
        """Nobody left: nothing is read, and nothing old is kept for who comes next."""
        self.slots.discard(slot)
        if not self.slots and self._task is not None and self._watch is not None:
            self._task.cancel()
            self._watch.cancel()
            self._task = self._watch = None
            self.newest, self._texts = NewestQuotes(), {}

    def frame(self, slot: Slot, number: int) -> str:
        """The slot's next frame; empties the slot."""
        quotes = ",".join(self._texts[each] for each in slot.quotes)
        changed = json.dumps(sorted(slot.changed))
        feeds = json.dumps({login: milliseconds(at) for login, at in self.newest.feeds.items()})
        slot.quotes, slot.changed = set(), set()
        slot.ready.clear()
        now = int(time.time() * 1000)
        return f'{{"frame":{number},"now":{now},"feeds":{feeds},"changed":{changed},"quotes":[{quotes}]}}'

    async def _run(self) -> None:
        try:
            async for frame in subscribe():
                self.take(frame)
        except Exception:
            # The pages see their feed age, and say so; the next that joins starts anew.
            logger.exception("the hub stopped")

    async def _watch_sessions(self) -> None:
        """One question a second for all sockets of this process, however many there are."""
        while True:
            await asyncio.sleep(SESSION_SECONDS)
            slots = list(self.slots)
            try:
                alive = await database_sync_to_async(still_open)({slot.session_key for slot in slots})
            except DatabaseError:
                # Each socket's own look, which closes what it cannot ask about, comes soon.
                logger.warning("the sessions of open sockets could not be looked at")
                continue
            for slot in slots:
                if slot.session_key not in alive:
                    slot.session_ended.set()

    def take(self, frame: QuoteFrame | Hint) -> None:
        if isinstance(frame, Hint):
            for slot in self.slots:
                slot.take_hint(f"{frame.kind}:{frame.id}")
            return
        self.newest.apply(frame)
        # Encoded once, however many sockets there are.
        self._texts |= {key: as_text(key, quote) for key, quote in frame.quotes.items()}
        for slot in self.slots:
            slot.take_quotes(frame.quotes)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """This event loop's hub: a web process has one loop, and so one subscription."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


def as_text(instrument_id: str, quote: dict[str, Any]) -> str:
    """A quote as browsers read it: prices as text, times in milliseconds of the Unix epoch."""
    times = {name: milliseconds(_moment(quote.get(name))) for name in ("received_at", "changed_at")}
    return json.dumps({"id": instrument_id, **quote, **times}, separators=(",", ":"))


def milliseconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp() * 1000) if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _says_seen(text: str | None) -> bool:
    try:
        said = json.loads(text or "")
    except ValueError:
        return False
    return isinstance(said, dict) and said.keys() == {"seen"}


class LiveConsumer(AsyncWebsocketConsumer):
    """`/ws/live/`: quotes, the feeds' ages and hints; `?quotes=none` leaves the quotes out.

    Each frame is `{"frame", "now", "feeds": {login: ms}, "changed": ["order:…"], "quotes": [{"id", …}]}`;
    the browser answers `{"seen": frame}`.
    """

    async def connect(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        if not await self._may_look():
            # Before accepting: the browser sees a refused handshake (403).
            await self.close()
            return
        query = parse_qs(self.scope["query_string"].decode("ascii", "replace"))
        self._seen, self._says_seen = asyncio.Event(), False
        self._hub = hub()
        key = self.scope["session"].session_key
        self._slot = self._hub.join(wants_quotes=query.get("quotes") != ["none"], session_key=key)
        await self.accept()
        start = asyncio.get_running_loop().create_task
        self._tasks = [start(self._write()), start(self._recheck())]

    async def disconnect(self, code: int) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._hub.leave(self._slot)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """`{"seen": frame}` means that the browser has caught up. Nothing else is heard here: it ends the stream."""
        if _says_seen(text_data):
            self._says_seen = True
            self._seen.set()
            return
        actor = person(self._user, door="socket")
        length = {"characters": len(text_data or bytes_data or "")}
        await database_sync_to_async(_TRAIL.record)("socket.refused", actor=actor, details=length)
        await self.close(code=4400)

    async def _write(self) -> None:
        number = 0
        pause = FRAME_SECONDS if self._slot.wants_quotes else CALM_SECONDS
        while True:
            await self._slot.ready.wait()
            number += 1
            self._seen.clear()
            await self.send(text_data=self._hub.frame(self._slot, number))
            await asyncio.gather(asyncio.sleep(pause), self._until_seen())

    async def _until_seen(self) -> None:
        if self._says_seen:
            await self._seen.wait()
            return
        try:
            await asyncio.wait_for(self._seen.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            return

    async def _recheck(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._slot.session_ended.wait(), RECHECK_SECONDS)
            if self._slot.session_ended.is_set() or not await self._may_look():
                await self.close(code=4403)
                return

    async def _may_look(self) -> bool:
        """By the session as it stands in the database now, not as it was when the socket was opened."""
        key = self.scope["session"].session_key
        if not key:
            return False
        try:
            self._user = user = await get_user({"session": SessionStore(key)})
            return user.is_authenticated and await database_sync_to_async(user.has_perm)(PERMISSION)
        except DatabaseError:
            return False
