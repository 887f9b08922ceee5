"""Orders over HTTP (ibkr-web-api.md §6)."""

import itertools
from typing import Any

from aiohttp import web

from .account_bodies import profit_rows
from .answers import Refusal, answer, bad_request, now_ms, read_json
from .front import API
from .market_api import need_accounts
from .order_rows import live_row, status_body, trade_row
from .orders import Order
from .simulator import SIM, Simulator
from .tickets import TRUE

FILTERS = {
    "inactive": "Inactive",
    "pending_submit": "PendingSubmit",
    "pre_submitted": "PreSubmitted",
    "submitted": "Submitted",
    "filled": "Filled",
    "pending_cancel": "PendingCancel",
    "pre_cancelled": "PreCancelled",
    "cancelled": "Cancelled",
    "warn_state": "WarnState",
    "sort_by_time": "",
}
MAX_ROWS = 1000
DAY_MS = 86_400_000
_request_ids = itertools.count(4_852_491)


def account_of(request: web.Request) -> str:
    """The account in the path; an unknown one is refused with 400 (§2.3)."""
    account = request.match_info["account"]
    if account not in request.app[SIM].accounts:
        raise bad_request(f"accountId is not valid: {account}")
    return account


async def place(request: web.Request) -> web.Response:
    """POST /iserver/account/{id}/orders."""
    account = account_of(request)
    return answer(request.app[SIM].placing.place(account, await read_json(request)))


async def what_if(request: web.Request) -> web.Response:
    """POST /iserver/account/{id}/orders/whatif."""
    account = account_of(request)
    return answer(request.app[SIM].placing.what_if(account, await read_json(request)))


async def reply(request: web.Request) -> web.Response:
    """POST /iserver/reply/{id}."""
    body = await read_json(request)
    placing = request.app[SIM].placing
    return answer(placing.reply(request.match_info["reply"], body.get("confirmed") is True))


async def suppress(request: web.Request) -> web.Response:
    """POST /iserver/questions/suppress: for this brokerage session."""
    ids = (await read_json(request)).get("messageIds")
    if not isinstance(ids, list) or not 0 < len(ids) <= 51:
        raise Refusal(500, {"error": "messageIds is missing or of a wrong length"})
    request.app[SIM].session.suppressed.update(str(i) for i in ids)
    return answer({"status": "submitted"})


async def suppress_reset(request: web.Request) -> web.Response:
    """POST /iserver/questions/suppress/reset."""
    request.app[SIM].session.suppressed.clear()
    return answer({"status": "submitted"})


def order_of(sim: Simulator, account: str, text: str) -> Order:
    """An order of the account; an unknown one is refused with 400."""
    order = sim.book.orders.get(int(text)) if text.lstrip("-").isdigit() else None
    if order is None or order.account != account:
        raise Refusal(400, {"error": f"OrderID {text} doesn't exist"})
    return order


async def modify(request: web.Request) -> web.Response:
    """POST /iserver/account/{id}/order/{orderId}: one ticket, not wrapped."""
    sim, account = request.app[SIM], account_of(request)
    need_accounts(sim)
    order = order_of(sim, account, request.match_info["order"])
    return answer(sim.placing.modify(order, await read_json(request)))


async def cancel(request: web.Request) -> web.Response:
    """DELETE /iserver/account/{id}/order/{orderId}: an acknowledgement; -1 cancels all."""
    sim, account, text = request.app[SIM], account_of(request), request.match_info["order"]
    need_accounts(sim)
    sim.placing.interrupt()
    if text == "-1":
        for order in sim.book.working(account):
            sim.book.cancel(order)
        return answer(_cancelled(-1, -1, account))
    order = order_of(sim, account, text)
    if not order.working:
        raise Refusal(400, {"error": "Order is inactive"})
    _check_manual(sim, order, request)
    sim.book.cancel(order)
    return answer(_cancelled(order.order_id, order.conid, account))


def _cancelled(order_id: int, conid: int, account: str) -> dict[str, Any]:
    return {"msg": "Request was submitted", "order_id": order_id, "conid": conid, "account": account}


def _check_manual(sim: Simulator, order: Order, request: web.Request) -> None:
    instrument = sim.universe.find(order.conid)
    given = request.query.get("manualIndicator") and request.query.get("extOperator")
    if instrument is not None and instrument.needs_manual_indicator and not given:
        raise bad_request("manualIndicator and extOperator are required for this contract")


async def live_orders(request: web.Request) -> web.Response:
    """GET /iserver/account/orders: empty at first and after `force=true`; CamelCase filters are a 500."""
    sim, query = request.app[SIM], request.query
    need_accounts(sim)
    account = query.get("accountId") or sim.session.selected_account
    if account not in sim.accounts:
        raise bad_request(f"accountId is not valid: {account}")
    filters = [f for f in query.get("filters", "").split(",") if f]
    if any(f not in FILTERS for f in filters):
        raise Refusal(500, {"error": "unknown filter", "statusCode": 500})
    forced = query.get("force") in TRUE
    sim.session.stream_filtered = bool(filters) and not forced
    if forced or not sim.session.orders_listed:
        sim.session.orders_listed = True
        return answer({"orders": [], "snapshot": False})
    return answer({"orders": _live_rows(sim, account, filters), "snapshot": True})


def _live_rows(sim: Simulator, account: str, filters: list[str]) -> list[dict[str, Any]]:
    wanted = {FILTERS[f] for f in filters} - {""}
    rows: list[dict[str, Any]] = []
    shown_until = now_ms() - int(sim.config.listing_delay * 1000)
    for order in reversed(sim.book.orders.values()):
        if order.arrived_ms > shown_until:
            continue
        rests = order.working and order.updated_ms >= sim.listed_from_ms
        today = rests or order.updated_ms >= max(sim.day_began_ms, now_ms() - DAY_MS)
        instrument = sim.universe.find(order.conid)
        if order.account == account and today and instrument and (not wanted or order.status in wanted):
            rows.append(live_row(order, instrument))
        if len(rows) == MAX_ROWS:
            break
    return rows


async def order_status(request: web.Request) -> web.Response:
    """GET /iserver/account/order/status/{orderId}: of any account of the login."""
    sim, text = request.app[SIM], request.match_info["order"]
    order = sim.book.orders.get(int(text)) if text.isdigit() else None
    instrument = sim.universe.find(order.conid) if order else None
    if order is None or instrument is None:
        raise Refusal(400, {"error": f"OrderID {text} doesn't exist"})
    return answer(status_body(order, instrument, next(_request_ids)))


async def trades(request: web.Request) -> web.Response:
    """GET /iserver/account/trades?days=1..7: `[]` at first."""
    sim = request.app[SIM]
    if not sim.session.trades_listed:
        sim.session.trades_listed = True
        return answer([])
    text = request.query.get("days", "1")
    if not text.isdigit() or not 1 <= int(text) <= 7:
        raise bad_request("days is 1 to 7")
    account = request.query.get("accountId") or sim.session.selected_account
    since = now_ms() - int(text) * DAY_MS
    found = [e for e in sim.book.executions if e.account == account and e.executed_ms >= since]
    return answer([trade_row(e, i) for e in reversed(found) if (i := sim.universe.find(e.conid))])


async def profit(request: web.Request) -> web.Response:
    """GET /iserver/account/pnl/partitioned: empty at first."""
    sim = request.app[SIM]
    if not sim.session.pnl_listed:
        sim.session.pnl_listed = True
        return answer({"upnl": {}})
    return answer({"upnl": profit_rows(sim.accounts.values())})


ACCOUNT = f"{API}/iserver/account"
ROUTES = [
    web.get(f"{ACCOUNT}/orders", live_orders),
    web.get(f"{ACCOUNT}/trades", trades),
    web.get(f"{ACCOUNT}/trades/", trades),
    web.get(f"{ACCOUNT}/pnl/partitioned", profit),
    web.get(f"{ACCOUNT}/order/status/{{order}}", order_status),
    web.post(f"{ACCOUNT}/{{account}}/orders", place),
    web.post(f"{ACCOUNT}/{{account}}/orders/whatif", what_if),
    web.post(f"{ACCOUNT}/{{account}}/order/{{order}}", modify),
    web.delete(f"{ACCOUNT}/{{account}}/order/{{order}}", cancel),
    web.post(f"{API}/iserver/reply/{{reply}}", reply),
    web.post(f"{API}/iserver/questions/suppress", suppress),
    web.post(f"{API}/iserver/questions/suppress/reset", suppress_reset),
]
