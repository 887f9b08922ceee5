"""Groups from proposal to the broker: one ticket, one digest, one approval, one request; each leg under its own id."""

from dataclasses import replace
from decimal import Decimal

import pytest

from brokers.base import OrderType, Side, TimeInForce
from cerbero.errors import GroupImpossible, IdempotencyConflict, RiskRefused
from orders.canonical import client_order_id, ticket_digest
from orders.models import Attempt, AttemptLeg, Order, Ticket
from orders.tickets import GroupProposal
from tests.orders.groups.looks import legs, look, near, statuses
from tests.orders.world import until


def _settled(floor, ticket, *wanted: str) -> bool:
    look(floor)
    return statuses(ticket) == wanted


def test_a_bracket_is_one_ticket_with_one_digest_over_all_of_it(desk):
    ticket = desk.place_group(desk.bracket())
    assert [(leg.number, leg.side, leg.order_type) for leg in legs(ticket)] == [
        (1, "buy", "limit"),
        (2, "sell", "limit"),
        (3, "sell", "stop"),
    ]
    assert ticket.digest == ticket_digest(ticket, desk.account, legs(ticket))
    assert ticket.request.summary.count(";") == 2
    # The entry opens; its exits only take that back.
    assert ticket.notional == Decimal(1900)
    assert ticket.request.facts["position"] == {"before": "0", "after": "10", "effect": "opening"}


def test_how_the_orders_hang_together_is_in_the_digest(desk):
    ticket = desk.place_group(desk.bracket())
    found = legs(ticket)
    for other in ("", "oto", "oco"):
        assert (
            ticket_digest(Ticket(account=ticket.account, group=other), desk.account, found) != ticket.digest
        )


def test_the_same_key_is_the_same_group_and_another_leg_is_refused(desk):
    group = desk.bracket()
    ticket = desk.place_group(group)
    assert desk.place_group(group).pk == ticket.pk
    entry, profit, stop = group.legs
    wider = GroupProposal("bracket", (entry, profit, replace(stop, stop_price=Decimal("150.00"))))
    with pytest.raises(IdempotencyConflict) as refused:
        desk.place_group(wider)
    assert refused.value.details["differs"] == ["3.stop_price"]
    with pytest.raises(IdempotencyConflict) as refused:
        desk.place_group(GroupProposal("oto", (entry, stop)))
    assert refused.value.details["differs"] == ["group"]
    assert Order.objects.count() == 3


SALE = {"side": Side.SELL}
PROFIT = SALE | {"limit_price": Decimal(200)}
STOP = SALE | {"order_type": OrderType.STOP, "limit_price": None, "stop_price": Decimal(180)}
TRAIL = STOP | {"order_type": OrderType.TRAILING_STOP, "trailing_amount": Decimal(5)}


@pytest.mark.parametrize(
    ("kind", "wanted", "words"),
    [
        ("bracket", [{}, PROFIT], "has 3 orders, not 2"),
        ("bracket", [{}, PROFIT | {"side": Side.BUY}, STOP], "take profit must sell"),
        ("bracket", [{}, PROFIT | {"quantity": Decimal(11)}, STOP], "more than the entry"),
        ("bracket", [{}, PROFIT | {"limit_price": Decimal(189)}, STOP], "above the entry's price"),
        ("bracket", [{}, PROFIT, STOP | {"stop_price": Decimal(191)}], "below the entry's price"),
        ("bracket", [{}, PROFIT, STOP | {"stop_price": Decimal(190)}], "below the entry's price"),
        ("bracket", [{}, PROFIT | {"order_type": OrderType.MARKET}, STOP], "is a limit order, not market"),
        (
            "bracket",
            [{}, PROFIT, STOP | {"order_type": OrderType.LIMIT}],
            "is a stop, stop-limit, trailing-stop or trailing-stop-limit order, not limit",
        ),
        ("bracket", [{"time_in_force": TimeInForce.IOC}, PROFIT, STOP], "must rest"),
        ("bracket", [{"time_in_force": TimeInForce.GTC}, PROFIT, STOP], "ends with the day"),
        ("bracket", [{}, PROFIT, TRAIL | {"stop_price": Decimal(191)}], "below the entry's price"),
        (
            "bracket",
            [{}, PROFIT, STOP | {"order_type": OrderType.STOP_LIMIT, "limit_price": Decimal(181)}],
            "stop loss's limit must not be above its stop",
        ),
        ("oto", [{}, STOP, PROFIT], "has 2 orders, not 3"),
        ("oto", [{}, STOP | {"order_type": OrderType.MARKET}], "not market"),
        (
            "oto",
            [{"order_type": OrderType.MARKET, "limit_price": None}, STOP | {"stop_price": Decimal(195)}],
            "below",
        ),
        ("oco", [PROFIT, STOP | {"side": Side.BUY}], "on one side"),
        ("oco", [PROFIT, STOP | {"quantity": Decimal(9)}], "same quantity"),
        ("oco", [PROFIT, PROFIT | {"limit_price": Decimal(210)}], "the other a stop"),
        ("oco", [PROFIT | {"limit_price": Decimal(170)}, STOP], "must be above the stop"),
    ],
)
def test_what_cannot_be_such_a_group_is_refused_with_a_sentence(desk, kind, wanted, words):
    with pytest.raises(GroupImpossible) as refused:
        desk.place_group(desk.group(kind, *wanted))
    assert words in " ".join(refused.value.details["problems"])
    assert not Ticket.objects.exists()


def test_a_short_bracket_has_its_prices_the_other_way_round(desk):
    buy = {"side": Side.BUY}
    short = {"side": Side.SELL}
    down, up = {"limit_price": Decimal(180)}, {"order_type": OrderType.STOP, "limit_price": None}
    assert desk.place_group(desk.group("bracket", short, buy | down, buy | up | {"stop_price": Decimal(195)}))
    with pytest.raises(GroupImpossible):
        desk.place_group(desk.group("bracket", short, buy | down, buy | up | {"stop_price": Decimal(185)}))


def test_exits_may_lie_outside_the_collar_and_each_leg_counts_as_a_working_order(desk):
    far = desk.group(
        "bracket", {}, PROFIT | {"limit_price": Decimal(400)}, STOP | {"stop_price": Decimal(90)}
    )
    assert desk.place_group(far).status != "denied"
    type(desk.account.limits).objects.update(working_orders_per_side_max=1)
    with pytest.raises(RiskRefused) as refused:
        desk.place_group(desk.bracket())
    assert [check["name"] for check in refused.value.details["checks"]] == ["Take profit: working orders"]
    off = desk.group("bracket", {}, PROFIT | {"limit_price": Decimal("200.001")}, STOP)
    type(desk.account.limits).objects.update(working_orders_per_side_max=10)
    with pytest.raises(RiskRefused):
        desk.place_group(off)


def test_a_bracket_works_its_exits_wait_and_each_leg_has_its_own_id(known):
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.turn()
    assert statuses(ticket) == ("accepted",) * 3
    attempt = Attempt.objects.get()
    assert attempt.status == "answered"
    ids = list(AttemptLeg.objects.order_by("order__number").values_list("client_order_id", flat=True))
    assert ids == [attempt.client_order_id, *(client_order_id(ticket, 1, leg) for leg in (2, 3))]
    booked = {row["order_id"]: row for row in known.at_broker()}
    for leg in legs(ticket):
        row = booked[int(leg.broker_order_id)]
        assert row["order_type"] == {1: "LMT", 2: "LMT", 3: "STP"}[leg.number]
        assert row["status"] == ("Submitted" if leg.number == 1 else "PreSubmitted")
    assert [row["cOID"] for row in booked.values()].count(None) == 2
    known.reconcile()
    known.turn()
    assert not ticket.account.drifts.exists()


def test_a_take_profit_that_fills_cancels_the_stop(known):
    ask = known.near()
    ticket = known.decide(known.place_group(known.bracket(ask + 1)))
    known.turn()
    until(lambda: _settled(known, ticket, "filled", "accepted", "accepted"))
    _entry, profit, _stop = legs(ticket)
    known.sim.control("POST", "/_sim/fill", {"order_id": int(profit.broker_order_id)})
    until(lambda: _settled(known, ticket, "filled", "filled", "canceled"))
    ticket.refresh_from_db()
    assert ticket.status == "done"
    assert not ticket.account.drifts.exists()


def test_a_lost_answer_to_a_bracket_is_settled_order_by_order(known):
    ticket = known.decide(known.place_group(known.bracket(near(known))))
    known.sim.fault("drop_after", path="/reply", times=1)
    known.turn()
    assert Attempt.objects.get().status == "in_doubt"
    assert set(statuses(ticket)) == {"submitted"}
    assert _settled(known, ticket, "accepted", "accepted", "accepted")
    assert Attempt.objects.get().status == "settled"
    assert len(known.at_broker()) == 3
    assert not ticket.account.drifts.exists()
