"""IBKR's words for what an order is, both ways, and where each type's prices stand (ibkr-web-api.md §6.1)."""

from brokers.base import OrderType, Side, TimeInForce

SIDES = {"BUY": Side.BUY, "B": Side.BUY, "BOT": Side.BUY, "SELL": Side.SELL, "S": Side.SELL, "SLD": Side.SELL}
SIDE_WORDS = {Side.BUY: "BUY", Side.SELL: "SELL"}
TYPE_WORDS = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STOP_LIMIT",
    OrderType.MARKET_IF_TOUCHED: "MIT",
    OrderType.LIMIT_IF_TOUCHED: "LIT",
    OrderType.TRAILING_STOP: "TRAIL",
    OrderType.TRAILING_STOP_LIMIT: "TRAILLMT",
    OrderType.MIDPRICE: "MIDPRICE",
    OrderType.RELATIVE: "REL",
    OrderType.MARKET_ON_CLOSE: "MOC",
    OrderType.LIMIT_ON_CLOSE: "LOC",
}
# What `price` and `auxPrice` mean (§6.1); of MIT and LIT no capture shows it.
PRICES: dict[str | None, dict[str, str]] = {
    OrderType.MARKET: {},
    OrderType.LIMIT: {"price": "limit_price"},
    OrderType.STOP: {"price": "stop_price"},
    OrderType.STOP_LIMIT: {"price": "limit_price", "auxPrice": "stop_price"},
    OrderType.MARKET_IF_TOUCHED: {"price": "stop_price"},
    OrderType.LIMIT_IF_TOUCHED: {"price": "limit_price", "auxPrice": "stop_price"},
    OrderType.TRAILING_STOP: {"price": "stop_price"},
    OrderType.TRAILING_STOP_LIMIT: {"price": "limit_price", "auxPrice": "stop_price"},
    OrderType.MIDPRICE: {"price": "limit_price"},
    OrderType.RELATIVE: {"price": "limit_price", "auxPrice": "offset"},
    OrderType.MARKET_ON_CLOSE: {},
    OrderType.LIMIT_ON_CLOSE: {"price": "limit_price"},
}
OPTIONAL_PRICES = {
    (OrderType.TRAILING_STOP, "stop_price"),
    (OrderType.MIDPRICE, "limit_price"),
    (OrderType.RELATIVE, "limit_price"),
}
TRAILING_WORDS = {"trailing_amount": "amt", "trailing_percent": "%"}
TIF_WORDS = {
    TimeInForce.DAY: "DAY",
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.OPG: "OPG",
    TimeInForce.OVERNIGHT: "OVT",
}
# The live list calls DAY "CLOSE" (§6.8).
TIMES_IN_FORCE = {word: tif for tif, word in TIF_WORDS.items()} | {"CLOSE": TimeInForce.DAY}

# Letters only, upper case: the wire writes the same type in four ways (§6.1, §6.8).
ORDER_TYPES = {
    "LMT": OrderType.LIMIT,
    "LIMIT": OrderType.LIMIT,
    "MKT": OrderType.MARKET,
    "MARKET": OrderType.MARKET,
    "STP": OrderType.STOP,
    "STOP": OrderType.STOP,
    "STOPLIMIT": OrderType.STOP_LIMIT,
    "STPLMT": OrderType.STOP_LIMIT,
    "STPLIMIT": OrderType.STOP_LIMIT,
    "MIT": OrderType.MARKET_IF_TOUCHED,
    "MARKETIFTOUCHED": OrderType.MARKET_IF_TOUCHED,
    "LIT": OrderType.LIMIT_IF_TOUCHED,
    "LIMITIFTOUCHED": OrderType.LIMIT_IF_TOUCHED,
    "TRAIL": OrderType.TRAILING_STOP,
    "TRAILINGSTOP": OrderType.TRAILING_STOP,
    "TRAILLMT": OrderType.TRAILING_STOP_LIMIT,
    "TRAILLIMIT": OrderType.TRAILING_STOP_LIMIT,
    "TRAILINGSTOPLIMIT": OrderType.TRAILING_STOP_LIMIT,
    "MIDPRICE": OrderType.MIDPRICE,
    "MIDPX": OrderType.MIDPRICE,
    "REL": OrderType.RELATIVE,
    "RELATIVE": OrderType.RELATIVE,
    "MOC": OrderType.MARKET_ON_CLOSE,
    "MARKETONCLOSE": OrderType.MARKET_ON_CLOSE,
    "LOC": OrderType.LIMIT_ON_CLOSE,
    "LIMITONCLOSE": OrderType.LIMIT_ON_CLOSE,
}
