"""What a decision is taken on: the account, the instrument, the market and the position, read at one moment."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import DecimalField, DurationField, ExpressionWrapper, F, OuterRef, Subquery
from django.db.models.functions import Now

from brokers.base import OrderType, QuoteRecord, Side
from brokers.models import Account, BrokerInstrument, Instrument
from cerbero.access import Actor
from cerbero.errors import BadInput, EnvironmentMismatch, NotFound
from orders.canonical import plain
from orders.models import Order, Position
from orders.risk import Bounds, Check, Leg, Market, notional, position_effect


@dataclass(frozen=True)
class Facts:
    """One order's surroundings. `position` is the broker's, as of the last reconciliation."""

    account: Account
    instrument: Instrument
    broker_instrument_id: str
    market: Market
    availability: str
    bounds: Bounds
    position: Decimal


def find_account(actor: Actor, broker_account_id: str) -> Account:
    """The account that this actor may use. Raises NotFound, BadInput (ambiguous) or EnvironmentMismatch."""
    rows = list(
        Account.objects.select_related("login", "limits", "balance", "clearance").filter(
            broker_account_id=broker_account_id
        )[:2]
    )
    if not rows:
        raise NotFound(account=broker_account_id)
    if len(rows) > 1:
        raise BadInput("Two logins list this account; name one login only.", account=broker_account_id)
    if actor.is_bot and rows[0].environment and rows[0].environment != actor.environment:
        raise EnvironmentMismatch(token=actor.environment, account=rows[0].environment)
    return rows[0]


def gather(account: Account, symbol: str) -> Facts:
    """Read everything about one instrument in one query. Raises NotFound for an unknown symbol."""
    return from_instrument(account, _instruments(account).filter(symbol=symbol.upper()), symbol)


def gather_for(account: Account, order: Order) -> Facts:
    return from_instrument(
        account, _instruments(account).filter(pk=order.instrument_id), str(order.instrument_id)
    )


def from_instrument(account: Account, rows: Any, wanted: str) -> Facts:
    found = list(rows[:2])
    if not found:
        raise NotFound(symbol=wanted)
    if len(found) > 1:
        raise BadInput("Several instruments have this symbol; Cerbero never guesses.", symbol=wanted)
    instrument = found[0]
    return Facts(
        account=account,
        instrument=instrument,
        broker_instrument_id=instrument.broker_instrument_id or "",
        market=_stored_market(instrument),
        availability=instrument.quote.availability if hasattr(instrument, "quote") else "none",
        bounds=bounds_of(account),
        position=instrument.held if instrument.held is not None else Decimal(0),
    )


def bounds_of(account: Account) -> Bounds:
    """The account's limits. Raises NotFound when it has none: then nothing may be ordered."""
    if not hasattr(account, "limits"):
        raise NotFound("This account has no limits; an Administrator must set them.", account=str(account))
    limits = account.limits
    return Bounds(
        currency=account.currency,
        notional_max=limits.notional_max,
        quantity_max=limits.quantity_max,
        collar_percent=limits.collar_percent,
        drift_percent=limits.drift_percent,
        quote_age_max_seconds=Decimal(limits.quote_age_max_seconds),
    )


def market_of(quote: QuoteRecord | None) -> Market:
    """A quote that the broker gave this moment; its age is nought."""
    if quote is None:
        return Market(None, None, None, None)
    return Market(quote.bid, quote.ask, quote.last, Decimal(0), quote.is_halted)


def leg_of(order: Order, instrument: Instrument, *, reduce_only: bool = False) -> Leg:
    return Leg(
        symbol=instrument.symbol,
        asset_class=instrument.asset_class,
        currency=instrument.currency,
        multiplier=instrument.multiplier,
        price_increment=instrument.price_increment,
        is_allowed=instrument.is_allowed,
        side=Side(order.side),
        quantity=order.quantity,
        order_type=OrderType(order.order_type),
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        reduce_only=reduce_only,
    )


def as_seen(facts: Facts, order: Order, checks: list[Check]) -> dict[str, Any]:
    """What the approver is shown and what is stored with the decision; decimals as text."""
    market, leg = facts.market, leg_of(order, facts.instrument)
    value = notional(leg, market, facts.bounds)
    change = order.quantity if order.side == Side.BUY else -order.quantity
    balance = getattr(facts.account, "balance", None)
    return {
        "contract": contract(facts),
        "environment": facts.account.environment,
        "quote": {
            "bid": plain(market.bid),
            "ask": plain(market.ask),
            "last": plain(market.last),
            "mid": plain(market.mid),
            "availability": facts.availability,
            "age_seconds": plain(market.age_seconds),
        },
        "checks": [check.as_json() for check in checks],
        "notional": plain(value),
        "notional_currency": facts.account.currency,
        "position": {
            "before": plain(facts.position),
            "after": plain(facts.position + change),
            "effect": position_effect(facts.position, order.side, order.quantity),
        },
        "net_liquidation": plain(balance.net_liquidation) if balance else None,
    }


def contract(facts: Facts) -> dict[str, Any]:
    """What the broker is told to trade, which our instrument's id alone does not say: bound with the facts."""
    instrument = facts.instrument
    return {
        "broker_instrument_id": facts.broker_instrument_id,
        "currency": instrument.currency,
        "multiplier": plain(instrument.multiplier),
    }


def _instruments(account: Account) -> Any:
    ours = BrokerInstrument.objects.filter(instrument=OuterRef("pk"), broker=account.login.broker)
    held = Position.objects.filter(account=account, instrument=OuterRef("pk"))
    age = ExpressionWrapper(Now() - F("quote__received_at"), output_field=DurationField())
    return Instrument.objects.select_related("quote").annotate(
        broker_instrument_id=Subquery(ours.values("broker_instrument_id")[:1]),
        held=Subquery(
            held.values("quantity")[:1], output_field=DecimalField(max_digits=38, decimal_places=18)
        ),
        quote_age=age,
    )


def _stored_market(instrument: Any) -> Market:
    if instrument.quote_age is None:
        return Market(None, None, None, None)
    quote = instrument.quote
    seconds = Decimal(str(instrument.quote_age.total_seconds()))
    return Market(quote.bid, quote.ask, quote.last, max(seconds, Decimal(0)), quote.is_halted)
