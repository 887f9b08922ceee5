"""Two strictnesses that are off until a test asks for them: nonce replays and IBKR's request limit."""

import time
from collections import deque

from .config import Config

REQUESTS_PER_SECOND = 10


class Nonces:
    """Replay rejection; off by default, since ibind re-sends identical headers on a retry (§1.5)."""

    def __init__(self, config: Config):
        self._config = config
        self._seen: deque[tuple[str, str]] = deque(maxlen=10_000)

    def fresh(self, nonce: str, timestamp: str) -> bool:
        """Whether this pair may be used; remembers it."""
        if not self._config.reject_replays:
            return True
        used = (nonce, timestamp) in self._seen
        self._seen.append((nonce, timestamp))
        return not used


class Pacer:
    """Ten requests a second per login, then the penalty box (§8)."""

    def __init__(self, config: Config):
        self._config = config
        self._recent: deque[float] = deque(maxlen=REQUESTS_PER_SECOND)
        self._boxed_until = 0.0

    def admits(self) -> bool:
        """Whether the request may go on; counts it."""
        if not self._config.pacing:
            return True
        now = time.monotonic()
        if len(self._recent) == REQUESTS_PER_SECOND and now - self._recent[0] < 1.0:
            self._boxed_until = now + self._config.penalty_seconds
        if now < self._boxed_until:
            return False
        self._recent.append(now)
        return True
