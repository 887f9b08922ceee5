"""Half a group taken: made safe by the loop as attempts of the same approval, audited and told."""

from datetime import timedelta
from decimal import Decimal

import pytest

from audit.models import Entry
from brokers.reports import record_reports
from brokers.services import broker_for
from cerbero.models import User
from orders.models import Attempt, Execution, Order, TradingState
from orders.notices.models import Delivery
from tests.orders.groups.looks import legs, look, near, state, statuses
from tests.orders.world import until


@pytest.fixture
def told(known, settings):
    """What people are told."""
    settings.EMAIL_IS_ON = True
    User.objects.filter(username="bob").update(email="bob@desk.example")
    return lambda: [row.subject + " " + row.body for row in Delivery.objects.order_by("id")]


def test_a_refused_stop_takes_its_resting_entry_with_it(known, told):
    known.sim.config(refused_in_groups=["STP"])
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.turn()
    assert statuses(ticket) == ("accepted", "accepted", "rejected")
    until(lambda: look(known) or statuses(ticket) == ("canceled", "canceled", "rejected"))
    assert state(ticket) == "settled"
    assert {row["status"] for row in known.at_broker()} == {"Cancelled"}
    assert any("URGENT Half of this bracket was taken" in words for words in told())
    assert Entry.objects.filter(event="group.moved").exists()


def test_a_filled_entry_whose_stop_was_refused_gets_that_stop_again_alone(known, told):
    known.sim.config(refused_in_groups=["STP"], shuffle_answers=True)
    ticket = known.decide(known.place_group(known.bracket(near(known, "1.01"))))
    until(lambda: look(known) or len(legs(ticket)) == 4)
    until(lambda: look(known) or statuses(ticket) == ("filled", "canceled", "rejected", "accepted"))
    *_, refused, again = legs(ticket)
    assert (again.completes, again.quantity, again.stop_price) == (refused, Decimal(10), refused.stop_price)
    first, second = Attempt.objects.order_by("number")
    assert (second.digest, second.status) == (first.digest, "answered")
    (stop,) = [row for row in known.at_broker() if row["order_type"] == "STP"]
    assert (stop["cOID"], stop["side"], Decimal(stop["quantity"])) == (
        second.client_order_id,
        "SELL",
        Decimal(10),
    )
    assert any("NAKED until" in words for words in told())
    assert state(ticket) == ""
    known.sim.control("POST", "/_sim/fill", {"order_id": stop["order_id"]})
    until(lambda: look(known) or state(ticket) == "settled")
    assert not ticket.account.drifts.exists()


def test_a_stop_that_is_refused_twice_pages_naked_and_is_not_tried_for_ever(known, told):
    known.sim.config(refused_in_groups=["STP"], refused_types=["STP"])
    ticket = known.decide(known.place_group(known.bracket(near(known, "1.01"))))
    until(lambda: look(known) or state(ticket) == "naked")
    look(known)
    assert statuses(ticket)[-1] == "rejected"
    assert Attempt.objects.count() == 2
    assert any("URGENT Naked position" in words and "protect it anew" in words for words in told())


def test_a_halt_keeps_the_stop_back_and_reducing_does_not(known):
    known.sim.config(refused_in_groups=["STP"])
    ticket = known.decide(known.place_group(known.bracket(near(known, "1.01"))))
    known.turn()
    TradingState.objects.filter(scope="3-account").update(state="halted")
    until(lambda: look(known) or statuses(ticket) == ("filled", "canceled", "rejected"))
    look(known)
    assert (Order.objects.count(), state(ticket)) == (3, "completing")
    TradingState.objects.filter(scope="3-account").update(state="reducing")
    look(known)
    assert statuses(ticket)[-1] == "accepted"


def test_of_an_oco_of_which_one_was_refused_the_other_is_canceled(known, told):
    known.sim.config(refused_in_groups=["STP"])
    price = known.near()
    up, down = ((price * Decimal(each)).quantize(Decimal("0.01")) for each in ("1.04", "0.96"))
    buy_low = {"limit_price": down}
    buy_high = {"order_type": "stop", "limit_price": None, "stop_price": up}
    ticket = known.decide(known.place_group(known.group("oco", buy_low, buy_high)))
    until(lambda: look(known) or statuses(ticket) == ("canceled", "rejected"))
    assert state(ticket) == "settled"
    assert any("the other is canceled" in words for words in told())


def test_a_group_in_doubt_that_the_broker_lists_is_not_absent_because_nobody_has_read_the_inbox_yet(known):
    """The worker asks and the orders process applies: whoever asks may be ahead, however often."""
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.sim.fault("drop_after", path="/reply/", method="POST", times=1)
    known.turn()
    assert Attempt.objects.get().status == "in_doubt"
    for _ in range(4):
        known.reconcile(grace=timedelta(0))
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.absent_count, statuses(ticket)) == ("in_doubt", 0, ("submitted",) * 3)
    known.turn()
    assert (Attempt.objects.get().status, statuses(ticket)) == ("settled", ("accepted",) * 3)
    assert not ticket.account.drifts.exists()


def test_a_fill_of_an_exit_that_comes_before_the_exits_own_row_is_no_strangers(known):
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.sim.fault("drop_after", path="/reply/", method="POST", times=1)
    known.turn()
    known.sim.control("POST", "/_sim/fill", {"order_id": known.at_broker()[0]["order_id"]})
    stop = next(row for row in known.at_broker() if row["order_type"] == "STP")
    known.sim.control("POST", "/_sim/fill", {"order_id": stop["order_id"]})
    with broker_for(known.login) as broker:
        fills = until(lambda: [row for row in broker.executions(1, None) if row.side == "sell"])
    assert not fills[0].client_order_id
    record_reports(known.login, "stream", [(fills[0], None)])
    known.turn()
    assert not Execution.objects.exists()
    until(lambda: look(known) or state(ticket) == "settled")
    assert statuses(ticket) == ("filled", "canceled", "filled")
    assert not Execution.objects.filter(order=None).exists()
    assert not ticket.account.drifts.exists()
