"""Which scans a bot may run: a closed list, since the scanner's own has hundreds and some need subscriptions."""

from enum import StrEnum


class ScanType(StrEnum):
    TOP_GAINERS = "TOP_PERC_GAIN"
    TOP_LOSERS = "TOP_PERC_LOSE"
    MOST_ACTIVE = "MOST_ACTIVE"
    MOST_ACTIVE_IN_MONEY = "MOST_ACTIVE_USD"
    HOT_BY_VOLUME = "HOT_BY_VOLUME"
    HOT_BY_PRICE = "HOT_BY_PRICE"
    TOP_TRADE_COUNT = "TOP_TRADE_COUNT"
    TOP_TRADE_RATE = "TOP_TRADE_RATE"
    TOP_OPEN_GAINERS = "TOP_OPEN_PERC_GAIN"
    TOP_OPEN_LOSERS = "TOP_OPEN_PERC_LOSE"
    HIGH_OPTION_VOLATILITY = "HIGH_OPT_IMP_VOLAT"


class ScanInstrument(StrEnum):
    STOCKS = "STK"
    ETFS = "ETF.EQ.US"


class ScanLocation(StrEnum):
    US_MAJOR = "STK.US.MAJOR"
    US = "STK.US"
    NASDAQ = "STK.NASDAQ"
    NYSE = "STK.NYSE"
    ETFS_MAJOR = "ETF.EQ.US.MAJOR"


class ScanFilter(StrEnum):
    PRICE_ABOVE = "priceAbove"
    PRICE_BELOW = "priceBelow"
    VOLUME_ABOVE = "volumeAbove"
    MARKET_CAP_ABOVE = "marketCapAbove1e6"
    MARKET_CAP_BELOW = "marketCapBelow1e6"
    CHANGE_ABOVE = "changePercAbove"
    CHANGE_BELOW = "changePercBelow"
