"""Amending one order of a group: through the same gate, within the group that was approved, one order at a time."""

from decimal import Decimal

import pytest

from cerbero.errors import GroupImpossible, StateConflict
from orders import amending, recheck
from orders.amended import as_approved
from orders.canonical import ticket_digest
from orders.models import ChangeAttempt, TradingState
from orders.recheck import Denied
from tests.orders.groups.looks import legs, look, near, statuses
from tests.orders.world import until
from tests.people.desk import LiveDesk


@pytest.fixture
def bracket(known):
    """Ten at 2 % below the ask with its exits, working."""
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.turn()
    assert statuses(ticket) == ("accepted",) * 3
    return ticket


def _amend(floor, order, **wanted):
    if "quantity" in wanted:
        wanted["quantity_is"] = "total"
    return amending.amend_order(actor=floor.scanner, order_id=order.pk, **wanted)


def _approve(floor, amendment):
    amending.decide_amendment(
        actor=floor.person("bob"), amendment_id=amendment.pk, digest=amendment.request.digest, is_yes=True
    )


def _ends(floor, amendment, *wanted):
    until(lambda: floor.turn() or amendment.refresh_from_db() or amendment.status in wanted)
    return amendment.status


def test_a_stop_is_moved_by_people_and_its_siblings_wait_for_that(known, bracket):
    _entry, profit, stop = legs(bracket)
    closer = stop.stop_price + 1
    amendment = _amend(known, stop, stop_price=closer)
    assert (amendment.status, amendment.tightens) == ("proposed", False)
    with pytest.raises(StateConflict, match="Another order of this group"):
        _amend(known, profit, limit_price=profit.limit_price + 1)
    _approve(known, amendment)
    assert _ends(known, amendment, "done", "denied") == "done"
    (row,) = [each for each in known.at_broker() if each["order_type"] == "STP"]
    assert (Decimal(row["stop_price"]), row["modifications"], row["parent_id"] is not None) == (
        closer,
        1,
        True,
    )
    known.reconcile()
    known.turn()
    assert not bracket.account.drifts.exists()


def test_less_of_an_exit_is_asked_about_and_less_of_an_entry_is_not(known, bracket):
    entry, profit, _stop = legs(bracket)
    smaller = _amend(known, profit, quantity=Decimal(6))
    assert (smaller.status, smaller.tightens) == ("proposed", False), "a smaller exit protects less"
    amending.decide_amendment(
        actor=known.person("bob"),
        amendment_id=smaller.pk,
        digest=smaller.request.digest,
        is_yes=False,
        reason="keep it",
    )
    lower = _amend(known, entry, limit_price=entry.limit_price - 1)
    assert (lower.status, lower.request) == ("allowed", None)
    assert _ends(known, lower, "done", "denied") == "done"


@pytest.mark.parametrize(
    ("number", "wanted", "words"),
    [
        (1, {"quantity": Decimal(6)}, "more than the entry"),
        (2, {"quantity": Decimal(11)}, "more than the entry"),
        (3, {"stop_price": Decimal(10_000)}, "below the entry's price"),
        (2, {"limit_price": Decimal(1)}, "above the entry's price"),
    ],
)
def test_what_would_not_be_such_a_group_any_more_is_refused_in_words(known, bracket, number, wanted, words):
    with pytest.raises(GroupImpossible) as refused:
        _amend(known, legs(bracket)[number - 1], **wanted)
    assert words in " ".join(refused.value.details["problems"])
    assert not ChangeAttempt.objects.exists()


def test_the_stop_of_an_open_position_follows_the_price_while_trading_is_reducing(known):
    ticket = known.decide(known.place_group(known.bracket(near(known, "1.01"))))
    until(lambda: look(known) or statuses(ticket)[0] == "filled")
    entry, profit, stop = legs(ticket)
    TradingState.objects.filter(scope="3-account").update(state="reducing")
    with pytest.raises(GroupImpossible, match="These orders"):
        _amend(known, stop, stop_price=profit.limit_price + 1)
    follows = _amend(known, stop, stop_price=(entry.limit_price * Decimal("0.97")).quantize(Decimal("0.01")))
    _approve(known, follows)
    assert _ends(known, follows, "done", "denied") == "done"
    assert legs(ticket)[2].stop_price == follows.stop_price


def test_a_group_that_is_made_safe_is_not_amended(known, bracket):
    type(bracket).objects.update(group_state="unwinding")
    with pytest.raises(StateConflict, match="made safe"):
        _amend(known, legs(bracket)[0], limit_price=legs(bracket)[0].limit_price - 1)


def test_of_an_oco_a_price_may_move_and_a_size_may_not(known):
    price = known.near()
    up, down = ((price * Decimal(each)).quantize(Decimal("0.01")) for each in ("1.04", "0.96"))
    buy_high = {"order_type": "stop", "limit_price": None, "stop_price": up}
    ticket = known.decide(known.place_group(known.group("oco", {"limit_price": down}, buy_high)))
    known.turn()
    assert statuses(ticket) == ("accepted", "accepted")
    low, _high = legs(ticket)
    with pytest.raises(GroupImpossible):
        _amend(known, low, quantity=Decimal(6))
    moved = _amend(known, low, limit_price=down - 1)
    _approve(known, moved)
    assert _ends(known, moved, "done", "denied") == "done"


def test_after_an_amendment_the_group_still_proves_what_was_approved(known, bracket):
    """An exit that the broker drops later is sent again under the first approval (orders/recheck.py)."""
    entry = legs(bracket)[0]
    assert _ends(known, _amend(known, entry, limit_price=entry.limit_price - 1), "done", "denied") == "done"
    now = legs(bracket)
    assert ticket_digest(bracket, bracket.account, now) != bracket.digest
    assert ticket_digest(bracket, bracket.account, [as_approved(leg) for leg in now]) == bracket.digest


def test_terms_that_no_amendment_of_ours_led_to_are_not_sent_again(known, bracket, fresh_database):
    stop = legs(bracket)[2]
    amendment = _amend(known, stop, stop_price=stop.stop_price + 1)
    _approve(known, amendment)
    assert _ends(known, amendment, "done", "denied") == "done"
    moved = legs(bracket)[2]
    recheck._look_at_amendments(moved)
    further = legs(bracket)[2]
    further.stop_price += 1
    with pytest.raises(Denied, match="terms_changed"):
        recheck._look_at_amendments(further)
    with LiveDesk(known, {}, fresh_database).as_owner("orders_amendment") as owner:
        owner.execute("UPDATE orders_amendment SET proof = 'written by hand'")
    with pytest.raises(Denied, match="terms_changed"):
        recheck._look_at_amendments(moved)
