"""The scanner over HTTP (ibkr-web-api.md §4.6): the simulator's own stocks, ranked."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from .answers import Refusal, answer, read_json
from .front import API
from .market import Quote
from .quote_fields import abbreviated
from .simulator import SIM, Simulator

ROWS_MAX = 50
Rank = Callable[[Quote], Decimal]


def _change(quote: Quote) -> Decimal:
    return (quote.last - quote.prior_close) / quote.prior_close * 100


# Code, the broker's name, the column, and what is ranked highest first.
TYPES: dict[str, tuple[str, str, Rank]] = {
    "TOP_PERC_GAIN": ("Top % Gainers", "Chg%", _change),
    "TOP_PERC_LOSE": ("Top % Losers", "Chg%", lambda q: -_change(q)),
    "MOST_ACTIVE": ("Most Active", "Volume", lambda q: Decimal(q.volume)),
    "MOST_ACTIVE_USD": ("Most Active ($)", "Value", lambda q: q.volume * q.last),
    "HOT_BY_VOLUME": ("Hot by Volume", "Volume", lambda q: Decimal(q.volume)),
    "HOT_BY_PRICE": ("Hot by Price", "Chg%", lambda q: abs(_change(q))),
}
FILTERS: dict[str, tuple[str, Callable[[Quote, Decimal], bool]]] = {
    "priceAbove": ("Price Above", lambda q, v: q.last > v),
    "priceBelow": ("Price Below", lambda q, v: q.last < v),
    "volumeAbove": ("Volume Above", lambda q, v: q.volume > v),
    "changePercAbove": ("Change % Above", lambda q, v: _change(q) > v),
    "changePercBelow": ("Change % Below", lambda q, v: _change(q) < v),
}
LOCATIONS = {"STK.US.MAJOR": None, "STK.US": None, "STK.NASDAQ": "NASDAQ", "STK.NYSE": "NYSE"}


async def params(request: web.Request) -> web.Response:
    """GET /iserver/scanner/params."""
    places = [{"display_name": code, "type": code, "locations": []} for code in LOCATIONS]
    return answer(
        {
            "scan_type_list": [
                {"display_name": name, "code": code, "instruments": ["STK"]}
                for code, (name, _, _) in TYPES.items()
            ],
            "instrument_list": [{"display_name": "US Stocks", "type": "STK", "filters": list(FILTERS)}],
            "filter_list": [
                {"group": code, "display_name": name, "code": code, "type": "double"}
                for code, (name, _) in FILTERS.items()
            ],
            "location_tree": [{"display_name": "US Stocks", "type": "STK", "locations": places}],
        }
    )


async def run(request: web.Request) -> web.Response:
    """POST /iserver/scanner/run: a bad type, place or filter is a 500."""
    sim, body = request.app[SIM], await read_json(request)
    kind, place = str(body.get("type")), body.get("location")
    conditions = body.get("filter") or []
    known = all(isinstance(each, dict) and each.get("code") in FILTERS for each in conditions)
    if kind not in TYPES or place not in LOCATIONS or body.get("instrument") != "STK" or not known:
        raise Refusal(500, {"error": "Internal Server Error", "statusCode": 500})
    _, column, rank = TYPES[kind]
    quotes = [q for q in _stocks(sim, LOCATIONS[place]) if _passes(q, conditions)]
    ranked = sorted(quotes, key=rank, reverse=True)[:ROWS_MAX]
    rows = [_row(number, quote, column) for number, quote in enumerate(ranked)]
    return answer({"contracts": rows, "scan_data_column_name": column})


def _stocks(sim: Simulator, exchange: str | None) -> list[Quote]:
    stocks = [i for i in sim.universe if i.sec_type == "STK" and i.is_us]
    listed = [i for i in stocks if exchange in (None, i.exchange)]
    return [quote for i in listed if (quote := sim.market.quote(i.conid))]


def _passes(quote: Quote, conditions: list[dict[str, Any]]) -> bool:
    return all(FILTERS[each["code"]][1](quote, Decimal(str(each.get("value")))) for each in conditions)


def _row(number: int, quote: Quote, column: str) -> dict[str, Any]:
    i = quote.instrument
    shown = f"{_change(quote):+.2f}%" if column == "Chg%" else abbreviated(quote.volume)
    row = {
        "server_id": str(number),
        "symbol": i.symbol,
        "conidex": str(i.conid),
        "con_id": i.conid,
        "available_chart_periods": "#R|1",
        "company_name": i.name,
        "scan_data": shown,
        "contract_description_1": i.symbol,
        "listing_exchange": i.exchange,
        "sec_type": i.sec_type,
    }
    return row if number else {"column_name": column} | row


ROUTES = [
    web.get(f"{API}/iserver/scanner/params", params),
    web.post(f"{API}/iserver/scanner/run", run),
]
