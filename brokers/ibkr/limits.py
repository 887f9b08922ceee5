"""Who goes first, endpoints with a limit of their own, and the broker's nights (ibkr-web-api.md §2.3, §8)."""

import re
from datetime import UTC, datetime, time, timedelta
from enum import IntEnum
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

# Seconds between two calls of one login.
GAPS = {
    ("GET", "/iserver/account/orders"): 5.0,
    ("GET", "/iserver/account/trades"): 5.0,
    ("GET", "/iserver/account/pnl/partitioned"): 5.0,
    ("GET", "/portfolio/accounts"): 5.0,
    ("GET", "/iserver/scanner/params"): 900.0,
    ("POST", "/iserver/scanner/run"): 1.0,
    ("POST", "/pa/performance"): 900.0,
    ("POST", "/pa/transactions"): 900.0,
    ("POST", "/tickle"): 1.0,
}
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
# The region of a simulator (`Login.region_zone`).
NOWHERE = "none"


# What keeps the session counts as an order: without it none is sent.
ORDER_PATH = re.compile(r"/iserver/(reply/|account/[^/]+/(orders$|order/))")
SESSION_PATHS = ("/tickle", "/oauth/", "/iserver/auth/", "/iserver/accounts")

# The session is reset near 01:00 of its region, and Saturday evening in New York everything is maintained.
NIGHT_BEGINS, NIGHT = time(0, 55), timedelta(minutes=20)
WEEKEND_ZONE, SATURDAY = ZoneInfo("America/New_York"), 5
WEEKEND_BEGINS, WEEKEND = time(22, 45), timedelta(hours=4, minutes=20)


class Rank(IntEnum):
    """Who goes first; the number is how many requests of the second are left to those before."""

    CANCEL = 0
    ORDER = 1
    READ = 2


def rank_of(method: str, path: str) -> Rank:
    """Whether a request cancels, places (or answers, amends, keeps the session), or asks."""
    if method == "DELETE":
        return Rank.CANCEL
    is_order = method == "POST" and ORDER_PATH.match(path)
    if is_order or path.startswith(SESSION_PATHS):
        return Rank.ORDER
    return Rank.READ


def away_until(base_url: str, region_zone: str, now: datetime) -> datetime | None:
    """The end of the planned reset or maintenance that runs at `now`; a simulator has none."""
    if _is_simulated(base_url, region_zone):
        return None
    ends = [_end(now, ZoneInfo(region_zone), NIGHT_BEGINS, NIGHT)]
    ends += [_end(now, WEEKEND_ZONE, WEEKEND_BEGINS, WEEKEND, SATURDAY)]
    return max(filter(None, ends), default=None)


def was_reset(base_url: str, region_zone: str, since: datetime, until: datetime) -> bool:
    """Whether the broker's night fell between: its lists hold what is of the new day alone (§6.8). A simulator has none."""
    if _is_simulated(base_url, region_zone):
        return False
    here = ZoneInfo(region_zone)
    begins = (
        datetime.combine(until.astimezone(here).date() - timedelta(days=days_ago), NIGHT_BEGINS, here)
        for days_ago in (0, 1)
    )
    return since < max(night for night in begins if night <= until)


def _end(
    now: datetime, zone: ZoneInfo, begins: time, length: timedelta, weekday: int | None = None
) -> datetime | None:
    """When the window that `now` is in ends, in UTC."""
    for days_ago in (0, 1):
        day = now.astimezone(zone).date() - timedelta(days=days_ago)
        began = datetime.combine(day, begins, zone).astimezone(UTC)
        if weekday in (None, day.weekday()) and began <= now < began + length:
            return began + length
    return None


def gaps_at(base_url: str, region_zone: str) -> dict[tuple[str, str], float]:
    """The gaps that hold there; a simulator has none."""
    return {} if _is_simulated(base_url, region_zone) else GAPS


def _is_simulated(base_url: str, region_zone: str) -> bool:
    """Plain HTTP on this machine is a simulator; HTTPS is IBKR's gateway, unless its login says that nothing rests."""
    parts = urlsplit(base_url)
    return region_zone == NOWHERE or (parts.scheme == "http" and parts.hostname in THIS_MACHINE)
