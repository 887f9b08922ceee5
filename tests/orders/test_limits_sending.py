"""Limits at the moment of sending: exact under a race, by the limits of now, and nothing leaves beyond them."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from brokers.base import Side
from brokers.services import broker_for
from cerbero import access
from cerbero.errors import RiskRefused
from orders import submission
from orders.models import Attempt, Balance, CurrencyRate, Limits, Order, Ticket, TradingState
from orders.recheck import read_moment
from orders.submission import Hold
from tests.orders.world import AAPL, until
from tests.rig import run_together

ME = access.system("orders")
RACERS, PASS = 20, 5


def race(floor):
    """Small orders, allowed by the policy, with what the broker said right before the look, and the hold to send under."""
    price = (floor.near() * Decimal("0.97")).quantize(Decimal("0.01"))
    tickets = [floor.place(limit_price=price, quantity=Decimal(1)) for _ in range(RACERS)]
    hold = floor.hold()
    with broker_for(floor.login) as broker:
        moments = [(ticket, *_moment(ticket, broker)) for ticket in tickets]
    return moments, hold


def _moment(ticket, broker):
    order = ticket.orders.select_related("instrument").get(number=1)
    return order, read_moment(ticket, order, broker)


def prepare_together(racers, hold: Hold) -> int:
    """How many attempts a race wrote, ten at one moment, each by a connection of its own."""

    def one(ticket, order, moment):
        return lambda: submission.prepare(ME, ticket, order, moment, hold)

    found = []
    for start in range(0, len(racers), 10):
        found += run_together(*[one(*racer) for racer in racers[start : start + 10]])
    assert not [each for each in found if isinstance(each, Exception)], found
    return Attempt.objects.count()


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"orders_per_minute_max": PASS}, "orders_per_minute_max"),
        ({"daily_orders_max": PASS}, "daily_orders_max"),
        ({"position_max": Decimal(PASS)}, "position_max"),
        ({"working_orders_per_side_max": PASS}, "working_orders_per_side_max"),
    ],
)
def test_of_many_that_race_exactly_as_many_pass_as_may(floor, limits, code):
    racers, hold = race(floor)
    Limits.objects.update(**limits)
    assert prepare_together(racers, hold) == PASS
    assert Order.objects.filter(status="submitted").count() == PASS
    refused = Ticket.objects.filter(status="denied")
    assert refused.count() == RACERS - PASS
    assert {check["code"] for ticket in refused for check in ticket.refusal["checks"]} == {code}
    assert floor.at_broker() == []


def test_of_many_alike_a_few_pass_and_then_the_bot_is_halted(floor):
    racers, hold = race(floor)
    Limits.objects.update(repeats_max=PASS)
    assert prepare_together(racers, hold) == PASS
    row = TradingState.objects.get(scope=TradingState.Scope.BOT)
    assert (row.state, row.changed_by) == ("halted", "limits")
    # One was refused and halted the bot; the others wait for a person, or for the end of their approval.
    assert Ticket.objects.filter(status="denied").count() == 1
    assert Ticket.objects.filter(status="allowed").count() == RACERS - PASS - 1


def test_proposals_that_race_may_pass_together_and_are_refused_when_sent(floor):
    floor.near()
    Limits.objects.update(repeats_max=2)
    proposals = [floor.proposal(quantity=Decimal(1), limit_price=Decimal("250.00")) for _ in range(8)]
    from orders import services

    found = run_together(
        *[lambda each=each: services.place_order(actor=floor.scanner, proposal=each) for each in proposals]
    )
    assert all(isinstance(each, Ticket | RiskRefused) or "halted" in str(each) for each in found), found
    assert len([each for each in found if isinstance(each, Ticket)]) >= 2


def test_an_account_whose_money_is_not_read_waits(floor):
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    Balance.objects.update(as_of=timezone.now() - timedelta(seconds=301))
    floor.turn()
    ticket.refresh_from_db()
    assert (ticket.status, floor.at_broker()) == ("allowed", [])
    floor.reconcile()
    until(lambda: floor.turn() or floor.at_broker())
    ticket.refresh_from_db()
    assert ticket.status == "sent"


def test_reconciling_keeps_the_figures_the_day_and_the_rates(floor):
    type(floor.aapl).objects.create(symbol="SAP", currency="EUR", is_allowed=True)
    Balance.objects.update(net_liquidation=Decimal(999_000), trading_day=None)
    floor.reconcile()
    balance = Balance.objects.get(account=floor.account)
    assert balance.day_start == Decimal(999_000), "a day begins with the last figure of the one before"
    assert balance.cushion == 1
    assert balance.look_ahead_excess == balance.net_liquidation
    assert balance.day_trades_left == -1
    rate = CurrencyRate.objects.get()
    assert (rate.source, rate.target) == ("EUR", "USD")
    assert Decimal("1.0") < rate.rate < Decimal("1.4")
    day = balance.trading_day
    Balance.objects.update(net_liquidation=1)
    floor.reconcile()
    balance.refresh_from_db()
    assert (balance.trading_day, balance.day_start) == (day, Decimal(999_000))


def test_a_loss_that_reconciling_finds_lets_the_account_only_reduce(floor):
    floor.reconcile()
    Balance.objects.update(day_start=Decimal(10**9))
    floor.reconcile()
    assert TradingState.objects.get(scope=TradingState.Scope.ACCOUNT).state == "reducing"


def test_a_fill_counts_at_once_and_a_position_once(floor):
    Limits.objects.update(position_max=Decimal(10))
    ticket = floor.approved(limit_price=floor.near(), quantity=Decimal(10))
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "filled")
    price = floor.near()
    with pytest.raises(RiskRefused):
        floor.place(limit_price=price, quantity=Decimal(1))
    floor.reconcile()
    held = floor.account.positions.get(broker_instrument_id=AAPL)
    assert (held.asset_class, held.market_value is not None) == ("STK", True)
    with pytest.raises(RiskRefused) as refusal:
        floor.place(limit_price=price, quantity=Decimal(1))
    assert [check["value"] for check in refusal.value.details["checks"]] == ["11"]
    sale = floor.place(limit_price=price, quantity=Decimal(10), side=Side.SELL)
    assert sale.status in {"proposed", "allowed"}, "what is held may be sold"
