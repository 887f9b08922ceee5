"""One ticket passes a limit that refused it: by a named person's word and one more, up to what they signed."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from audit.models import Entry
from cerbero import access
from cerbero.errors import (
    DigestMismatch,
    OverrideRefused,
    OverrideUnsigned,
    PermissionMissing,
    PolicyRefused,
    ReasonRequired,
    RiskRefused,
    SelfApproval,
    SignInRequired,
)
from cerbero.people.models import Announcement
from orders import overrides
from orders.limit_table import LIMITS
from orders.models import Limits, Ticket
from orders.overriding import override_limits
from orders.tools.orders import OrderId, get_order
from orders.tools.trading import GetLimits, get_limits
from tests.orders import world as worlds
from tests.orders.test_policy_gate import _prepare
from tests.rig import run_together

ROOM = {"quantity_max": Decimal(12)}


@pytest.fixture
def risky(desk):
    return _with_risk(desk)


def _with_risk(desk):
    """The desk of one decision; bob may override."""
    desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
    desk.people["bob"].groups.add(Group.objects.get(name="Risk"))
    return desk


def refused(desk, **changes) -> Ticket:
    """A ticket of 10 where 9 are allowed."""
    Limits.objects.update(quantity_max=9)
    with pytest.raises(RiskRefused) as refusal:
        desk.place(**changes)
    return Ticket.objects.get(pk=refusal.value.details["ticket_id"])


def override(desk, ticket, who="bob", **changes):
    said = {"digest": ticket.digest, "ceilings": ROOM, "reason": "the index is rebalanced"} | changes
    return override_limits(actor=desk.person(who), ticket_id=ticket.pk, **said)


def approved(desk, ticket):
    made = override(desk, ticket)
    desk.decide(made, "bob")
    desk.decide(made, "carol")
    made.refresh_from_db()
    return made


def test_a_refused_ticket_is_proposed_again_and_leaves_by_two_decisions(risky):
    first = refused(risky)
    made = override(risky, first)
    first.refresh_from_db()
    assert (first.status, first.refusal_code) == ("denied", "risk_refused")
    assert first.refusal["override_ticket_id"] == str(made.pk)
    assert (made.status, made.bot, made.digest, made.request.quorum) == (
        *("proposed", risky.bot, first.digest),
        2,
    )
    assert risky.decide(made, "bob").status == "proposed"
    assert risky.decide(made, "carol").status == "allowed"
    assert _prepare(risky, made) is not None
    entry = Entry.objects.get(event="override.proposed")
    assert (entry.details["by"], entry.details["reason"]) == ("bob", "the index is rebalanced")
    assert entry.details["limits"][0] | {"value": "10", "ceiling": "12"} == entry.details["limits"][0]
    assert Announcement.objects.filter(words__contains="(quantity 10 of 9, at most 12").count() == 2


def test_without_the_override_the_same_approvals_would_not_do(risky):
    made = approved(risky, refused(risky))
    Limits.objects.update(position_max=9)
    assert _prepare(risky, made) is None
    made.refresh_from_db()
    assert (made.status, made.refusal["checks"][0]["code"]) == ("denied", "position_max")


def test_it_passes_only_up_to_what_was_signed(risky):
    """Both limits moved since: what is computed now is held against the ceiling, whatever the limit says."""
    Limits.objects.update(position_max=9)
    first = refused(risky)
    said = ROOM | {"position_max": Decimal(12)}
    made = override(risky, first, ceilings=said)
    risky.decide(made, "bob")
    risky.decide(made, "carol")
    risky.account.positions.create(
        **{"instrument": risky.aapl, "broker_instrument_id": "265598", "symbol": "AAPL", "currency": "USD"},
        **{"quantity": 3, "market_value": 570, "asset_class": "STK", "as_of": timezone.now()},
    )
    assert _prepare(risky, made) is None
    made.refresh_from_db()
    assert [check["code"] for check in made.refusal["checks"]] == ["position_max"]


def test_a_limit_that_was_changed_since_is_not_the_one_that_was_overridden(risky):
    made = approved(risky, refused(risky))
    Limits.objects.update(quantity_max=5)
    assert _prepare(risky, made) is None
    made.refresh_from_db()
    assert (made.status, made.refusal_code) == ("denied", "risk_refused")


def test_whoever_overrides_says_yes_first_and_anybody_may_reject(risky):
    made = override(risky, refused(risky))
    with pytest.raises(OverrideUnsigned):
        risky.decide(made, "carol")
    assert risky.decide(made, "carol", is_yes=False, reason="no").status == "denied"


def test_whoever_may_not_override_any_more_no_longer_counts(risky):
    made = approved(risky, refused(risky))
    risky.people["bob"].groups.remove(Group.objects.get(name="Risk"))
    assert _prepare(risky, made) is None
    made.refresh_from_db()
    assert (made.status, made.refusal_code) == ("denied", "override_not_proven")


def test_a_policy_that_asks_for_more_since_asks_for_more_here(risky):
    made = approved(risky, refused(risky))
    risky.activate([{"name": "two", "then": {"do": "people", "quorum": 2}}])
    assert _prepare(risky, made) is None
    made.refresh_from_db()
    assert (made.status, made.request.quorum) == ("proposed", 3)
    assert overrides.of(made.request)["by"] == "bob"
    with pytest.raises(OverrideUnsigned):
        risky.decide(made, "carol")


def test_where_three_decide_already_nothing_is_overridden(risky):
    risky.activate([{"name": "three", "then": {"do": "people", "quorum": 3}}])
    with pytest.raises(PolicyRefused):
        override(risky, refused(risky))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"reason": " "}, ReasonRequired),
        ({"digest": "0" * 64}, DigestMismatch),
        ({"ceilings": {}}, OverrideRefused),
        ({"ceilings": {"quantity_max": Decimal("9.5")}}, OverrideRefused),
        ({"ceilings": {"quantity_max": Decimal(13)}}, OverrideRefused),
        ({"ceilings": {"quantity_max": Decimal("NaN")}}, OverrideRefused),
        ({"ceilings": {"quantity_max": Decimal("Infinity")}}, OverrideRefused),
        ({"ceilings": ROOM | {"position_max": Decimal(99)}}, OverrideRefused),
        ({"ceilings": {"price_increment": Decimal(1)}}, OverrideRefused),
    ],
)
def test_it_is_asked_with_a_reason_the_digest_and_a_ceiling_near_the_value(risky, changes, error):
    first = refused(risky)
    with pytest.raises(error) as refusal:
        override(risky, first, **changes)
    assert Ticket.objects.count() == 1
    assert Entry.objects.filter(event="decision.refused", details__code=refusal.value.code).exists()


def test_what_is_not_named_goes_on_refusing(risky):
    Limits.objects.update(position_max=9)
    with pytest.raises(RiskRefused) as refusal:
        override(risky, refused(risky))
    assert [check["code"] for check in refusal.value.details["checks"]] == ["position_max"]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"quantity_max": 0}, "quantity_max"),
        ({"order_types": ["market"]}, "order_types"),
        ({"asset_classes": ["ETF"]}, "asset_classes"),
        ({"allows_opening": False}, "allows_opening"),
        ({"cushion_min": 2}, "cushion_min"),
    ],
)
def test_a_stop_a_kind_and_what_the_broker_gives_is_nobodys_to_override(risky, limits, code):
    first = refused(risky)
    risky.account.balance.cushion = Decimal(1)
    risky.account.balance.save()
    Limits.objects.update(**{"quantity_max": 100} | limits)
    with pytest.raises(OverrideRefused):
        override(risky, first, ceilings={code: Decimal(10)})


def test_a_value_that_cannot_be_computed_stays_refused(risky):
    first = refused(risky)
    risky.aapl.asset_class, risky.aapl.multiplier = "FUT", None
    risky.aapl.save()
    with pytest.raises(OverrideRefused):
        override(risky, first, ceilings=ROOM | {"notional_max": Decimal(10**9)})
    with pytest.raises(RiskRefused):
        override(risky, first)


def test_only_a_person_of_the_group_with_a_session_and_no_part_in_it(risky):
    first = refused(risky)
    with pytest.raises(PermissionMissing):
        override(risky, first, "carol")
    for actor in (risky.scanner, access.system("orders")):
        with pytest.raises(PermissionMissing):
            override_limits(
                actor=actor, ticket_id=first.pk, digest=first.digest, ceilings=ROOM, reason="mine"
            )
    risky.people["alice"].groups.add(Group.objects.get(name="Risk"))
    with pytest.raises(SelfApproval):
        override(risky, first, "alice")
    risky.people["bob"].groups.remove(Group.objects.get(name="Approver"))
    with pytest.raises(PermissionMissing):
        override(risky, first)
    assert Ticket.objects.count() == 1


def test_it_is_made_once_whoever_is_quick(fresh_database):
    risky = _with_risk(worlds.build())
    first = refused(risky)
    found = run_together(*[lambda: override(risky, first) for _ in range(4)])
    assert sum(isinstance(each, Ticket) for each in found) == 1, found
    assert {type(each) for each in found} == {Ticket, OverrideRefused}


def test_what_is_an_hour_old_is_proposed_anew(risky):
    first = refused(risky)
    Ticket.objects.filter(pk=first.pk).update(ended_at=timezone.now() - timedelta(minutes=61))
    with pytest.raises(OverrideRefused):
        override(risky, first)


def test_the_bot_reads_who_let_it_pass_and_why(risky):
    made = override(risky, refused(risky))
    told = get_order(risky.scanner, OrderId(order_id=made.first_order.pk))
    assert (told.override.by, told.override.reason) == ("bob", "the index is rebalanced")
    (row,) = told.override.limits
    assert (row.code, row.value, row.ceiling) == ("quantity_max", "10", "12")
    (account,) = get_limits(risky.scanner, GetLimits()).accounts
    (found,) = account.overrides
    assert (found.ticket_id, found.by) == (made.pk, "bob")
    risky.decide(made, "bob", is_yes=False, reason="no")
    (account,) = get_limits(risky.scanner, GetLimits()).accounts
    assert account.overrides == []


def test_a_person_s_token_overrides_nothing(risky):
    first = refused(risky)
    program = access.person(risky.people["bob"])
    program = replace(program, door=access.PROGRAM, scopes=frozenset(access.PERSON_SCOPES))
    with pytest.raises(SignInRequired):
        override_limits(actor=program, ticket_id=first.pk, digest=first.digest, ceilings=ROOM, reason="quick")


def test_the_table_names_what_the_checks_let_people_lift():
    lifted = {limit.name for limit in LIMITS if limit.is_lifted}
    assert lifted >= {"notional_max", "quantity_max", "position_max", "daily_turnover_max"}
    assert not lifted & {"daily_loss_max", "repeats_max", "quote_age_max_seconds", "cushion_min"}


def test_of_a_group_every_order_passes_the_same_limit(risky):
    Limits.objects.update(quantity_max=9)
    with pytest.raises(RiskRefused) as refusal:
        risky.place_group(risky.bracket())
    first = Ticket.objects.get(pk=refusal.value.details["ticket_id"])
    made = approved(risky, first)
    assert [leg.quantity for leg in made.legs] == [10, 10, 10]
    assert made.digest == first.digest
    assert _prepare(risky, made) is not None
