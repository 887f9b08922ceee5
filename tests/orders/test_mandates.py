"""Mandates: signed like what they replace, used up order by order, never overspent, revocable at once."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.models import Entry
from brokers.base import OrderType, Side
from brokers.models import Login
from cerbero.errors import (
    AlreadyDecided,
    CerberoError,
    DigestMismatch,
    MandateRefused,
    PermissionMissing,
    SelfApproval,
)
from cerbero.models import Bot
from orders import mandates, services
from orders.models import Allowance, Attempt, Balance, Limits, Mandate, Ticket
from orders.tools import orders as tools
from tests.orders import world as worlds
from tests.orders.budgets import proposed, sign, signed, terms
from tests.orders.test_policy_gate import ME, _as_owner, _prepare
from tests.rig import run_together


def _place(desk, **changes):
    ticket = desk.place(**changes)
    ticket.refresh_from_db()
    return ticket


# Signing


def test_it_is_signed_by_another_and_then_orders_pass_under_it(desk):
    mandate = signed(desk)
    assert mandate.status == "active"
    ticket = _place(desk)
    assert (ticket.status, ticket.request, ticket.policy_rule) == ("allowed", None, "paper-mandate")
    mandate.refresh_from_db()
    assert (mandate.used_count, mandate.used_notional) == (1, Decimal(1900))
    assert Allowance.objects.get(ticket=ticket).mandate == mandate
    assert Entry.objects.filter(event="mandate.used", subject_id=str(mandate.pk)).count() == 1


def test_the_bot_reads_which_mandate_and_rule_of_which_version_judged_its_order(desk):
    asked, mandate = _place(desk), signed(desk)
    passed = _place(desk)
    closed = {"name": "closed", "then": {"do": "refuse", "reason": "not now"}}
    desk.activate([closed])
    with pytest.raises(CerberoError):
        desk.place()
    told = [
        (row.policy_version, row.policy_rule, row.mandate_id, row.decision, row.refusal_code)
        for row in reversed(tools.list_orders(desk.scanner, tools.ListOrders()).orders)
    ]
    assert told == [
        (1, "paper", None, "pending", ""),
        (1, "paper-mandate", mandate.pk, None, ""),
        (2, "closed", None, None, "policy_refused"),
    ]
    for ticket in (asked, passed):
        order_id = desk.order(ticket).pk
        one = tools.get_order(desk.scanner, tools.OrderId(order_id=order_id))
        assert one in tools.list_orders(desk.scanner, tools.ListOrders()).orders
    proposed = desk.proposal(idempotency_key="last").__dict__
    desk.activate([{"name": "ask", "then": {"do": "people", "quorum": 2, "group": "Approver"}}])
    answered = tools.place_order(desk.scanner, tools.PlaceOrder(**proposed))
    assert (answered.policy_version, answered.policy_rule, answered.mandate_id) == (3, "ask", None)


def test_neither_its_proposer_nor_the_bots_owner_signs(desk):
    mandate = proposed(desk)
    for who in ("bob", "alice"):
        with pytest.raises(SelfApproval):
            sign(desk, mandate, who)
    with pytest.raises(DigestMismatch):
        sign(desk, mandate, digest="0" * 64)
    mandate.refresh_from_db()
    assert mandate.status == "proposed"


def test_an_unsigned_one_lets_nothing_pass(desk):
    proposed(desk)
    assert _place(desk).status == "proposed"


def test_it_needs_as_many_people_as_the_approvals_that_it_replaces(desk):
    small = {"name": "small", "when": {"notional_max": "1500"}, "then": {"do": "people", "quorum": 1}}
    two = {"name": "two", "then": {"do": "people", "quorum": 2}}
    desk.activate([{"name": "mandate", "then": {"do": "mandate"}}, small, two])
    assert proposed(desk, order_notional_max=Decimal(1500)).request.quorum == 1
    assert proposed(desk, order_notional_max=Decimal(1501)).request.quorum == 2


def test_where_the_policy_refuses_no_mandate_can_be_proposed(desk):
    desk.activate([{"name": "mandate", "then": {"do": "mandate"}}])
    with pytest.raises(MandateRefused, match="policy refuses"):
        proposed(desk)


@pytest.mark.parametrize(
    "changes",
    [
        {"instruments": ()},
        {"sides": ()},
        {"order_notional_max": Decimal(0)},
        {"notional_max": Decimal(1999)},
        {"count_max": 0},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"hours": {"zone": "Mars", "begin": "09:00", "end": "10:00"}},
    ],
)
def test_terms_that_make_no_sense_are_refused(desk, changes):
    with pytest.raises(MandateRefused):
        proposed(desk, **changes)
    assert not Mandate.objects.exists()


def test_a_mandate_for_a_bot_of_another_environment_is_refused(desk):
    bot = Bot.objects.create(name="live-1", owner=desk.people["alice"], environment="live")
    with pytest.raises(MandateRefused):
        proposed(desk, bot=bot)


def test_bots_neither_propose_nor_sign_nor_revoke(desk):
    mandate = proposed(desk)
    with pytest.raises(PermissionMissing):
        mandates.propose_mandate(actor=desk.scanner, terms=terms(desk))
    with pytest.raises(PermissionMissing):
        mandates.decide_mandate(actor=desk.scanner, mandate_id=mandate.pk, digest=mandate.digest, is_yes=True)
    with pytest.raises(PermissionMissing):
        mandates.revoke_mandate(actor=desk.scanner, mandate_id=mandate.pk, reason="x")


def test_one_no_declines_it_and_time_does_too(desk, monkeypatch):
    mandate = sign(desk, proposed(desk), is_yes=False, reason="too wide")
    assert mandate.status == "declined"
    with pytest.raises(AlreadyDecided):
        sign(desk, mandate)
    monkeypatch.setattr("orders.policies.STANDING_SECONDS", -1)
    late = proposed(desk)
    services.expire_overdue(actor=ME)
    late.refresh_from_db()
    assert late.status == "declined"


# What it covers


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal(11)},
        {"order_type": OrderType.MARKET, "limit_price": None},
    ],
)
def test_what_it_does_not_cover_meets_the_next_rule(desk, changes):
    signed(desk)
    ticket = _place(desk, **changes)
    assert (ticket.status, ticket.policy_rule) == ("proposed", "paper")
    assert Mandate.objects.get().used_count == 0


def test_side_instrument_and_hours_are_held(desk):
    # Neither today nor, should midnight pass meanwhile, tomorrow.
    day = (timezone.now() + timedelta(days=3)).isoweekday()
    never = {"zone": "UTC", "days": [day], "begin": "00:00", "end": "23:59"}
    signed(desk, sides=(Side.SELL,))
    signed(desk, hours=never)
    assert _place(desk).status == "proposed"


def test_another_bot_and_a_person_do_not_use_it(desk):
    signed(desk)
    ticket = services.place_order(actor=desk.person("bob"), proposal=desk.proposal())
    assert ticket.status == "proposed"


def test_the_count_is_never_exceeded(desk):
    signed(desk, count_max=2)
    assert [_place(desk).status for _ in range(3)] == ["allowed", "allowed", "proposed"]


def test_the_total_is_never_exceeded(desk):
    signed(desk, notional_max=Decimal(4000))
    assert [_place(desk).status for _ in range(3)] == ["allowed", "allowed", "proposed"]


def test_the_same_key_uses_it_once(desk):
    signed(desk)
    for _ in range(3):
        _place(desk, idempotency_key="one")
    assert Mandate.objects.get().used_count == 1


def test_a_hundred_at_once_against_a_mandate_for_ten_are_exactly_ten(fresh_database):
    desk = worlds.build()
    Limits.objects.update(quote_age_max_seconds=600)
    signed(desk, count_max=10, notional_max=Decimal(2_000_000))
    proposals = [desk.proposal() for _ in range(100)]
    for start in range(0, 100, 50):
        desk.quote("189.98", "190.02")
        placed = [
            lambda each=each: services.place_order(actor=desk.scanner, proposal=each)
            for each in proposals[start : start + 50]
        ]
        assert not [each for each in run_together(*placed) if isinstance(each, Exception)]
    assert Ticket.objects.filter(status="allowed").count() == 10
    assert Ticket.objects.filter(status="proposed").count() == 90
    assert (Mandate.objects.get().used_count, Allowance.objects.count()) == (10, 10)


def test_fifty_at_once_never_overspend_it(fresh_database):
    desk = worlds.build()
    Limits.objects.update(quote_age_max_seconds=600)
    signed(desk, count_max=50, notional_max=Decimal(7600))
    placed = [
        lambda each=each: services.place_order(actor=desk.scanner, proposal=each)
        for each in [desk.proposal() for _ in range(50)]
    ]
    assert not [each for each in run_together(*placed) if isinstance(each, Exception)]
    assert Ticket.objects.filter(status="allowed").count() == 4
    assert Mandate.objects.get().used_notional == Decimal(7600)


# At the sending


def test_it_is_sent_by_its_used_mandate(desk):
    signed(desk)
    ticket = _place(desk)
    assert _prepare(desk, ticket) is not None
    assert Allowance.objects.get().consumed_at is not None


def test_a_revoked_mandate_sends_nothing_more_and_people_are_asked(desk):
    mandate = signed(desk)
    ticket = _place(desk)
    mandates.revoke_mandate(actor=desk.person("alice"), mandate_id=mandate.pk, reason="strange fills")
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.policy_rule) == ("proposed", "paper")
    assert ticket.request.facts["asked_again"] == "policy_stricter"
    assert _place(desk).status == "proposed"
    with pytest.raises(AlreadyDecided):
        mandates.revoke_mandate(actor=desk.person("bob"), mandate_id=mandate.pk, reason="again")


def test_one_without_its_rule_in_the_policy_sends_nothing_more(desk):
    signed(desk)
    ticket = _place(desk)
    desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert ticket.status == "proposed"


def test_terms_that_the_tables_owner_widened_let_nothing_pass(fresh_database):
    desk = worlds.build()
    signed(desk, order_notional_max=Decimal(100), notional_max=Decimal(100))
    _as_owner(fresh_database, "UPDATE orders_mandate SET order_notional_max = 99999, notional_max = 99999")
    with pytest.raises(CerberoError) as refusal:
        desk.place()
    assert refusal.value.code == "digest_mismatch"
    assert not Ticket.objects.exists()


# What comes back


def _reconciled(desk, **later):
    moment = timezone.now() + timedelta(**later)
    Balance.objects.update_or_create(account=desk.account, defaults={"as_of": moment})


def _ended(desk, filled):
    """A ticket of 10 that was sent and ended by the broker's word with `filled` filled."""
    ticket = _place(desk)
    attempt = _prepare(desk, ticket)
    Attempt.objects.filter(pk=attempt.pk).update(status="sent", sent_at=timezone.now())
    Attempt.objects.filter(pk=attempt.pk).update(status="answered")
    order = desk.order(ticket)
    type(order).objects.filter(pk=order.pk).update(status="canceled", filled_quantity=filled)
    Ticket.objects.filter(pk=ticket.pk).update(status="done", ended_at=timezone.now())
    return ticket


def test_the_unfilled_part_comes_back_after_a_reconciled_end_and_the_count_never(desk):
    mandate = signed(desk)
    _ended(desk, Decimal(4))
    assert mandates.return_unfilled(actor=ME) == 0, "nobody has asked the broker since"
    _reconciled(desk, seconds=-60)
    assert mandates.return_unfilled(actor=ME) == 0, "that was before the end"
    _reconciled(desk, seconds=1)
    assert mandates.return_unfilled(actor=ME) == 1
    assert mandates.return_unfilled(actor=ME) == 0
    mandate.refresh_from_db()
    assert (mandate.used_count, mandate.used_notional) == (1, Decimal(760))


def test_nothing_comes_back_while_reports_wait(desk):
    from brokers.base import OrderReport
    from brokers.reports import record_reports

    signed(desk)
    _ended(desk, Decimal(0))
    _reconciled(desk, seconds=1)
    record_reports(
        Login.objects.get(),
        "poll",
        [(OrderReport(broker_order_id="7", state=None), None)],
        as_of=timezone.now(),
    )
    assert mandates.return_unfilled(actor=ME) == 0


def test_what_never_left_comes_back_at_once(desk):
    mandate = signed(desk)
    order = desk.order(_place(desk))
    services.cancel_order(actor=desk.scanner, order_id=order.pk)
    assert mandates.return_unfilled(actor=ME) == 1
    mandate.refresh_from_db()
    assert (mandate.used_count, mandate.used_notional) == (1, Decimal(0))


def test_an_order_that_comes_back_to_life_spends_it_again(desk):
    mandate = signed(desk)
    ticket = _ended(desk, Decimal(0))
    _reconciled(desk, seconds=1)
    mandates.return_unfilled(actor=ME)
    Ticket.objects.filter(pk=ticket.pk).update(status="sent", ended_at=None)
    mandates.return_unfilled(actor=ME)
    mandate.refresh_from_db()
    assert mandate.used_notional == Decimal(1900)


def test_thirds_come_back_rounded_down(desk):
    mandate = signed(desk)
    ticket = _ended(desk, Decimal("3.333333"))
    _reconciled(desk, seconds=1)
    assert mandates.return_unfilled(actor=ME) == 1
    mandate.refresh_from_db()
    assert Allowance.objects.get(ticket=ticket).returned_notional == Decimal("1266.66")
    assert mandate.used_notional == Decimal("633.34")


def test_on_a_floor_a_canceled_order_gives_its_value_back(floor):
    ask = floor.near()
    mandate = signed(floor, order_notional_max=Decimal(5000))
    ticket = _place(floor, limit_price=(ask * Decimal("0.98")).quantize(Decimal("0.01")))
    assert ticket.status == "allowed"
    floor.turn()
    order = floor.order(ticket)
    assert (order.status, len(floor.at_broker())) == ("accepted", 1)
    services.cancel_order(actor=floor.scanner, order_id=order.pk)
    mandate.refresh_from_db()
    assert mandate.used_notional == ticket.notional

    def is_returned():
        floor.reconcile()
        floor.turn()
        return Allowance.objects.exclude(returned_at=None).exists()

    worlds.until(is_returned)
    mandate.refresh_from_db()
    assert (mandate.used_count, mandate.used_notional) == (1, Decimal(0))


# In the database


def test_what_sql_may_not_do_to_a_mandate(desk):
    mandate = signed(desk, count_max=1)
    ticket = _place(desk)
    waiting = _place(desk)
    Ticket.objects.filter(pk=waiting.pk).update(request=None)
    unsigned = proposed(desk)
    rows = Mandate.objects.filter(pk=mandate.pk)
    for words, act in [
        ("never comes back", lambda: rows.update(used_count=0)),
        ("never comes back", lambda: rows.update(used_notional=0)),
        ("never change", lambda: rows.update(count_max=99)),
        ("never change", lambda: rows.update(expires_at="2099-01-01T00:00Z")),
        ("not a legal move", lambda: rows.update(status="proposed")),
        ("signed by other", lambda: Mandate.objects.filter(pk=unsigned.pk).update(status="active")),
        ("must fit", lambda: _use(waiting, mandate)),
        ("must fit", lambda: _use(waiting, unsigned)),
        ("by its approval alone", lambda: Ticket.objects.filter(pk=waiting.pk).update(status="allowed")),
    ]:
        with pytest.raises(IntegrityError, match=words), transaction.atomic():
            act()
    assert ticket.status == "allowed"


def _use(ticket, mandate):
    Allowance.objects.create(
        ticket=ticket,
        policy_version=ticket.policy_version,
        rule="paper-mandate",
        mandate=mandate,
        digest=ticket.digest,
        notional=ticket.notional,
        expires_at="2099-01-01T00:00Z",
    )
