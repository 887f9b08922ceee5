"""Accounts, positions, cash and margin over HTTP (ibkr-web-api.md §5)."""

from decimal import Decimal
from typing import Any

from aiohttp import web

from . import account_bodies as bodies
from .accounting import Account, Position
from .answers import Refusal, answer, now_ms
from .contract_bodies import definition
from .front import API
from .order_api import account_of
from .simulator import SIM, Simulator

PAGE = 100
ACCOUNT_OPENED_MS = 1_769_922_000_000


def portfolio_account(request: web.Request) -> Account:
    """The account in the path; an unknown one is a 401 with an empty body, which is no auth failure."""
    account = request.app[SIM].accounts.get(request.match_info["account"])
    if account is None:
        raise Refusal(401)
    return account


def account_row(sim: Simulator, account_id: str, *, brokerage: bool) -> dict[str, Any]:
    """A PortfolioAccount; `brokerageAccess` is true in /accounts only."""
    return {
        "id": account_id,
        "PrepaidCrypto-Z": False,
        "PrepaidCrypto-P": False,
        "brokerageAccess": brokerage,
        "accountId": account_id,
        "accountVan": account_id,
        "accountTitle": "Simulated Person",
        "displayName": "Simulated Person",
        "accountAlias": None,
        "accountStatus": ACCOUNT_OPENED_MS,
        "currency": "USD",
        "type": "INDIVIDUAL" if sim.registrations.live else "DEMO",
        "tradingType": "STKNOPT",
        "businessType": "INDEPENDENT",
        "category": "",
        "ibEntity": "IBLLC-US",
        "faclient": False,
        "clearingStatus": "O",
        "covestor": False,
        "noClientTrading": False,
        "trackVirtualFXPortfolio": False,
        "acctCustType": "INDIVIDUAL",
        "parent": {"mmc": [], "accountId": "", "isMParent": False, "isMChild": False, "isMultiplex": False},
        "desc": account_id,
    }


async def accounts(request: web.Request) -> web.Response:
    """GET /portfolio/accounts."""
    sim = request.app[SIM]
    return answer([account_row(sim, account, brokerage=True) for account in sim.accounts])


async def subaccounts(request: web.Request) -> web.Response:
    """GET /portfolio/subaccounts."""
    sim = request.app[SIM]
    return answer([account_row(sim, account, brokerage=False) for account in sim.accounts])


async def meta(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/meta."""
    account = portfolio_account(request)
    return answer(account_row(request.app[SIM], account.account_id, brokerage=False))


async def summary(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/summary."""
    return answer(bodies.summary(portfolio_account(request)))


async def ledger(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/ledger."""
    return answer(bodies.ledger(portfolio_account(request)))


async def allocation(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/allocation."""
    account = portfolio_account(request)
    long: dict[str, Decimal] = {"CASH": account.cash_in_base}
    short: dict[str, Decimal] = {}
    for position in account.open_positions():
        value, kind = account.base_value(position), position.instrument.sec_type
        side = long if value >= 0 else short
        side[kind] = side.get(kind, Decimal(0)) + value
    parts = {"long": _cents(long), "short": _cents(short)}
    empty: dict[str, Any] = {"long": {}, "short": {}}
    return answer({"assetClass": parts, "sector": empty, "group": empty})


def _cents(amounts: dict[str, Decimal]) -> dict[str, float]:
    return {key: bodies.cents(amount) for key, amount in amounts.items()}


def position_row(account: Account, position: Position, *, sparse: bool) -> dict[str, Any]:
    """A row of /portfolio/{id}/positions: 21 keys on a cold read, enriched later."""
    i, realized = position.instrument, bodies.cents(position.realized)
    price, value = float(account.price_of(i.conid)), bodies.cents(account.value(position))
    average = float(round(position.average, 8))
    unrealized = bodies.cents(account.unrealized(position))
    row: dict[str, Any] = {
        "acctId": account.account_id,
        "conid": i.conid,
        "contractDesc": i.local_name,
        "position": float(position.quantity),
        "mktPrice": price,
        "mktValue": value,
        "currency": i.currency,
        "avgCost": average * float(i.unit),
        "avgPrice": average,
        "realizedPnl": realized,
        "unrealizedPnl": unrealized,
        "exchs": None,
        "expiry": None,
        "putOrCall": None,
        "multiplier": None,
        "strike": 0.0,
        "exerciseStyle": None,
        "conExchMap": [],
        "assetClass": i.sec_type,
        "undConid": 0,
        "model": "",
    }
    if sparse:
        return row
    rate = float(account.rate_of(i.currency))
    base = {
        "baseMktValue": value * rate,
        "baseMktPrice": price * rate,
        "baseAvgCost": average * float(i.unit) * rate,
        "baseAvgPrice": average * rate,
        "baseRealizedPnl": realized * rate,
        "baseUnrealizedPnl": unrealized * rate,
    }
    return row | base | definition(i)


async def positions(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/positions/{page}: 100 a page; beyond the end `[]`."""
    sim, account = request.app[SIM], portfolio_account(request)
    page = int(request.match_info.get("page", "0"))
    sparse = account.account_id not in sim.session.positions_seen
    sim.session.positions_seen.add(account.account_id)
    held = account.open_positions()[page * PAGE : (page + 1) * PAGE]
    return answer([position_row(account, p, sparse=sparse) for p in held])


async def position(request: web.Request) -> web.Response:
    """GET /portfolio/{id}/position/{conid}: an empty body when nothing is held."""
    account = portfolio_account(request)
    held = account.positions.get(int(request.match_info["conid"]))
    if held is None or not held.quantity:
        return answer(None)
    return answer([position_row(account, held, sparse=False)])


async def position_everywhere(request: web.Request) -> web.Response:
    """GET /portfolio/positions/{conid}: keyed by account."""
    conid = int(request.match_info["conid"])
    found = {a.account_id: a.positions[conid] for a in request.app[SIM].accounts.values() if a.held(conid)}
    accounts_by_id = request.app[SIM].accounts
    return answer({k: [position_row(accounts_by_id[k], p, sparse=False)] for k, p in found.items()})


async def invalidate(request: web.Request) -> web.Response:
    """POST /portfolio/{id}/positions/invalidate."""
    account = portfolio_account(request)
    request.app[SIM].session.positions_seen.discard(account.account_id)
    return answer({"message": "success"})


async def positions2(request: web.Request) -> web.Response:
    """GET /portfolio2/{id}/positions: near real time, the conid a string, other names."""
    account = portfolio_account(request)
    return answer([_row2(account, p) for p in account.open_positions()])


def _row2(account: Account, held: Position) -> dict[str, Any]:
    i, average = held.instrument, float(round(held.average, 8))
    return {
        "position": float(held.quantity),
        "conid": str(i.conid),
        "avgCost": average * float(i.unit),
        "avgPrice": average,
        "currency": i.currency,
        "description": i.local_name,
        "isLastToLoq": False,
        "marketPrice": float(account.price_of(i.conid)),
        "marketValue": bodies.cents(account.value(held)),
        "realizedPnl": bodies.cents(held.realized),
        "secType": i.sec_type,
        "timestamp": now_ms() // 1000,
        "unrealizedPnl": bodies.cents(account.unrealized(held)),
        "assetClass": i.sec_type,
        "sector": i.sector,
        "group": i.sector,
        "model": "",
    }


async def brokerage_summary(request: web.Request) -> web.Response:
    """GET /iserver/account/{id}/summary: plain numbers; a bad account is a 400."""
    account = request.app[SIM].accounts[account_of(request)]
    amounts = {
        "totalCashValue": account.cash_in_base,
        "settledCash": account.cash_in_base,
        "netLiquidationValue": account.net_liquidation,
        "equityWithLoanValue": account.net_liquidation,
        "availableFunds": account.available_funds,
        "excessLiquidity": account.excess_liquidity,
        "buyingPower": account.buying_power,
        "initialMargin": account.initial_margin,
        "maintenanceMargin": account.maintenance_margin,
        "securitiesGVP": account.gross_position_value,
    }
    cash = [
        {"currency": k, "balance": bodies.cents(v), "settledCash": bodies.cents(v)}
        for k, v in account.cash.items()
    ]
    return answer({"accountType": "", "status": "", **_cents(amounts), "cashBalances": cash})


PORTFOLIO = f"{API}/portfolio"
ROUTES = [
    web.get(f"{PORTFOLIO}/accounts", accounts),
    web.get(f"{PORTFOLIO}/subaccounts", subaccounts),
    web.get(f"{PORTFOLIO}/positions/{{conid:\\d+}}", position_everywhere),
    web.get(f"{PORTFOLIO}/{{account}}/meta", meta),
    web.get(f"{PORTFOLIO}/{{account}}/summary", summary),
    web.get(f"{PORTFOLIO}/{{account}}/ledger", ledger),
    web.get(f"{PORTFOLIO}/{{account}}/allocation", allocation),
    web.get(f"{PORTFOLIO}/{{account}}/positions", positions),
    web.get(f"{PORTFOLIO}/{{account}}/positions/{{page:\\d+}}", positions),
    web.get(f"{PORTFOLIO}/{{account}}/position/{{conid:\\d+}}", position),
    web.post(f"{PORTFOLIO}/{{account}}/positions/invalidate", invalidate),
    web.get(f"{API}/portfolio2/{{account}}/positions", positions2),
    web.get(f"{API}/iserver/account/{{account}}/summary", brokerage_summary),
]
