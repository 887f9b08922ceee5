"""What a decision is taken on: the account, the instrument, the market and the position, read at one moment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any
from uuid import UUID

from django.db.models import DecimalField, DurationField, ExpressionWrapper, F, OuterRef, Subquery
from django.db.models.functions import Now

from brokers.base import OrderType, QuoteRecord, Side
from brokers.models import Account, BrokerInstrument, Instrument, Login
from brokers.occ import canonical
from cerbero.access import Actor
from cerbero.database.compiled import Asked, Compiled, Given, together
from cerbero.errors import BadInput, EnvironmentMismatch, ImpossibleOrder, NotFound
from orders import risk
from orders.canonical import plain
from orders.groups.relations import NAMES, is_exit, role
from orders.lifecycle import Group
from orders.limits import Applying, Subject, applying, look_alikes, met, read_book, sets_asked
from orders.models import CurrencyRate, Order, Position, Ticket
from orders.order_types import BY_MONEY, Problem
from orders.risk import Bounds, Case, Check, Leg, Market, notional, position_effect

_NOT_PROVEN = Check(
    "Limits",
    False,
    "written past this program",
    "by two Administrators",
    "an Administrator looks at them and saves them anew",
    "limits_not_proven",
)


@dataclass(frozen=True)
class Facts:
    """One order's surroundings. `position` is the broker's, as of the last reconciliation.

    `rate` makes the instrument's currency the account's; None is unknown or too old.
    """

    account: Account
    instrument: Instrument
    broker_instrument_id: str
    market: Market
    availability: str
    rules: Applying
    bot_id: UUID | None
    position: Decimal
    rate: Decimal | None
    underlying_price: Decimal | None

    @property
    def bounds(self) -> Bounds:
        return self.rules.bounds


def find_account(actor: Actor, broker_account_id: str) -> Account:
    """The account that this actor may use. Raises NotFound, BadInput (ambiguous) or EnvironmentMismatch."""
    rows = _ACCOUNTS.rows(broker_account_id=broker_account_id)
    if not rows:
        raise NotFound(account=broker_account_id)
    if len(rows) > 1:
        raise BadInput("Two logins list this account; name one login only.", account=broker_account_id)
    if actor.is_bot and rows[0].environment and rows[0].environment != actor.environment:
        raise EnvironmentMismatch(token=actor.environment, account=rows[0].environment)
    return rows[0]


def gather(account: Account, symbol: str, bot_id: UUID | None) -> Facts:
    """Read everything about one instrument, for an order of this bot. Raises NotFound for an unknown symbol."""
    asked = _BY_SYMBOL.asked(**_read_for(account), symbol=canonical(symbol))
    return _facts(account, asked, symbol, bot_id)


def gather_held(account: Account, broker_instrument_id: str, bot_id: UUID | None) -> Facts:
    """Of what the broker calls by its own id. Raises NotFound where Cerbero knows no such instrument."""
    known = BrokerInstrument.objects.filter(
        broker=account.login.broker, broker_instrument_id=broker_instrument_id
    ).first()
    if known is None:
        raise NotFound(
            "Cerbero knows no instrument of this id; an Administrator adds it in admin, or close it at the broker.",
            broker_instrument_id=broker_instrument_id,
        )
    asked = _BY_ID.asked(**_read_for(account), instrument=known.instrument_id)
    return _facts(account, asked, broker_instrument_id, bot_id)


def gather_for(account: Account, order: Order) -> Facts:
    asked = _BY_ID.asked(**_read_for(account), instrument=order.instrument_id)
    return _facts(account, asked, str(order.instrument_id), order.ticket.bot_id)


def _facts(account: Account, asked: Asked[Any], wanted: str, bot_id: UUID | None) -> Facts:
    found, sets = together(asked, sets_asked(account, bot_id))
    if not found:
        raise NotFound(symbol=wanted)
    if len(found) > 1:
        raise BadInput("Several instruments have this symbol; Cerbero never guesses.", symbol=wanted)
    instrument = found[0]
    rules = applying(account, bot_id, instrument.asset_class, sets)
    return Facts(
        account=account,
        instrument=instrument,
        broker_instrument_id=instrument.broker_instrument_id or "",
        market=_stored_market(instrument),
        availability=instrument.quote.availability if hasattr(instrument, "quote") else "none",
        rules=rules,
        bot_id=bot_id,
        position=instrument.held if instrument.held is not None else Decimal(0),
        rate=_rate(account, instrument, rules.bounds),
        underlying_price=_underlying_price(instrument, rules.bounds),
    )


def check_order(facts: Facts, *orders: Order, group: str = "") -> list[Check]:
    """Every limit, for what is proposed: counts are of this moment, and nothing is held."""
    return _check(facts, orders, group, None)


def check_sending(facts: Facts, *orders: Order, group: str = "") -> list[Check]:
    """Every limit again, counted now and without the orders' own ticket.

    Within a submission's locks, with facts read under them, no other order can pass beside it.
    """
    return _check(facts, orders, group, orders[0].ticket_id)


def _check(facts: Facts, orders: Sequence[Order], group: str, ticket_id: UUID | None) -> list[Check]:
    """The checks of each leg; of a later one what the first has not said already, under the leg's name."""
    found: list[Check] = []
    told: set[Check] = set()
    for order in orders:
        alike = sum(each.side == order.side for each in orders)
        subject = Subject(
            facts.account, facts.bot_id, facts.instrument.pk, order.side, order.quantity, ticket_id
        )
        book = read_book(subject, facts.rules)
        case = Case(leg_of(order, facts), facts.market, facts.bounds, book, len(orders), alike)
        checks = risk.check_exit(case) if is_exit(group, order.number) else risk.check_all(case)
        found += [_named(check, group, order) for check in checks if check not in told]
        told |= set(checks)
    return found if facts.rules.is_proven else [_NOT_PROVEN, *found]


def _named(check: Check, group: str, order: Order) -> Check:
    if not group or order.number == 1:
        return check
    return replace(check, name=f"{NAMES[role(group, order.number)].capitalize()}: {check.name.lower()}")


def position_met(facts: Facts, order: Order) -> Decimal:
    """The position that an order meets once everything else of its side is filled; the broker's alone is as of earlier."""
    subject = Subject(
        facts.account, facts.bot_id, facts.instrument.pk, order.side, order.quantity, order.ticket_id
    )
    return met(subject, facts.rules)


def worth(facts: Facts, orders: Sequence[Order], group: str) -> Decimal | None:
    """What a ticket counts for in base money: its entry, or the larger of two of which one is canceled; None is unknown."""
    counted = orders if group == Group.OCO else orders[:1]
    values = [notional(leg_of(order, facts), facts.market, facts.bounds) for order in counted]
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def market_of(quote: QuoteRecord | None) -> Market:
    """A quote that the broker gave this moment; its age is nought."""
    if quote is None:
        return Market(None, None, None, None)
    return Market(quote.bid, quote.ask, quote.last, Decimal(0), quote.is_halted)


def leg_of(order: Order, facts: Facts) -> Leg:
    instrument = facts.instrument
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
        trailing_amount=order.trailing_amount,
        trailing_percent=order.trailing_percent,
        offset=order.offset,
        outside_hours=order.outside_hours,
        price_bands=tuple((Decimal(edge), Decimal(step)) for edge, step in instrument.price_bands),
        size_increment=instrument.size_increment,
        price_magnifier=instrument.price_magnifier,
        rate=facts.rate,
        underlying_price=facts.underlying_price,
        strike=instrument.strike,
    )


def bought_by(cash: Decimal, limit_price: Decimal | None, facts: Facts) -> Decimal:
    """How many units an amount of money in the instrument's currency buys at most, at the limit or at the dearest quote.

    Raises ImpossibleOrder where one unit does not cost its price, where no price is known, or where it buys none.
    """
    instrument, price = facts.instrument, limit_price or facts.market.highest
    if instrument.asset_class not in BY_MONEY:
        says = f"{instrument.symbol} is not sold by money; say a quantity."
    elif not price or price <= 0:
        says = f"No price of {instrument.symbol} is known, so that money cannot be made a quantity."
    else:
        step = instrument.size_increment or Decimal(1)
        units = cash * (instrument.price_magnifier or 1) / price
        if size := (units / step).to_integral_value(ROUND_DOWN) * step:
            return size
        says = f"{plain(cash)} {instrument.currency} buys not even {plain(step)} {instrument.symbol} at {plain(price)}."
    problem = Problem("cash_quantity", "cash_quantity", says)
    raise ImpossibleOrder(says, problems=[problem.as_json()])


def as_seen(facts: Facts, order: Order, checks: list[Check], ticket: Ticket | None = None) -> dict[str, Any]:
    """What the approver is shown and what is stored with the decision; decimals as text. Of a group's `ticket` the
    position is what its entry makes of it.
    """
    market = facts.market
    value = worth(facts, ticket.legs if ticket else [order], ticket.group if ticket else "")
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
        "look_alikes": look_alikes(facts.account, facts.instrument.pk, order.side, order.ticket_id),
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
        "price_magnifier": instrument.price_magnifier,
    }


def _instruments(**which: Any) -> Any:
    ours = BrokerInstrument.objects.filter(instrument=OuterRef("pk"), broker=Given("broker"))
    held = Position.objects.filter(account=Given("account"), instrument=OuterRef("pk"))
    age = ExpressionWrapper(Now() - F("quote__received_at"), output_field=DurationField())
    underlying_age = ExpressionWrapper(
        Now() - F("underlying__quote__received_at"), output_field=DurationField()
    )
    rows = Instrument.objects.select_related("quote", "underlying__quote").filter(**which)
    return rows.annotate(
        broker_instrument_id=Subquery(ours.values("broker_instrument_id")[:1]),
        held=Subquery(
            held.values("quantity")[:1], output_field=DecimalField(max_digits=38, decimal_places=18)
        ),
        quote_age=age,
        underlying_age=underlying_age,
    )[:2]


def _read_for(account: Account) -> dict[str, Any]:
    return {"account": account.pk, "broker": account.login.broker}


_BY_SYMBOL: Compiled[Any] = Compiled(lambda: _instruments(symbol=Given("symbol")))
_BY_ID: Compiled[Any] = Compiled(lambda: _instruments(pk=Given("instrument")))
_ACCOUNTS = Compiled(
    lambda: (
        Account.objects.select_related("login", "limits", "balance", "clearance")
        .defer(*(f"login__{name}" for name in Login.OF_ITS_CALLS))
        .filter(broker_account_id=Given("broker_account_id"))[:2]
    )
)


def _rate(account: Account, instrument: Instrument, bounds: Bounds) -> Decimal | None:
    if instrument.currency == account.currency:
        return Decimal(1)
    rows = CurrencyRate.objects.filter(
        broker=account.login.broker,
        source=instrument.currency,
        target=account.currency,
        as_of__gte=Now() - timedelta(seconds=bounds.rate_age_max_seconds),
    )
    return rows.values_list("rate", flat=True).first()


def _underlying_price(instrument: Any, bounds: Bounds) -> Decimal | None:
    """The dearest fresh price of what an option is written on."""
    if instrument.underlying_age is None:
        return None
    if instrument.underlying_age > timedelta(seconds=bounds.quote_age_max_seconds):
        return None
    quote = instrument.underlying.quote
    return Market(quote.bid, quote.ask, quote.last, None).highest


def _stored_market(instrument: Any) -> Market:
    if instrument.quote_age is None:
        return Market(None, None, None, None)
    quote = instrument.quote
    seconds = Decimal(str(instrument.quote_age.total_seconds()))
    return Market(quote.bid, quote.ask, quote.last, max(seconds, Decimal(0)), quote.is_halted)
