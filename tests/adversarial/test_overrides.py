"""A limit let pass for one ticket: nobody but whoever may, for nothing but that ticket, and no further than was signed."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from cerbero.access import PERSON_SCOPES, issue_person_token
from cerbero.errors import CerberoError, RiskRefused
from orders import services
from orders.models import Allowance, Limits, Ticket
from orders.overriding import override_limits
from tests.adversarial.hands import bearer, signed_in
from tests.orders import budgets

ROOM = {"quantity_max": Decimal(12)}


@pytest.fixture
def refused(siege) -> Callable[..., Ticket]:
    """A ticket of 10 where 9 are allowed; bob may override."""
    siege.desk.people["bob"].groups.add(Group.objects.get(name="Risk"))

    def refuse(by: Any = None, **changes: Any) -> Ticket:
        Limits.objects.update(quantity_max=9)
        proposal = siege.desk.proposal(limit_price=siege.resting, **changes)
        with pytest.raises(RiskRefused) as refusal:
            services.place_order(actor=by or siege.desk.scanner, proposal=proposal)
        return Ticket.objects.get(pk=refusal.value.details["ticket_id"])

    return refuse


def _override(siege, ticket, who="bob", **changes) -> Ticket:
    said = {"digest": ticket.digest, "ceilings": ROOM, "reason": "rebalancing"} | changes
    return override_limits(actor=siege.desk.person(who), ticket_id=ticket.pk, **said)


def _approved(siege, ticket) -> Ticket:
    """Signed by bob who overrides and by carol, and not sent yet."""
    made = _override(siege, ticket)
    siege.desk.decide(made, "bob")
    return siege.desk.decide(made, "carol")


def _path(ticket: Ticket) -> str:
    return f"/admin/tickets/{ticket.pk}/override/"


def _said(ticket: Ticket) -> dict[str, str]:
    return {"digest": ticket.digest, "quantity_max": "12", "reason": "rebalancing"}


def _none_made(ticket: Ticket) -> None:
    assert Ticket.objects.filter(idempotency_key__contains=str(ticket.pk)).count() == 0


def test_an_override_written_by_sql_into_what_was_approved(siege, attempt, refused):
    """It was within the limit when people said yes; the limit was tightened since."""
    ticket = attempt.on(siege.approved())
    kept = _override(siege, refused()).request.facts["override"]
    words = "UPDATE cerbero_decisionrequest SET facts = facts || %s::jsonb WHERE id = %s"
    siege.as_owner((words, [json.dumps({"override": kept}), ticket.request_id]))
    siege.turn()
    attempt.denied(ticket, "approval_not_proven")


def test_the_overriders_yes_written_by_sql(siege, attempt, refused):
    made = attempt.on(_override(siege, refused()))
    siege.sql(
        "INSERT INTO cerbero_decision (id, request_id, person_id, is_yes, reason, digest_shown, proof)"
        " VALUES (gen_random_uuid(), %s, %s, true, '', %s, '')",
        made.request_id,
        siege.desk.people["bob"].pk,
        made.request.digest,
    )
    siege.desk.decide(made, "carol")
    attempt.watch(made.pk, "allowed")
    siege.turn()
    attempt.denied(made, "approval_not_proven")


def test_the_overriders_yes_written_by_sql_and_taken_away_once_others_followed(siege, attempt, refused):
    """So that two good decisions are left, neither of them by whoever answers for the limit."""
    dora = siege.desk.administrator("dora")
    siege.desk.people["dora"] = type(siege.desk.people["bob"]).objects.get(pk=dora.id)
    siege.desk.people["dora"].groups.add(Group.objects.get(name="Approver"))
    made = attempt.on(_override(siege, refused()))
    theirs = [made.request_id, siege.desk.people["bob"].pk]
    siege.sql(
        "INSERT INTO cerbero_decision (id, request_id, person_id, is_yes, reason, digest_shown, proof)"
        " VALUES (gen_random_uuid(), %s, %s, true, '', %s, '')",
        *theirs,
        made.request.digest,
    )
    siege.desk.decide(made, "carol")
    siege.as_owner(
        ("UPDATE cerbero_decisionrequest SET status = 'pending' WHERE id = %s", [made.request_id]),
        ("UPDATE orders_ticket SET status = 'proposed' WHERE id = %s", [made.pk]),
    )
    siege.desk.decide(made, "dora")
    siege.as_owner(("DELETE FROM cerbero_decision WHERE request_id = %s AND person_id = %s", theirs))
    attempt.watch(made.pk, "allowed")
    del siege.desk.people["dora"]
    siege.turn()
    attempt.denied(made, "override_not_proven")


def test_a_ceiling_raised_after_the_signing(siege, attempt, refused):
    made = attempt.on(_approved(siege, refused()))
    words = (
        "UPDATE cerbero_decisionrequest SET facts = "
        "jsonb_set(facts, '{override,limits,0,ceiling}', '\"1000000\"') WHERE id = %s"
    )
    siege.as_owner((words, [made.request_id]))
    siege.turn()
    attempt.denied(made, "approval_not_proven")


def test_a_larger_ticket_under_the_same_override(siege, attempt, refused):
    """Its terms are rewritten below the ceiling, its digest with them."""
    made = attempt.on(_approved(siege, refused()))
    siege.as_owner(("UPDATE orders_order SET quantity = 12 WHERE ticket_id = %s", [made.pk]))
    siege.turn()
    attempt.denied(made, "terms_changed")


def test_an_override_taken_over_by_another_ticket(siege, attempt, refused):
    """The same terms, so that the digest fits; the question was about the first."""
    made, other = _approved(siege, refused()), refused()
    siege.as_owner(
        ("UPDATE orders_ticket SET request_id = NULL, status = 'withdrawn' WHERE id = %s", [made.pk]),
        (
            "UPDATE orders_ticket SET request_id = %s, status = 'allowed', refusal_code = '',"
            " allowed_at = now(), ended_at = NULL WHERE id = %s",
            [made.request_id, other.pk],
        ),
        ("UPDATE orders_order SET status = 'pending' WHERE ticket_id = %s", [other.pk]),
    )
    attempt.on(other)
    siege.turn()
    attempt.denied(other, "approval_not_proven")


def test_the_same_override_is_posted_again(siege, attempt, refused):
    first, bob = refused(), signed_in(siege, "bob")
    for _ in range(2):
        bob.post(_path(first), _said(first))
    (made,) = Ticket.objects.filter(idempotency_key__contains=str(first.pk))
    attempt.on(first, made)
    attempt.told("decision.refused", code="override_refused")
    attempt.ran_out(made)


def test_an_override_whose_time_ran_out(siege, attempt, refused):
    made = attempt.on(_approved(siege, refused()))
    siege.time_passes(made)
    siege.turn()
    attempt.denied(made, "approval_expired")


@pytest.mark.parametrize("who", ["requester", "owner", "no risk", "no approver"])
def test_an_override_by_whoever_may_not(siege, attempt, refused, who):
    people, risk = siege.desk.people, Group.objects.get(name="Risk")
    ticket = attempt.on(refused(by=siege.desk.person("bob") if who == "requester" else None))
    name = {"owner": "alice", "no risk": "carol"}.get(who, "bob")
    if who == "owner":
        people["alice"].groups.add(risk)
    if who == "no approver":
        people["bob"].groups.set([risk])
    with pytest.raises(CerberoError) as refusal:
        _override(siege, ticket, name)
    code = "self_approval" if who in {"requester", "owner"} else "permission_missing"
    assert refusal.value.code == code
    _none_made(ticket)
    attempt.told("decision.refused", code=code)


def test_the_owner_of_the_proposal_hands_the_bot_on_and_overrides(siege, attempt, refused):
    from cerbero.people import changes

    ticket = attempt.on(refused())
    siege.desk.people["alice"].groups.add(Group.objects.get(name="Risk"))
    dora, egon = siege.desk.administrator("dora"), siege.desk.administrator("egon")
    change = changes.propose_owner(actor=dora, bot=siege.desk.bot, owner=siege.desk.people["carol"])
    changes.decide(actor=egon, change_id=change.pk, digest=change.request.digest, is_yes=True)
    with pytest.raises(CerberoError) as refusal:
        _override(siege, ticket, "alice")
    assert refusal.value.code == "override_refused"
    attempt.told("decision.refused", code="override_refused")


def test_an_override_for_a_bot_whose_token_was_revoked_since(siege, attempt, refused):
    bearer(siege)
    ticket = attempt.on(refused())
    siege.desk.bot.tokens.update(revoked_at=timezone.now())
    with pytest.raises(CerberoError):
        _override(siege, ticket)
    siege.desk.bot.tokens.all().delete()
    _none_made(ticket)
    attempt.told("decision.refused", code="override_refused")


@pytest.mark.asks
def test_an_override_without_a_step_up(siege, attempt, refused):
    ticket = attempt.on(refused())
    answer = signed_in(siege, "bob").post(_path(ticket), _said(ticket))
    assert (answer.status_code, "step-up" in answer["Location"]) == (302, True)
    _none_made(ticket)
    attempt.told("access.refused", code="permission_missing")


@pytest.mark.parametrize("token", ["bot", "person"])
@pytest.mark.parametrize("door", ["console", "/api/", "/tools/"])
def test_an_override_by_a_token(siege, attempt, refused, token, door):
    ticket = attempt.on(refused())
    path = {
        "console": _path(ticket),
        "/api/": f"/api/approvals/{ticket.pk}/override/",
        "/tools/": "/tools/override_limits",
    }[door]
    if token == "bot":
        headers = bearer(siege)
    else:
        said = issue_person_token(siege.desk.people["bob"], scopes=tuple(PERSON_SCOPES), days=1)
        headers = {"Authorization": f"Bearer {said}"}
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    answer = client.post(path, _said(ticket), content_type="application/json", headers=headers)
    assert answer.status_code in {401, 403, 404}
    _none_made(ticket)
    attempt.told("access.refused")


def test_an_override_before_the_second_one_said_who_answers_for_it(siege, attempt, refused):
    made = attempt.on(_override(siege, refused()))
    with pytest.raises(CerberoError) as refusal:
        siege.desk.decide(made, "carol")
    assert refusal.value.code == "override_unsigned"
    attempt.told("decision.refused", code="override_unsigned")
    attempt.ran_out(made)


def test_one_decision_as_the_policy_asks_is_not_enough(siege, attempt, refused):
    made = attempt.on(_override(siege, refused()))
    siege.as_owner(("UPDATE cerbero_decisionrequest SET quorum = 1 WHERE id = %s", [made.request_id]))
    with pytest.raises(CerberoError) as refusal:
        siege.desk.decide(made, "bob")
    assert refusal.value.code == "not_proven"
    attempt.told("decision.refused", code="not_proven")


@pytest.mark.parametrize("how", ["group", "switched off"])
def test_an_overrider_who_may_no_longer(siege, attempt, refused, how):
    made = attempt.on(_approved(siege, refused()))
    if how == "group":
        siege.desk.people["bob"].groups.remove(Group.objects.get(name="Risk"))
    else:
        type(siege.desk.people["bob"]).objects.filter(username="bob").update(is_active=False)
    siege.turn()
    attempt.denied(made, "override_not_proven")


def test_a_mandate_carries_no_override(siege, attempt, refused):
    """Whether it is asked for, or written beside what was allowed under it."""
    one = {"name": "one", "then": {"do": "people", "quorum": 1}}
    siege.desk.activate([{"name": "mandate", "then": {"do": "mandate"}}, one])
    budgets.signed(siege.desk, order_notional_max=Decimal(10_000))
    try:
        kept = _override(siege, refused()).request.facts["override"]
        Limits.objects.update(quantity_max=10)
        ticket = attempt.on(siege.place())
        assert ticket.status == "allowed"
        Limits.objects.update(quantity_max=9)
        words = "UPDATE orders_allowance SET facts = facts || %s::jsonb WHERE ticket_id = %s"
        siege.as_owner((words, [json.dumps({"override": kept}), ticket.pk]))
        assert Allowance.objects.get(ticket=ticket).facts["override"]
        siege.turn()
        attempt.denied(ticket, "risk_refused")
    finally:
        siege.desk.activate([one])
