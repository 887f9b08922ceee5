"""Contracts and calendars, from the wire to our records, in tables (ibkr-web-api.md §3). Pure."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from brokers.ibkr.messages import ASSET_CLASSES, instrument_record
from brokers.ibkr.values import Row, day, entry, first, number, rows, text, whole
from brokers.market_records import (
    Contract,
    Found,
    OptionContract,
    Pair,
    PriceStep,
    Right,
    Rules,
    Section,
    Strikes,
)
from brokers.schedules import Hours, Schedule, TradingDay
from cerbero.errors import BrokerUnavailable

EPOCH_SECONDS_MAX = 10**11
RIGHTS = {"C": Right.CALL, "P": Right.PUT}
RIGHT_WORDS = {right: word for word, right in RIGHTS.items()}


def found(row: Row) -> Found | None:
    """A row of `/iserver/secdef/search`; None for one that names no contract."""
    conid = text(row.get("conid"))
    if conid is None or conid == "-1":
        return None
    return Found(
        broker_instrument_id=conid,
        symbol=text(row.get("symbol")) or "",
        name=text(first(row, "companyName", "companyHeader")) or "",
        exchange=text(row.get("description")) or "",
        sections=tuple(_section(each) for each in rows(row.get("sections"))),
    )


def _section(said: Row) -> Section:
    return Section(
        asset_class=_asset_class(said.get("secType")),
        months=_split(said.get("months"), ";"),
        exchanges=_split(said.get("exchange"), ";"),
    )


def contract(conid: str, info: Row) -> Contract:
    """`/iserver/contract/{conid}/info-and-rules`."""
    said = entry(info, "rules")
    brief = instrument_record(conid, info, exchange=None, is_us=False)
    return Contract(
        broker_instrument_id=conid,
        symbol=text(info.get("symbol")) or brief.symbol,
        local_symbol=text(info.get("local_symbol")) or brief.symbol,
        name=brief.name,
        asset_class=brief.asset_class,
        currency=brief.currency,
        exchange=brief.exchange,
        valid_exchanges=_split(info.get("valid_exchanges"), ","),
        multiplier=brief.multiplier,
        price_increment=brief.price_increment,
        price_magnifier=brief.price_magnifier,
        expires_on=brief.expires_on,
        underlying_id=_some_id(info.get("underlying_con_id")),
        trading_class=text(info.get("trading_class")) or "",
        industry=text(info.get("industry")) or "",
        category=text(info.get("category")) or "",
        rules=rules(said),
    )


def rules(said: Row) -> Rules:
    """The rules object; its words are another vocabulary than that of orders."""
    return Rules(
        order_types=_words(said.get("orderTypes")),
        order_types_outside_hours=_words(said.get("orderTypesOutside")),
        times_in_force=_words(said.get("tifTypes")),
        price_steps=tuple(_steps(said.get("incrementRules"))),
        size_increment=number(said.get("sizeIncrement")),
        default_size=number(said.get("defaultSize")),
        cash_size_increment=number(said.get("cashQtyIncr")),
        takes_fractions=bool(said.get("fraqTypes")),
        takes_cash_quantity=bool(said.get("cqtTypes")),
        may_be_negative=said.get("negativeCapable") is True,
        trades_overnight=said.get("overnightEligible") is True,
        tradable_in=_ids(said.get("canTradeAcctIds")),
        problem=text(said.get("error")) or "",
    )


def _steps(value: Any) -> list[PriceStep]:
    read = [(number(row.get("lowerEdge")), number(row.get("increment"))) for row in rows(value)]
    return [PriceStep(edge, step) for edge, step in read if edge is not None and step]


def strikes(data: Row) -> Strikes:
    """`/iserver/secdef/strikes`: both empty without a search before it."""
    return Strikes(*(tuple(sorted(_numbers(data.get(side)))) for side in ("call", "put")))


def option_contract(row: Row) -> OptionContract | None:
    """A row of `/iserver/secdef/info`; None for one that is no option, or lacks what one must have."""
    conid, right = text(row.get("conid")), RIGHTS.get(str(row.get("right") or "")[:1].upper())
    strike, expires_on = number(row.get("strike")), day(row.get("maturityDate"))
    if conid is None or right is None or strike is None or expires_on is None:
        return None
    return OptionContract(
        broker_instrument_id=conid,
        symbol=text(row.get("symbol")) or "",
        right=right,
        strike=strike,
        expires_on=expires_on,
        multiplier=number(row.get("multiplier")),
        currency=text(row.get("currency")) or "",
        trading_class=text(row.get("tradingClass")) or "",
    )


def pair(row: Row) -> Pair | None:
    """A row of `/iserver/currency/pairs`: `EUR.USD` is euros, priced in dollars."""
    conid, symbol = text(row.get("conid")), text(row.get("symbol")) or ""
    base, dot, quoted_in = symbol.partition(".")
    return Pair(conid, symbol, base, quoted_in) if conid and dot else None


def _asset_class(word: Any) -> str:
    return ASSET_CLASSES.get(str(word), str(word or "").lower())


def _split(value: Any, by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(value or "").split(by) if part.strip())


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _words(value: Any) -> tuple[str, ...]:
    return tuple(word.lower() for word in _ids(value))


def _numbers(value: Any) -> list[Any]:
    read = [number(each) for each in value] if isinstance(value, list) else []
    return [each for each in read if each is not None]


def _some_id(value: Any) -> str | None:
    conid = text(whole(value))
    return conid if conid not in (None, "0", "-1") else None


def schedule(data: Row) -> Schedule:
    """`/contract/trading-schedule` (§3). Raises BrokerUnavailable: an unreadable calendar must not look open or shut."""
    zone = text(data.get("exchange_time_zone")) or ""
    try:
        ZoneInfo(zone)
        found = [_trading_day(key, said) for key, said in sorted(entry(data, "schedules").items())]
    except (ValueError, KeyError, OSError) as error:
        raise BrokerUnavailable("The broker's calendar cannot be read.", zone=zone) from error
    return Schedule(zone, tuple(found))


def _trading_day(key: str, said: Row) -> TradingDay:
    return TradingDay(
        date=datetime.strptime(key, "%Y%m%d").replace(tzinfo=UTC).date(),
        regular=_hours(said, "liquid_hours"),
        extended=_hours(said, "extended_hours"),
    )


def _hours(said: Row, name: str) -> tuple[Hours, ...]:
    return tuple(
        Hours(_epoch(each.get("opening")), _epoch(each.get("closing"))) for each in rows(said.get(name))
    )


def _epoch(value: object) -> datetime:
    seconds = whole(value)
    if seconds is None or not 0 < seconds < EPOCH_SECONDS_MAX:
        raise ValueError("no epoch second")
    return datetime.fromtimestamp(seconds, UTC)
