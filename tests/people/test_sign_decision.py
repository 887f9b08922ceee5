"""A yes on a live account is a passkey's signature, checked again by the process that sends (gates.md G1, G7)."""

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import webauthn
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from cerbero import access, proofs
from cerbero.errors import (
    CerberoError,
    LiveBarred,
    PasskeyRefused,
    PermissionMissing,
    RiskRefused,
    SignatureMissing,
)
from cerbero.models import Decision, DecisionRequest, DecisionStatus
from cerbero.people import changes
from cerbero.people.models import Passkey, Signature
from orders import services
from orders.lifecycle import TicketStatus
from orders.models import Limits, Ticket
from orders.overriding import override_limits
from tests.orders.world import hear
from tests.people.authenticator import PRESENT, Authenticator, b64, bytes_of
from tests.people.desk import LiveDesk


def sent(live: LiveDesk) -> int:
    """How many orders the broker ever accepted, after the orders process has looked at everything twice."""
    for _ in range(2):
        live.world.turn()
    return len(live.world.at_broker())


def on_tickets() -> Any:
    """The decisions of tickets; the desk's own passkeys took some, too."""
    return Decision.objects.filter(request__subject_kind="ticket")


def refusal(ticket: Ticket) -> str:
    ticket.refresh_from_db()
    return ticket.refusal_code


def test_a_signed_ticket_is_sent_and_its_signatures_are_kept(live: LiveDesk) -> None:
    ticket = live.approved()
    assert ticket.status == TicketStatus.ALLOWED
    assert sent(live) == 1
    kept = Signature.objects.filter(decision__request=ticket.request)
    assert kept.count() == ticket.request.quorum
    assert Entry.objects.filter(event="decision.signed").count() == ticket.request.quorum
    assert set(kept[0].assertion["response"]) == {"clientDataJSON", "authenticatorData", "signature"}


def test_a_limit_is_passed_by_the_passkeys_of_whoever_overrides_and_of_one_more(live: LiveDesk) -> None:
    live.world.people["bob"].groups.add(Group.objects.get(name="Risk"))
    live.a_day_later()
    Limits.objects.update(quantity_max=9)
    with pytest.raises(RiskRefused) as refused:
        live.place()
    first = Ticket.objects.get(pk=refused.value.details["ticket_id"])
    said: dict[str, Any] = {"ceilings": {"quantity_max": Decimal(10)}, "reason": "rebalancing"}
    made = override_limits(actor=live.world.person("bob"), ticket_id=first.pk, digest=first.digest, **said)
    assert live.sign(made, "bob").status == TicketStatus.PROPOSED
    assert live.sign(made, "carol").status == TicketStatus.ALLOWED
    assert sent(live) == 1


def test_a_yes_without_a_passkey_is_refused_and_a_no_needs_none(live: LiveDesk) -> None:
    ticket = live.place()
    for nothing in (None, {}):
        with pytest.raises(SignatureMissing):
            live.say_yes(ticket, "bob", nothing)
    assert not on_tickets().exists()
    assert Entry.objects.filter(event="decision.refused").count() == 2
    live.world.decide(ticket, "bob", is_yes=False, reason="not today")
    assert refusal(ticket) == "rejected_by_person"


def test_an_answer_is_good_once_for_one_ticket_and_one_person(live: LiveDesk) -> None:
    first, second = live.place(), live.place()
    assertion = live.keys["bob"].get(live.asked(first, "bob"))
    live.asked(second, "bob")
    live.asked(second, "carol")
    for who, ticket in (("bob", second), ("carol", second)):
        with pytest.raises(PasskeyRefused):
            live.say_yes(ticket, who, assertion)
    live.say_yes(first, "bob", assertion)
    with pytest.raises(CerberoError):
        live.say_yes(first, "carol", assertion)
    assert list(on_tickets().values_list("request", flat=True)) == [first.request_id]


@pytest.mark.parametrize("wrong", ["origin", "rp_id", "flags", "key", "challenge", "count", "garbage"])
def test_what_another_page_another_key_or_no_person_made_is_refused(live: LiveDesk, wrong: str) -> None:
    ticket = live.place()
    device, options = live.keys["bob"], live.asked(ticket, "bob")
    match wrong:
        case "origin":
            device.origin = "https://desk.example.evil"
        case "rp_id":
            device.rp_id = "evil"
        case "flags":
            device.flags = PRESENT
        case "key":
            device.key = Authenticator().key
        case "challenge":
            options = options | {"challenge": b64(b"x" * 32)}
        case "count":
            Passkey.objects.filter(person__username="bob").update(sign_count=50)
    assertion: dict[str, Any] = {"id": 7} if wrong == "garbage" else device.get(options)
    with pytest.raises(PasskeyRefused):
        live.say_yes(ticket, "bob", assertion)
    assert not on_tickets().exists()


def test_a_page_inside_another_sites_frame_cannot_ask(live: LiveDesk) -> None:
    ticket = live.place()
    assertion = live.keys["bob"].get(live.asked(ticket, "bob"))
    told = json.loads(bytes_of(assertion["response"]["clientDataJSON"])) | {"crossOrigin": True}
    assertion["response"]["clientDataJSON"] = b64(json.dumps(told).encode())
    with pytest.raises(PasskeyRefused):
        live.say_yes(ticket, "bob", assertion)


def test_decisions_written_into_the_database_send_nothing(live: LiveDesk) -> None:
    """As the application's own role, and even with our own key for proofs: no row is a signature."""
    ticket = live.place()
    for who in ("bob", "carol"):
        _write_yes(ticket, live.world.people[who].pk)
    _allow(live, ticket)
    assert sent(live) == 0
    assert refusal(ticket) == "signature_missing"
    assert Entry.objects.filter(event="ticket.denied", subject_id=str(ticket.pk)).exists()


def test_signatures_of_one_ticket_moved_to_another_send_nothing(live: LiveDesk) -> None:
    first, second = live.approved(), live.place()
    for row in Signature.objects.filter(decision__request=first.request).select_related("decision"):
        copy = _write_yes(second, row.decision.person_id)
        Signature.objects.create(
            decision=copy, passkey=row.passkey, nonce=bytes(row.nonce), assertion=row.assertion
        )
    _allow(live, second)
    assert sent(live) == 1
    assert refusal(second) == "signature_missing"


def test_a_passkey_written_into_the_database_signs_nothing(live: LiveDesk) -> None:
    """Whoever writes rows brings a key of their own; the seal over it they cannot make."""
    ticket, device = live.place(), Authenticator()
    theirs = Passkey.objects.filter(person__username="bob").get()
    device_key = webauthn.verify_registration_response(
        credential=device.create({"challenge": b64(b"c" * 32)}),
        expected_challenge=b"c" * 32,
        expected_rp_id="localhost",
        expected_origin="http://localhost:8000",
    )
    for name in ("bob", "carol"):
        Passkey.objects.create(
            person=live.world.people[name],
            name="planted",
            credential_id=device.credential_id + name.encode(),
            public_key=device_key.credential_public_key,
            usable_from=theirs.usable_from,
            approved_by=theirs.approved_by,
            seal=theirs.seal,
        )
    device.credential_id += b"bob"
    options = live.asked(ticket, "bob")
    with pytest.raises(PasskeyRefused):
        live.say_yes(ticket, "bob", device.get(options))
    assert not on_tickets().exists()


@pytest.mark.parametrize("what", ["facts", "revoked", "inactive", "group", "barred", "login"])
def test_what_changed_after_the_signatures_stops_the_sending(live: LiveDesk, what: str) -> None:
    ticket = live.approved()
    bob = live.world.people["bob"]
    match what:
        case "facts":
            with live.as_owner("cerbero_decisionrequest") as owner:
                owner.execute("""UPDATE cerbero_decisionrequest SET facts = facts || '{"share": "0.01"}'""")
        case "revoked":
            changes.passkeys.revoke(
                actor=live.world.person("bob"), passkey_id=Passkey.objects.get(person=bob).pk
            )
        case "inactive":
            type(bob).objects.filter(pk=bob.pk).update(is_active=False)
        case "group":
            bob.groups.clear()
        case "barred":
            changes.bar(bob, "password reset")
        case "login":
            live.world.account.__class__.objects.update(environment="paper")
    assert sent(live) == 0
    assert refusal(ticket) in {"signature_missing", "terms_changed", "approval_not_proven"}


def test_whoever_joined_a_group_today_is_barred_whoever_wrote_the_row(live: LiveDesk) -> None:
    ticket, bob = live.place(), live.world.people["bob"]
    with live.database.connect() as own:
        row = "(SELECT id FROM auth_group WHERE name = 'Operator')"
        own.execute(f"INSERT INTO cerbero_user_groups (user_id, group_id) VALUES (%s, {row})", [bob.pk])
        with pytest.raises(psycopg.errors.CheckViolation):
            own.execute("DELETE FROM people_livebar")
        with pytest.raises(psycopg.errors.CheckViolation):
            own.execute("UPDATE people_livebar SET until = now()")
    with pytest.raises(LiveBarred):
        live.asked(ticket, "bob")
    live.world.decide(ticket, "bob", is_yes=False, reason="barred people still say no")


def test_the_queue_asks_for_the_passkey_and_takes_its_answer(live: LiveDesk) -> None:
    ticket = live.place()
    client = Client()
    client.force_login(live.world.people["bob"])
    page = client.get(reverse("console:queue")).content.decode()
    assert "Approve with passkey" in page
    shown = {"digest": ticket.request.digest}
    options = client.post(reverse("console:challenge", args=[ticket.pk]), shown).json()
    assert options["userVerification"] == "required"
    stale = client.post(reverse("console:challenge", args=[ticket.pk]), {"digest": "0" * 64})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "digest_mismatch")
    approve = reverse("console:approve", args=[ticket.pk])
    for nothing in ({}, {"assertion": "nonsense"}, {"assertion": "[1]"}):
        assert b"signature_missing" in client.post(approve, shown | nothing, follow=True).content
    answer = json.dumps(live.keys["bob"].get(options))
    hear(live.world.login)
    client.post(approve, shown | {"assertion": answer})
    assert on_tickets().get().signature.passkey.person.username == "bob"


def test_a_bot_is_never_asked_for_a_passkey(live: LiveDesk) -> None:
    ticket = live.place()
    for actor in (live.world.scanner, access.system("orders")):
        with pytest.raises(PermissionMissing):
            changes.propose_passkey(actor=actor, credential={}, challenge=b"", name="x")
        with pytest.raises(CerberoError):
            services.ask_signature(actor=actor, ticket_id=ticket.pk, digest=ticket.request.digest)
    assert not on_tickets().exists()


def _write_yes(ticket: Ticket, person_id: Any) -> Decision:
    ticket = Ticket.objects.select_related("request").get(pk=ticket.pk)
    decision = Decision(
        request=ticket.request, person_id=person_id, is_yes=True, digest_shown=ticket.request.digest
    )
    decision.proof = proofs.of_decision(decision)
    decision.save(force_insert=True)
    return decision


def _allow(live: LiveDesk, ticket: Ticket) -> None:
    with live.database.connect() as own:
        own.execute(
            "UPDATE cerbero_decisionrequest SET status = 'approved', decided_at = now() WHERE id = %s",
            [ticket.request_id],
        )
        own.execute(
            "UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", [ticket.pk]
        )
    assert DecisionRequest.objects.get(pk=ticket.request_id).status == DecisionStatus.APPROVED
