"""From a symbol to IBKR's contracts (ibkr-web-api.md §3): all candidates, none chosen."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from brokers.base import InstrumentRecord
from brokers.ibkr.contract_messages import RIGHT_WORDS, found, option_contract
from brokers.ibkr.messages import instrument_record
from brokers.ibkr.values import first, rows, text
from brokers.ibkr.wire import Wire
from brokers.occ import option_symbol
from cerbero.errors import BadInput, BrokerRejected

# Each candidate costs one request of ten per second.
CANDIDATES_MAX = 12
US_INDEX_EXCHANGES = frozenset({"CBOE", "NASDAQ", "NYSE", "AMEX", "ARCA", "RUSSELL", "CME", "CBOT"})
# `ESZ6`: the root, the letter of the delivery month, and the year's last digits.
DELIVERY = re.compile(r"([A-Z0-9]{1,6}?)([FGHJKMNQUVXZ]\d{1,2})")
US_FUTURES_EXCHANGES = frozenset({"CME", "CBOT", "NYMEX", "COMEX", "CFE"})


@dataclass(frozen=True)
class Candidate:
    """One contract that a search named."""

    conid: str
    exchange: str | None = None
    is_us: bool | None = None


def find(wire: Wire, symbol: str, asset_class: str) -> list[InstrumentRecord]:
    """Every candidate with its currency, multiplier and price step; [] for an unknown symbol.

    Futures are found by their root, all of them, or one by its own name (`ESZ6`); options by their OCC symbol.
    Raises BadInput for an asset class that is not searched, and for an option that is named otherwise.
    """
    search = SEARCHES.get(asset_class)
    if search is None:
        raise BadInput(asset_class=asset_class, known=sorted(SEARCHES))
    if asset_class == "option":
        return _find_option(wire, symbol)
    if asset_class == "future" and (named := DELIVERY.fullmatch(symbol)):
        return _candidates(wire, list(search(wire, symbol))) or _find_delivery(wire, symbol, named[1])
    return _candidates(wire, list(search(wire, symbol)))


def _candidates(wire: Wire, found: list[Candidate]) -> list[InstrumentRecord]:
    candidates = {candidate.conid: candidate for candidate in found}
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


def _find_delivery(wire: Wire, symbol: str, root: str) -> list[InstrumentRecord]:
    """The one future of a root whose own name this is; the broker is asked for names of one digit and of two."""
    return [
        each
        for each in _candidates(wire, list(_futures(wire, root)))
        if _delivery(each.symbol) == _delivery(symbol)
    ]


def _delivery(name: str) -> str:
    """`ESZ26` and `ESZ6` are one: ten years ahead no future is listed under the same letter."""
    return re.sub(r"\d(?=\d$)", "", name.replace(" ", ""))


def _find_option(wire: Wire, symbol: str) -> list[InstrumentRecord]:
    """Under the OCC symbol that was asked for, with its strike: the broker's own words name neither."""
    wanted = option_symbol(symbol)
    if wanted is None:
        raise BadInput(
            "An option is named by its OCC symbol: AAPL  261218C00200000.",
            asset_class="option",
            symbol=symbol,
        )
    described = _candidates(wire, list(_options(wire, symbol)))
    return [
        replace(
            each, symbol=str(wanted), strike=wanted.strike, expires_on=each.expires_on or wanted.expires_on
        )
        for each in described
    ]


def _options(wire: Wire, symbol: str) -> Iterator[Candidate]:
    """Contracts of its root, month, strike and side that expire on its day; of several classes those of the root's own name."""
    wanted = option_symbol(symbol)
    if wanted is None:
        return
    month = f"{wanted.expires_on:%b%y}".upper()
    for row in rows(_search(wire, {"symbol": wanted.root})):
        named = found(row)
        if named is None or not any(month in each.months for each in named.sections):
            continue
        params = {"conid": named.broker_instrument_id, "sectype": "OPT", "month": month}
        params |= {"strike": f"{wanted.strike:f}", "right": RIGHT_WORDS[wanted.right]}
        for each in map(option_contract, rows(_tolerant(wire, "/iserver/secdef/info", params))):
            if each and each.expires_on == wanted.expires_on and each.trading_class in ("", wanted.root):
                yield Candidate(each.broker_instrument_id, is_us=True)


SEARCHES: dict[str, Callable[[Wire, str], Iterator[Candidate]]] = {
    "stock": _stocks,
    "future": _futures,
    "fx": _fx,
    "index": _indexes,
    "option": _options,
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
