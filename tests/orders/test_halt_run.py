"""A halt at a real broker: what it cancels, what it keeps, what it may claim, and that it stays armed."""

from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.models import Quote
from cerbero import access
from cerbero.errors import BadInput, PermissionMissing
from orders import halting, trading
from orders.models import Halt, HaltMode, Order, TradingState
from tests.orders.world import AAPL, until

EVERYTHING, BOT = TradingState.Scope.EVERYTHING, TradingState.Scope.BOT


@pytest.fixture
def busy(floor):
    """Four orders that rest, none of which can fill, and no position."""
    rest(floor, 4)
    return floor


def rest(world, count, **changes):
    """Approved orders that rest at the broker, well away from the market."""
    price = (world.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    tickets = []
    for n in range(count):
        # On a busy machine so many would outlast one quote.
        Quote.objects.update(received_at=timezone.now())
        tickets.append(
            world.approved(limit_price=price - Decimal("0.01") * n, quantity=Decimal(n + 10), **changes)
        )
    until(lambda: world.turn() or {world.order(each).status for each in tickets} == {"accepted"})
    return tickets


def buy(world, quantity=10):
    ticket = world.approved(limit_price=world.near() + 1, quantity=Decimal(quantity))
    world.turn()
    until(lambda: world.reconcile() or world.turn() or world.order(ticket).status == "filled")


def manual(world, side, quantity, **terms):
    body = {"account": world.account.broker_account_id, "conid": int(AAPL), "side": side}
    order = world.sim.control("POST", "/_sim/manual_order", body | {"quantity": quantity} | terms)
    return order["order_id"]


def far(world, percent):
    return str((world.near() * (100 + percent) / 100).quantize(Decimal("0.01")))


def halt(world, mode=HaltMode.STOP_AND_CANCEL_OPENING, **options):
    return halting.halt_trading(actor=world.person("bob"), mode=mode, reason="test", **options)


def working(world):
    live = ("PreSubmitted", "Submitted", "PendingCancel")
    return {row["order_id"] for row in world.at_broker() if row["status"] in live}


def fates(report):
    return {int(row["broker_order_id"]): (row["action"], row["fate"]) for row in report["orders"]}


def finish(world, report):
    """The orders loop goes on until everything is proven."""
    done = until(
        lambda: world.turn() or Halt.objects.filter(pk=report["halt_id"], finished_at__isnull=False).first()
    )
    return halting.report_of(done)


def test_everything_is_canceled_and_both_claims_are_proven_within_the_wait(busy):
    report = halt(busy, HaltMode.CANCEL_ALL, wait_seconds=60)
    assert report["finished_at"] is not None
    assert working(busy) == set()
    assert set(fates(report).values()) == {("cancel", "canceled")}
    assert len(report["orders"]) == 4
    assert (report["no_working_orders"], report["flat"], report["still_open"]) == (True, True, 0)
    assert report["seconds_to_halt"] <= report["seconds_to_last_cancel"] <= report["seconds_to_proof"]


def test_one_call_cancels_all_of_an_account(busy):
    halt(busy, HaltMode.CANCEL_ALL, wait_seconds=60)
    sent = Entry.objects.filter(event="cancels.sent")
    asked = {(each.subject_id, len(each.details["broker_order_ids"])) for each in sent}
    assert len(asked) == 2, "one call for each of the two accounts, whatever is known to rest there"
    assert (str(busy.account.pk), 4) in asked
    ones = Entry.objects.filter(event="cancel.sent").order_by("pk").first()
    assert ones is None or ones.pk > sent.order_by("pk")[1].pk, "one by one only what still worked later"


def test_what_opens_is_canceled_and_exits_stay(floor):
    buy(floor)
    stop = manual(floor, "SELL", 10, orderType="STP", price=far(floor, -10))
    profit = manual(floor, "SELL", 10, orderType="LMT", price=far(floor, 10))
    more = manual(floor, "BUY", 5, orderType="LMT", price=far(floor, -10))
    flip = manual(floor, "SELL", 11, orderType="LMT", price=far(floor, 10))
    (entry,) = rest(floor, 1)
    own = int(floor.order(entry).broker_order_id)
    report = finish(floor, halt(floor))
    assert working(floor) == {stop, profit}
    found = fates(report)
    assert found[stop] == found[profit] == ("keep", "accepted")
    assert found[more] == found[flip] == found[own] == ("cancel", "canceled")
    assert (report["no_working_orders"], report["flat"], report["kept"]) == (False, False, 2)


def test_what_people_enter_at_the_broker_after_the_proof_is_left_alone(floor):
    buy(floor)
    stop = manual(floor, "SELL", 10, orderType="STP", price=far(floor, -10))
    report = finish(floor, halt(floor))
    assert working(floor) == {stop}
    floor.sim.control("POST", "/_sim/fill", {"order_id": stop})
    by_hand = manual(floor, "BUY", 3, orderType="LMT", price=far(floor, -10))
    until(
        lambda: floor.reconcile() or floor.turn() or not floor.account.positions.exclude(quantity=0).exists()
    )
    assert working(floor) == {by_hand}
    assert Halt.objects.get(pk=report["halt_id"]).finished_at is not None


def test_stop_new_cancels_nothing(busy):
    report = halt(busy, HaltMode.STOP_NEW)
    busy.turn()
    assert len(working(busy)) == 4
    assert (report["orders"], report["no_working_orders"], report["flat"]) == ([], False, False)


def test_flatten_closes_every_position(busy):
    buy(busy, 25)
    report = finish(busy, halt(busy, HaltMode.FLATTEN))
    assert (report["no_working_orders"], report["flat"]) == (True, True)
    assert busy.sim.book()["accounts"][busy.account.broker_account_id]["positions"] == {}
    (close,) = report["closes"].values()
    assert Order.objects.get(ticket_id=close["ticket"]).status == "filled"


def test_a_bot_cancels_its_own_alone_and_cannot_flatten(busy):
    by_hand = manual(busy, "BUY", 1, orderType="LMT", price=far(busy, -10))
    me = {"actor": busy.scanner, "scope": BOT, "scope_id": str(busy.bot.pk), "reason": "x"}
    with pytest.raises(BadInput):
        halting.halt_trading(mode=HaltMode.FLATTEN, **me)
    report = finish(busy, halting.halt_trading(mode=HaltMode.CANCEL_ALL, **me))
    assert working(busy) == {by_hand}
    assert (len(report["orders"]), report["no_working_orders"], report["flat"]) == (4, True, False)


def test_flatten_needs_a_person_who_may_close(busy):
    with pytest.raises(PermissionMissing):
        halting.halt_trading(actor=access.system("test"), mode=HaltMode.FLATTEN, reason="x")
    assert TradingState.objects.get(scope=EVERYTHING).state == "active"


def test_a_drill_cancels_nothing_files_its_report_and_puts_the_state_back(busy):
    report = halt(busy, HaltMode.CANCEL_ALL, is_drill=True)
    assert len(working(busy)) == 4
    assert TradingState.objects.get(scope=EVERYTHING).state == "active"
    row = Halt.objects.get(pk=report["halt_id"])
    assert row.is_drill
    assert row.finished_at is not None
    assert set(fates(report).values()) == {("cancel", "accepted")}
    assert not Entry.objects.filter(event__in=["cancel.sent", "cancels.sent"]).exists()
    rest(busy, 1)


def test_a_broker_that_is_down_is_said_and_tried_until_it_answers(busy):
    busy.sim.fault("status", status=503, times=100_000)
    report = halt(busy, HaltMode.CANCEL_ALL, wait_seconds=0.5)
    row = Halt.objects.get(pk=report["halt_id"])
    (problem,) = until(lambda: busy.turn() or halting.report_of(row)["problems"])
    assert (problem["login"], problem["tries"] > 0) == ("desk-1", True)
    assert (report["no_working_orders"], report["finished_at"]) == (False, None)
    busy.sim.control("DELETE", "/_sim/faults")
    report = finish(busy, report)
    assert working(busy) == set()
    assert (report["problems"], report["no_working_orders"]) == ([], True)


def test_an_order_that_turns_up_late_is_canceled_and_the_proof_made_again(busy):
    report = finish(busy, halt(busy, HaltMode.CANCEL_ALL))
    row = Order.objects.filter(status="canceled").first()
    # The broker's word is never refused: an order that it called canceled works again.
    late = int(manual(busy, "BUY", 1, orderType="LMT", price=far(busy, -10)))
    Order.objects.filter(pk=row.pk).update(
        broker_order_id=str(late), cancel_requested_at=None, reported_at=None
    )
    until(lambda: busy.reconcile() or busy.turn() or late not in working(busy))
    report = finish(busy, report)
    assert report["no_working_orders"]
    assert Entry.objects.filter(event="halt.reopened").count() == 1


def test_a_persons_close_is_let_through(floor):
    from tests.orders.test_close_position import _close

    buy(floor)
    finish(floor, halt(floor, HaltMode.CANCEL_ALL))
    ticket = _close(floor, floor.person("bob"))
    until(lambda: floor.turn() or floor.reconcile() or floor.order(ticket).status == "filled")


def test_resuming_disarms(busy):
    report = finish(busy, halt(busy, HaltMode.CANCEL_ALL))
    trading.resume_trading(actor=busy.person("bob"), reason="looked")
    assert Halt.objects.get(pk=report["halt_id"]).released_at is not None
    rest(busy, 1)
    busy.turn()
    assert len(working(busy)) == 1
