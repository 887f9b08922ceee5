"""Contracts over HTTP (ibkr-web-api.md §3)."""

from typing import Any

from aiohttp import web

from . import contract_bodies as bodies
from .answers import Refusal, answer, bad_request, read_json
from .front import API
from .market_api import numbers
from .simulator import SIM, Simulator
from .universe import MONTHS, Instrument


def found(sim: Simulator, text: Any) -> Instrument:
    """The instrument of a conid; an unknown one is refused with 400."""
    instrument = sim.universe.find(int(text)) if str(text).isdigit() else None
    if instrument is None:
        raise bad_request(f"conid is not valid: {text}")
    return instrument


async def search(request: web.Request) -> web.Response:
    """GET or POST /iserver/secdef/search; an unknown symbol is a 200 with nothing in it."""
    sim = request.app[SIM]
    asked = dict(request.query) if request.method == "GET" else await read_json(request)
    symbol, kind = str(asked.get("symbol", "")), asked.get("secType")
    types = (str(kind),) if kind else ("STK", "IND", "CASH")
    by_name = asked.get("name") in (True, "true", "True")
    hits = sim.universe.named(symbol, *types)
    if not hits:
        hits = sim.universe.named(symbol, "FUT")[:1]
    if by_name:
        hits = [i for i in sim.universe if i.sec_type in types and symbol.upper() in i.name]
    if not hits:
        return answer({"error": "No symbol found"})
    if not by_name:
        sim.session.searched.update(i.underlying or i.conid for i in hits)
    return answer([bodies.search_row(i, sim.universe) for i in hits])


async def stocks(request: web.Request) -> web.Response:
    """GET /trsrv/stocks?symbols=AAPL,IBM."""
    sim = request.app[SIM]
    symbols = [s for s in request.query.get("symbols", "").split(",") if s]
    return answer({s: [bodies.stock_row(i) for i in sim.universe.named(s, "STK")] for s in symbols})


async def futures(request: web.Request) -> web.Response:
    """GET /trsrv/futures?symbols=ES,MES."""
    sim = request.app[SIM]
    symbols = [s for s in request.query.get("symbols", "").split(",") if s]
    return answer({s: [bodies.future_row(i) for i in sim.universe.named(s, "FUT")] for s in symbols})


async def definitions(request: web.Request) -> web.Response:
    """GET /trsrv/secdef?conids=…, at most 200."""
    sim = request.app[SIM]
    conids = numbers(request.query.get("conids", ""))[:200]
    rows = [bodies.definition(i) for conid in conids if (i := sim.universe.find(conid))]
    return answer({"secdef": rows})


async def all_conids(request: web.Request) -> web.Response:
    """GET /trsrv/all-conids?exchange=NASDAQ: stocks only."""
    wanted = request.query.get("exchange", "")
    listed = [i for i in request.app[SIM].universe if i.sec_type == "STK" and i.exchange == wanted]
    return answer([{"ticker": i.symbol, "conid": i.conid, "exchange": i.exchange} for i in listed])


async def info(request: web.Request) -> web.Response:
    """GET /iserver/contract/{conid}/info."""
    return answer(bodies.info(found(request.app[SIM], request.match_info["conid"])))


async def info_and_rules(request: web.Request) -> web.Response:
    """GET /iserver/contract/{conid}/info-and-rules."""
    sim = request.app[SIM]
    instrument = found(sim, request.match_info["conid"])
    return answer(bodies.info(instrument) | {"rules": _rules(sim, instrument)})


async def rules(request: web.Request) -> web.Response:
    """POST /iserver/contract/rules, of one venue where one is named."""
    sim, body = request.app[SIM], await read_json(request)
    instrument = found(sim, body.get("conid"))
    if body.get("exchange", "SMART") not in bodies.info(instrument)["valid_exchanges"].split(","):
        raise bad_request("exchange is not valid")
    return answer(_rules(sim, instrument))


def _rules(sim: Simulator, instrument: Instrument) -> dict[str, Any]:
    quote = sim.market.quote(instrument.conid)
    last = quote.last if quote else instrument.price
    return bodies.rules(instrument, last, sim.registrations.accounts)


async def algos(request: web.Request) -> web.Response:
    """GET /iserver/contract/{conid}/algos: none here; a bad conid is a 503."""
    if request.app[SIM].universe.find(int(request.match_info["conid"])) is None:
        raise Refusal(503, {"error": "Service Unavailable", "statusCode": 503})
    return answer({"algos": []})


def _month(text: str) -> bool:
    return len(text) == 5 and text[:3].upper() in MONTHS and text[3:].isdigit()


async def strikes(request: web.Request) -> web.Response:
    """GET /iserver/secdef/strikes: empty without a prior search or with a bad month."""
    sim, query = request.app[SIM], request.query
    conid = int(query.get("conid", "0") or 0)
    chain: list[Instrument] = []
    if conid in sim.session.searched and query.get("sectype", "").upper() == "OPT":
        chain = sim.universe.options(conid, query.get("month", "-"))
    sides = {"call": "C", "put": "P"}
    return answer(
        {name: [float(i.strike) for i in chain if i.right == right] for name, right in sides.items()}
    )


async def option_info(request: web.Request) -> web.Response:
    """GET /iserver/secdef/info: a bad month or no prior search is a 400."""
    sim, query = request.app[SIM], request.query
    conid, month = int(query.get("conid", "0") or 0), query.get("month", "")
    if conid not in sim.session.searched or not _month(month):
        raise bad_request("no prior search, or a bad month")
    kind = query.get("sectype", "").upper()
    if kind == "OPT":
        members = sim.universe.options(conid, month)
    else:
        members = [
            i for i in sim.universe if (i.underlying, i.sec_type, i.month) == (conid, kind, month.upper())
        ]
    return answer([bodies.option_row(i) for i in members if _matches(i, query)])


def _matches(instrument: Instrument, query: Any) -> bool:
    strike, right = query.get("strike"), query.get("right")
    right_fits = not right or instrument.right == right.upper()
    return right_fits and (not strike or float(instrument.strike) == float(strike))


async def schedule(request: web.Request) -> web.Response:
    """GET /contract/trading-schedule: the hours of its exchange, in epoch seconds."""
    return answer(bodies.schedule(found(request.app[SIM], request.query.get("conid"))))


async def currency_pairs(request: web.Request) -> web.Response:
    """GET /iserver/currency/pairs."""
    currency = request.query.get("currency", "USD")
    pairs = [i for i in request.app[SIM].universe if i.sec_type == "CASH"]
    rows = [
        {
            "symbol": i.local_name,
            "conid": i.conid,
            "ccyPair": i.currency if i.symbol == currency else i.symbol,
        }
        for i in pairs
        if currency in (i.symbol, i.currency)
    ]
    return answer({currency: rows})


async def exchange_rate(request: web.Request) -> web.Response:
    """GET /iserver/exchangerate."""
    sim = request.app[SIM]
    source, target = (request.query.get(name, "") for name in ("source", "target"))
    rates = [sim.rate_of(currency) for currency in (source, target)]
    if not all(rates):
        raise bad_request("unknown currency")
    return answer({"rate": round(float(rates[0] / rates[1]), 8)})


ROUTES = [
    web.get(f"{API}/iserver/secdef/search", search),
    web.post(f"{API}/iserver/secdef/search", search),
    web.get(f"{API}/trsrv/stocks", stocks),
    web.get(f"{API}/trsrv/futures", futures),
    web.get(f"{API}/trsrv/secdef", definitions),
    web.get(f"{API}/trsrv/all-conids", all_conids),
    web.get(f"{API}/iserver/contract/{{conid}}/info", info),
    web.get(f"{API}/iserver/contract/{{conid}}/info-and-rules", info_and_rules),
    web.get(f"{API}/iserver/contract/{{conid:\\d+}}/algos", algos),
    web.post(f"{API}/iserver/contract/rules", rules),
    web.get(f"{API}/iserver/secdef/strikes", strikes),
    web.get(f"{API}/iserver/secdef/info", option_info),
    web.get(f"{API}/contract/trading-schedule", schedule),
    web.get(f"{API}/iserver/currency/pairs", currency_pairs),
    web.get(f"{API}/iserver/exchangerate", exchange_rate),
]
