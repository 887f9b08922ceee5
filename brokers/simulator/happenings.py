"""What happens to an account without our doing (control, from this machine only).

POST /_sim/amend_order {"order_id", "price"?, "quantity"?}   another person changes a resting order
POST /_sim/position {"account"?, "conid", "quantity"}        units come or go without a fill
POST /_sim/cash {"account"?, "currency"?, "amount"}          interest, a fee, a transfer
POST /_sim/dividend {"account"?, "conid", "per_share"}       paid on what is held
POST /_sim/split {"conid", "ratio"}                          in every account; the price follows
POST /_sim/clock {"to" | "next"}                             the exchange's clock, forward; what lies between happens
POST /_sim/liquidate {"account"?, "conid"}                   the broker closes a position at market
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from aiohttp import web

from . import tickets
from .accounting import BASE
from .answers import Refusal, answer, read_json
from .exchange import next_of
from .orders import LIQUIDATION, plain
from .simulator import SIM, Simulator
from .tickets import Rejected


def _account(sim: Simulator, body: dict[str, Any]) -> str:
    account = str(body.get("account") or sim.registrations.accounts[0])
    if account not in sim.accounts:
        raise ValueError(f"unknown account {account}")
    return account


def _held(sim: Simulator, account: str) -> web.Response:
    held = sim.accounts[account].open_positions()
    cash = {currency: str(amount) for currency, amount in sim.accounts[account].cash.items()}
    return answer({"cash": cash, "positions": {str(p.instrument.conid): plain(p.quantity) for p in held}})


async def amend_order(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    order = sim.book.orders[int(body.pop("order_id"))]
    instrument = sim.universe.find(order.conid)
    if instrument is None or not order.working:
        raise ValueError("the order is not working")
    try:
        changed = tickets.amend(order, body, instrument)
    except Rejected as rejection:
        raise Refusal(400, {"error": str(rejection)}) from None
    sim.book.replace(changed)
    return answer({"order_id": changed.order_id, "status": changed.status})


async def position(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    account, conid = _account(sim, body), int(body["conid"])
    if sim.universe.find(conid) is None:
        raise ValueError(f"unknown conid {conid}")
    price = str(sim.price_of(conid))
    sim.adjust({"account": account, "conid": str(conid), "amount": str(body["quantity"]), "price": price})
    return _held(sim, account)


async def cash(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    account = _account(sim, body)
    currency = str(body.get("currency", BASE))
    sim.adjust({"account": account, "currency": currency, "amount": str(body["amount"])})
    return _held(sim, account)


async def dividend(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    account = _account(sim, body)
    held = sim.accounts[account].positions[int(body["conid"])]
    amount = held.quantity * Decimal(str(body["per_share"]))
    sim.adjust({"account": account, "currency": held.instrument.currency, "amount": str(amount)})
    return _held(sim, account)


async def split(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    conid, ratio = int(body["conid"]), Decimal(str(body["ratio"]))
    for account in sim.accounts.values():
        more = account.held(conid) * (ratio - 1)
        if more:
            sim.adjust(
                {"account": account.account_id, "conid": str(conid), "amount": str(more), "price": "0"}
            )
    sim.market.move(conid, price=sim.price_of(conid) / ratio)
    return answer({"split": str(ratio)})


async def liquidate(request: web.Request) -> web.Response:
    sim, body = request.app[SIM], await read_json(request)
    account, conid = _account(sim, body), int(body["conid"])
    held = sim.accounts[account].held(conid)
    if not held:
        raise ValueError("nothing is held")
    side = "SELL" if held > 0 else "BUY"
    ticket = {"conid": conid, "side": side, "quantity": abs(held), "orderType": "MKT"}
    order = sim.placing.manual(account, ticket, LIQUIDATION)
    return answer({"order_id": order.order_id})


async def clock(request: web.Request) -> web.Response:
    """`to` is a moment with its zone; `next` is opening, closing, day_ends, reset or night_ends."""
    sim, body = request.app[SIM], await read_json(request)
    now = sim.clock.now()
    sim.clock.move(next_of(body["next"], now) if "next" in body else datetime.fromisoformat(body["to"]))
    return answer({"now": sim.clock.now().isoformat(), "happened": sim.pass_time()})


ROUTES = [
    web.post(f"/_sim/{handler.__name__}", handler)
    for handler in (amend_order, position, cash, dividend, split, liquidate, clock)
]
