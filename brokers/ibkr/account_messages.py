"""Accounts, profit, performance and transactions, from the wire to our records (ibkr-web-api.md §4.7, §5). Pure."""

from collections.abc import Mapping
from decimal import Decimal

from brokers.ibkr.values import Row, abbreviated, day, entry, first, number, rows, text, whole
from brokers.read_records import (
    AccountMetadata,
    HoldingProfit,
    Performance,
    PerformancePoint,
    Profit,
    RealizedProfit,
    Transaction,
    Transactions,
)
from cerbero.errors import BrokerUnavailable

# Segment of an account in the profit's keys: `DU1234567.Core`.
CORE = ".Core"
# §4.2: the position, its daily profit (exact ones first), and what it has gained in per cent.
POSITION, DAILY, UNREALIZED_PERCENT = "76", ("7920", "78_raw", "78"), "80"
HOLDING_FIELDS = (POSITION, "78", "7920", UNREALIZED_PERCENT)
DISPLAY_ERROR = Decimal("0.05")


def metadata(data: Row) -> AccountMetadata:
    """`/portfolio/{id}/meta`; a paper account's type is DEMO."""
    kind = text(data.get("type")) or ""
    return AccountMetadata(
        broker_account_id=text(first(data, "accountId", "id")) or "",
        title=text(first(data, "accountTitle", "displayName")) or "",
        alias=text(data.get("accountAlias")),
        currency=text(data.get("currency")) or "",
        kind=kind.lower(),
        customer=(text(data.get("acctCustType")) or "").lower(),
        trading_type=(text(data.get("tradingType")) or "").lower(),
        entity=text(data.get("ibEntity")) or "",
        is_paper=kind == "DEMO" if kind else None,
        is_advisor=data.get("faclient") is True,
        may_trade=data.get("noClientTrading") is not True,
    )


def profits(data: Row) -> list[Profit]:
    """`/iserver/account/pnl/partitioned`; empty where the broker has not loaded it."""
    found = entry(data, "upnl")
    return [
        Profit(
            broker_account_id=key.removesuffix(CORE),
            daily=number(said.get("dpl")),
            unrealized=number(said.get("upl")),
            net_liquidation=number(said.get("nl")),
            excess_liquidity=number(said.get("el")),
            market_value=number(said.get("mv")),
        )
        for key in found
        if key.endswith(CORE) and (said := entry(found, key))
    ]


def holding_profit(row: Row, sizes: Mapping[str, Decimal]) -> HoldingProfit | None:
    """A snapshot row with HOLDING_FIELDS; None without a conid. Silent where it speaks of another position than ours."""
    conid = text(whole(row.get("conid")))
    if conid is None:
        return None
    position = abbreviated(row.get(POSITION))
    is_ours = position is not None and conid in sizes and _rounds_to(sizes[conid], position)
    return HoldingProfit(
        broker_instrument_id=conid,
        daily=abbreviated(first(row, *DAILY)) if is_ours else None,
        unrealized_percent=number(row.get(UNREALIZED_PERCENT)) if is_ours else None,
    )


def _rounds_to(exact: Decimal, shown: Decimal) -> bool:
    """A position is told in display form: `1.2K`."""
    return abs(exact - shown) <= abs(exact) * DISPLAY_ERROR


def performance(data: Row, broker_account_id: str) -> Performance:
    """`/pa/performance`. Raises BrokerUnavailable where values and days do not fit together."""
    nav, returns = entry(data, "nav"), entry(data, "cps")
    values = _series(nav, broker_account_id, "navs")
    gains = dict(_series(returns, broker_account_id, "returns"))
    own = _own(nav, broker_account_id)
    return Performance(
        currency=text(own.get("baseCurrency")) or "",
        method=(text(data.get("pm")) or "").lower(),
        start_value=number(entry(own, "startNAV").get("val")),
        points=tuple(
            PerformancePoint(each, number(value), number(gains.get(each))) for each, value in values
        ),
    )


def _own(block: Row, broker_account_id: str) -> Row:
    found = [row for row in rows(block.get("data")) if row.get("id") == broker_account_id]
    return found[0] if found else {}


def _series(block: Row, broker_account_id: str, name: str) -> list[tuple]:
    """The days of a block, each with its value."""
    days, values = block.get("dates"), _own(block, broker_account_id).get(name)
    if not isinstance(days, list) or not isinstance(values, list) or len(days) != len(values):
        raise BrokerUnavailable("The broker's performance cannot be read.", block=name)
    dated = [(day(each), value) for each, value in zip(days, values, strict=True)]
    return [(each, value) for each, value in dated if each is not None]


def transactions(data: Row) -> Transactions:
    """`/pa/transactions`; a row without a day is left out."""
    realized = entry(data, "rpnl")
    return Transactions(
        currency=text(data.get("currency")) or "",
        realized_total=number(realized.get("amt")),
        rows=tuple(_transaction(row) for row in rows(data.get("transactions"))),
        realized=tuple(_realized(row) for row in rows(realized.get("data"))),
    )


def _transaction(row: Row) -> Transaction:
    return Transaction(
        date=day(row.get("rawDate")),
        kind=(text(row.get("type")) or "").lower(),
        quantity=number(row.get("qty")),
        price=number(row.get("pr")),
        amount=number(row.get("amt")),
        currency=text(row.get("cur")) or "",
        exchange_rate=number(row.get("fxRate")),
        text=text(row.get("desc")) or "",
        broker_instrument_id=text(whole(row.get("conid"))),
    )


def _realized(row: Row) -> RealizedProfit:
    """`side` L is a loss; whether its amount carries the sign already is not documented."""
    amount = number(row.get("amt"))
    is_loss = row.get("side") == "L"
    return RealizedProfit(
        date=day(row.get("date")),
        amount=-abs(amount) if amount is not None and is_loss else amount,
        currency=text(row.get("cur")) or "",
    )
