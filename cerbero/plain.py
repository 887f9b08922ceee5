"""JSON that never touches a float: decimals leave as plain text and arrive exact.

A decimal is written as a JSON string without exponent or trailing zeros ("101.25"), since most readers turn a
JSON number into a float. It is read from a string or a number alike.
"""

import json
from collections.abc import Set
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from cerbero.errors import MalformedRequest


def text(value: Decimal) -> str:
    """A decimal as people write it: no exponent, no trailing zeros, no minus before zero."""
    digits = f"{value:f}" if value else "0"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def dumps(value: Any) -> str:
    """JSON text; times as ISO 8601. Raises TypeError for what has no plain form."""
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))


def loads(body: bytes) -> Any:
    """What a caller sent. Raises MalformedRequest, also for NaN and for a name that stands twice."""
    try:
        return json.loads(
            body, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_each_name_once
        )
    except (ValueError, RecursionError):
        raise MalformedRequest from None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no plain JSON form")


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"{name} is not JSON.")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may take different ones of the two: a way to show one order and send another.
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MalformedRequest("A name stands twice in one JSON object.")
    return made
