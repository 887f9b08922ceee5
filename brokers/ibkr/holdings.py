"""What an account has, from the wire: holdings, cash and margin (ibkr-web-api.md §5). Pure."""

from decimal import Decimal

from brokers import base
from brokers.ibkr import messages
from brokers.ibkr.values import Row, entry, first, number, rows, text, whole
from cerbero.errors import BrokerUnavailable

LEDGER_WORDS = {
    "dividends": "dividends",
    "interest": "interest",
    "settled": "settledcash",
    "net_liquidation": "netliquidationvalue",
    "stock_value": "stockmarketvalue",
    "option_value": "stockoptionmarketvalue",
    "future_value": "futuremarketvalue",
    "unrealized": "unrealizedpnl",
    "realized": "realizedpnl",
    "exchange_rate": "exchangerate",
}


def position_record(row: Row, broker_account_id: str) -> base.PositionRecord | None:
    """One holding, sparse or enriched (§5); None without a conid or a readable size."""
    conid, quantity = text(row.get("conid")), number(row.get("position"))
    if conid is None or quantity is None:
        return None
    sec_type = str(first(row, "assetClass", "secType") or "")
    return base.PositionRecord(
        broker_account_id=text(row.get("acctId")) or broker_account_id,
        broker_instrument_id=conid,
        symbol=text(first(row, "ticker", "contractDesc", "description")) or conid,
        quantity=quantity,
        average_price=number(first(row, "avgPrice")),
        market_price=number(first(row, "mktPrice", "marketPrice")),
        currency=text(row.get("currency")) or "",
        asset_class=messages.ASSET_CLASSES.get(sec_type, sec_type.lower()),
        market_value=number(first(row, "mktValue", "marketValue")),
        unrealized=number(first(row, "unrealizedPnl")),
        realized=number(first(row, "realizedPnl")),
    )


def position_records(data: list[Row], broker_account_id: str) -> list[base.PositionRecord]:
    """Raises BrokerUnavailable: an unreadable holding must not look like none at all."""
    found = [position_record(row, broker_account_id) for row in rows(data)]
    readable = [position for position in found if position is not None]
    if len(readable) != len(data):
        raise BrokerUnavailable("A position cannot be read.", unreadable=len(data) - len(readable))
    return readable


def account_summary(data: Row, broker_account_id: str) -> base.AccountSummary:
    """`/portfolio/{id}/summary` (§5); a key that is missing or null is None."""
    return base.AccountSummary(
        broker_account_id=broker_account_id,
        currency=text(entry(data, "netliquidation").get("currency")) or "",
        net_liquidation=_amount(data, "netliquidation"),
        available_funds=_amount(data, "availablefunds"),
        buying_power=_amount(data, "buyingpower"),
        initial_margin=_amount(data, "initmarginreq"),
        maintenance_margin=_amount(data, "maintmarginreq"),
        cushion=number(entry(data, "cushion").get("value")),
        look_ahead_excess=_amount(data, "lookaheadexcessliquidity"),
        day_trades_left=whole(entry(data, "daytradesremaining").get("value")),
    )


def cash_records(data: Row) -> list[base.CashRecord]:
    """`/portfolio/{id}/ledger` (§5), without the sum that it calls BASE. Raises BrokerUnavailable."""
    found = []
    for currency in data:
        said = entry(data, currency)
        balance = number(said.get("cashbalance"))
        if currency == "BASE":
            continue
        if balance is None:
            raise BrokerUnavailable("A cash balance cannot be read.", currency=currency)
        known = {name: number(said.get(word)) for name, word in LEDGER_WORDS.items()}
        found.append(base.CashRecord(currency=currency, balance=balance, **known))
    return found


def _amount(data: Row, key: str) -> Decimal | None:
    said = entry(data, key)
    return None if said.get("isNull") else number(said.get("amount"))
