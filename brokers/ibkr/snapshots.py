"""Snapshots, whose first answers are empty or partial (ibkr-web-api.md §4.1): asked a few times, then what there is."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from brokers.ibkr.values import Row, rows, text
from brokers.ibkr.wire import Wire
from cerbero.errors import BrokerRejected

TRIES = 6
# Whoever has said nothing by then may be waiting for a search; each costs two requests of the login's ten a second.
SEARCH_AFTER, SEARCHES_MAX = 2, 3
DERIVATIVES = frozenset({"OPT", "FUT", "FOP", "WAR"})
WAIT_SECONDS = 0.2

T = TypeVar("T")


def snapshots(
    wire: Wire,
    broker_instrument_ids: Sequence[str],
    fields: Sequence[str],
    read: Callable[[Row], T | None],
    is_whole: Callable[[T], bool],
    wait: Callable[[float], None],
) -> list[T]:
    """What `read` makes of each instrument's row, in the order asked; one without any of the fields is left out."""
    conids = list(dict.fromkeys(broker_instrument_ids))
    params = {"conids": ",".join(conids), "fields": ",".join(fields)}
    found: dict[str, T] = {}
    for tries_left in reversed(range(TRIES)):
        for row in rows(wire.read("GET", "/iserver/marketdata/snapshot", params=params)):
            conid, record = text(row.get("conid")), read(row)
            if conid and record is not None and not row.keys().isdisjoint(fields):
                found[conid] = record
        if not tries_left or all(conid in found and is_whole(found[conid]) for conid in conids):
            break
        if TRIES - tries_left == SEARCH_AFTER:
            for conid in [each for each in conids if each not in found][:SEARCHES_MAX]:
                _search_first(wire, conid)
        wait(WAIT_SECONDS)
    return [found[conid] for conid in conids if conid in found]


def _search_first(wire: Wire, conid: str) -> None:
    """A derivative is quoted only after a search for its symbol in the same session; nothing says so (§4.1)."""
    try:
        info = wire.read("GET", f"/iserver/contract/{conid}/info-and-rules", params={"isBuy": "true"})
        symbol = text(info.get("symbol")) if isinstance(info, dict) else None
        if symbol and info.get("instrument_type") in DERIVATIVES:
            wire.read("GET", "/iserver/secdef/search", params={"symbol": symbol})
    except BrokerRejected:
        return
