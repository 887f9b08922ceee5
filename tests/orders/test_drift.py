"""What the broker has beyond our book is named, guessed at, and settled by people; nothing is invented."""

from datetime import datetime, time, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account, BrokerInstrument, Instrument
from brokers.simulator.exchange import NEW_YORK
from brokers.simulator.universe import Universe, option_conid
from cerbero.errors import CerberoError, PermissionMissing, ReasonRequired, SelfApproval, StateConflict
from cerbero.leases import ClockTime
from cerbero.models import DecisionRequest
from orders import adopting, trading
from orders.models import Book, Drift, Execution, Order, TradingState
from orders.notices.models import Delivery, Webhook
from orders.rounds import is_due
from tests.orders.world import AAPL, SPY, until


@pytest.fixture
def booked(floor):
    """A desk that holds 10 AAPL by a trade of our own, with its book opened and confirmed."""
    BrokerInstrument.objects.get_or_create(instrument=floor.aapl, broker="ibkr", broker_instrument_id=AAPL)
    floor.sim.control("POST", "/_sim/config", {"freeze": True})
    ticket = floor.approved(limit_price=(floor.near() * Decimal("1.01")).quantize(Decimal("0.01")))
    until(lambda: floor.turn() or floor.reconcile() or floor.order(ticket).status == "filled")
    until(lambda: rounds(floor) or Book.objects.exclude(confirmed_at=None).exists())
    assert not Drift.objects.exists()
    return floor


def rounds(floor, count=1):
    for _ in range(count):
        floor.reconcile()
        floor.turn()


def happens(floor, what, **body):
    floor.sim.control("POST", f"/_sim/{what}", {"account": floor.account.broker_account_id, **body})


def the_case(floor, kind):
    return until(lambda: rounds(floor) or Drift.objects.filter(kind=kind, status="open").first())


HAPPENINGS = {
    "a transfer of shares": (
        "position",
        {"conid": int(SPY), "quantity": 3},
        "position_difference",
        "made_elsewhere",
    ),
    "a split": ("split", {"conid": int(AAPL), "ratio": 2}, "position_difference", "split"),
    "a dividend": ("dividend", {"conid": int(AAPL), "per_share": "0.26"}, "cash_difference", "dividend"),
    "a fee": ("cash", {"amount": "-480"}, "cash_difference", "fee"),
    "a deposit": ("cash", {"amount": "250000"}, "cash_difference", "transfer"),
}


@pytest.mark.parametrize("name", HAPPENINGS)
def test_what_no_fill_explains_is_a_case_with_a_guess(booked, name, monkeypatch):
    # Away from the days on which interest is posted.
    from orders import guessing

    monkeypatch.setattr(guessing, "INTEREST_DAYS", range(0))
    what, body, kind, cause = HAPPENINGS[name]
    happens(booked, what, **body)
    case = the_case(booked, kind)
    assert (case.cause, case.account) == (cause, booked.account)
    assert Decimal(case.evidence["broker"]) - Decimal(case.evidence["expected"]) == case.amount
    rounds(booked, 2)
    assert Drift.objects.count() == 1, "the same difference is one case"


def test_an_option_that_was_exercised_is_told_as_that_in_units_and_in_cash(floor):
    universe = Universe(timezone.now().date())
    expiry = list(universe.option_months(int(AAPL)).values())[1]
    call = option_conid(universe.find(int(AAPL)).chain, expiry, 200, "C")
    row = Instrument.objects.create(symbol=universe.find(call).local_symbol, asset_class="OPT")
    BrokerInstrument.objects.create(instrument=row, broker="ibkr", broker_instrument_id=str(call))
    floor.sim.control("POST", "/_sim/config", {"freeze": True})
    happens(floor, "position", conid=call, quantity=2)
    until(lambda: rounds(floor) or Book.objects.exclude(confirmed_at=None).exists())
    ended = datetime.combine(expiry, time(20, 1), NEW_YORK)
    floor.sim.control("POST", "/_sim/clock", {"to": ended.isoformat()})
    until(lambda: rounds(floor) or Drift.objects.filter(status="open").count() == 3)
    cases = {case.about: (case.amount, case.cause) for case in Drift.objects.all()}
    assert cases == {
        str(call): (-2, "assignment"),
        AAPL: (200, "assignment"),
        "USD": (-40_000, "assignment"),
    }


def test_one_round_alone_concludes_nothing(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    booked.reconcile()
    assert not Drift.objects.exists()
    booked.reconcile()
    assert Drift.objects.get().amount == 3


def test_cash_within_the_tolerance_is_no_case(booked):
    happens(booked, "cash", amount="0.90")
    rounds(booked, 3)
    assert not Drift.objects.exists()


def test_a_trade_made_elsewhere_is_two_cases_and_no_difference_of_positions_or_cash(booked):
    happens(booked, "manual_order", conid=int(AAPL), side="BUY", quantity=7, orderType="MKT")
    case = the_case(booked, "unknown_execution")
    rounds(booked, 3)
    kinds = set(Drift.objects.values_list("kind", flat=True))
    assert kinds == {"unknown_order", "unknown_execution"}
    assert (case.cause, case.amount, case.execution.order) == ("made_elsewhere", 7, None)


def test_adopting_takes_it_into_the_book_and_never_calls_it_approved(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    adopting.settle_drift(
        actor=booked.person("bob"), drift_id=case.pk, wanted="adopted", reason="transferred"
    )
    rounds(booked, 3)
    case.refresh_from_db()
    assert (case.status, case.settled_by.username, case.reason) == ("adopted", "bob", "transferred")
    assert Entry.objects.get(event="drift.adopted").details["approved"] is False
    assert Drift.objects.count() == 1
    happens(booked, "position", conid=int(SPY), quantity=2)
    assert the_case(booked, "position_difference").amount == 2, "what comes later is a case of its own"


def test_an_adopted_trade_stays_without_an_order_of_ours(booked):
    happens(booked, "manual_order", conid=int(AAPL), side="BUY", quantity=7, orderType="MKT")
    case = the_case(booked, "unknown_execution")
    adopting.settle_drift(
        actor=booked.person("bob"), drift_id=case.pk, wanted="adopted", reason="mine, in TWS"
    )
    assert Execution.objects.get(pk=case.execution_id).order is None
    assert Order.objects.count() == 1, "no order is made up for it"


def test_what_comes_right_by_itself_is_resolved(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    happens(booked, "position", conid=int(SPY), quantity=-3)
    until(lambda: rounds(booked) or Drift.objects.filter(pk=case.pk, status="resolved").exists())


@pytest.mark.parametrize("wanted", ["adopted", "ignored"])
def test_settling_needs_a_permitted_person_a_reason_and_an_open_case(booked, wanted):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    settle = {"drift_id": case.pk, "wanted": wanted}
    with pytest.raises(ReasonRequired):
        adopting.settle_drift(actor=booked.person("bob"), **settle, reason=" ")
    with pytest.raises(PermissionMissing):
        adopting.settle_drift(actor=booked.scanner, **settle, reason="because")
    adopting.settle_drift(actor=booked.person("bob"), **settle, reason="because")
    with pytest.raises(StateConflict):
        adopting.settle_drift(actor=booked.person("carol"), **settle, reason="because")
    rounds(booked, 3)
    assert Drift.objects.count() == 1


def test_unexplained_units_let_a_live_account_only_reduce_once_and_a_person_puts_it_back(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    assert not TradingState.objects.exclude(state="active").exists(), "paper is not stopped"
    Account.objects.filter(pk=booked.account.pk).update(environment="live")
    booked.turn()
    state = TradingState.objects.get(scope="3-account", scope_id=str(booked.account.pk))
    assert (state.state, state.reason[:26]) == ("reducing", "drift: Position Difference")
    TradingState.objects.filter(pk=state.pk).update(state="active")
    booked.turn()
    state.refresh_from_db()
    case.refresh_from_db()
    assert (state.state, case.status) == ("active", "open"), "what a person put back stays so"


def test_cash_alone_stops_nobody(booked):
    happens(booked, "cash", amount="-480")
    the_case(booked, "cash_difference")
    Account.objects.filter(pk=booked.account.pk).update(environment="live")
    booked.turn()
    assert not TradingState.objects.exclude(state="active").exists()


def test_on_live_another_person_decides_on_exactly_this_difference(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    Account.objects.filter(pk=booked.account.pk).update(environment="live")
    settle = {"drift_id": case.pk, "wanted": "adopted", "reason": "transferred"}
    adopting.settle_drift(actor=booked.person("bob"), **settle)
    case.refresh_from_db()
    assert case.status == "open"
    request = DecisionRequest.objects.get(subject_kind="drift")
    with pytest.raises(SelfApproval):
        decide(booked, "bob", request)
    decide(booked, "carol", request)
    case.refresh_from_db()
    assert (case.status, case.settled_by.username) == ("adopted", "bob")


def test_a_difference_that_grew_meanwhile_is_another_question(booked):
    happens(booked, "position", conid=int(SPY), quantity=3)
    case = the_case(booked, "position_difference")
    Account.objects.filter(pk=booked.account.pk).update(environment="live")
    adopting.settle_drift(actor=booked.person("bob"), drift_id=case.pk, wanted="ignored", reason="known")
    Drift.objects.filter(pk=case.pk).update(amount=4)
    with pytest.raises(CerberoError, match="What you decided on"):
        decide(booked, "carol", DecisionRequest.objects.get(subject_kind="drift"))


def decide(floor, who, request):
    return adopting.decide_drift(
        actor=floor.person(who), request_id=request.pk, digest=request.digest, is_yes=True, reason="yes"
    )


def test_a_liquidation_pages_everybody_at_once(booked):
    Webhook.objects.create(name="desk", host="example.com", sealed_url=b"x", sealed_secret=b"y")
    happens(booked, "liquidate", conid=int(AAPL))
    case = the_case(booked, "liquidation_trade")
    assert (case.cause, case.amount) == ("liquidation", -10)
    assert Delivery.objects.filter(subject__startswith="URGENT Drift on").count() == 1


def test_an_order_amended_elsewhere_differs_and_comes_right_again(booked):
    near = booked.near()
    away = (near * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = booked.approved(limit_price=away)
    until(lambda: booked.turn() or booked.order(ticket).broker_order_id)
    order = booked.order(ticket)
    amend = {"order_id": int(order.broker_order_id)}
    booked.sim.control("POST", "/_sim/amend_order", amend | {"price": str(away - 1)})
    case = the_case(booked, "terms_differ")
    assert list(case.evidence["differs"]) == ["limit_price"]
    booked.sim.control("POST", "/_sim/amend_order", amend | {"price": str(away)})
    until(lambda: rounds(booked) or Drift.objects.filter(pk=case.pk, status="resolved").exists())


def test_an_idle_account_rests_and_whatever_is_open_or_new_wakes_it(booked):
    def due():
        booked.account.refresh_from_db()
        account = Account.objects.select_related("login", "book").get(pk=booked.account.pk)
        return is_due(account, account.book.asked_at + timedelta(seconds=30))

    rounds(booked, 2)
    assert not due()
    happens(booked, "manual_order", conid=int(AAPL), side="BUY", quantity=7, orderType="MKT")
    the_case(booked, "unknown_execution")
    assert due(), "a fill that was applied after the comparison"
    rounds(booked, 2)
    booked.approved(limit_price=(booked.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    booked.turn()
    assert due(), "an order rests"
    trading.ensure_all()
    booked.login.__class__.objects.update(state_changed_at=ClockTime())
    assert due(), "a new session"
