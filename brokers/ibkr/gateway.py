"""The second way in: IBKR's Client Portal Gateway, a program of its own where a person signs in by hand.

The gateway holds the session with IBKR and passes on what comes to it (ibkr-web-api.md §2.2, §7.1). We keep the cookies
that it sets and the session that `/tickle` names; there are no keys, so nothing is signed and nothing can be rotated.
"""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from brokers.base import SessionToken
from brokers.ibkr.values import dump_json, load_json, text
from cerbero.errors import ManualLoginRequired, SessionExpired

if TYPE_CHECKING:
    from brokers.ibkr.wire import Wire

# After a day IBKR wants the person again (§1.6).
SIGNED_IN_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class GatewayAccess:
    """How to reach a gateway. Its own certificate is signed by nobody: see `tls.trusted`."""

    is_verified: bool = True
    credential_id: UUID | None = None


class GatewaySession(httpx.Auth):
    """Gives the gateway back what it set; without a session that was seen to live nothing is asked.

    `secret` is what `mint` returned: the session's id and the cookies.
    """

    def __init__(self, secret: bytes | None) -> None:
        kept = _read(secret)
        self._session, self._cookies = kept if kept else ("", {})
        self._is_known = kept is not None

    @property
    def own_words(self) -> tuple[str, ...]:
        """What must not be repeated in an error."""
        return tuple(filter(None, (self._session, *self._cookies.values())))

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._is_known:
            raise SessionExpired("No session of the gateway is known; look for one first.")
        request.headers.pop("Cookie", None)
        if self._cookies:
            request.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        response = yield request
        self._cookies |= dict(response.cookies)

    def mint(self, wire: "Wire") -> SessionToken:
        """The session that a person opened at the gateway. Raises ManualLoginRequired where nobody has.

        `expires_at` is the latest moment at which IBKR asks for the person again, counted from this first sight.
        """
        self._is_known, self._cookies = True, {}
        try:
            said = wire.read("POST", "/tickle")
        except SessionExpired as error:
            self._is_known = False
            raise ManualLoginRequired(**error.details) from error
        self._session = text(said.get("session")) or "" if isinstance(said, dict) else ""
        if not self._session:
            self._is_known = False
            raise ManualLoginRequired(path="/tickle")
        secret = dump_json({"session": self._session, "cookies": self._cookies}).encode()
        return SessionToken(secret=secret, expires_at=datetime.now(UTC) + SIGNED_IN_FOR)


def _read(secret: bytes | None) -> tuple[str, dict[str, str]] | None:
    """The session's id and the cookies of a token; None where it is none of ours."""
    try:
        kept: Any = load_json(secret or b"")
        return str(kept["session"]), {str(name): str(value) for name, value in kept["cookies"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
