"""What every broker adapter must hold about orders (O) and faults (F), over the wire."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brokers.base import Answer, BrokerOrderState, OrderType, Side
from cerbero.errors import BrokerRejected, BrokerUnavailable, LeaseLost, OutcomeUnknown, SessionExpired
from tests.brokers.desk import AAPL, eventually, market, order
from tests.simulator_process import start_simulator

# Orders


def test_o01_a_resting_order_is_accepted_and_found_by_our_id(desk):
    terms = order()
    answer = desk.broker.place(desk.account, [terms])
    assert answer.question is None
    (row,) = answer.orders
    found = desk.find(terms.client_order_id)
    assert found.broker_order_id == row.broker_order_id
    assert found.state is BrokerOrderState.ACCEPTED
    assert (found.side, found.order_type) == (Side.BUY, OrderType.LIMIT)
    assert (found.total_quantity, found.filled_quantity, found.limit_price) == (1, 0, terms.limit_price)
    assert (found.broker_account_id, found.broker_instrument_id) == (desk.account, AAPL)
    assert desk.broker.order(row.broker_order_id).state is BrokerOrderState.ACCEPTED


def test_o02_a_market_order_fills_and_its_execution_is_exact(desk):
    terms = market(quantity=Decimal(3))
    before = {p.broker_instrument_id: p.quantity for p in desk.broker.positions(desk.account)}
    (row,) = desk.broker.place(desk.account, [terms]).orders
    filled = eventually(
        lambda: (o := desk.broker.order(row.broker_order_id)).state is BrokerOrderState.FILLED and o
    )
    assert filled.filled_quantity == 3
    fills = eventually(
        lambda: [
            e for e in desk.broker.executions() if e.client_order_id == terms.client_order_id and e.commission
        ]
    )
    assert sum(fill.quantity for fill in fills) == 3
    assert {type(fill.price) for fill in fills} == {Decimal}
    assert all(fill.broker_account_id == desk.account and fill.side is Side.BUY for fill in fills)
    assert all(datetime.now(UTC) - fill.executed_at < timedelta(minutes=1) for fill in fills)
    after = {p.broker_instrument_id: p.quantity for p in desk.broker.positions(desk.account)}
    assert after[AAPL] - before.get(AAPL, 0) == 3


def test_o03_a_duplicate_id_is_in_doubt_and_adds_no_order(desk):
    terms = order()
    desk.broker.place(desk.account, [terms])
    with pytest.raises(OutcomeUnknown) as refused:
        desk.broker.place(desk.account, [terms])
    assert refused.value.details["duplicate"] is True
    assert len([o for o in desk.broker.open_orders() if o.client_order_id == terms.client_order_id]) == 1


def test_o04_a_question_comes_in_the_brokers_words_and_a_yes_sends_the_order(desk):
    desk.sim.config(questions=["o10153", "o451"])
    terms = order()
    answer, asked = desk.broker.place(desk.account, [terms]), []
    while answer.question is not None:
        assert desk.find(terms.client_order_id) is None
        asked += answer.question.message_ids
        assert answer.question.messages[0]
        answer = desk.broker.answer(answer.question, confirmed=True)
    assert asked == ["o10153", "o451"]
    assert answer.orders[0].broker_order_id
    assert desk.find(terms.client_order_id).state is BrokerOrderState.ACCEPTED


def test_o05_a_no_leaves_no_order(desk):
    desk.sim.config(questions=["o10153"])
    terms = order()
    question = desk.broker.place(desk.account, [terms]).question
    assert desk.broker.answer(question, confirmed=False) == Answer()
    assert desk.find(terms.client_order_id) is None


def test_o06_a_question_that_went_stale_is_in_doubt(desk):
    desk.sim.config(questions=["o10153"])
    stale = desk.broker.place(desk.account, [order()]).question
    desk.broker.place(desk.account, [order()])
    with pytest.raises(OutcomeUnknown):
        desk.broker.answer(stale, confirmed=True)
    with pytest.raises(OutcomeUnknown):
        desk.broker.answer(replace(stale, reply_id=str(uuid.uuid4())), confirmed=True)


def test_o07_a_cancel_is_proven_by_a_later_report(desk):
    terms = order()
    (row,) = desk.broker.place(desk.account, [terms]).orders
    assert desk.broker.cancel(desk.account, row.broker_order_id) is None
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.CANCELED)
    assert desk.find(terms.client_order_id).state is BrokerOrderState.CANCELED


def test_o08_cancelling_what_the_broker_does_not_have_is_rejected(desk):
    with pytest.raises(BrokerRejected):
        desk.broker.cancel(desk.account, "1")


def test_o09_cancelling_everything_is_not_a_cancel(desk):
    terms = order()
    desk.broker.place(desk.account, [terms])
    with pytest.raises(ValueError, match="id"):
        desk.broker.cancel(desk.account, "-1")
    assert desk.find(terms.client_order_id).state is BrokerOrderState.ACCEPTED


def test_o18_one_call_cancels_all_of_an_account_and_nothing_of_another(desk):
    first, second = order(), order()
    other = desk.broker.listed_accounts().broker_account_ids[1]
    ids = [desk.broker.place(desk.account, [each]).orders[0].broker_order_id for each in (first, second)]
    (kept,) = desk.broker.place(other, [order()]).orders
    desk.broker.cancel_all(desk.account)
    for broker_order_id in ids:
        eventually(lambda each=broker_order_id: desk.broker.order(each).state is BrokerOrderState.CANCELED)
    assert desk.broker.order(kept.broker_order_id).state is BrokerOrderState.ACCEPTED
    with pytest.raises(ValueError, match="id"):
        desk.broker.cancel_all("../1")


def test_o10_a_bracket_is_one_request_and_its_children_name_their_parent(desk):
    desk.sim.config(price_limit_percent=90)
    parent = order()
    exits = {"client_order_id": None, "parent_client_order_id": parent.client_order_id, "side": Side.SELL}
    legs = [
        parent,
        order(limit_price=Decimal(400), **exits),
        order(order_type=OrderType.STOP, limit_price=None, stop_price=Decimal(150), **exits),
    ]
    answer = desk.broker.place(desk.account, legs)
    while answer.question is not None:
        answer = desk.broker.answer(answer.question, confirmed=True)
    assert len(answer.orders) == 3
    top = next(row for row in answer.orders if row.parent_order_id is None)
    children = [o for o in desk.broker.open_orders() if o.parent_order_id == top.broker_order_id]
    assert {c.order_type for c in children} == {OrderType.LIMIT, OrderType.STOP}
    assert {c.stop_price for c in children} == {None, Decimal(150)}
    assert desk.arrivals(parent.client_order_id) == 1


def test_o11_a_preview_says_the_cost_and_leaves_nothing(desk):
    terms = order()
    preview = desk.broker.preview(desk.account, [terms])
    assert preview.commission > 0
    assert preview.commission_currency == "USD"
    assert preview.initial_margin_after > 0
    assert None not in (preview.initial_margin_before, preview.maintenance_margin_before)
    assert preview.error is None
    assert desk.find(terms.client_order_id) is None
    assert desk.broker.place(desk.account, [terms]).orders


def test_o12_an_order_that_nobody_knows_is_none(desk):
    assert desk.broker.order("1") is None


def test_o13_an_order_for_an_account_that_is_not_ours_is_not_placed(desk):
    terms = order()
    with pytest.raises((BrokerRejected, OutcomeUnknown)):
        desk.broker.place("DU0000000", [terms])
    assert desk.find(terms.client_order_id) is None


def test_o14_orders_of_the_second_account_are_seen_too(desk):
    second = desk.sim.credentials["accounts"][1]
    terms = market(quantity=Decimal(2))
    desk.broker.place(second, [terms])
    assert desk.find(terms.client_order_id).broker_account_id == second
    fills = eventually(
        lambda: [e for e in desk.broker.executions() if e.client_order_id == terms.client_order_id]
    )
    assert {fill.broker_account_id for fill in fills} == {second}


def test_o15_a_partial_fill_is_an_accepted_order_with_a_filled_part(desk):
    desk.sim.config(fills="partial")
    terms = market(quantity=Decimal(10))
    (row,) = desk.broker.place(desk.account, [terms]).orders
    part = eventually(lambda: (o := desk.broker.order(row.broker_order_id)).filled_quantity and o)
    assert part.state is BrokerOrderState.ACCEPTED
    assert 0 < part.filled_quantity < 10


def test_o16_a_future_is_placed_and_cancelled_in_its_operators_name(desk):
    future = desk.broker.find_instruments("MES", "future")[0]
    (quote,) = desk.broker.snapshot([future.broker_instrument_id])
    terms = order(
        broker_instrument_id=future.broker_instrument_id,
        limit_price=(quote.bid * Decimal("0.9")).quantize(Decimal(1)),
        manual_indicator=False,
        ext_operator="alice",
    )
    (row,) = desk.broker.place(desk.account, [terms]).orders
    desk.broker.cancel(desk.account, row.broker_order_id, manual_indicator=False, ext_operator="alice")
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.CANCELED)


def test_o17_cancelling_what_is_done_is_rejected(desk):
    (row,) = desk.broker.place(desk.account, [market()]).orders
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.FILLED)
    with pytest.raises(BrokerRejected):
        desk.broker.cancel(desk.account, row.broker_order_id)


def test_o19_an_amendment_replaces_the_terms_and_keeps_the_order(desk):
    terms = order(quantity=Decimal(5))
    (row,) = desk.broker.place(desk.account, [terms]).orders
    wanted = replace(terms, quantity=Decimal(3), limit_price=terms.limit_price - 1)
    (answered,) = desk.broker.amend(desk.account, row.broker_order_id, wanted).orders
    assert answered.broker_order_id == row.broker_order_id
    found = desk.broker.order(row.broker_order_id)
    assert (found.total_quantity, found.limit_price) == (3, wanted.limit_price)
    assert desk.find(terms.client_order_id).broker_order_id == row.broker_order_id


def test_o20_an_amendment_of_what_has_ended_is_refused(desk):
    terms = market()
    (row,) = desk.broker.place(desk.account, [terms]).orders
    eventually(lambda: desk.broker.order(row.broker_order_id).state is BrokerOrderState.FILLED)
    with pytest.raises(BrokerRejected):
        desk.broker.amend(desk.account, row.broker_order_id, replace(terms, quantity=Decimal(9)))


def test_o21_what_is_asked_right_before_the_wire_keeps_a_request_here(desk):
    terms = order()

    def not_ours():
        raise LeaseLost

    with pytest.raises(LeaseLost):
        desk.broker.place(desk.account, [terms], before=not_ours)
    assert desk.find(terms.client_order_id) is None


def test_o22_a_fill_that_crosses_a_cancel_wins(desk):
    desk.sim.config(cancel_delay=0.5)
    terms = order(quantity=Decimal(4))
    (row,) = desk.broker.place(desk.account, [terms]).orders
    desk.broker.cancel(desk.account, row.broker_order_id)
    assert desk.broker.order(row.broker_order_id).state is BrokerOrderState.PENDING_CANCEL
    desk.sim.control("POST", "/_sim/fill", {"order_id": row.broker_order_id})
    filled = desk.broker.order(row.broker_order_id)
    assert (filled.state, filled.filled_quantity) == (BrokerOrderState.FILLED, 4)
    with pytest.raises(BrokerRejected):
        desk.broker.cancel(desk.account, row.broker_order_id)


# Faults: what may have arrived is in doubt, and nothing is ever sent twice

PLACEMENT = r"/orders$"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "half_answer"},
        {"kind": "empty_200", "when": "before"},
        {"kind": "empty_200", "when": "after"},
        *(
            {"kind": "status", "status": s, "when": w}
            for s in (401, 429, 500, 503)
            for w in ("before", "after")
        ),
    ],
    ids=lambda f: "-".join(str(v) for v in f.values()),
)
def test_f01_a_placement_without_an_answer_is_in_doubt_and_arrives_once(desk, fault):
    terms = order()
    desk.sim.fault(path=PLACEMENT, method="POST", times=1, **fault)
    with pytest.raises(OutcomeUnknown):
        desk.broker.place(desk.account, [terms])
    arrived = fault["kind"] in ("drop_after", "half_answer") or fault.get("when") == "after"
    assert desk.arrivals(terms.client_order_id) == (1 if arrived else 0)
    assert (desk.find(terms.client_order_id) is not None) == arrived


def test_f02_a_placement_at_a_closed_gate_was_not_processed(desk):
    terms = order()
    desk.sim.fault("no_bridge", path=PLACEMENT, method="POST", times=1)
    with pytest.raises(SessionExpired):
        desk.broker.place(desk.account, [terms])
    assert desk.arrivals(terms.client_order_id) == 0


@pytest.mark.parametrize("kind", ["drop_before", "half_answer", "empty_200", "status"])
def test_f03_a_cancel_without_an_answer_is_in_doubt(desk, kind):
    (row,) = desk.broker.place(desk.account, [order()]).orders
    desk.sim.fault(kind, method="DELETE", times=1)
    with pytest.raises(OutcomeUnknown):
        desk.broker.cancel(desk.account, row.broker_order_id)


@pytest.mark.parametrize("kind", ["drop_before", "half_answer", "empty_200", "status"])
def test_f04_a_read_without_an_answer_is_unavailable(desk, kind):
    desk.sim.fault(kind, path="/account/orders$", method="GET", times=1)
    with pytest.raises(BrokerUnavailable):
        desk.broker.open_orders()


@pytest.mark.parametrize("kind", ["silence", "late_answer"])
def test_f07_a_placement_that_is_answered_too_late_is_in_doubt_and_found_by_our_id(desk, hurried, kind):
    """`silence` is a timeout before the broker took it, `late_answer` one after."""
    terms = order()
    desk.sim.fault(kind, path=PLACEMENT, method="POST", times=1, seconds=1.5)
    with pytest.raises(OutcomeUnknown):
        hurried.place(desk.account, [terms])
    arrived = kind == "late_answer"
    if arrived:
        eventually(lambda: desk.find(terms.client_order_id))
    assert desk.arrivals(terms.client_order_id) == (1 if arrived else 0)
    assert (desk.find(terms.client_order_id) is not None) == arrived


def test_f08_a_rate_limit_on_a_read_is_said_and_is_no_answer(desk):
    desk.sim.fault("status", path="/account/orders$", method="GET", times=1, status=429)
    with pytest.raises(BrokerUnavailable) as limited:
        desk.broker.open_orders()
    assert limited.value.details["rate_limited"] is True


def test_f05_a_broker_that_is_not_there_was_sent_nothing(own):
    token = own.connect().mint().secret
    own.sim.kill()
    with pytest.raises(BrokerUnavailable):
        own.connect(token).place(own.account, [order()])


def test_f06_an_order_survives_the_brokers_crash_and_is_found_by_our_id(own):
    own.sim.config(price_limit_percent=30)
    broker, terms = own.connect(), order()
    token = broker.mint().secret
    broker.open_session()
    broker.place(own.account, [terms])
    own.sim.kill()
    own.sim = start_simulator(own.sim.state_dir, *own.adapter.options)
    revived = own.connect(token)
    assert revived.open_session().is_up
    assert [o.client_order_id for o in revived.open_orders()] == [terms.client_order_id]
