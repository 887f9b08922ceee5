"""Performance and transactions over HTTP (ibkr-web-api.md §5, `/pa`)."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from .account_bodies import cents
from .accounting import BASE, Account, Position
from .answers import Refusal, answer, bad_request, now_ms, read_json
from .calendar import is_trading_day
from .front import API
from .orders import Execution
from .simulator import SIM, Simulator

PERIODS = {"1D": 1, "7D": 7, "1M": 30, "1Y": 365}


def _begin(period: str, today: date) -> date:
    if period in ("MTD", "YTD"):
        return today.replace(day=1) if period == "MTD" else today.replace(month=1, day=1)
    if period not in PERIODS:
        raise bad_request("period is not valid")
    return today - timedelta(days=PERIODS[period])


def _account(sim: Simulator, body: dict[str, Any], *, unknown: int) -> Account:
    wanted = body.get("acctIds")
    if not isinstance(wanted, list) or not wanted:
        raise bad_request("acctIds is missing")
    account = sim.accounts.get(str(wanted[0]))
    if account is None:
        raise Refusal(unknown, {"error": "Internal Server Error", "statusCode": unknown})
    return account


async def performance(request: web.Request) -> web.Response:
    """POST /pa/performance: the simulator keeps no history, so all but the last two values are the opening ones."""
    sim, body = request.app[SIM], await read_json(request)
    account = _account(sim, body, unknown=400)
    today = datetime.now(UTC).date()
    begin = _begin(str(body.get("period", "")), today)
    days = [begin + timedelta(days=offset) for offset in range((today - begin).days + 1)]
    dates = [f"{day:%Y%m%d}" for day in days if is_trading_day(day)] or [f"{today:%Y%m%d}"]
    opening = account.opening_cash
    before = opening if account.day_start is None else account.day_start
    values = [*[opening] * (len(dates) - 2), before, account.net_liquidation][-len(dates) :]
    row = {
        "id": account.account_id,
        "idType": "acctid",
        "start": dates[0],
        "end": dates[-1],
        "baseCurrency": BASE,
    }
    returns = [round(float(value / opening - 1), 6) for value in values]
    start = {"date": f"{begin:%Y%m%d}", "val": cents(opening)}
    nav = {**row, "startNAV": start, "navs": [cents(value) for value in values]}
    return answer(
        {
            "currencyType": "base",
            "pm": "TWR",
            "nd": (today - begin).days,
            "id": "getPerformanceData",
            "included": [account.account_id],
            "cps": {"freq": "D", "dates": dates, "data": [{**row, "returns": returns}]},
            "tpps": {"freq": "M", "dates": [dates[-1][:6]], "data": [{**row, "returns": returns[-1:]}]},
            "nav": {"freq": "D", "dates": dates, "data": [nav]},
        }
    )


async def transactions(request: web.Request) -> web.Response:
    """POST /pa/transactions: one contract's fills, newest first, and what each closing one realised."""
    sim, body = request.app[SIM], await read_json(request)
    conids = body.get("conids")
    if not isinstance(conids, list) or not conids:
        raise bad_request("conids is missing")
    account = _account(sim, body, unknown=500)
    days = int(body.get("days", 90))
    since = now_ms() - days * 86_400_000
    fills = [e for e in sim.book.executions if e.account == account.account_id and e.conid == int(conids[0])]
    profits = _realized(sim, fills)
    shown = [(e, profit) for e, profit in zip(fills, profits, strict=True) if e.executed_ms >= since][::-1]
    return answer(
        {
            "nd": days,
            "rpnl": {
                "data": [_profit_row(e, profit) for e, profit in shown if profit],
                "amt": str(sum((profit for _, profit in shown), Decimal("0.0"))),
            },
            "currency": str(body.get("currency", BASE)),
            "from": since,
            "to": now_ms(),
            "id": "getTransactions",
            "includesRealTime": True,
            "transactions": [_row(sim, e) for e, _ in shown],
        }
    )


def _realized(sim: Simulator, fills: list[Execution]) -> list[Decimal]:
    instrument = sim.universe.find(fills[0].conid) if fills else None
    if instrument is None:
        return []
    held = Position(instrument)
    return [held.apply(e.signed_quantity, e.price) for e in fills]


def _day(execution: Execution) -> datetime:
    return datetime.fromtimestamp(execution.executed_ms / 1000, UTC)


def _profit_row(execution: Execution, profit: Decimal) -> dict[str, Any]:
    return {
        "date": f"{_day(execution):%Y%m%d}",
        "cur": BASE,
        "fxRate": 1,
        "side": "L" if profit < 0 else "G",
        "acctid": execution.account,
        "amt": str(profit),
        "conid": str(execution.conid),
    }


def _row(sim: Simulator, execution: Execution) -> dict[str, Any]:
    instrument, day = sim.universe.find(execution.conid), _day(execution)
    unit = instrument.unit if instrument else 1
    return {
        "cur": instrument.currency if instrument else BASE,
        "date": f"{day:%a %b %d} 00:00:00 EDT {day:%Y}",
        "rawDate": f"{day:%Y%m%d}",
        "fxRate": 1.0,
        "pr": float(execution.price),
        "qty": float(execution.signed_quantity),
        "acctid": execution.account,
        "amt": cents(-execution.signed_quantity * execution.price * unit),
        "conid": execution.conid,
        "type": "Buy" if execution.side == "BUY" else "Sell",
        "desc": instrument.name if instrument else "",
    }


ROUTES = [
    web.post(f"{API}/pa/performance", performance),
    web.post(f"{API}/pa/transactions", transactions),
]
