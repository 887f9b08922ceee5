"""An account's numbers in the shapes of ibkr-web-api.md §4.7, §5 and §7.3 (spl, ssd, sld)."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .accounting import BASE, CENT, ZERO, Account
from .answers import now_ms

SEGMENTED = (
    "accruedcash", "accrueddividend", "availablefunds", "billable", "equitywithloanvalue", "excessliquidity",
    "fullavailablefunds", "fullexcessliquidity", "fullinitmarginreq", "fullmaintmarginreq", "guarantee",
    "incentivecoupons", "indianstockhaircut", "initmarginreq", "lookaheadavailablefunds",
    "lookaheadexcessliquidity", "lookaheadinitmarginreq", "lookaheadmaintmarginreq", "maintmarginreq",
    "netliquidation", "pasharesvalue", "physicalcertificatevalue", "postexpirationexcess",
    "postexpirationmargin", "settledcashbydate", "totalcashvalue", "totaldebitcardpendingcharges",
)  # fmt: skip
WITH_SECURITIES = ("grosspositionvalue", "previousdayequitywithloanvalue", "regtequity", "regtmargin", "sma")
SEGMENTS = ("-c", "-p", "-s")
CAMEL = {
    "netliquidation": "NetLiquidation",
    "totalcashvalue": "TotalCashValue",
    "availablefunds": "AvailableFunds",
    "excessliquidity": "ExcessLiquidity",
    "initmarginreq": "InitMarginReq",
    "maintmarginreq": "MaintMarginReq",
    "grosspositionvalue": "GrossPositionValue",
    "equitywithloanvalue": "EquityWithLoanValue",
    "buyingpower": "BuyingPower",
    "accruedcash": "AccruedCash",
    "cushion": "Cushion",
}


def cents(amount: Decimal) -> float:
    """A money amount as the wire has it."""
    return float(amount.quantize(CENT))


def amounts(account: Account) -> dict[str, Decimal]:
    """The money keys that are not zero."""
    net, initial = account.net_liquidation, account.initial_margin
    maintenance = account.maintenance_margin
    available, excess = net - initial, net - maintenance
    funds = dict.fromkeys(("availablefunds", "fullavailablefunds", "lookaheadavailablefunds"), available)
    liquid = dict.fromkeys(("excessliquidity", "fullexcessliquidity", "lookaheadexcessliquidity"), excess)
    first = dict.fromkeys(("initmarginreq", "fullinitmarginreq", "lookaheadinitmarginreq"), initial)
    kept = dict.fromkeys(("maintmarginreq", "fullmaintmarginreq", "lookaheadmaintmarginreq"), maintenance)
    return funds | liquid | first | kept | {
        "netliquidation": net,
        "equitywithloanvalue": net,
        "totalcashvalue": account.cash_in_base,
        "grosspositionvalue": account.gross_position_value,
        "buyingpower": account.buying_power,
        "previousdayequitywithloanvalue": net - account.daily_profit,
        "regtequity": net,
        "regtmargin": initial,
        "sma": available,
    }  # fmt: skip


def texts(account: Account) -> dict[str, str]:
    """The keys whose content is text."""
    net = account.net_liquidation
    cushion = f"{account.excess_liquidity / net:.6f}" if net > 0 else "0"
    leverage = f"{account.gross_position_value / net:.2f}" if net > 0 else "0"
    days = {f"daytradesremaining{suffix}": "-1" for suffix in ("", "t+1", "t+2", "t+3", "t+4")}
    segments = {f"columnprio{s}": str(n) for n, s in enumerate(SEGMENTS, 1)}
    titles = {
        "segmenttitle-c": "US Commodities",
        "segmenttitle-p": "Crypto at Paxos",
        "segmenttitle-s": "US Securities",
    }
    return days | segments | titles | {
        "accountcode": account.account_id,
        "accountready": "true",
        "accounttype": "INDIVIDUAL",
        "cushion": cushion,
        "depositoncredithold": "0",
        "highestseverity": "0",
        "lookaheadnextchange": "0",
        "nlvandmargininreview": "false",
        "whatifpmenabled": "true",
        "daytradingstatus-s": "Reg T",
        "leverage-s": leverage,
        "tradingtype-s": "STKNOPT",
    }  # fmt: skip


def summary(account: Account) -> dict[str, dict[str, Any]]:
    """GET /portfolio/{id}/summary: the recorded 143 keys."""
    money = amounts(account)
    body: dict[str, dict[str, Any]] = {}
    for key in ("buyingpower", "netliquidationuncertainty"):
        body[key] = _entry(money.get(key, ZERO))
    for key in SEGMENTED:
        body[key] = _entry(money.get(key, ZERO))
        for segment in SEGMENTS:
            body[key + segment] = _entry(money.get(key, ZERO) if segment == "-s" else ZERO)
    for key in WITH_SECURITIES:
        body[key] = body[f"{key}-s"] = _entry(money[key])
    for key, text in texts(account).items():
        body[key] = _entry(ZERO, text=text)
    for key in ("settledcashbydate", *(f"settledcashbydate{s}" for s in SEGMENTS)):
        body[key] = _entry(ZERO, text="")
    return dict(sorted(body.items()))


def _entry(amount: Decimal, *, text: str | None = None) -> dict[str, Any]:
    return {
        "amount": cents(amount),
        "currency": BASE if text is None else None,
        "isNull": False,
        "timestamp": now_ms(),
        "value": text,
        "severity": 0,
    }


def ledger(account: Account) -> dict[str, dict[str, Any]]:
    """GET /portfolio/{id}/ledger: one entry per currency and BASE."""
    entries = {currency: _ledger_entry(account, currency) for currency in account.cash}
    base = _ledger_entry(account, "BASE")
    base["endofbundle"] = 1
    return {**entries, "BASE": base}


def _ledger_entry(account: Account, currency: str) -> dict[str, Any]:
    """One currency in its own units, or with `BASE` all of them in base."""
    named = None if currency == "BASE" else currency
    cash = account.cash_in_base if named is None else account.cash[named]
    stocks, options = (account.total_value(t, named) for t in ("STK", "OPT"))
    futures = account.total_unrealized(("FUT",), named)
    zero = dict.fromkeys(
        (
            "commoditymarketvalue", "corporatebondsmarketvalue", "warrantsmarketvalue", "interest", "moneyfunds",
            "funds", "issueroptionsmarketvalue", "tbondsmarketvalue", "futureoptionmarketvalue",
            "cashbalancefxsegment", "tbillsmarketvalue", "dividends", "cryptocurrencyvalue",
        ),
        0.0,
    )  # fmt: skip
    return zero | {
        "futuremarketvalue": cents(futures),
        "settledcash": cents(cash),
        "exchangerate": 1 if currency in (BASE, "BASE") else float(account.rate_of(currency)),
        "sessionid": 1,
        "cashbalance": cents(cash),
        "netliquidationvalue": cents(cash + stocks + options + futures),
        "unrealizedpnl": cents(account.total_unrealized(currency=named)),
        "stockmarketvalue": cents(stocks),
        "currency": currency,
        "realizedpnl": cents(account.total_realized(named)),
        "acctcode": account.account_id,
        "key": "LedgerList",
        "timestamp": now_ms() // 1000,
        "severity": 0,
        "stockoptionmarketvalue": cents(options),
        "futuresonlypnl": cents(futures),
        "secondkey": currency,
    }


def profit_rows(accounts: Iterable[Account]) -> dict[str, dict[str, Any]]:
    """The rows of /iserver/account/pnl/partitioned and of `spl`."""
    return {
        f"{account.account_id}.Core": {
            "rowType": 1,
            "dpl": cents(account.daily_profit),
            "nl": cents(account.net_liquidation),
            "upl": cents(account.total_unrealized()),
            "uel": cents(account.net_liquidation),
            "el": cents(account.excess_liquidity),
            "mv": cents(account.total_value("STK") + account.total_value("OPT")),
        }
        for account in accounts
    }


def summary_rows(account: Account, keys: list[str]) -> list[dict[str, Any]]:
    """`ssd`: CamelCase keys with their segment."""
    money, now = amounts(account), now_ms() // 1000
    rows: list[dict[str, Any]] = []
    for key, camel in CAMEL.items():
        if key == "cushion":
            rows.append({"key": camel, "value": texts(account)["cushion"], "severity": 0, "timestamp": now})
            continue
        for name in (camel,) if key == "buyingpower" else (camel, f"{camel}-S"):
            value = cents(money.get(key, ZERO))
            row = {"key": name, "currency": BASE, "monetaryValue": value, "severity": 0, "timestamp": now}
            rows.append(row)
    return [row for row in rows if not keys or row["key"] in keys]


def ledger_rows(account: Account, keys: list[str]) -> list[dict[str, Any]]:
    """`sld`: one row per currency and BASE."""
    names = {
        "acctcode": "acctCode", "cashbalance": "cashbalance", "exchangerate": "exchangeRate",
        "netliquidationvalue": "netLiquidationValue", "realizedpnl": "realizedPnl", "secondkey": "secondKey",
        "settledcash": "settledCash", "severity": "severity", "stockmarketvalue": "stockMarketValue",
        "timestamp": "timestamp", "unrealizedpnl": "unrealizedPnl", "stockoptionmarketvalue": "optionMarketValue",
        "dividends": "dividends", "interest": "interest",
    }  # fmt: skip
    rows = []
    for currency, entry in ledger(account).items():
        row = {wire: entry[key] for key, wire in names.items()} | {"key": f"LedgerList{currency}"}
        rows.append(row)
    return [row for row in rows if not keys or row["key"] in keys]
