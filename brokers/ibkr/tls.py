"""Whose certificate counts. Unverified TLS reaches a program on this machine and nothing else."""

import re
import ssl
from functools import cache

import httpx

from cerbero.errors import TlsUnverified

# The whole address, by its letters: two parsers might disagree about where a stranger one leads.
# Postgres holds the same of brokers_login (migration 0011).
HERE = r"^(https|wss)://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?(/[A-Za-z0-9/._-]*)?$"


def trusted(url: str, *, is_verified: bool = True) -> ssl.SSLContext:
    """What to connect to `url` with. Raises TlsUnverified for an unverified one that is not on this machine."""
    if is_verified:
        return _verified()
    if re.fullmatch(HERE, url) is None or not url.isprintable():
        raise TlsUnverified
    return _unverified()


@cache
def _verified() -> ssl.SSLContext:
    """Loading the certificates takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
