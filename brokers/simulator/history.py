"""Bars that end at the present price; the same bar has the same numbers on every call (§4.4)."""

import random
import re
import time
from typing import Any

from .answers import Refusal
from .market import Quote, on_tick

SECONDS = {"min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400}
MAX_POINTS = 1000
_SPAN = re.compile(r"(\d{1,4})(min|h|d|w|m|y)")


def seconds(span: str) -> int:
    """`5min` → 300. Refuses anything else with 500."""
    match = _SPAN.fullmatch(span)
    if match is None or int(match[1]) == 0:
        raise Refusal(500, {"error": f"invalid period or bar {span}"})
    return int(match[1]) * SECONDS[match[2]]


def body(quote: Quote, period: str, bar: str) -> dict[str, Any]:
    """The recorded shape; bars are a walk backwards from the present price, seeded by conid and time."""
    length, bar_seconds = seconds(period), seconds(bar)
    count = max(1, min(length // bar_seconds, MAX_POINTS))
    last_start = int(time.time()) // bar_seconds * bar_seconds
    bars = _bars(quote, count, bar_seconds, last_start)
    instrument = quote.instrument
    return {
        "serverId": str(6_571_225 + instrument.conid % 1000),
        "symbol": instrument.symbol,
        "text": instrument.name,
        "priceFactor": 100,
        "startTime": time.strftime("%Y%m%d-%H:%M:%S", time.gmtime(bars[0]["t"] / 1000)),
        "high": _extreme(bars, max(bars, key=lambda b: b["h"]), "h"),
        "low": _extreme(bars, min(bars, key=lambda b: b["l"]), "l"),
        "timePeriod": period,
        "barLength": bar_seconds,
        "mdAvailability": "S",
        "mktDataDelay": 0,
        "outsideRth": False,
        "tradingDayDuration": 390,
        "volumeFactor": 1,
        "priceDisplayRule": 1,
        "priceDisplayValue": "2",
        "negativeCapable": False,
        "messageVersion": 2,
        "data": bars,
        "points": len(bars) - 1,
        "travelTime": 0,
    }


def _bars(quote: Quote, count: int, bar_seconds: int, last_start: int) -> list[dict[str, Any]]:
    tick = quote.instrument.tick
    sigma = quote.instrument.volatility * (bar_seconds / (252 * 86_400)) ** 0.5
    close, bars = float(quote.last), []
    for number in range(count):
        start = last_start - number * bar_seconds
        noise = random.Random(quote.instrument.conid * 1_000_003 + start)  # noqa: S311 - a chart, not a secret
        opening = close * (1 - max(min(noise.gauss(0, sigma), 0.2), -0.2))
        high = max(opening, close) * (1 + abs(noise.gauss(0, sigma / 2)))
        low = min(opening, close) * (1 - min(abs(noise.gauss(0, sigma / 2)), 0.2))
        prices = {"o": opening, "c": close, "h": high, "l": low}
        row = {name: float(on_tick(value, tick)) for name, value in prices.items()}
        bars.append({**row, "v": float(noise.randrange(1_000, 50_000)), "t": start * 1000})
        close = opening
    return bars[::-1]


def _extreme(bars: list[dict[str, Any]], bar: dict[str, Any], key: str) -> str:
    minutes = (bar["t"] - bars[0]["t"]) // 60_000
    return f"{bar[key] * 100:.0f}/{bar['v']}/{minutes}"
