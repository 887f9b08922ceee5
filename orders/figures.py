"""An account's money and the rates that convert it, as the broker says: what limits are measured against."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from brokers.accounts import store_currency
from brokers.base import Broker
from brokers.instruments import ASSET_CLASSES
from brokers.models import Account, Instrument
from cerbero.access import Actor
from orders.models import Balance, CurrencyRate
from orders.trading_day import day_of

# The adapters' words → ours; an ETF is held as a stock is.
CODES = {words: code for code, words in ASSET_CLASSES.items() if code != "ETF"}
# A rate is asked for again after so long: each costs one of the login's ten requests a second.
RATE_LASTS = timedelta(minutes=5)


def store_figures(actor: Actor, account: Account, broker: Broker, as_of: datetime) -> None:
    """Keep an account's money, its money at the day's start, and the rates of what it may order."""
    summary = broker.summary(account.broker_account_id)
    store_currency(account, summary.currency, actor)
    figures: dict[str, Any] = {
        "net_liquidation": summary.net_liquidation,
        "available_funds": summary.available_funds,
        "initial_margin": summary.initial_margin,
        "cushion": summary.cushion,
        "look_ahead_excess": summary.look_ahead_excess,
        "day_trades_left": summary.day_trades_left,
        "as_of": as_of,
    }
    before = Balance.objects.filter(account=account).first()
    figures |= _day(account, before, summary.net_liquidation, as_of)
    Balance.objects.update_or_create(account=account, defaults=figures)
    _store_rates(account, broker, as_of)


def _day(
    account: Account, before: Balance | None, net_liquidation: Decimal | None, as_of: datetime
) -> dict[str, Any]:
    """A new trading day begins with the last figure of the one before, or with the first that there is."""
    today = day_of(as_of, account.trading_zone, account.roll_over_time)
    if before is not None and before.trading_day == today and before.day_start is not None:
        return {}
    last = before.net_liquidation if before is not None else None
    return {"trading_day": today, "day_start": last if last is not None else net_liquidation}


def _store_rates(account: Account, broker: Broker, as_of: datetime) -> None:
    wanted = set(Instrument.objects.filter(is_allowed=True).values_list("currency", flat=True))
    wanted |= set(account.positions.values_list("currency", flat=True))
    rows = CurrencyRate.objects.filter(broker=account.login.broker, target=account.currency)
    fresh = rows.filter(as_of__gt=as_of - RATE_LASTS).values_list("source", flat=True)
    for source in sorted(wanted - {account.currency, ""} - set(fresh)):
        rate = broker.exchange_rate(source, account.currency)
        if rate is not None:
            CurrencyRate.objects.update_or_create(
                broker=account.login.broker,
                source=source,
                target=account.currency,
                defaults={"rate": rate, "as_of": as_of},
            )
