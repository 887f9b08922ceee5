"""The sole operator: one person stands for two, so everything hangs on the passkey, the delay and the profile."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import reverse

from cerbero import access, proofs
from cerbero.access import SERVER
from cerbero.errors import CerberoError, DelayRunning, PermissionMissing
from cerbero.models import Bot, Decision, DecisionRequest, User
from cerbero.people import profile, signing
from cerbero.people.models import Passkey
from orders import amending, limit_changes, services
from orders.models import Limits, Ticket
from tests.adversarial.hands import bearer, press, signed_in
from tests.people.authenticator import Authenticator
from tests.people.desk import administrators, confirmed_key


@pytest.fixture(scope="module")
def device(besieged: Any) -> Authenticator:
    """Bob's passkey, confirmed while two people decided."""
    besieged.put_in_order()
    erin, _ = administrators("erin", "frank")
    return confirmed_key(besieged.desk.people["bob"], erin)


@pytest.fixture
def alone(siege: Any, device: Authenticator) -> Iterator[Any]:
    """Bob owns the bot, and decides alone; a shift later nobody does."""
    bob = siege.desk.people["bob"]
    bob.groups.add(Group.objects.get(name="Administrator"))
    Bot.objects.update(owner=bob)
    siege.desk.bot.owner = bob
    with transaction.atomic():
        profile.enter(actor=SERVER, operator=bob)
    yield siege
    siege.desk.bot.owner = siege.desk.people["alice"]
    if profile.sole() is not None:
        profile.leave(actor=SERVER)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As long after it as any delay."""

    def move() -> None:
        now = profile._now
        monkeypatch.setattr(profile, "_now", lambda: now() + timedelta(hours=1))

    return move


def _signed(alone: Any, request: DecisionRequest, device: Authenticator) -> dict[str, Any]:
    actor = alone.desk.person("bob")
    with transaction.atomic():
        asked = signing.ask(actor=actor, request_id=request.pk, digest=request.digest, is_live=False)
    return device.get(asked)


def _yes(alone: Any, ticket: Ticket, assertion: Any, who: str = "bob") -> Ticket:
    said = {"digest": ticket.request.digest, "is_yes": True, "assertion": assertion}
    return services.decide_ticket(actor=alone.desk.person(who), ticket_id=ticket.pk, **said)


def _refused(alone: Any, attempt: Any, ticket: Ticket, assertion: Any, code: str, who: str = "bob") -> None:
    with pytest.raises(CerberoError) as refusal:
        _yes(alone, ticket, assertion, who)
    assert refusal.value.code == code
    alone.turn()
    attempt.told("decision.refused", code=code)


@pytest.mark.parametrize("nothing", [None, {}, {"id": 7}])
def test_a_yes_without_the_passkey(alone, attempt, later, nothing):
    ticket = attempt.on(alone.place())
    later()
    _refused(alone, attempt, ticket, nothing, "passkey_refused" if nothing else "signature_missing")


def test_a_yes_before_its_time(alone, attempt, device):
    """Neither is there anything to sign yet, nor does the answer to something else help."""
    first, ticket = alone.place(), alone.place()
    attempt.on(first, ticket)
    with pytest.raises(DelayRunning):
        _signed(alone, ticket.request, device)
    _refused(alone, attempt, ticket, {"id": "x"}, "delay_running")


def test_the_signature_of_another_ticket(alone, attempt, later, device):
    first, ticket = alone.place(), alone.place()
    attempt.on(first, ticket)
    later()
    assertion = _signed(alone, first.request, device)
    _signed(alone, ticket.request, device)
    _refused(alone, attempt, ticket, assertion, "passkey_refused")


def test_the_same_signature_again_after_it_was_asked_anew(alone, attempt, later, device):
    """The price moved, so that people are asked again: what was signed for the old facts is worth nothing."""
    attempt.expects = 0
    ticket = alone.place()
    later()
    assertion = _signed(alone, ticket.request, device)
    _yes(alone, ticket, assertion)
    Limits.objects.update(drift_percent=Decimal("0.1"))
    alone.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": 1})
    alone.turn()
    alone.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": -1})
    ticket = attempt.on(Ticket.objects.get(pk=ticket.pk))
    assert ticket.status == "proposed"
    later()
    _refused(alone, attempt, ticket, assertion, "passkey_refused")


def test_somebody_else_says_yes(alone, attempt, later):
    ticket = attempt.on(alone.place())
    later()
    _refused(alone, attempt, ticket, None, "permission_missing", who="carol")


@pytest.mark.parametrize("door", ["console", "console, confirmed", "batch", "api", "a bot's token"])
def test_a_press_through_each_door_without_the_passkey(alone, attempt, later, door):
    ticket = attempt.on(alone.place())
    later()
    client, said = signed_in(alone, "bob"), {"digest": ticket.request.digest}
    if door == "batch":
        picked = f"{ticket.pk}:{ticket.request.digest}"
        client.post(reverse("console:queue_selected"), {"do": "approve", "ticket": [picked]})
    elif door == "api":
        path = f"/api/approvals/{ticket.pk}/approve"
        client.post(path, said, content_type="application/json")
    elif door.startswith("a bot"):
        Client().post(f"/admin/queue/{ticket.pk}/approve/", said, headers=bearer(alone))
    else:
        press(client, ticket, **({"confirmed": "1", "assertion": "{}"} if "," in door else {}))
    alone.turn()
    attempt.told("access.refused" if door.startswith("a bot") else "decision.refused")


def test_a_yes_written_with_the_very_key_for_proofs_and_no_signature(alone, attempt, later):
    ticket = attempt.on(alone.place())
    later()
    request = DecisionRequest.objects.get(pk=ticket.request_id)
    words = {"person": alone.desk.people["bob"], "digest_shown": request.digest, "reason": ""}
    decision = Decision(request=request, is_yes=True, **words)
    decision.proof = proofs.of_decision(decision)
    decision.save(force_insert=True)
    alone.sql("UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s", request.pk)
    alone.sql("UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", ticket.pk)
    attempt.watch(ticket.pk, "allowed")
    alone.turn()
    attempt.denied(ticket, "signature_missing")


@pytest.mark.parametrize("also", ["", "by two again"])
def test_a_delay_that_the_owner_took_away_is_not_proven(alone, attempt, also):
    ticket = attempt.on(alone.place())
    path = "'{sole_operator,not_before}', '\"2020-01-01T00:00:00+00:00\"'"
    change = f"facts = jsonb_set(facts, {path})" if not also else "facts = facts - 'sole_operator'"
    words = f"UPDATE cerbero_decisionrequest SET {change} WHERE id = %s"
    alone.as_owner((words, [ticket.request_id]))
    _refused(alone, attempt, ticket, {"id": "x"}, "not_proven")


def test_the_profile_is_left_between_the_yes_and_the_sending(alone, attempt, later, device):
    ticket = alone.place()
    later()
    _yes(alone, ticket, _signed(alone, ticket.request, device))
    attempt.on(ticket)
    profile.leave(actor=SERVER)
    alone.turn()
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    attempt.told("ticket.proposed_again")


@pytest.mark.parametrize("who", ["erin", "bob", "bot", "process"])
def test_nobody_but_the_server_enters_the_profile(siege, attempt, device, who):
    ticket = attempt.on(siege.place())
    actors = {"bot": siege.desk.scanner, "process": access.system("orders")}
    person = access.person(User.objects.get(username="erin" if who in actors else who))
    with pytest.raises(PermissionMissing), transaction.atomic():
        profile.enter(actor=actors.get(who, person), operator=siege.desk.people["bob"])
    attempt.ran_out(ticket)


def test_a_revoked_passkey_signs_no_more(alone, attempt, later, device):
    ticket = alone.place()
    later()
    _yes(alone, ticket, _signed(alone, ticket.request, device))
    attempt.on(ticket)
    Passkey.objects.filter(person__username="bob").update(revoked_at=profile._now())
    try:
        alone.turn()
        attempt.denied(ticket, "signature_missing")
    finally:
        words = "UPDATE people_passkey SET revoked_at = NULL"
        switch = "ALTER TABLE people_passkey {} TRIGGER USER"
        alone.as_owner((switch.format("DISABLE"), []), (words, []), (switch.format("ENABLE"), []))


def test_an_amendment_without_the_passkey(alone, attempt, later, device):
    attempt.expects = 1
    ticket = alone.place()
    later()
    _yes(alone, ticket, _signed(alone, ticket.request, device))
    alone.turn()
    order = alone.desk.order(ticket)
    more = {"quantity": Decimal(50), "quantity_is": "total"}
    amendment = amending.amend_order(actor=alone.desk.scanner, order_id=order.pk, **more)
    said = {"digest": amendment.request.digest, "is_yes": True, "amendment_id": amendment.pk}
    counts_from = profile.not_before(amendment.request)
    assert timedelta(0) < counts_from - profile._now() <= timedelta(seconds=profile.ORDER_DELAY_SECONDS)
    later()
    with pytest.raises(CerberoError) as refusal:
        amending.decide_amendment(actor=alone.desk.person("bob"), **said)
    assert refusal.value.code == "signature_missing"
    alone.turn()
    attempt.told("decision.refused", code="signature_missing")


@pytest.mark.parametrize("how", ["before its time", "without the passkey", "by another", "by a row"])
def test_a_limit_is_not_loosened(alone, attempt, later, how):
    with transaction.atomic():
        row = Limits.objects.get(account=alone.desk.account)
        row.quantity_max = Decimal(1_000_000)
        asked = limit_changes.change_limits(actor=alone.desk.person("bob"), row=row)
    who = "bob"
    if how.startswith("by"):
        later()
        alone.desk.people["carol"].groups.add(Group.objects.get(name="Administrator"))
        who = "carol"
    elif how.startswith("without"):
        later()
    if how == "by a row":
        words = "UPDATE cerbero_decisionrequest SET facts = facts - 'sole_operator' WHERE id = %s"
        alone.as_owner((words, [asked.pk]))
    client = signed_in(alone, who)
    client.post(reverse("console:decide_limits", args=[asked.pk]), {"digest": asked.digest, "do": "confirm"})
    assert Limits.objects.get(account=alone.desk.account).quantity_max == 10_000
    codes = {"before its time": "delay_running", "without the passkey": "signature_missing"}
    attempt.told(
        "access.refused", code=codes.get(how, "permission_missing" if how == "by another" else "not_proven")
    )
