"""Which bars a period can be asked in (ibkr-web-api.md §4.4). Pure."""

import re
from collections.abc import Iterator

from cerbero.errors import BadInput

UNITS = {"min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400}
PERIODS_MAX = {"min": 30, "h": 8, "d": 1000, "w": 792, "m": 182, "y": 15}
BARS = (
    *("1min", "2min", "3min", "5min", "10min", "15min", "30min"),
    *("1h", "2h", "3h", "4h", "8h", "1d", "1w", "1m"),
)
# For periods up to so long: the shortest and the longest bar.
LIMITS = (
    ("1min", "1min", "1min"),
    ("1h", "1min", "8h"),
    ("1d", "1min", "8h"),
    ("1w", "10min", "1w"),
    ("1m", "1h", "1m"),
    ("3m", "2h", "1m"),
    ("6m", "4h", "1m"),
    ("1y", "8h", "1m"),
    ("3y", "1d", "1m"),
    ("15y", "1w", "1m"),
)
_SPAN = re.compile(r"([1-9]\d{0,3})(min|h|d|w|m|y)", re.ASCII)


def check_bars(period: str, bar: str) -> None:
    """Raises BadInput with what fits where the broker would not give such bars of such a period."""
    span = _SPAN.fullmatch(period)
    if span is None or int(span[1]) > PERIODS_MAX[span[2]]:
        most = {unit: f"{longest}{unit}" for unit, longest in PERIODS_MAX.items()}
        raise BadInput("A period is a number and min, h, d, w, m or y.", period=period, most=most)
    fitting = tuple(_fitting(seconds(period)))
    if bar not in fitting:
        raise BadInput("This period takes other bars.", period=period, bar=bar, fitting=list(fitting))


def seconds(span: str) -> int:
    """`5min` is 300; a month is thirty days. Raises ValueError for anything else."""
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(f"{span!r} is no span of time")
    return int(found[1]) * UNITS[found[2]]


def _fitting(length: int) -> Iterator[str]:
    for limit, shortest, longest in LIMITS:
        if length <= seconds(limit):
            yield from BARS[BARS.index(shortest) : BARS.index(longest) + 1]
            return
