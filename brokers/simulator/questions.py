"""The questions that the broker asks before it takes an order (ibkr-web-api.md §6.4)."""

import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .answers import Refusal, unavailable
from .config import Config
from .market import Quote
from .orders import STOPS, Order, plain
from .universe import Instrument

TEXTS = {
    "o163": (
        'The following order "{order}" price exceeds \nthe Percentage constraint of {percent}%.\n'
        "Are you sure you want to submit this order?"
    ),
    "o354": (
        "You are submitting an order without market data. We strongly recommend against this as it may "
        "result in erroneous and unexpected trades.\nAre you sure you want to submit this order?"
    ),
    "o382": 'The following order "{order}" value exceeds \nthe Tick Size Limit of 100.',
    "o383": 'The following order "{order}" size exceeds the Size Limit of 500.',
    "o403": "This order will most likely trigger and fill immediately.\nAre you sure you want to submit it?",
    "o451": 'The following order "{order}" value estimate exceeds the Total Value Limit of 100,000 USD.',
    "o10151": (
        "A market order is filled at the best price that is available, which may be far from the last one.\n"
        "Are you sure you want to submit this order?"
    ),
    "o10153": (
        "To avoid trading at a price that is not consistent with a fair and orderly market, IBKR may set a "
        "cap (for a buy order) or a floor (for a sell order)."
    ),
    "o10331": (
        "You are about to submit a stop order. Please be aware of the various stop order types available "
        "and the risks associated with each one.\nAre you sure you want to submit this order?"
    ),
}
DEFAULT_TEXT = "Please confirm message {id} for the order {order}."
Commit = Callable[[], Any]


def describe(order: Order, instrument: Instrument) -> str:
    """`BUY 5 AAPL NASDAQ.NMS @ 150.0`, as it stands in the question's text."""
    price = order.limit_price if order.limit_price is not None else order.stop_price
    exchange = "NASDAQ.NMS" if instrument.exchange == "NASDAQ" else instrument.exchange
    at = f" @ {float(price)}" if price is not None else " @ MARKET"
    return f"{order.side} {plain(order.quantity)} {instrument.local_name} {exchange}{at}"


def far_from_market(order: Order, quote: Quote, percent: Decimal) -> bool:
    """Whether a limit lies further than `percent` through the market or away from it."""
    if order.limit_price is None:
        return False
    reference = quote.ask if order.side == "BUY" else quote.bid
    return abs(order.limit_price - reference) > reference * percent / 100


def questions_for(
    order: Order, instrument: Instrument, quote: Quote | None, config: Config, suppressed: set[str]
) -> list[tuple[str, str]]:
    """(message id, text) in the order in which they are asked."""
    ids: list[str] = []
    if quote is None or order.conid in config.no_data_conids:
        ids.append("o354")
    elif far_from_market(order, quote, config.price_limit_percent):
        ids.append("o163")
    if order.order_type in STOPS:
        ids.append("o10331")
    for extra in config.questions:
        if extra not in ids and (extra != "o10151" or order.order_type == "MKT"):
            ids.append(extra)
    values = {"order": describe(order, instrument), "percent": plain(config.price_limit_percent)}
    asked = [i for i in ids if i not in suppressed]
    return [(i, TEXTS.get(i, DEFAULT_TEXT).format(id=i, **values)) for i in asked]


@dataclass
class Pending:
    """An order that waits for an answer."""

    reply_id: str
    questions: list[tuple[str, str]]
    commit: Commit
    confirmed: list[str]
    asked_at: float = field(default_factory=time.monotonic)

    def body(self) -> list[dict[str, Any]]:
        message_id, text = self.questions[0]
        return [
            {
                "id": self.reply_id,
                "message": [text],
                "isSuppressed": False,
                "messageIds": [message_id],
                "messageOptions": ["Yes", "No"],
            }
        ]


class QuestionDesk:
    """One outstanding question at a time; other order traffic makes it stale."""

    def __init__(self) -> None:
        self._pending: Pending | None = None
        self._stale: deque[str] = deque(maxlen=1000)

    def ask(
        self, questions: list[tuple[str, str]], commit: Commit, confirmed: list[str]
    ) -> list[dict[str, Any]]:
        """Begin or continue a chain; every link has an id of its own. A yes adds to `confirmed`."""
        self._pending = Pending(str(uuid.uuid4()), questions, commit, confirmed)
        return self._pending.body()

    def interrupt(self) -> Commit | None:
        """Other order traffic: the outstanding question goes stale. Returns what it would have done."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        self._stale.append(pending.reply_id)
        return pending.commit

    def is_late(self, lifetime_seconds: float) -> bool:
        """Whether the outstanding question has waited for too long."""
        pending = self._pending
        return pending is not None and time.monotonic() - pending.asked_at > lifetime_seconds

    def reply(self, reply_id: str, confirmed: bool) -> Any:
        """The next question, or the outcome. Refuses an unknown id with 400 and a stale one with 503."""
        pending = self._pending
        if reply_id in self._stale:
            raise unavailable()
        if pending is None or pending.reply_id != reply_id:
            raise Refusal(400, {"error": f"reply id not found: '{reply_id}'"})
        self._pending = None
        if not confirmed:
            return {"error": "Order not confirmed "}
        pending.confirmed.append(pending.questions[0][0])
        rest = pending.questions[1:]
        return self.ask(rest, pending.commit, pending.confirmed) if rest else pending.commit()
