"""Proposing: one key is one ticket, and what is refused says why."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.base import OrderType, TimeInForce
from brokers.calendars import SCHEDULES
from brokers.models import Account, Instrument
from brokers.schedules import Hours, Schedule, TradingDay
from cerbero.errors import (
    EnvironmentMismatch,
    IdempotencyConflict,
    LiveTradingDenied,
    NotFound,
    QuoteMissing,
    RiskRefused,
    TradingHalted,
)
from cerbero.models import Bot, DecisionRequest
from orders import services, trading
from orders.models import Limits, Order, Ticket, TradingState
from tests.orders import world as worlds
from tests.rig import run_together


def test_a_proposal_waits_for_one_decision_and_shows_its_facts(desk):
    ticket = desk.place(reason="breakout")
    request = DecisionRequest.objects.get(ticket=ticket)
    assert (ticket.status, request.status, request.quorum) == ("proposed", "pending", 1)
    assert request.excluded_user_ids == [desk.people["alice"].pk]
    assert request.facts["quote"]["mid"] == "190"
    assert request.facts["notional"] == "1900"
    assert request.facts["position"] == {"before": "0", "after": "10", "effect": "opening"}
    assert all(check["ok"] for check in request.facts["checks"])
    assert Entry.objects.filter(event="ticket.proposed", subject_id=str(ticket.pk)).count() == 1


def test_the_same_key_and_terms_is_the_same_ticket(desk):
    first = desk.place(idempotency_key="one")
    again = desk.place(idempotency_key="one")
    assert first.pk == again.pk
    assert Order.objects.count() == 1


def test_same_key_with_another_quantity_is_refused_and_named(desk):
    desk.place(idempotency_key="one")
    with pytest.raises(IdempotencyConflict) as refusal:
        desk.place(idempotency_key="one", quantity=Decimal(11), limit_price=Decimal("190.01"))
    assert sorted(refusal.value.details["differs"]) == ["limit_price", "quantity"]
    assert Ticket.objects.count() == 1


def test_twenty_at_once_with_one_key_are_one_ticket(fresh_database):
    desk = worlds.build()
    proposal = desk.proposal(idempotency_key="one")
    place = lambda: services.place_order(actor=desk.scanner, proposal=proposal).pk  # noqa: E731
    found = run_together(*[place] * 20)
    assert len(set(found)) == 1
    assert (Ticket.objects.count(), Order.objects.count(), DecisionRequest.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"quantity": Decimal(10_001), "limit_price": Decimal("190.00")}, "Quantity"),
        ({"quantity": Decimal(600)}, "Order value"),
        ({"limit_price": Decimal("200.00")}, "Price collar"),
        ({"limit_price": Decimal("190.005")}, "Price step"),
    ],
)
def test_a_limit_refuses_and_keeps_a_denied_ticket(desk, changes, check):
    with pytest.raises(RiskRefused) as refusal:
        desk.place(**changes)
    assert check in [each["name"] for each in refusal.value.details["checks"]]
    ticket = Ticket.objects.get()
    assert (ticket.status, ticket.refusal_code, ticket.request_id) == ("denied", "risk_refused", None)
    assert desk.order(ticket).status == "canceled"


def test_a_denied_key_stays_denied(desk):
    for _ in range(2):
        with pytest.raises(RiskRefused):
            desk.place(idempotency_key="big", quantity=Decimal(600))
    assert Ticket.objects.count() == 1


def test_a_market_order_counts_at_the_ask_and_the_collar(desk):
    Limits.objects.update(notional_max=Decimal("1995"))
    with pytest.raises(RiskRefused):
        desk.place(order_type=OrderType.MARKET, limit_price=None)
    Limits.objects.update(notional_max=Decimal("1995.21"))
    assert desk.place(order_type=OrderType.MARKET, limit_price=None).notional == Decimal("1995.21")


def test_an_instrument_off_the_list_is_refused(desk):
    Instrument.objects.update(is_allowed=False)
    with pytest.raises(RiskRefused):
        desk.place()


def test_an_unknown_multiplier_of_a_future_refuses(desk):
    Instrument.objects.update(asset_class="FUT", multiplier=None)
    with pytest.raises(RiskRefused) as refusal:
        desk.place()
    assert refusal.value.details["checks"][0]["says"].startswith("cannot be computed")


def test_another_currency_without_a_rate_refuses(desk):
    Instrument.objects.update(currency="EUR")
    with pytest.raises(RiskRefused):
        desk.place()


def test_an_old_quote_keeps_nothing_and_may_be_asked_again(desk):
    desk.quote("189.98", "190.02", received_at=timezone.now() - timedelta(seconds=16))
    with pytest.raises(QuoteMissing) as refusal:
        desk.place(idempotency_key="one")
    assert refusal.value.retryable
    assert not Ticket.objects.exists()
    desk.quote("189.98", "190.02")
    assert desk.place(idempotency_key="one").status == "proposed"


@pytest.mark.parametrize("scope", TradingState.Scope)
def test_a_halt_in_any_scope_refuses(desk, scope):
    TradingState.objects.filter(scope=scope).update(state="halted")
    with pytest.raises(TradingHalted):
        desk.place()


def test_reducing_refuses_what_opens(desk):
    TradingState.objects.filter(scope=TradingState.Scope.ACCOUNT).update(state="reducing")
    with pytest.raises(TradingHalted):
        desk.place()


def test_a_missing_state_row_refuses(desk):
    desk.bot = Bot.objects.create(name="unheard-of", owner=desk.people["alice"], environment="paper")
    with pytest.raises(TradingHalted):
        desk.place()


def test_an_account_that_the_broker_has_not_named_refuses(desk):
    Account.objects.update(environment="")
    with pytest.raises(LiveTradingDenied):
        desk.place()


def test_a_paper_token_does_not_reach_a_live_account(desk):
    Account.objects.update(environment="live")
    with pytest.raises(EnvironmentMismatch):
        desk.place()


def test_a_live_account_without_clearance_refuses(desk):
    Account.objects.update(environment="live")
    live = replace(desk.scanner, environment="live")
    with pytest.raises(LiveTradingDenied) as refusal:
        services.place_order(actor=live, proposal=desk.proposal())
    assert "live_trading_setting" in refusal.value.details["missing"]


def test_unknown_accounts_and_symbols_are_not_found(desk):
    for changes in ({"account": "DU0000000"}, {"symbol": "NOPE"}):
        with pytest.raises(NotFound):
            desk.place(**changes)


def test_an_account_without_limits_refuses(desk):
    words = {"login": desk.login, "environment": "paper", "listed_at": desk.account.listed_at}
    bare = Account.objects.create(broker_account_id="DU7654321", **words)
    with pytest.raises(NotFound, match="no limits"):
        desk.place(account=bare.broker_account_id)


def test_a_person_proposes_and_is_excluded_from_deciding(desk):
    ticket = services.place_order(actor=desk.person("bob"), proposal=desk.proposal())
    assert ticket.request.excluded_user_ids == [desk.people["bob"].pk]
    assert trading.worst_state(desk.account, None) == "active"


AUCTIONS = {
    "at the opening": {"time_in_force": TimeInForce.OPG},
    "at the close": {"order_type": OrderType.LIMIT_ON_CLOSE},
}


@pytest.mark.parametrize("auction", AUCTIONS)
def test_an_order_for_an_auction_waits_until_that_takes_no_more(desk, auction):
    """Overnight for the opening, and less than a quarter of an hour right before the close."""
    assert _waits(desk, auction) == 900, "nothing is known of the exchange's hours"
    now = timezone.now()
    opens, closes = now + timedelta(hours=10), now + timedelta(minutes=17)
    days = [TradingDay(each.date(), (Hours(each, until),)) for each, until in _around(now, opens, closes)]
    SCHEDULES.keep(desk.login, worlds.AAPL, Schedule("UTC", tuple(days)))
    waits = _waits(desk, auction)
    left = opens - timedelta(minutes=2) if auction == "at the opening" else closes - timedelta(minutes=10)
    assert 0 <= (left - now).total_seconds() - waits < 30


def test_the_time_that_a_rule_names_is_never_exceeded_by_an_auctions(desk):
    rule = {"name": "quick", "then": {"do": "people", "quorum": 1, "seconds": 120}}
    desk.activate([rule])
    opens = timezone.now() + timedelta(hours=10)
    hours = Hours(opens, opens + timedelta(hours=6))
    SCHEDULES.keep(desk.login, worlds.AAPL, Schedule("UTC", (TradingDay(opens.date(), (hours,)),)))
    assert _waits(desk, "at the opening") == 120


def _around(now, opens, closes):
    """The session that runs, and the next one."""
    return [(now - timedelta(hours=5), closes), (opens, opens + timedelta(hours=6))]


def _waits(desk, auction) -> int:
    request = desk.place(**AUCTIONS[auction]).request
    request.refresh_from_db()
    return round((request.expires_at - request.created_at).total_seconds())
