"""Market data over HTTP (ibkr-web-api.md §4)."""

import time
from typing import Any

from aiohttp import web

from . import history as bars
from .answers import Refusal, answer, bad_request, read_json
from .front import API
from .quote_fields import envelope, holding_values, values
from .simulator import SIM, Simulator
from .universe import Instrument

MAX_CONIDS, MAX_FIELDS = 100, 50
DEFAULT_CODES = ("31", "84", "86")


def need_accounts(sim: Simulator) -> None:
    """What /iserver/accounts unlocks (§2.3)."""
    if not sim.session.accounts_listed:
        raise bad_request("Please query /accounts first")


def numbers(text: str) -> list[int]:
    """A comma-separated list of conids. Refuses text with 400."""
    try:
        return [int(part.partition("@")[0]) for part in text.split(",") if part]
    except ValueError:
        raise bad_request("conids must be numbers") from None


def snapshot_row(sim: Simulator, conid: int, codes: list[str]) -> dict[str, Any]:
    """A preflight row at first; later calls add the fields that have warmed up."""
    quote = sim.market.quote(conid)
    bare = {"conidEx": str(conid), "conid": conid}
    if quote is None or _waits_for_search(sim, quote.instrument):
        return bare
    now, warm = time.monotonic(), sim.session.warm
    ready = [code for code in codes if warm.get((conid, code), now) < now]
    for code in codes:
        warm.setdefault((conid, code), now + sim.config.snapshot_warmup)
    found = values(quote, ready, sim.config) if ready else {}
    if found:
        found |= holding_values(sim.accounts[sim.session.selected_account], conid, ready)
    return envelope(quote) | found if found else bare


def _waits_for_search(sim: Simulator, instrument: Instrument) -> bool:
    needs = sim.config.derivatives_need_search and instrument.sec_type in ("OPT", "FUT")
    return needs and instrument.underlying not in sim.session.searched


async def snapshot(request: web.Request) -> web.Response:
    """GET /iserver/marketdata/snapshot."""
    sim = request.app[SIM]
    need_accounts(sim)
    conids = numbers(request.query.get("conids", ""))
    codes = [code for code in request.query.get("fields", "").split(",") if code] or list(DEFAULT_CODES)
    if not conids or len(conids) > MAX_CONIDS or len(codes) > MAX_FIELDS:
        raise bad_request("between 1 and 100 conids and at most 50 fields")
    return answer([snapshot_row(sim, conid, codes) for conid in conids])


async def history(request: web.Request) -> web.Response:
    """GET /iserver/marketdata/history."""
    sim = request.app[SIM]
    need_accounts(sim)
    quote = sim.market.quote(next(iter(numbers(request.query.get("conid", ""))), 0))
    if quote is None:
        raise Refusal(500, {"error": "Chart data unavailable"})
    period, bar = request.query.get("period", "1w"), request.query.get("bar", "1d")
    return answer(bars.body(quote, period, bar))


async def unsubscribe(request: web.Request) -> web.Response:
    """POST /iserver/marketdata/unsubscribe: the next snapshot is a preflight again."""
    sim, body = request.app[SIM], await read_json(request)
    known = [key for key in sim.session.warm if str(key[0]) == str(body.get("conid"))]
    if not known:
        raise Refusal(500, {"error": "unknown"})
    for key in known:
        del sim.session.warm[key]
    return answer({"success": True})


async def unsubscribe_all(request: web.Request) -> web.Response:
    """GET /iserver/marketdata/unsubscribeall."""
    request.app[SIM].session.warm.clear()
    return answer({"unsubscribed": True})


ROUTES = [
    web.get(f"{API}/iserver/marketdata/snapshot", snapshot),
    web.get(f"{API}/iserver/marketdata/history", history),
    web.post(f"{API}/iserver/marketdata/unsubscribe", unsubscribe),
    web.get(f"{API}/iserver/marketdata/unsubscribeall", unsubscribe_all),
]
