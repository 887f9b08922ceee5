"""Contracts in the recorded shapes of ibkr-web-api.md §3."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from .calendar import NEW_YORK, VENUES, Venue, trading_days
from .universe import Instrument, Universe

ROUTES = "SMART,AMEX,NYSE,CBOE,NASDAQ,ARCA,BATS,IEX"
TYPES = (
    "limit",
    "market",
    "midprice",
    "stop",
    "stop_limit",
    "mit",
    "lit",
    "trailing_stop",
    "trailing_stop_limit",
    "relative",
    "marketonclose",
    "limitonclose",
)
DIVIDED = ("limit", "market", "stop", "stop_limit")
DAYS_BEFORE, DAYS_AFTER = 2, 5


def search_row(instrument: Instrument, universe: Universe) -> dict[str, Any]:
    """A row of /iserver/secdef/search; the conid is a string."""
    months = ";".join(universe.option_months(instrument.conid))
    # A listing outside the United States names its exchange here (§3).
    place = {} if instrument.is_us else {"exchange": f"{instrument.exchange};"}
    sections: list[dict[str, Any]] = [{"secType": instrument.sec_type} | place]
    if months:
        sections.append({"secType": "OPT", "months": months, "exchange": "SMART;AMEX;CBOE"})
    if instrument.sec_type == "FUT":
        family = universe.named(instrument.symbol, "FUT")
        dates = ";".join(i.month for i in family)
        sections = [{"secType": "IND"}, {"secType": "FUT", "months": dates, "exchange": instrument.exchange}]
    conid = instrument.underlying if instrument.sec_type == "FUT" else instrument.conid
    return {
        "conid": str(conid),
        "companyHeader": f"{instrument.name} - {instrument.exchange}",
        "companyName": instrument.name,
        "symbol": instrument.symbol,
        "description": instrument.exchange,
        "restricted": None,
        "sections": [*sections, {"secType": "BAG"}],
    }


def stock_row(instrument: Instrument) -> dict[str, Any]:
    """A company of /trsrv/stocks."""
    contract = {"conid": instrument.conid, "exchange": instrument.exchange, "isUS": instrument.is_us}
    return {"name": instrument.name, "chineseName": None, "assetClass": "STK", "contracts": [contract]}


def future_row(instrument: Instrument) -> dict[str, Any]:
    """A contract of /trsrv/futures; dates are integers YYYYMMDD."""
    date = _yyyymmdd(instrument)
    return {
        "symbol": instrument.symbol,
        "conid": instrument.conid,
        "underlyingConid": instrument.underlying,
        "expirationDate": date,
        "ltd": date,
        "shortFuturesCutOff": date,
        "longFuturesCutOff": date,
    }


def _yyyymmdd(instrument: Instrument) -> int:
    return int(f"{instrument.expiry:%Y%m%d}") if instrument.expiry else 0


def increments(instrument: Instrument) -> list[dict[str, Any]]:
    bands = instrument.bands or ((Decimal(0), instrument.tick),)
    return [{"lowerEdge": float(edge), "increment": float(step)} for edge, step in bands]


def display_rule(instrument: Instrument) -> dict[str, Any]:
    digits = max(-int(instrument.tick.as_tuple().exponent), 0)
    return {
        "magnification": 0,
        "displayRuleStep": [{"decimalDigits": digits, "lowerEdge": 0.0, "wholeDigits": 4}],
    }


def definition(instrument: Instrument) -> dict[str, Any]:
    """A row of /trsrv/secdef; also the enrichment of a position."""
    date = f"{instrument.expiry:%Y%m%d}" if instrument.expiry else None
    return {
        "conid": instrument.conid,
        "currency": instrument.currency,
        "time": 0,
        "chineseName": None,
        "allExchanges": ROUTES if instrument.sec_type == "STK" and instrument.is_us else instrument.exchange,
        "listingExchange": instrument.exchange,
        "countryCode": "US" if instrument.is_us else "GB",
        "name": instrument.name,
        "assetClass": instrument.sec_type,
        "expiry": date,
        "lastTradingDay": date,
        "group": instrument.sector,
        "putOrCall": instrument.right or None,
        "sector": instrument.sector,
        "sectorGroup": instrument.sector,
        "strike": f"{instrument.strike}",
        "ticker": instrument.symbol,
        "undConid": instrument.underlying,
        "multiplier": float(instrument.multiplier) if instrument.multiplier != 1 else 0.0,
        "type": "ETF" if instrument.sec_type == "STK" and instrument.sector is None else "COMMON",
        "hasOptions": instrument.chain is not None,
        "fullName": instrument.local_name,
        "isUS": instrument.is_us,
        "incrementRules": increments(instrument),
        "displayRule": display_rule(instrument),
        "isEventContract": False,
        "pageSize": 100,
    }


def info(instrument: Instrument) -> dict[str, Any]:
    """/iserver/contract/{conid}/info: snake_case, as recorded."""
    date = f"{instrument.expiry:%Y%m%d}" if instrument.expiry else None
    body: dict[str, Any] = {
        "cfi_code": "",
        "symbol": instrument.symbol,
        "cusip": None,
        "expiry_full": date and f"{instrument.delivery or instrument.expiry:%Y%m}",
        "con_id": instrument.conid,
        "maturity_date": date,
        "industry": instrument.sector,
        "instrument_type": instrument.sec_type,
        "has_related_contracts": False,
        "trading_class": "NMS" if instrument.exchange == "NASDAQ" else instrument.symbol,
        "valid_exchanges": ROUTES
        if instrument.sec_type == "STK" and instrument.is_us
        else f"SMART,{instrument.exchange}",
        "allow_sell_long": False,
        "is_zero_commission_security": False,
        "local_symbol": instrument.local_symbol,
        "contract_clarification_type": None,
        "classifier": None,
        "currency": instrument.currency,
        "text": None,
        "underlying_con_id": instrument.underlying,
        "r_t_h": True,
        "multiplier": str(instrument.multiplier) if instrument.multiplier != 1 else None,
        "underlying_issuer": None,
        "contract_month": date and f"{instrument.delivery or instrument.expiry:%Y%m}",
        "company_name": instrument.name,
        "smart_available": instrument.sec_type in ("STK", "OPT"),
        "exchange": "SMART" if instrument.sec_type in ("STK", "OPT") else instrument.exchange,
        "category": instrument.sector,
    }
    absent = ("industry", "category") if instrument.sector is None else ()
    return {key: value for key, value in body.items() if key not in absent}


def rules(instrument: Instrument, last: Decimal, accounts: list[str]) -> dict[str, Any]:
    """The rules object: increments, order types, times in force."""
    digits = max(-int(instrument.tick.as_tuple().exponent), 0)
    price = f"{last.quantize(instrument.tick)}"
    types = list(TYPES) if instrument.tradable else []
    return {
        "algoEligible": False,
        "overnightEligible": instrument.sec_type == "STK",
        "costReport": False,
        "canTradeAcctIds": accounts if instrument.tradable else [],
        "error": None,
        "orderTypes": types,
        "ibAlgoTypes": [],
        "fraqTypes": list(DIVIDED) if instrument.size_step < 1 else [],
        "forceOrderPreview": False,
        "cqtTypes": [],
        "orderDefaults": {"LMT": {"LP": price}},
        "orderTypesOutside": ["limit", "stop_limit", "lit"],
        "defaultSize": 100 if instrument.sec_type == "STK" else 1,
        "cashSize": 0.0,
        "sizeIncrement": 1,
        "tifTypes": ["IOC/MARKET,LIMIT", "GTC/o,a", "OPG/LIMIT,MARKET,a", "DAY/o,a", "OVT/LIMIT"],
        "tifDefaults": {"TIF": "DAY", "SIZE": "100.00"},
        "limitPrice": float(last),
        "stopprice": float(last),
        "preview": True,
        "displaySize": None,
        "fraqInt": 0,
        "cashCcy": instrument.currency,
        "cashQtyIncr": 500,
        "priceMagnifier": instrument.magnifier if instrument.magnifier != 1 else None,
        "negativeCapable": False,
        "incrementType": 1,
        "incrementRules": increments(instrument),
        "hasSecondary": True,
        "increment": float(instrument.step_at(last)),
        "incrementDigits": digits,
        "modTypes": [],
    }


def option_row(instrument: Instrument) -> dict[str, Any]:
    """A row of /iserver/secdef/info."""
    date = f"{instrument.expiry:%Y%m%d}" if instrument.expiry else ""
    return {
        "conid": instrument.conid,
        "symbol": instrument.symbol,
        "secType": instrument.sec_type,
        "exchange": "SMART" if instrument.sec_type == "OPT" else instrument.exchange,
        "listingExchange": None,
        "right": instrument.right or None,
        "strike": float(instrument.strike),
        "currency": instrument.currency,
        "cusip": None,
        "coupon": "No Coupon",
        "desc1": instrument.symbol,
        "desc2": instrument.local_name,
        "maturityDate": date,
        "multiplier": str(instrument.multiplier),
        "tradingClass": instrument.symbol,
        "validExchanges": f"SMART,{instrument.exchange}",
    }


def schedule(instrument: Instrument) -> dict[str, Any]:
    """Some days around today, without those that have no trading. The simulated market itself never closes."""
    venue = VENUES.get(instrument.exchange, NEW_YORK)
    today = datetime.now(ZoneInfo(venue.zone)).date()
    days = trading_days(today, before=DAYS_BEFORE, after=DAYS_AFTER, is_open=venue.is_open)
    return {
        "exchange_time_zone": venue.zone,
        "schedules": {f"{day:%Y%m%d}": _hours(venue, day) for day in days},
    }


def _hours(venue: Venue, day: date) -> dict[str, Any]:
    hours = venue.hours(day)
    regular, extended = (
        {"opening": hours[name][0], "closing": hours[name][1]} for name in ("regular", "extended")
    )
    return {"liquid_hours": [regular], "extended_hours": [{"cancel_daily_orders": True} | extended]}
