"""The one way out that is not a broker: named hosts, pinned addresses, no redirects, byte and time caps.

A host must stand in OUTBOUND_HOSTS (https on port 443, public addresses only) or in OUTBOUND_INTERNAL_HOSTS
(any address, http too). The name is resolved once, every answer is looked at, and the connection goes to the
address that was looked at: a name that answers otherwise the second time gains nothing.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

import certifi
import httpcore
from django.conf import settings

from cerbero.errors import (
    OutboundAddressRefused,
    OutboundHostRefused,
    OutboundRedirected,
    OutboundTimeout,
    OutboundTooLarge,
    OutboundUnreachable,
)

SECONDS_MAX = 5.0
BYTES_MAX = 64 * 1024
# Addresses that carry an IPv4 address inside, which might be anybody's: NAT64, 6to4, Teredo.
_CARRIERS = tuple(ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))

Resolver = Callable[[str, int], Iterable[str]]


@dataclass(frozen=True)
class Answer:
    """What the other side said; the body is at most BYTES_MAX long."""

    status: int
    body: bytes


def resolve(host: str, port: int) -> list[str]:
    """Every address that the name has now. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float = SECONDS_MAX,
    resolver: Resolver = resolve,
) -> Answer:
    """Send `body` once and return what was answered, whatever its status but a redirect.

    Raises OutboundHostRefused and OutboundAddressRefused (nothing was sent), OutboundRedirected,
    OutboundTooLarge, OutboundTimeout or OutboundUnreachable.
    """
    deadline = time.monotonic() + seconds
    goal = target(url)
    backend = _Pinned(_addresses(goal, resolver, deadline), deadline)
    try:
        # One connection, kept by nobody: the next call looks at the addresses again.
        with httpcore.ConnectionPool(
            ssl_context=_tls(), network_backend=backend, max_connections=1, max_keepalive_connections=0
        ) as pool:
            return _exchange(pool, url, body, headers, seconds)
    except httpcore.TimeoutException:
        raise OutboundTimeout(host=goal.hostname) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as problem:
        raise OutboundUnreachable(host=goal.hostname, problem=type(problem).__name__) from None


def target(url: str) -> SplitResult:
    """A URL's parts. Raises OutboundHostRefused unless it leads where we may go."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise OutboundHostRefused(why="this is no URL") from None
    if (
        host not in {*settings.OUTBOUND_HOSTS, *settings.OUTBOUND_INTERNAL_HOSTS}
        or parts.username is not None
    ):
        raise OutboundHostRefused(host=host)
    plain = parts.scheme == "https" and port in {None, 443}
    if not plain and not (host in settings.OUTBOUND_INTERNAL_HOSTS and parts.scheme in {"http", "https"}):
        raise OutboundHostRefused(host=host, why="only https on port 443 goes to hosts outside")
    return parts


def _addresses(goal: SplitResult, resolver: Resolver, deadline: float) -> list[str]:
    host = str(goal.hostname)
    port = goal.port or (443 if goal.scheme == "https" else 80)
    # The system's resolver knows no time limit.
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        found = list(pool.submit(resolver, host, port).result(max(deadline - time.monotonic(), 0)))
    except TimeoutError:
        raise OutboundTimeout(host=host) from None
    except (OSError, UnicodeError):
        raise OutboundUnreachable(host=host, problem="the name has no address") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if not found:
        raise OutboundUnreachable(host=host, problem="the name has no address")
    # One private address among public ones is refused too: the next connection could pick it.
    if host not in settings.OUTBOUND_INTERNAL_HOSTS and not all(map(_is_public, found)):
        raise OutboundAddressRefused(host=host)
    return found


def _is_public(text: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in net for net in _CARRIERS):
            return False
    return address.is_global and not address.is_multicast


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


def _exchange(
    pool: httpcore.ConnectionPool, url: str, body: bytes, headers: Mapping[str, str], seconds: float
) -> Answer:
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
    # Compressed, a small answer could hold a large one.
    sent = {**headers, "Accept-Encoding": "identity", "Content-Length": str(len(body))}
    with pool.stream(
        "POST", url, headers=list(sent.items()), content=body, extensions={"timeout": timeouts}
    ) as answer:
        if 300 <= answer.status < 400:
            raise OutboundRedirected(status=answer.status)
        return Answer(answer.status, _read(answer))


def _read(answer: httpcore.Response) -> bytes:
    content = bytearray()
    for chunk in answer.iter_stream():
        content += chunk
        if len(content) > BYTES_MAX:
            raise OutboundTooLarge(bytes_max=BYTES_MAX)
    return bytes(content)


class _Pinned(httpcore.NetworkBackend):
    """Connects to the addresses that were looked at, whatever the name says now, and only until the deadline."""

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self._addresses, self._deadline, self._wire = addresses, deadline, httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any
    ) -> httpcore.NetworkStream:
        problem: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            try:
                stream = self._wire.connect_tcp(address, port, timeout=_left(self._deadline))
            except httpcore.ConnectError as refused:
                problem = refused
                continue
            return _Bounded(stream, self._deadline)
        raise problem


class _Bounded(httpcore.NetworkStream):
    """A stream whose every step counts against one deadline: an answer that drips is not waited for."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_left(self._deadline))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Bounded(secured, self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is over")
    return left
