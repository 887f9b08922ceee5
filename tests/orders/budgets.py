"""Mandates as a desk makes them: proposed by bob, signed by carol."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from django.utils import timezone

from brokers.base import OrderType, Side
from orders import mandates


def terms(desk, **changes):
    """Ten orders of up to 2,000 USD, 20,000 USD in all."""
    made = mandates.Terms(
        account=desk.account,
        bot=desk.bot,
        instruments=(desk.aapl,),
        sides=(Side.BUY, Side.SELL),
        order_types=(OrderType.LIMIT,),
        order_notional_max=Decimal(2000),
        notional_max=Decimal(20_000),
        count_max=10,
        expires_at=timezone.now() + timedelta(days=1),
        hours={},
        reason="the morning's scan",
    )
    return replace(made, **changes)


def proposed(desk, who="bob", **changes):
    return mandates.propose_mandate(actor=desk.person(who), terms=terms(desk, **changes))


def sign(desk, mandate, who="carol", **changes):
    said = {"digest": mandate.digest, "is_yes": True} | changes
    return mandates.decide_mandate(actor=desk.person(who), mandate_id=mandate.pk, **said)


def signed(desk, **changes):
    return sign(desk, proposed(desk, **changes))
