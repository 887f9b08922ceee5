"""Answers in IBKR's words: JSON bodies, and refusals that any layer may raise (ibkr-web-api.md §2.3, §8)."""

import json
import time
from decimal import Decimal
from typing import Any

from aiohttp import web


class Refusal(Exception):
    """An answer other than success; `body` None means an empty body."""

    def __init__(self, status: int, body: Any = None):
        super().__init__(status, body)
        self.status, self.body = status, body


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else float(value)
        )
    raise TypeError(f"{type(value).__name__} has no wire form")


def encode(data: Any) -> str:
    """Compact JSON; Decimals become JSON numbers, as on IBKR's wire."""
    return json.dumps(data, separators=(",", ":"), default=_plain)


def answer(data: Any, status: int = 200) -> web.Response:
    """A JSON answer; None is an empty body."""
    body = b"" if data is None else encode(data).encode()
    return web.Response(body=body, status=status, content_type="application/json")


async def read_json(request: web.Request) -> dict[str, Any]:
    """The request's JSON object with exact numbers; an empty body is {}. Refuses anything else with 400."""
    text = await request.text()
    if not text.strip():
        return {}
    try:
        data = json.loads(text, parse_float=Decimal)
    except ValueError:
        raise bad_request("malformed body") from None
    if not isinstance(data, dict):
        raise bad_request("malformed body")
    return data


def bad_request(text: str) -> Refusal:
    """400 in the shape that IBKR's gateway uses."""
    return Refusal(400, {"error": f"Bad Request: {text}", "statusCode": 400})


def no_bridge() -> Refusal:
    """There is no brokerage session."""
    return bad_request("no bridge")


def unavailable() -> Refusal:
    """503, as for a stale reply."""
    return Refusal(503, {"error": "Service Unavailable", "statusCode": 503})


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
