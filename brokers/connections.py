"""Warm connections to the brokers: a pool a login and process. No credential lives here, only sockets."""

import os
import ssl
import threading
from collections.abc import Callable
from uuid import UUID

import httpx

# Shorter than any server's own idle limit that we know of: a write must not meet a socket that just closed.
IDLE_SECONDS = 10
CONNECTIONS_MAX = 8

_pools: dict[tuple[UUID, str, ssl.SSLContext], httpx.HTTPTransport] = {}
_lock = threading.Lock()


class SharedTransport(httpx.BaseTransport):
    """The pool of one login; closing the client that uses it leaves the sockets open."""

    def __init__(self, pool: httpx.BaseTransport, on_rate_limit: Callable[[], None]) -> None:
        self._pool = pool
        self._on_rate_limit = on_rate_limit

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._pool.handle_request(request)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._on_rate_limit()
        return response


def transport_for(
    login_id: UUID, base_url: str, tls: ssl.SSLContext, on_rate_limit: Callable[[], None]
) -> SharedTransport:
    """The way to one login's broker; `on_rate_limit` is called for each answer 429."""
    with _lock:
        pool = _pools.get((login_id, base_url, tls))
        if pool is None:
            limits = httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=IDLE_SECONDS)
            pool = httpx.HTTPTransport(verify=tls, trust_env=False, limits=limits)
            _pools[(login_id, base_url, tls)] = pool
    return SharedTransport(pool, on_rate_limit)


def close_connections() -> None:
    """Close every pool of this process."""
    with _lock:
        while _pools:
            _pools.popitem()[1].close()


def _forget_after_fork() -> None:
    # A child that used its parent's sockets would read the parent's answers.
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
