"""The policy at work: who is asked, who may change it, and that it holds at the sending and in the database."""

import json
import time
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account
from cerbero import access
from cerbero.embedded import OWNER
from cerbero.errors import (
    BadInput,
    DigestMismatch,
    PermissionMissing,
    PolicyRefused,
    PolicyUnreadable,
    ReasonRequired,
    SelfApproval,
)
from cerbero.models import DecisionRequest
from orders import policies, services, submission
from orders.facts import gather_for
from orders.models import Allowance, Attempt, Order, PolicyVersion, Position, Ticket
from orders.recheck import Moment
from tests.orders import world as worlds
from tests.rig import run_together

ME = access.system("orders")
SMALL = {"quantity": Decimal(5)}
ONE = {"name": "one", "then": {"do": "people", "quorum": 1}}
TWO = {"name": "two", "then": {"do": "people", "quorum": 2}}
NONE = {"name": "closed", "then": {"do": "refuse", "reason": "closed for today"}}
LAST = {"name": "last", "then": {"do": "refuse", "reason": "no"}}


def _prepare(desk, ticket):
    """What the orders process does right before the wire, with the stored quote for the broker's."""
    ticket = Ticket.objects.select_related(
        "account__login", "account__limits", "account__balance", "account__clearance", "bot", "request"
    ).get(pk=ticket.pk)
    order = desk.order(ticket)
    hold = desk.__dict__.setdefault("_test_hold", None) or desk.hold()
    desk.__dict__["_test_hold"] = hold
    return submission.prepare(ME, ticket, order, Moment(gather_for(ticket.account, order), None), hold)


def test_a_small_paper_order_passes_under_its_limits_and_says_by_which_rule(desk):
    ticket = desk.place(**SMALL)
    ticket.refresh_from_db()
    assert (ticket.status, ticket.request, ticket.policy_rule) == ("allowed", None, "paper-small")
    allowance = Allowance.objects.get(ticket=ticket)
    assert (allowance.policy_version.number, allowance.mandate, allowance.digest) == (1, None, ticket.digest)
    assert allowance.facts["policy"] == {"version": 1, "rule": "paper-small"}
    assert Entry.objects.filter(event="ticket.allowed", subject_id=str(ticket.pk)).count() == 1


def test_it_is_sent_once_by_its_used_allowance(desk):
    ticket = desk.place(**SMALL)
    attempt = _prepare(desk, ticket)
    assert attempt is not None
    assert Allowance.objects.get().consumed_at is not None
    assert _prepare(desk, ticket) is None
    assert Attempt.objects.count() == 1


def test_a_larger_one_waits_and_its_request_names_version_and_rule(desk):
    ticket = desk.place()
    assert ticket.request.facts["policy"] == {"version": 1, "rule": "paper"}
    ticket.refresh_from_db()
    assert (ticket.status, ticket.policy_version.number, ticket.policy_rule) == ("proposed", 1, "paper")


def test_a_rule_that_refuses_keeps_a_denied_ticket_and_says_why(desk):
    desk.activate([NONE])
    for _ in range(2):
        with pytest.raises(PolicyRefused) as refusal:
            desk.place(idempotency_key="one")
    told = refusal.value.details
    assert (told["version"], told["rule"], told["reason"]) == (2, "closed", "closed for today")
    ticket = Ticket.objects.get()
    assert (ticket.status, ticket.refusal_code) == ("denied", "policy_refused")
    assert desk.order(ticket).status == "canceled"


REDUCES = {"name": "reduces", "when": {"effects": ["reducing"]}, "then": {"do": "people", "quorum": 1}}


def test_what_already_reduces_a_position_leaves_it_to_no_second_order(desk):
    desk.activate([REDUCES, TWO])
    words = {
        "broker_instrument_id": worlds.AAPL,
        "symbol": "AAPL",
        "instrument": desk.aapl,
        "currency": "USD",
    }
    Position.objects.create(
        account=desk.account, quantity=10, market_value=1900, as_of=timezone.now(), **words
    )
    sale = {"side": "sell", "limit_price": Decimal("190.05")}
    first = desk.place(**sale)
    assert first.policy_rule == "reduces"
    works = worlds.put_order(desk, side="sell", limit_price=Decimal("190.05"))
    assert desk.place(**sale).policy_rule == "two"
    Order.objects.filter(pk=works.pk).update(status="filled", filled_quantity=10, filled_at=timezone.now())
    assert desk.place(**sale).policy_rule == "two"
    # What was approved as a reduction is asked anew once it is none any more.
    assert _prepare(desk, desk.decide(first)) is None
    first.refresh_from_db()
    assert (first.status, first.policy_rule, first.request.quorum) == ("proposed", "two", 2)


def test_a_rule_names_group_and_time(desk):
    then = {"do": "people", "quorum": 1, "group": "Approver", "seconds": 60}
    desk.activate([{"name": "quick", "then": then}])
    request = desk.place().request
    request.refresh_from_db()
    assert (request.expires_at - request.created_at).total_seconds() == 60


def test_without_an_active_version_nothing_is_proposed(desk):
    PolicyVersion.objects.update(status="retired")
    with pytest.raises(PolicyUnreadable):
        desk.place()
    assert not Ticket.objects.exists()


def _as_owner(database, words, *values):
    """What whoever owns the tables can do, triggers or not."""
    with database.connect(OWNER) as connection:
        table = words.split()[1]
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        connection.execute(words, values)
        connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def test_rules_that_the_tables_owner_wrote_allow_nothing(fresh_database):
    desk = worlds.build()
    loose = [{"name": "all", "when": {}, "then": {"do": "people", "quorum": 1}}, LAST]
    write = "UPDATE orders_policyversion SET rules = %s WHERE status = 'active'"
    _as_owner(fresh_database, write, json.dumps(loose))
    with pytest.raises(PolicyUnreadable):
        desk.place(**SMALL)
    assert not Ticket.objects.exists()


def test_an_allowance_that_the_tables_owner_wrote_sends_nothing(fresh_database):
    desk = worlds.build()
    ticket = desk.place(**SMALL)
    _as_owner(fresh_database, "UPDATE orders_allowance SET rule = 'other'")
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "approval_not_proven")


# Changing it


def test_one_administrator_proposes_and_another_activates(desk):
    version = desk.activate([ONE])
    assert [(row.number, row.status) for row in PolicyVersion.objects.order_by("number")] == [
        (1, "retired"),
        (2, "active"),
    ]
    assert (version.proposed_by.username, version.activated_by.username) == ("dora", "egon")
    events = Entry.objects.filter(event__startswith="policy.").values_list("event", "actor_name")
    assert {("policy.proposed", "dora"), ("policy.activated", "egon")} <= set(events)


def _proposed(desk):
    dora = desk.administrator("dora")
    return dora, policies.propose_policy(actor=dora, rules=[ONE, LAST], reason="try")


def test_whoever_proposed_it_never_activates_it(desk):
    dora, version = _proposed(desk)
    with pytest.raises(SelfApproval):
        policies.decide_policy(actor=dora, version_id=version.pk, digest=version.digest, is_yes=True)
    assert PolicyVersion.objects.get(number=1).status == "active"


def test_nobody_without_the_permission_proposes_or_activates(desk):
    _, version = _proposed(desk)
    for actor in (desk.person("bob"), desk.scanner, ME):
        with pytest.raises(PermissionMissing):
            policies.propose_policy(actor=actor, rules=[ONE, LAST], reason="x")
        with pytest.raises(PermissionMissing):
            policies.decide_policy(actor=actor, version_id=version.pk, digest=version.digest, is_yes=True)


def test_another_digest_activates_nothing(desk):
    _, version = _proposed(desk)
    with pytest.raises(DigestMismatch):
        policies.decide_policy(
            actor=desk.administrator("egon"), version_id=version.pk, digest="0" * 64, is_yes=True
        )


def test_a_refused_version_stays_in_the_list(desk):
    _, version = _proposed(desk)
    egon = desk.administrator("egon")
    with pytest.raises(ReasonRequired):
        policies.decide_policy(actor=egon, version_id=version.pk, digest=version.digest, is_yes=False)
    policies.decide_policy(
        actor=egon, version_id=version.pk, digest=version.digest, is_yes=False, reason="too loose"
    )
    assert PolicyVersion.objects.get(number=2).status == "retired"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([ONE], "last rule"),
        ([{"name": "x", "then": {"do": "people", "quorum": 9}}, LAST], "0.then.people.quorum"),
        ([{"name": "x", "then": {"do": "people", "quorum": 1, "group": "Nobody"}}, LAST], "Nobody cannot decide"),
    ],
)  # fmt: skip
def test_rules_that_are_not_valid_are_named_and_not_kept(desk, rules, says):
    with pytest.raises(BadInput) as refusal:
        policies.propose_policy(actor=desk.administrator("dora"), rules=rules, reason="x")
    assert says in "; ".join(refusal.value.details["problems"])
    assert PolicyVersion.objects.count() == 1


def test_a_proposal_that_nobody_decides_on_expires(desk, monkeypatch):
    monkeypatch.setattr("orders.policies.STANDING_SECONDS", -1)
    _, version = _proposed(desk)
    services.expire_overdue(actor=ME)
    version.refresh_from_db()
    assert version.status == "retired"


def test_two_activations_at_once_leave_one_active(fresh_database):
    desk = worlds.build()
    _, first = _proposed(desk)
    _, second = _proposed(desk)
    egon = desk.administrator("egon")

    def activate(row):
        decide = policies.decide_policy
        return lambda: decide(actor=egon, version_id=row.pk, digest=row.digest, is_yes=True)

    run_together(activate(first), activate(second), activate(first), activate(second))
    assert PolicyVersion.objects.filter(status="active").count() == 1


# Edited between


def test_a_stricter_policy_at_the_sending_sends_nothing_and_asks_again(desk):
    ticket = desk.approved()
    desk.activate([TWO])
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.request.quorum, ticket.policy_rule) == ("proposed", 2, "two")
    assert ticket.policy_version.number == 2
    assert ticket.request.facts["asked_again"] == "policy_stricter"
    desk.decide(ticket, "bob")
    desk.decide(ticket, "carol")
    assert _prepare(desk, ticket) is not None


def test_a_policy_that_now_refuses_denies_at_the_sending(desk):
    ticket = desk.approved()
    desk.activate([NONE])
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "policy_refused")
    assert ticket.refusal["reason"] == "closed for today"
    assert DecisionRequest.objects.get(ticket=ticket).status == "withdrawn"


def test_a_looser_policy_changes_nothing_for_what_people_decide_on(desk):
    desk.activate([TWO])
    ticket = desk.place()
    desk.activate([ONE])
    assert desk.decide(ticket, "bob").status == "proposed", "asked under the rule that judged it"
    desk.decide(ticket, "carol")
    assert _prepare(desk, ticket) is not None


def test_what_passed_unasked_is_asked_about_once_the_rule_is_gone(desk):
    ticket = desk.place(**SMALL)
    desk.activate([ONE])
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.request.quorum) == ("proposed", 1)
    desk.decide(ticket)
    assert _prepare(desk, ticket) is not None
    assert Allowance.objects.get().consumed_at is None


def test_what_passed_unasked_is_denied_where_nobody_is_asked_any_more(desk):
    ticket = desk.place(**SMALL)
    desk.activate([NONE])
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "policy_refused")


def test_an_unreadable_policy_at_the_sending_denies(desk):
    ticket = desk.approved()
    PolicyVersion.objects.update(status="retired")
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "policy_unreadable")


def test_the_price_of_what_passed_unasked_may_not_drift(desk):
    ticket = desk.place(**SMALL)
    desk.quote("185.00", "185.04")
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.request.facts["asked_again"]) == ("proposed", "price_drifted")


def test_what_passed_unasked_is_not_sent_after_its_time(desk, settings):
    settings.APPROVAL_SECONDS = 1
    ticket = desk.place(**SMALL)
    assert ticket.status == "allowed"
    time.sleep(1.1)
    assert _prepare(desk, ticket) is None
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "approval_expired")


# In the database


def _allow(ticket, **changes):
    fields = {
        "ticket": ticket,
        "policy_version": PolicyVersion.objects.get(number=1),
        "rule": "paper-small",
        "digest": ticket.digest,
        "notional": ticket.notional,
        "expires_at": "2099-01-01T00:00Z",
    }
    with transaction.atomic():
        return Allowance.objects.create(**fields | changes)


def test_no_allowance_for_what_the_rule_does_not_cover_can_be_written(desk):
    ticket = desk.place()
    Ticket.objects.filter(pk=ticket.pk).update(request=None)
    lies = [{}, {"notional": Decimal(1)}, {"rule": "paper"}, {"rule": "otherwise"}, {"digest": "0" * 64}]
    for lie in lies:
        with pytest.raises(IntegrityError, match=r"within its notional|mandate must fit"):
            _allow(ticket, **lie)


def test_no_allowance_for_a_live_account_can_be_written_or_sent(desk):
    ticket = desk.place(**SMALL)
    Account.objects.update(environment="live")
    other = Ticket.objects.create(
        account=desk.account,
        bot=desk.bot,
        idempotency_key="x",
        digest="d",
        notional=1,
        notional_currency="USD",
    )
    with pytest.raises(IntegrityError, match="rule for paper"):
        _allow(other)
    Allowance.objects.update(consumed_at="2026-01-01T00:00Z")
    with pytest.raises(IntegrityError, match="consumed approval"), transaction.atomic():
        Attempt.objects.create(ticket=ticket, number=1, client_order_id="c", digest=ticket.digest, fence=1)


def test_an_allowance_is_used_once_for_one_attempt_and_never_changed(desk):
    ticket = desk.place(**SMALL)
    with pytest.raises(IntegrityError, match="consumed approval"), transaction.atomic():
        Attempt.objects.create(ticket=ticket, number=1, client_order_id="a", digest=ticket.digest, fence=1)
    assert _prepare(desk, ticket) is not None
    Attempt.objects.update(status="settled")
    with pytest.raises(IntegrityError, match="consumed approval"), transaction.atomic():
        Attempt.objects.create(ticket=ticket, number=2, client_order_id="b", digest=ticket.digest, fence=1)
    for change in ({"consumed_at": None}, {"rule": "x"}, {"digest": "0" * 64}, {"facts": {}}):
        with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
            Allowance.objects.update(**change)


def test_a_policy_by_sql_is_refused(desk):
    _, version = _proposed(desk)
    rows = PolicyVersion.objects
    with pytest.raises(IntegrityError, match="another person's decision"), transaction.atomic():
        rows.filter(pk=version.pk).update(status="active")
    with pytest.raises(IntegrityError, match="begins as proposed"), transaction.atomic():
        rows.create(number=3, rules=[], digest="x", reason="x", status="active")
    with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
        rows.filter(number=1).update(rules=[LAST])
    with (
        pytest.raises(IntegrityError, match="never deleted"),
        transaction.atomic(),
        connection.cursor() as at,
    ):
        at.execute("DELETE FROM orders_policyversion WHERE number = 2")


def test_on_a_floor_a_small_order_reaches_the_broker_and_fills(floor):
    ask = floor.near()
    ticket = floor.place(quantity=Decimal(2), limit_price=ask + 1)
    assert ticket.status == "allowed"
    floor.turn()
    worlds.until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "filled")
    assert len(floor.at_broker()) == 1
    assert Order.objects.get().filled_quantity == 2
