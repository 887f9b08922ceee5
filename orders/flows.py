"""What the executions that we know moved, in units and in cash: our half of every comparison with the broker."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, DecimalField, F, Q, Sum
from django.db.models.functions import Now

from brokers.base import Side
from brokers.models import Account

Numbers = dict[str, Decimal]
# Commissions come later than their fills (ibkr-web-api.md §7.3 str).
COMMISSION_WAIT = timedelta(minutes=10)
_INSTRUMENT = tuple(f"instrument__{name}" for name in ("symbol", "currency", "asset_class", "multiplier"))


@dataclass(frozen=True)
class Flows:
    """Units by the broker's id, cash by currency; `unknown` are currencies whose cash our rows do not tell."""

    positions: Numbers
    cash: Numbers
    unknown: frozenset[str]


def flows_of(account: Account) -> Flows:
    """The sum of an account's executions, whoever caused them."""
    positions: Numbers = defaultdict(Decimal)
    cash: Numbers = defaultdict(Decimal)
    unknown: set[str] = set()
    for row in _sums(account):
        currency = row["instrument__currency"] or account.currency
        asset_class = row["instrument__asset_class"] or "STK"
        sign = 1 if row["side"] == Side.BUY else -1
        fees_in = currency
        if asset_class == "CASH":
            cash[row["instrument__symbol"]] += sign * row["units"]
            fees_in = account.currency
        else:
            positions[row["broker_instrument_id"]] += sign * row["units"]
        if asset_class == "FUT":
            # Settled in cash every day, by prices that are the broker's own.
            unknown.add(currency)
        else:
            cash[currency] -= sign * row["value"] * (row["instrument__multiplier"] or 1)
        if row["late"]:
            unknown.add(fees_in)
        cash[fees_in] -= row["fees"] or 0
    return Flows(positions, cash, frozenset(unknown))


def _sums(account: Account) -> Any:
    value = Sum(F("quantity") * F("price"), output_field=DecimalField(max_digits=76, decimal_places=36))
    late = Q(commission=None, recorded_at__gt=Now() - COMMISSION_WAIT)
    return account.executions.values("broker_instrument_id", "side", *_INSTRUMENT).annotate(
        units=Sum("quantity"), value=value, fees=Sum("commission"), late=Count("id", filter=late)
    )
