"""The two sessions of ibkr-web-api.md §2: live session tokens (outer), the brokerage session (inner)."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from .answers import now_ms
from .store import Store

IDLE_SECONDS = 360
DAY_SECONDS = 24 * 3600
MAC = "AA:BB:CC:DD:EE:FF"
HARDWARE = f"d12054d0|{MAC}"
SERVER = {"serverName": "JisfN6110", "serverVersion": "Build 10.44.1d, Mar 3, 2026 1:55:32 PM"}


class TokenRing:
    """Live session tokens by access token; several coexist until each expires. Kept over restarts."""

    def __init__(self, store: Store):
        self._store = store
        rows = store.fact("session_tokens", {})
        self._tokens = {k: [(bytes.fromhex(lst), until) for lst, until in v] for k, v in rows.items()}

    def add(self, access_token: str, live_session_token: bytes, lifetime_seconds: float) -> int:
        """Remember a new token; returns its expiry in epoch milliseconds."""
        expires_ms = now_ms() + int(lifetime_seconds * 1000)
        alive = [row for row in self._tokens.get(access_token, []) if row[1] > now_ms()]
        self._tokens[access_token] = [*alive, (live_session_token, expires_ms)][-20:]
        self._save()
        return expires_ms

    def valid(self, access_token: str) -> list[bytes]:
        """Unexpired tokens, newest first."""
        now = now_ms()
        return [lst for lst, until in reversed(self._tokens.get(access_token, [])) if until > now]

    def others(self, access_token: str) -> bool:
        """Whether a session of another access token runs."""
        return any(self.valid(each) for each in self._tokens if each != access_token)

    def forget(self, access_token: str | None = None) -> None:
        """End the outer session of one access token, or of all."""
        if access_token is None:
            self._tokens.clear()
        else:
            self._tokens.pop(access_token, None)
        self._save()

    def _save(self) -> None:
        rows = {k: [(lst.hex(), until) for lst, until in v] for k, v in self._tokens.items()}
        self._store.save(facts={"session_tokens": rows})


@dataclass
class BrokerageSession:
    """One per login. A fresh one has seen no call yet: the first-call-empty flags start here."""

    selected_account: str
    authenticated: bool = False
    connected: bool = True
    competing: bool = False
    session_id: str = field(default_factory=lambda: secrets.token_hex(16))
    began_at: float = 0.0
    ready_at: float = 0.0
    last_seen_at: float = 0.0
    accounts_listed: bool = False
    orders_listed: bool = False
    trades_listed: bool = False
    pnl_listed: bool = False
    stream_filtered: bool = False
    suppressed: set[str] = field(default_factory=set)
    warm: dict[tuple[int, str], float] = field(default_factory=dict)
    positions_seen: set[str] = field(default_factory=set)
    searched: set[int] = field(default_factory=set)

    def open(self, *, bring_up_seconds: float) -> None:
        """A brokerage session begins; an open one goes on as it is."""
        self.competing, self.connected = False, True
        if self.authenticated:
            return
        self.forget_calls()
        self.authenticated = True
        self.began_at = self.last_seen_at = time.monotonic()
        self.ready_at = self.began_at + bring_up_seconds

    def close(self) -> None:
        """The inner session ends; the outer one stays."""
        self.authenticated = False
        self.forget_calls()

    def forget_calls(self) -> None:
        """All that IBKR keeps per brokerage session."""
        self.accounts_listed = self.orders_listed = self.trades_listed = self.pnl_listed = False
        self.stream_filtered = False
        for kept in (self.suppressed, self.warm, self.positions_seen, self.searched):
            kept.clear()

    def roll_over(self) -> None:
        """The nightly reset: a new session id, nothing remembered, log-in needed."""
        self.close()
        self.session_id = secrets.token_hex(16)

    def touch(self) -> None:
        """Any request counts as activity."""
        self.last_seen_at = time.monotonic()

    def take_away(self) -> None:
        """Another platform of the same username takes the brokerage session."""
        self.close()
        self.competing = True

    def let_go(self) -> None:
        """The other platform logs out."""
        self.competing = False

    def expire(self) -> None:
        """Six idle minutes or a day end it (§2.3)."""
        now = time.monotonic()
        if self.authenticated and (
            now - self.last_seen_at > IDLE_SECONDS or now - self.began_at > DAY_SECONDS
        ):
            self.close()

    @property
    def established(self) -> bool:
        return self.authenticated and time.monotonic() >= self.ready_at

    def status(self) -> dict[str, Any]:
        """The body of /iserver/auth/status, as recorded."""
        if not self.connected:
            return {"authenticated": False, "competing": False, "connected": False, "MAC": MAC}
        return {
            "authenticated": self.authenticated,
            "established": self.established,
            "competing": self.competing,
            "connected": True,
            "message": "",
            "MAC": MAC,
            "serverInfo": SERVER,
            "hardware_info": HARDWARE,
            "fail": "",
        }
