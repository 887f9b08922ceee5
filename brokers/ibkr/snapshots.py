"""Snapshots, whose first answers are empty or partial (ibkr-web-api.md §4.1): asked a few times, then what there is."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from brokers.ibkr.values import Row, rows, text
from brokers.ibkr.wire import Wire

TRIES = 6
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
        wait(WAIT_SECONDS)
    return [found[conid] for conid in conids if conid in found]
