"""Control for tests and demos, from this machine only: faults, prices, fills, the truth about the book.

GET    /_sim/health                          ready
GET    /_sim/book                            every order and execution ever; every placement since the start
POST   /_sim/faults {"kind", …}              see faults.Fault; GET lists, DELETE clears
POST   /_sim/config {name: value, …}         see config.Config; GET reads
POST   /_sim/price {"conid", "price" | "percent"}
POST   /_sim/fill {"order_id", "quantity"?, "price"?}
POST   /_sim/manual_order {"account"?, "conid", "side", "quantity", "orderType"?, "price"?}
DELETE /_sim/question                        forget what was asked and not answered
POST   /_sim/session {"drop": "brokerage" | "outer" | "streams", or "roll": true}
POST   /_sim/gateway {"sign_in": bool}       what a person does at the gateway's page; GET reads
POST   /_sim/night_reset {"expire_day_orders"?, "day_scoped"?}
POST   /_sim/amend_order, position, cash, dividend, split, liquidate: see happenings.py
POST   /_sim/keys {"consumer_key", "signature_public_key", "encryption_public_key", "dh_prime"}, or
       {"renews": access token} for another token under the same keys; with either "refuses", "misfit" and
       "active_at" of credentials.KeySet. GET lists the sets
POST   /_sim/keys/{access_token} {"refuses" | "active_at", …}    DELETE revokes
"""

import asyncio
import re
import time
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from aiohttp import web

from . import happenings
from .answers import Refusal, answer, read_json
from .orders import plain
from .simulator import SIM, Simulator
from .tickets import Rejected


async def health(request: web.Request) -> web.Response:
    return answer({"ready": True})


async def book(request: web.Request) -> web.Response:
    """The judge's truth; decimals are strings, times epoch milliseconds."""
    sim = request.app[SIM]
    orders = [_order(sim, order.to_json()) for order in sim.book.orders.values()]
    executions = [e.to_json() for e in sim.book.executions]
    accounts = {a.account_id: _account(a) for a in sim.accounts.values()}
    arrivals = list(sim.placing.arrivals)
    return answer({"orders": orders, "executions": executions, "arrivals": arrivals, "accounts": accounts})


def _order(sim: Simulator, row: dict[str, Any]) -> dict[str, Any]:
    instrument = sim.universe.find(row["conid"])
    row["cOID"] = row.pop("client_order_id")
    row["symbol"] = instrument.symbol if instrument else None
    return row


def _account(account: Any) -> dict[str, Any]:
    cash = {currency: str(amount) for currency, amount in account.cash.items()}
    held = {str(p.instrument.conid): plain(p.quantity) for p in account.open_positions()}
    return {"cash": cash, "positions": held, "net_liquidation": str(account.net_liquidation)}


async def add_fault(request: web.Request) -> web.Response:
    sim = request.app[SIM]
    fault = sim.faults.add(_with_floats(await read_json(request)))
    if fault.kind == "competing":
        sim.session.take_away()
        sim.hub.tell({"topic": "sts", "args": {"competing": True}})
        sim.hub.tell_status()
        if fault.lasts_seconds is not None:
            asyncio.get_running_loop().call_later(fault.lasts_seconds, sim.session.let_go)
    return answer({"fault": fault.number})


def _with_floats(body: dict[str, Any]) -> dict[str, Any]:
    return {key: float(value) if isinstance(value, Decimal) else value for key, value in body.items()}


async def list_faults(request: web.Request) -> web.Response:
    return answer([asdict(fault) for fault in request.app[SIM].faults])


async def clear_faults(request: web.Request) -> web.Response:
    sim = request.app[SIM]
    sim.faults.clear()
    sim.session.let_go()
    return answer({"faults": 0})


async def read_config(request: web.Request) -> web.Response:
    return answer(request.app[SIM].config.to_json())


async def change_config(request: web.Request) -> web.Response:
    config = request.app[SIM].config
    config.update(await read_json(request))
    return answer(config.to_json())


async def price(request: web.Request) -> web.Response:
    """Set a price, or move it by percent."""
    sim, body = request.app[SIM], await read_json(request)
    wanted = {name: Decimal(str(body[name])) for name in ("price", "percent") if name in body}
    if len(wanted) != 1 or not sim.market.move(int(body["conid"]), **wanted):
        raise ValueError("a known conid (not an option) and one of price and percent are needed")
    sim.book.on_tick()
    quote = sim.market.quote(int(body["conid"]))
    return answer({"bid": str(quote.bid), "ask": str(quote.ask)} if quote else {})


async def fill(request: web.Request) -> web.Response:
    """Fill a working order, whatever the market says."""
    sim, body = request.app[SIM], await read_json(request)
    order = sim.book.orders[int(body["order_id"])]
    quantity = Decimal(str(body.get("quantity", order.remaining)))
    quote = sim.market.quote(order.conid)
    touch = (quote.ask if order.side == "BUY" else quote.bid) if quote else Decimal(0)
    at = Decimal(str(body["price"])) if "price" in body else order.limit_price or touch
    if not order.working or not 0 < quantity <= order.remaining or at <= 0:
        raise ValueError("the order is not working, or the quantity or price is impossible")
    execution = sim.book.fill(order, quantity, at)
    return answer(execution.to_json())


async def manual_order(request: web.Request) -> web.Response:
    """An order as a person would enter it in TWS: no client order id."""
    sim, body = request.app[SIM], await read_json(request)
    account = body.pop("account", sim.registrations.accounts[0])
    if account not in sim.accounts:
        raise ValueError(f"unknown account {account}")
    try:
        order = sim.placing.manual(account, body)
    except Rejected as rejection:
        raise Refusal(400, {"error": str(rejection)}) from None
    return answer({"order_id": order.order_id, "status": order.status})


async def forget_question(request: web.Request) -> web.Response:
    """What was asked comes to nothing, also where stale questions go live."""
    request.app[SIM].placing.desk.interrupt()
    return answer({})


async def session(request: web.Request) -> web.Response:
    """Lose a session, or every socket, or change the tickle session."""
    sim, body = request.app[SIM], await read_json(request)
    lost = body.get("drop")
    if lost == "brokerage":
        sim.session.close()
        sim.hub.tell_status()
    elif lost == "outer":
        sim.tokens.forget()
        sim.gateway.sign_out()
    elif lost == "streams":
        await sim.hub.drop_all()
    elif body.get("roll") is True:
        sim.session.roll_over()
    else:
        raise ValueError("drop is brokerage, outer or streams; or roll is true")
    return answer(sim.session.status())


async def night_reset(request: web.Request) -> web.Response:
    body = await read_json(request)
    wanted = {name: body.get(name) is True for name in ("expire_day_orders", "day_scoped")}
    request.app[SIM].night_reset(**wanted)
    return answer({"reset": True})


KEY_SET_FIELDS = ("refuses", "misfit", "active_at")


async def register_keys(request: web.Request) -> web.Response:
    """What a person does at the portal: upload public halves, or renew the token, and read what it shows."""
    sim, body = request.app[SIM], await read_json(request)
    delay = sim.config.activation_seconds
    more = {"active_at": time.time() + delay if delay else 0.0} | _key_set_fields(body)
    more["replaces"] = sim.config.save_replaces
    if sim.config.save_replaces:
        sim.tokens.forget()
    if "renews" in body:
        key_set = sim.registrations.renew_token(body["renews"], **more)
    else:
        public = (body["consumer_key"], body["signature_public_key"], body["encryption_public_key"])
        key_set = sim.registrations.register(*public, int(body["dh_prime"], 16), **more)
    return answer({"access_token": key_set.access_token, "access_token_secret": key_set.encrypted_secret})


async def list_keys(request: web.Request) -> web.Response:
    rows = request.app[SIM].registrations.key_sets
    shown = ("consumer_key", "access_token", "is_active", *KEY_SET_FIELDS)
    return answer([{name: getattr(row, name) for name in shown} for row in rows])


async def change_keys(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    return answer({"changed": sim.registrations.change(request.match_info["token"], **_key_set_fields(body))})


def _key_set_fields(body: dict[str, Any]) -> dict[str, Any]:
    found = {name: body[name] for name in KEY_SET_FIELDS if name in body}
    re.compile(found.get("refuses", ""))
    return _with_floats(found)


async def revoke_keys(request: web.Request) -> web.Response:
    sim, token = request.app[SIM], request.match_info["token"]
    sim.tokens.forget(token)
    return answer({"revoked": sim.registrations.revoke(token)})


ROUTES = [
    web.get("/_sim/health", health),
    web.get("/_sim/book", book),
    web.get("/_sim/faults", list_faults),
    web.post("/_sim/faults", add_fault),
    web.delete("/_sim/faults", clear_faults),
    web.get("/_sim/config", read_config),
    web.post("/_sim/config", change_config),
    web.post("/_sim/price", price),
    web.post("/_sim/fill", fill),
    web.post("/_sim/manual_order", manual_order),
    web.delete("/_sim/question", forget_question),
    web.post("/_sim/session", session),
    web.post("/_sim/night_reset", night_reset),
    *happenings.ROUTES,
    web.get("/_sim/keys", list_keys),
    web.post("/_sim/keys", register_keys),
    web.post("/_sim/keys/{token}", change_keys),
    web.delete("/_sim/keys/{token}", revoke_keys),
]
