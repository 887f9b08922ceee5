"""Deciding: people only, four eyes, one digest, once."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from audit.models import Entry
from cerbero import access
from cerbero.errors import (
    AlreadyDecided,
    CerberoError,
    DigestMismatch,
    PermissionMissing,
    ReasonRequired,
    SelfApproval,
)
from cerbero.models import Decision, DecisionRequest
from orders import services
from orders.market import decided_on
from orders.models import Ticket
from tests.orders import world as worlds
from tests.rig import run_together


def test_a_yes_allows_the_ticket(desk):
    ticket = desk.approved()
    assert ticket.status == "allowed"
    assert DecisionRequest.objects.get(ticket=ticket).status == "approved"
    assert Entry.objects.filter(event="decision.made").count() == 1


def test_a_no_denies_it_and_the_bot_reads_the_reason(desk):
    ticket = desk.decide(desk.place(), is_yes=False, reason="too close to the close")
    assert (ticket.status, ticket.refusal_code) == ("denied", "rejected_by_person")
    assert ticket.refusal == {"reason": "too close to the close"}
    assert desk.order(ticket).status == "canceled"


def test_what_is_decided_on_names_the_instruments_whose_quotes_are_needed(desk):
    assert decided_on(desk.login) == set()
    first, second = desk.place(), desk.place()
    assert decided_on(desk.login) == {desk.aapl.pk}
    desk.decide(first)
    desk.decide(second, is_yes=False, reason="too large")
    assert decided_on(desk.login) == set()


def test_a_no_needs_a_reason(desk):
    ticket = desk.place()
    with pytest.raises(ReasonRequired):
        desk.decide(ticket, is_yes=False, reason="  ")
    assert not Decision.objects.exists()


def test_the_bots_owner_cannot_decide_even_when_the_bot_has_a_new_owner(desk):
    ticket = desk.place()
    desk.bot.owner = desk.people["bob"]
    desk.bot.save()
    with pytest.raises(SelfApproval):
        desk.decide(ticket, "alice")
    assert desk.decide(ticket, "carol").status == "allowed"


def test_a_refused_decision_is_recorded(desk):
    ticket = desk.place()
    with pytest.raises(SelfApproval):
        desk.decide(ticket, "alice")
    entry = Entry.objects.get(event="decision.refused")
    assert (entry.actor_name, entry.details["code"]) == ("alice", "self_approval")


def test_a_bot_cannot_decide_whatever_its_scopes(desk):
    ticket = desk.place()
    for actor in (desk.scanner, access.system("orders")):
        with pytest.raises(PermissionMissing):
            services.decide_ticket(
                actor=actor, ticket_id=ticket.pk, digest=ticket.request.digest, is_yes=True
            )


def test_a_person_without_the_group_cannot_decide(desk):
    ticket = desk.place()
    desk.people["bob"].groups.clear()
    with pytest.raises(PermissionMissing):
        desk.decide(ticket, "bob")


def test_a_signed_out_account_cannot_decide(desk):
    ticket = desk.place()
    type(desk.people["bob"]).objects.filter(username="bob").update(is_active=False)
    with pytest.raises(PermissionMissing):
        desk.decide(ticket, "bob")


def test_another_digest_than_the_one_that_stands_is_refused(desk):
    ticket = desk.place()
    with pytest.raises(DigestMismatch):
        services.decide_ticket(actor=desk.person("bob"), ticket_id=ticket.pk, digest="0" * 64, is_yes=True)
    assert Ticket.objects.get().status == "proposed"


def test_nothing_is_decided_twice(desk):
    ticket = desk.place()
    desk.decide(ticket, is_yes=False, reason="no")
    for is_yes in (True, False):
        with pytest.raises(AlreadyDecided):
            desk.decide(ticket, "carol", is_yes=is_yes, reason="again")


def test_an_expired_request_cannot_be_decided_and_is_denied(desk, settings):
    settings.APPROVAL_SECONDS = -1
    ticket = desk.place()
    with pytest.raises(AlreadyDecided):
        desk.decide(ticket)
    assert services.expire_overdue(actor=access.system("orders")) == 1
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "approval_expired")


def test_two_are_needed_where_the_quorum_is_two_and_never_one_person_twice(desk):
    desk.activate([{"name": "two", "then": {"do": "people", "quorum": 2}}])
    ticket = desk.place()
    assert desk.decide(ticket, "bob").status == "proposed"
    with pytest.raises(AlreadyDecided):
        desk.decide(ticket, "bob")
    assert desk.decide(ticket, "carol").status == "allowed"


def test_of_pairs_of_concurrent_approvals_none_counts_double(fresh_database):
    """Twenty here, pair by pair; tests/adversarial plays two hundred, many at once."""
    desk = worlds.build()
    tickets = [desk.place() for _ in range(20)]
    for ticket in tickets:
        results = run_together(*(_decide(desk, ticket, who) for who in ("bob", "carol")))
        assert [isinstance(result, CerberoError) for result in results].count(True) == 1
    assert Decision.objects.count() == 20
    assert Entry.objects.filter(event="ticket.allowed").count() == 20


def test_expiry_uses_the_databases_clock(desk):
    ticket = desk.place()
    left = DecisionRequest.objects.filter(ticket=ticket, expires_at__gt=Now() + timedelta(seconds=890))
    assert left.exists()


def _decide(desk, ticket, who):
    actor, digest = desk.person(who), ticket.request.digest
    return lambda: services.decide_ticket(actor=actor, ticket_id=ticket.pk, digest=digest, is_yes=True)
