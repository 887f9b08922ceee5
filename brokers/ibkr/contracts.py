"""From a symbol to IBKR's contracts (ibkr-web-api.md §3): all candidates, none chosen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from brokers.base import InstrumentRecord
from brokers.ibkr.messages import instrument_record
from brokers.ibkr.values import first, rows, text
from brokers.ibkr.wire import Wire
from cerbero.errors import BadInput, BrokerRejected

# Each candidate costs one request of ten per second.
CANDIDATES_MAX = 12
US_INDEX_EXCHANGES = frozenset({"CBOE", "NASDAQ", "NYSE", "AMEX", "ARCA", "RUSSELL", "CME", "CBOT"})
US_FUTURES_EXCHANGES = frozenset({"CME", "CBOT", "NYMEX", "COMEX", "CFE"})


@dataclass(frozen=True)
class Candidate:
    """One contract that a search named."""

    conid: str
    exchange: str | None = None
    is_us: bool | None = None


def find(wire: Wire, symbol: str, asset_class: str) -> list[InstrumentRecord]:
    """Every candidate with its currency, multiplier and price step; [] for an unknown symbol.

    Raises BadInput for an asset class that is not searched.
    """
    search = SEARCHES.get(asset_class)
    if search is None:
        raise BadInput(asset_class=asset_class, known=sorted(SEARCHES))
    candidates = {candidate.conid: candidate for candidate in search(wire, symbol)}
    ranked = sorted(candidates.values(), key=lambda candidate: not candidate.is_us)[:CANDIDATES_MAX]
    return [record for record in (_describe(wire, candidate) for candidate in ranked) if record]


def _stocks(wire: Wire, symbol: str) -> Iterator[Candidate]:
    for company in _named(wire, "/trsrv/stocks", "symbols", symbol):
        for contract in rows(company.get("contracts")):
            if conid := text(contract.get("conid")):
                yield Candidate(conid, text(contract.get("exchange")), contract.get("isUS") is True)


def _futures(wire: Wire, symbol: str) -> Iterator[Candidate]:
    for contract in _named(wire, "/trsrv/futures", "symbols", symbol):
        if conid := text(contract.get("conid")):
            yield Candidate(conid)


def _fx(wire: Wire, symbol: str) -> Iterator[Candidate]:
    """`EUR.USD`; whether a pair is listed under its first or its second currency is not documented."""
    for currency in symbol.split(".")[:2]:
        for pair in _named(wire, "/iserver/currency/pairs", "currency", currency):
            if text(pair.get("symbol")) == symbol and (conid := text(pair.get("conid"))):
                yield Candidate(conid, is_us=False)


def _indexes(wire: Wire, symbol: str) -> Iterator[Candidate]:
    found = _search(wire, {"symbol": symbol, "secType": "IND"})
    for row in rows(found):
        conid = text(row.get("conid"))
        if conid and conid != "-1" and text(row.get("symbol")) == symbol:
            exchange = text(row.get("description"))
            yield Candidate(conid, exchange, exchange in US_INDEX_EXCHANGES)


SEARCHES: dict[str, Callable[[Wire, str], Iterator[Candidate]]] = {
    "stock": _stocks,
    "future": _futures,
    "fx": _fx,
    "index": _indexes,
}


def _named(wire: Wire, path: str, parameter: str, name: str) -> list[dict[str, Any]]:
    data = _tolerant(wire, path, {parameter: name})
    return rows(data.get(name)) if isinstance(data, dict) else []


def _search(wire: Wire, params: dict[str, str]) -> Any:
    return _tolerant(wire, "/iserver/secdef/search", params)


def _tolerant(wire: Wire, path: str, params: dict[str, str]) -> Any:
    """An unknown symbol may be answered with an error object or a 400: that is "none"."""
    try:
        return wire.read("GET", path, params=params)
    except BrokerRejected:
        return None


def _describe(wire: Wire, candidate: Candidate) -> InstrumentRecord | None:
    try:
        info = wire.read(
            "GET", f"/iserver/contract/{candidate.conid}/info-and-rules", params={"isBuy": "true"}
        )
    except BrokerRejected:
        return None
    if not isinstance(info, dict):
        return None
    exchange = candidate.exchange or text(first(info, "listing_exchange", "exchange"))
    is_us = candidate.is_us if candidate.is_us is not None else exchange in US_FUTURES_EXCHANGES
    return instrument_record(candidate.conid, info, exchange=exchange, is_us=is_us)
