"""An account's trading day: it begins and ends at the account's roll-over, in the account's zone (house.md §8)."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from brokers.base import TimeInForce
from brokers.models import Account
from orders.lifecycle import OrderStatus
from orders.models import Order
from orders.trading_day import day_of

# What ends by itself when nobody cancels it.
ENDING = frozenset({TimeInForce.DAY, TimeInForce.OPG, TimeInForce.OVERNIGHT})
# A GTC order that rests for longer is shown until a person says that it shall.
GTC_AGE = timedelta(days=7)


def trading_day(account: Account, at: datetime) -> date:
    """The date on which the trading day of `at` ends: what comes after the roll-over is the next day's."""
    return day_of(at, account.trading_zone, account.roll_over_time) + timedelta(days=1)


def ended_day(account: Account, at: datetime) -> date:
    """The last trading day that was over at `at`; Saturdays and Sundays are none."""
    day = trading_day(account, at) - timedelta(days=1)
    while day.isoweekday() > 5:
        day -= timedelta(days=1)
    return day


def ends_at(account: Account, day: date) -> datetime:
    """The moment at which that trading day is over."""
    return datetime.combine(day, account.roll_over_time, ZoneInfo(account.trading_zone)).astimezone(UTC)


def begins_before(account: Account, end: datetime) -> datetime:
    """When the trading day that ends at `end` began; a Monday began on Friday."""
    before = trading_day(account, end - timedelta(hours=12)) - timedelta(days=1)
    while before.isoweekday() > 5:
        before -= timedelta(days=1)
    return ends_at(account, before)


def end_of(order: Order, at: datetime, text: str) -> OrderStatus:
    """Canceled or expired, of an order that the broker calls canceled: it has one word for both (§6.8).

    Expired is what nobody asked to cancel, where the broker says so or the order's day is over. Its list says less than
    its stream: a later word that it expired counts, and the moment of a later word does not.
    """
    says_expired = "expired" in text.lower()
    if order.status == OrderStatus.EXPIRED or (order.status == OrderStatus.CANCELED and not says_expired):
        return OrderStatus(order.status)
    if order.time_in_force not in ENDING or order.cancel_requested_at is not None:
        return OrderStatus.CANCELED
    account = order.ticket.account
    is_over = trading_day(account, at) > trading_day(account, order.created_at)
    return OrderStatus.EXPIRED if is_over or says_expired else OrderStatus.CANCELED
