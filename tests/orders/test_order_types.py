"""Each order type: what it needs and cannot have, what it is worth, and a round trip to its end at the broker."""

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal as D

import pytest
from django.conf import settings

from brokers.base import OrderReport, OrderType, Side, TimeInForce
from brokers.ibkr.order_words import TYPE_WORDS
from brokers.models import Account, Instrument
from cerbero import access
from cerbero.errors import ImpossibleOrder, NotOfferedYet, RiskRefused
from orders import amending, drift, services
from orders.models import Drift, Order
from orders.order_types import FIELDS, FORMS, problems
from orders.presentation import sentence
from orders.tickets import Proposal
from orders.tools.orders import OrderParams
from tests.orders.world import AAPL, put_order, until

PRICES = {name: D("250") for name in FIELDS} | {"trailing_percent": D("2"), "offset": D("0.05")}
PRICES |= {"trailing_amount": D("1.50")}


def _terms(kind: OrderType, **changes) -> Proposal:
    """The least that a type can do with."""
    form = FORMS[kind]
    needed = form.needs | set(sorted(form.one_of)[:1])
    fields = {"account": "DU1", "symbol": "AAPL", "side": Side.BUY, "quantity": D(1), "order_type": kind}
    fields |= {"idempotency_key": "k", "time_in_force": sorted(form.times)[0]}
    return Proposal(**fields | {name: PRICES[name] for name in needed} | changes)


def _codes(terms: Proposal) -> list[tuple[str, str]]:
    return [(problem.code, problem.field) for problem in problems(terms)]


@pytest.mark.parametrize("kind", OrderType)
def test_a_type_needs_what_it_needs_and_has_nothing_else(kind):
    form = FORMS[kind]
    assert _codes(_terms(kind)) == []
    for name in form.needs:
        assert ("missing", name) in _codes(_terms(kind, **{name: None}))
    for name in set(FIELDS) - form.needs - form.may - form.one_of:
        assert _codes(_terms(kind, **{name: PRICES[name]})) == [("not_taken", name)]
    for name in set(TimeInForce) - form.times:
        assert ("time_in_force", "time_in_force") in _codes(_terms(kind, time_in_force=name))
    outside = _codes(_terms(kind, outside_hours=True, time_in_force=TimeInForce.DAY))
    assert (("outside_hours", "outside_hours") in outside) is not form.outside


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"trailing_amount": D(1), "trailing_percent": D(1)}, "one_of"),
        ({"trailing_amount": None}, "one_of"),
        ({"trailing_amount": None, "trailing_percent": D(100)}, "too_far"),
        ({"trailing_amount": D(0)}, "not_positive"),
        ({"quantity": None}, "quantity"),
        ({"cash_quantity": D(5)}, "quantity"),
        ({"quantity": None, "cash_quantity": D(5)}, "cash_quantity"),
    ],
)
def test_impossible_combinations_have_a_stable_code_and_a_sentence(changes, code):
    found = problems(_terms(OrderType.TRAILING_STOP, **changes))
    assert code in {problem.code for problem in found}
    assert all(problem.says.endswith(".") for problem in found)


def test_the_gate_refuses_the_impossible_before_it_keeps_anything(desk):
    with pytest.raises(ImpossibleOrder) as refused:
        desk.place(order_type=OrderType.STOP)
    assert [each["code"] for each in refused.value.details["problems"]] == ["missing", "not_taken"]
    with pytest.raises(ImpossibleOrder):
        services.preview_order(actor=desk.scanner, proposal=desk.proposal(limit_price=None))
    assert not Order.objects.exists()


@pytest.mark.parametrize("more", [{"algo": "Adaptive"}, {"combo": ["265598/1"]}])
def test_algos_and_combos_are_not_offered_yet(more):
    params = OrderParams(account="DU1", symbol="AAPL", side="buy", order_type="market", quantity="1", **more)
    with pytest.raises(NotOfferedYet):
        params.proposal(idempotency_key="k")


def test_money_becomes_whole_units_and_a_repetition_the_same_ticket(desk):
    first = desk.place(quantity=None, cash_quantity=D("1000"), idempotency_key="money")
    assert first.first_order.quantity == 5
    desk.quote("99.98", "100.02")
    again = desk.place(quantity=None, cash_quantity=D("1000"), idempotency_key="money")
    assert again.pk == first.pk
    with pytest.raises(ImpossibleOrder, match="buys not even 1 AAPL"):
        desk.place(quantity=None, cash_quantity=D("100"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": D("0.5")}, "size_increment"),
        ({"order_type": OrderType.TRAILING_STOP, "limit_price": None, "trailing_amount": D("0.005")}, "step"),
        ({"order_type": OrderType.TRAILING_STOP, "limit_price": None, "trailing_percent": D(6)}, "collar"),
        ({"order_type": OrderType.STOP_LIMIT, "stop_price": D("150")}, "collar"),
        ({"order_type": OrderType.RELATIVE, "offset": D("20"), "limit_price": None}, "collar"),
    ],
)
def test_sizes_steps_and_distances_are_checked_before_the_broker_sees_them(desk, changes, code):
    with pytest.raises(RiskRefused) as refused:
        desk.place(**changes)
    codes = {"step": "price_increment", "collar": "collar_percent"}
    assert codes.get(code, code) in {check["code"] for check in refused.value.details["checks"]}


def test_a_price_stands_on_the_step_of_its_own_band(desk):
    desk.aapl.price_bands = [["0", "0.01"], ["100", "0.05"]]
    desk.aapl.save()
    assert desk.place(limit_price=D("190.05")).status == "proposed"
    with pytest.raises(RiskRefused):
        desk.place(limit_price=D("190.01"))


SAID = {
    "Buy 1 AAPL trailing stop 2 % above day": {
        "order_type": OrderType.TRAILING_STOP,
        "trailing_percent": D("2"),
    },
    "Sell 1 AAPL trailing stop 1.50 under from 188.00 limit 187.50 gtc": {
        "order_type": OrderType.TRAILING_STOP_LIMIT,
        "side": Side.SELL,
        "trailing_amount": D("1.5"),
        "stop_price": D("188"),
        "limit_price": D("187.5"),
        "time_in_force": TimeInForce.GTC,
    },
    "Buy 1 AAPL if touched 189.00 limit 189.50 day, outside hours too": {
        "order_type": OrderType.LIMIT_IF_TOUCHED,
        "stop_price": D(189),
        "limit_price": D("189.5"),
        "outside_hours": True,
    },
    "Buy 1 AAPL at the midpoint day": {"order_type": OrderType.MIDPRICE},
    "Buy 1 AAPL relative by 0.05 no worse than 191.00 day": {
        "order_type": OrderType.RELATIVE,
        "offset": D("0.05"),
        "limit_price": D(191),
    },
    "Buy 1 AAPL at market at the opening": {
        "order_type": OrderType.MARKET,
        "time_in_force": TimeInForce.OPG,
    },
    "Buy 1 AAPL on close limit 190.00 day": {"order_type": OrderType.LIMIT_ON_CLOSE, "limit_price": D(190)},
}


def test_each_type_is_said_plainly(desk):
    for said, changes in SAID.items():
        ticket = desk.place(**{"quantity": D(1), "limit_price": None} | changes)
        assert str(sentence(desk.order(ticket))) == said


def _trail(desk) -> Order:
    terms = {"order_type": "trailing_stop", "limit_price": None, "trailing_percent": D(2)}
    return put_order(desk, broker_order_id="7", stop_price=D(190), **terms)


def test_a_trailing_order_is_not_amended(desk):
    with pytest.raises(ImpossibleOrder, match="cancel it and place another"):
        amending.amend_order(actor=desk.scanner, order_id=_trail(desk).pk, stop_price=D(191))


def test_how_far_an_order_trails_is_held_against_its_approval_and_where_its_stop_stands_is_not(desk):
    order = _trail(desk)
    fact = OrderReport("7", None, order_type="market", stop_price=D(186), trailing_percent=D(2))
    drift.compare_terms(access.system("test"), order, fact)
    assert not Drift.objects.exists(), "the broker moves the stop, and calls it a market order once it fired"
    drift.compare_terms(
        access.system("test"), order, replace(fact, trailing_percent=D(5), outside_hours=True)
    )
    differs = Drift.objects.get().evidence["differs"]
    assert set(differs) == {"trailing_percent", "outside_hours"}


# A market at 250, then 248, then 252.50, then 251.50; the close, the end of the day, of the night, the opening.
JOURNEYS = {
    "market": ({"order_type": OrderType.MARKET}, "filled"),
    "money": ({"order_type": OrderType.MARKET, "quantity": None, "cash_quantity": D(1000)}, "filled"),
    "fraction": ({"limit_price": D("251"), "quantity": D("0.5")}, "filled"),
    "ioc": ({"limit_price": D("249"), "time_in_force": TimeInForce.IOC}, "canceled"),
    "outside": (
        {"limit_price": D("249"), "time_in_force": TimeInForce.GTC, "outside_hours": True},
        "filled",
    ),
    "stop": ({"order_type": OrderType.STOP, "stop_price": D(252)}, "filled"),
    "stop limit": (
        {"order_type": OrderType.STOP_LIMIT, "stop_price": D(252), "limit_price": D(254)},
        "filled",
    ),
    "market if touched": ({"order_type": OrderType.MARKET_IF_TOUCHED, "stop_price": D("248.50")}, "filled"),
    "limit if touched": (
        {"order_type": OrderType.LIMIT_IF_TOUCHED, "stop_price": D("248.50"), "limit_price": D(249)},
        "filled",
    ),
    # Its stop would begin at 253, which the market never reaches: it fires only because it trailed to 251.
    "trail": ({"order_type": OrderType.TRAILING_STOP, "trailing_amount": D(3)}, "filled"),
    "trail percent": ({"order_type": OrderType.TRAILING_STOP, "trailing_percent": D("1.2")}, "filled"),
    # Fires at 252.50 with its limit trailed to 252, and fills when the market comes back to it.
    "trail limit": (
        {
            "order_type": OrderType.TRAILING_STOP_LIMIT,
            "trailing_amount": D(3),
            "stop_price": D(253),
            "limit_price": D(254),
        },
        "filled",
    ),
    "midprice": ({"order_type": OrderType.MIDPRICE, "limit_price": D(251)}, "filled"),
    "relative": ({"order_type": OrderType.RELATIVE, "offset": D("0.02"), "limit_price": D(251)}, "filled"),
    "on close": ({"order_type": OrderType.MARKET_ON_CLOSE}, "filled"),
    "limit on close": ({"order_type": OrderType.LIMIT_ON_CLOSE, "limit_price": D(255)}, "filled"),
    "limit on close, missed": ({"order_type": OrderType.LIMIT_ON_CLOSE, "limit_price": D(240)}, "expired"),
    "at the opening": ({"order_type": OrderType.MARKET, "time_in_force": TimeInForce.OPG}, "filled"),
    "limit at the opening": ({"limit_price": D(240), "time_in_force": TimeInForce.OPG}, "expired"),
    "day": ({"limit_price": D(240)}, "expired"),
    "overnight": ({"limit_price": D(240), "time_in_force": TimeInForce.OVERNIGHT}, "expired"),
}
QUESTIONS = ["o10331", "o163"]


def test_every_type_goes_through_the_gate_to_its_end_at_the_broker(floor):
    """One market and one moved clock for all of them; each ends as it must, and for its own reason."""
    Account.objects.update(allowed_question_ids=QUESTIONS)
    Instrument.objects.update(size_increment=D("0.0001"))
    floor.sim.config(freeze=True, per_side_limit=100)
    _price(floor, "250")
    floor.near()
    tickets = {}
    for name, (terms, _) in JOURNEYS.items():
        changes = {"quantity": D(1), "limit_price": None} | terms
        ticket = floor.place(**changes, reason=name)
        tickets[name] = floor.decide(ticket) if ticket.request else ticket
    until(lambda: floor.turn() or not _sendable(tickets))
    _reach(floor, tickets, {"market", "money", "fraction", "midprice", "relative"})
    _price(floor, "248")
    _reach(floor, tickets, {"outside", "market if touched", "limit if touched"})
    _price(floor, "252.50")
    _reach(floor, tickets, {"stop", "stop limit", "trail", "trail percent"})
    assert _at_broker(floor, tickets)["trail limit"] == "Submitted"
    _price(floor, "251.50")
    _reach(floor, tickets, {"trail limit"})
    for happening in ("closing", "day_ends", "night_ends", "opening"):
        floor.sim.control("POST", "/_sim/clock", {"next": happening})
    ends = {name: end for name, (_, end) in JOURNEYS.items()}
    with suppress(AssertionError):
        until(lambda: floor.reconcile() or floor.turn() or _ours(tickets) == ends)
    assert _ours(tickets) == ends
    assert D(_rows(floor, tickets)["trail limit"]["spent"]) <= 252
    assert not Order.objects.filter(drifts__kind="terms_differ").exists()


def _price(floor, price: str) -> None:
    floor.sim.control("POST", "/_sim/price", {"conid": int(AAPL), "price": price})


def _sendable(tickets) -> bool:
    return any(ticket.status == "allowed" for ticket in _fresh(tickets))


def _fresh(tickets):
    for ticket in tickets.values():
        ticket.refresh_from_db()
        yield ticket


def _at_broker(floor, tickets) -> dict[str, str]:
    return {name: row["status"] for name, row in _rows(floor, tickets).items()}


def _rows(floor, tickets) -> dict[str, dict]:
    by_id = {row["cOID"]: row for row in floor.at_broker()}
    sent = {
        name: ticket.attempts.values_list("client_order_id", flat=True) for name, ticket in tickets.items()
    }
    return {name: by_id.get(ids[0], {"status": "never arrived"}) for name, ids in sent.items() if ids}


def _reach(floor, tickets, names) -> None:
    """Wait until the broker filled these."""
    with suppress(AssertionError):
        until(lambda: {_at_broker(floor, tickets).get(name) for name in names} == {"Filled"})
    found = _at_broker(floor, tickets)
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, "Filled")


def _ours(tickets) -> dict[str, str]:
    return {name: Order.objects.get(ticket=ticket).status for name, ticket in tickets.items()}


def _line(kind: OrderType) -> str:
    form = FORMS[kind]
    needs = [f"`{name}`" for name in FIELDS if name in form.needs]
    needs += [" or ".join(f"`{name}`" for name in sorted(form.one_of))] if form.one_of else []
    cells = (
        f"`{kind}`",
        f"`{TYPE_WORDS[kind]}`",
        ", ".join(needs) or "–",
        ", ".join(f"`{name}`" for name in sorted(form.may)) or "–",
        ", ".join(time for time in TimeInForce if time in form.times),
        "yes" if form.outside else "no",
        ", ".join(sorted(form.classes)) if form.classes else "all",
    )
    return f"| {' | '.join(cells)} |"


def test_the_page_of_orders_lists_every_type_as_the_table_has_it():
    page = (settings.BASE_DIR / "docs" / "orders.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("| `")] == [
        _line(kind) for kind in OrderType
    ]
