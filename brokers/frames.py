"""What travels through Redis: whole frames with a number and a MAC, since Redis is not trusted (house.md §6)."""

import hmac
import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from cerbero import plain

CHANNEL = "cerbero:frames"
MAC_BYTES = 32
KEY_BYTES_MIN = 32
FRAME_BYTES_MAX = 1024 * 1024
# A frame that is older, or from the future, is a replay or the work of a wrong clock.
AGE_SECONDS_MAX = 15.0


def seal(body: dict[str, Any]) -> bytes:
    """The bytes of a frame: its MAC, then its JSON."""
    content = plain.dumps(body).encode()
    return _mac(content) + content


def open_sealed(frame: bytes) -> dict[str, Any] | None:
    """A frame's body, or None when it is not ours."""
    mac, content = frame[:MAC_BYTES], frame[MAC_BYTES:]
    if len(frame) > FRAME_BYTES_MAX or not hmac.compare_digest(mac, _mac(content)):
        return None
    body = json.loads(content)
    return body if isinstance(body, dict) else None


@dataclass
class Numbers:
    """A sender's frame numbers: they only grow, also over its restarts."""

    last: int = 0

    def next(self) -> int:
        self.last = max(self.last + 1, time.time_ns())
        return self.last


@dataclass
class Gate:
    """What one reader has seen: a frame passes once, in its sender's order, and only while it is fresh."""

    newest: dict[str, tuple[int, float]] = field(default_factory=dict)

    def admit(self, frame: bytes, now: datetime | None = None) -> dict[str, Any] | None:
        """The body of a frame that is ours, new and fresh; None otherwise."""
        body = open_sealed(frame)
        if body is None:
            return None
        seconds = (now or datetime.now(UTC)).timestamp()
        at = datetime.fromisoformat(body["at"]).timestamp()
        sender, number = str(body["sender"]), int(body["sequence"])
        if abs(seconds - at) > AGE_SECONDS_MAX or number <= self.newest.get(sender, (0, 0.0))[0]:
            return None
        self.newest[sender] = (number, at)
        if len(self.newest) > 100:
            self._forget(seconds)
        return body

    def _forget(self, seconds: float) -> None:
        # Whatever such a sender's replay would bring is too old to pass.
        self.newest = {k: v for k, v in self.newest.items() if abs(seconds - v[1]) <= 2 * AGE_SECONDS_MAX}


def _mac(content: bytes) -> bytes:
    return hmac.digest(_key(), CHANNEL.encode() + b"\n" + content, sha256)


def _key() -> bytes:
    try:
        key = urlsafe_b64decode(settings.QUOTE_FRAME_KEY)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES_MIN:
        raise ImproperlyConfigured("QUOTE_FRAME_KEY must be 32 bytes in urlsafe base64.")
    return key
