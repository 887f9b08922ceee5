"""Looking again at the moment of sending: values that people saw, against values of now (gates.md G17)."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.utils import timezone

from brokers.base import Broker
from brokers.models import Account, SessionState
from cerbero.errors import LiveTradingDenied, TradingHalted
from cerbero.models import DecisionRequest
from orders import risk, trading
from orders.canonical import ticket_digest
from orders.closing import closable, position_now
from orders.facts import Facts, gather_for, leg_of, market_of
from orders.models import Order, Ticket
from orders.tickets import require_live

# A close needs no approval, so nothing else ends its wait.
CLOSE_WAITS_SECONDS = 60


@dataclass(frozen=True)
class Moment:
    """What the broker said right before the look; `held` is read for closes only."""

    facts: Facts
    held: Decimal | None


def read_moment(ticket: Ticket, order: Order, broker: Broker) -> Moment:
    """A fresh reference price, and for a close the position, from the broker itself. Raises BrokerError."""
    stored = gather_for(ticket.account, order)
    if ticket.reduce_only:
        return Moment(stored, position_now(broker, ticket.account, stored.broker_instrument_id))
    quotes = broker.snapshot([stored.broker_instrument_id])
    mine = next((row for row in quotes if row.broker_instrument_id == stored.broker_instrument_id), None)
    availability = mine.availability if mine else stored.availability
    return Moment(replace(stored, market=market_of(mine), availability=availability), None)


class Refusal(Exception):
    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code, self.details = code, details


class Waits(Refusal):
    """Not now; asked again until the approval expires."""


class Denied(Refusal):
    """Never, on these terms."""


class Moved(Refusal):
    """The market is not the one that people saw."""


def look_again(
    ticket: Ticket, order: Order, moment: Moment, state: str, request: DecisionRequest | None = None
) -> None:
    """Everything that the proposal was held against, at the moment of sending (gates.md G17)."""
    request = request or ticket.request
    account = moment.facts.account
    if ticket_digest(ticket, account, list(ticket.orders.all())) != ticket.digest:
        raise Denied("terms_changed")
    if order.cancel_requested_at is not None:
        raise Denied("canceled_before_sending")
    _look_at_state(ticket, account, state)
    if ticket.reduce_only:
        _look_at_wait(ticket)
        _look_at_position(ticket, order, moment)
        return
    if request is None or request.expires_at <= timezone.now():
        raise Denied("approval_expired")
    _look_at_market(order, moment, request)


def _look_at_state(ticket: Ticket, account: Account, state: str) -> None:
    if account.login.state == SessionState.MISMATCHED:
        raise Waits("environment_mismatch")
    try:
        trading.require_open(state, reduce_only=ticket.reduce_only, by_person=ticket.person_id is not None)
        require_live(account)
    except TradingHalted:
        if ticket.reduce_only:
            _look_at_wait(ticket)
        raise Waits("trading_halted") from None
    except LiveTradingDenied as denied:
        raise Denied(denied.code, **denied.details) from None


def _look_at_wait(ticket: Ticket) -> None:
    waited = (timezone.now() - ticket.allowed_at).total_seconds() if ticket.allowed_at else 0
    if waited > CLOSE_WAITS_SECONDS:
        raise Denied("not_sent_in_time", waited_seconds=int(waited))


def _look_at_position(ticket: Ticket, order: Order, moment: Moment) -> None:
    held = moment.held or Decimal(0)
    left = closable(ticket.account, moment.facts, held, but=ticket.pk)
    reduces = (held > 0) == (order.side == "sell")
    if held == 0 or not reduces or order.quantity > left:
        raise Denied("position_changed", position=str(held), closable=str(left))


def _look_at_market(order: Order, moment: Moment, request: DecisionRequest) -> None:
    facts = moment.facts
    failed = risk.failed(risk.check_all(leg_of(order, facts.instrument), facts.market, facts.bounds))
    if any(check.name == "Quote age" for check in failed):
        raise Moved("quote_missing")
    if failed:
        raise Denied("risk_refused", checks=[check.as_json() for check in failed])
    seen = request.facts.get("quote", {}).get("mid")
    drift = risk.check_drift(Decimal(seen) if seen else None, facts.market.mid, facts.bounds.drift_percent)
    if not drift.ok:
        raise Moved("price_drifted", check=drift.as_json())
