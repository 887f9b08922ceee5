"""IBKR's strings and numbers as Decimals, aware times and JSON, through text only (ibkr-web-api.md §0).

The wire mixes strings and numbers for the same field; whatever cannot be read is None, never a guess.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import simplejson

# ASCII only: Decimal would read the digits of any script.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Beyond this nothing fits numeric(38,18), and no real price or size is there.
EXPONENT_MAX = 20
SUFFIXES = {"K": Decimal(10) ** 3, "M": Decimal(10) ** 6, "B": Decimal(10) ** 9}
STAMPS = (
    (re.compile(r"\d{8}-\d{2}:\d{2}:\d{2}", re.ASCII), "%Y%m%d-%H:%M:%S"),
    (re.compile(r"\d{12}", re.ASCII), "%y%m%d%H%M%S"),
)
MILLISECONDS = re.compile(r"\d{13}", re.ASCII)

Row = Mapping[str, Any]


def load_json(content: bytes | str) -> Any:
    """Parse JSON with exact decimals. Raises ValueError; invalid UTF-8 becomes replacement characters."""
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)


def dump_json(value: Any) -> str:
    """JSON in which a Decimal is a plain number: no exponent, no float in between."""
    return simplejson.dumps(value, default=_plain, use_decimal=False, separators=(",", ":"))


def number(value: Any) -> Decimal | None:
    """`"3,500"`, `"42.0%"`, `"C191.24"`, `12`, `1.22E7`: the number, or None."""
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip().replace(",", "").removesuffix("%")
    text = text[1:] if text[:1] in ("C", "H") else text
    if not NUMBER.fullmatch(text) or len(text) > 60:
        return None
    found = Decimal(text)
    return found if abs(found.adjusted()) <= EXPONENT_MAX else None


def abbreviated(value: Any) -> Decimal | None:
    """`"12.2M"`: a volume in display form."""
    text = str(value).strip() if value is not None else ""
    factor = SUFFIXES.get(text[-1:].upper())
    found = number(text[:-1] if factor else text)
    return found * factor if found is not None and factor else found


def money(value: Any) -> tuple[Decimal | None, str]:
    """`"1.01 USD"` as an amount and its currency; `"NA"` is (None, "")."""
    amount, _, currency = str(value if value is not None else "").strip().partition(" ")
    return number(amount), currency.strip()


def moment(value: Any) -> datetime | None:
    """Epoch milliseconds, `20231211-18:00:49` or `260401231429`, all UTC."""
    text = str(value).strip() if value is not None else ""
    if MILLISECONDS.fullmatch(text):
        seconds, milliseconds = divmod(int(text), 1000)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=milliseconds)
    for pattern, layout in STAMPS:
        if pattern.fullmatch(text):
            return _stamp(text, layout)
    return None


def day(value: Any) -> date | None:
    """`20261218`, as text or number."""
    try:
        return datetime.strptime(str(value), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def first(row: Row, *names: str) -> Any:
    """The first of these fields that says something."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def text(value: Any) -> str | None:
    """An id or a word: `265598` and `"265598"` are the same; nothing is None."""
    found = "" if value is None or isinstance(value, bool) else str(value).strip()
    return found or None


def whole(value: Any) -> int | None:
    """A whole number; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def entry(data: Row, key: str) -> dict[str, Any]:
    """An object inside an object; empty where there is none."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; anything else in it is dropped, and what is no list has none."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _stamp(text_value: str, layout: str) -> datetime | None:
    try:
        return datetime.strptime(text_value, layout).replace(tzinfo=UTC)
    except ValueError:
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite():
        return simplejson.RawJSON(format(value, "f"))
    raise TypeError(f"{type(value).__name__} has no wire form")
