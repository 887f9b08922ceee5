"""Endpoints with a limit of their own beside the login's (ibkr-web-api.md §8)."""

from urllib.parse import urlsplit

# Seconds between two calls of one login.
GAPS = {
    ("GET", "/iserver/account/orders"): 5.0,
    ("GET", "/iserver/account/trades"): 5.0,
    ("GET", "/iserver/account/pnl/partitioned"): 5.0,
    ("GET", "/portfolio/accounts"): 5.0,
    ("POST", "/pa/performance"): 900.0,
    ("POST", "/pa/transactions"): 900.0,
    ("POST", "/tickle"): 1.0,
}
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def gaps_at(base_url: str) -> dict[tuple[str, str], float]:
    """The gaps that hold there; a simulator on this machine has none."""
    return {} if urlsplit(base_url).hostname in THIS_MACHINE else GAPS
