"""A mandate on a live account is signed by passkeys, and each order under it is sent by those signatures alone."""

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from cerbero import proofs
from cerbero.errors import CerberoError, LiveBarred, PasskeyRefused, SignatureMissing
from cerbero.models import Decision, DecisionRequest
from cerbero.people import changes
from cerbero.people.models import Passkey, Signature
from orders import mandates
from orders.models import Allowance, Mandate, Ticket
from tests.orders.budgets import terms as _terms
from tests.people.desk import LiveDesk

TWO = {"do": "people", "quorum": 2, "group": "Approver"}


@pytest.fixture
def desk(live: LiveDesk) -> LiveDesk:
    """Mandates serve live here, in place of two decisions; dave may sign, too, and proposes."""
    live.world.activate([{"name": "budget", "then": {"do": "mandate"}}, {"name": "ask", "then": TWO}])
    dave = type(live.world.people["bob"]).objects.create_user("dave", is_staff=True)
    dave.groups.set(live.world.people["bob"].groups.all())
    live.world.people["dave"] = dave
    live.a_day_later()
    return live


def proposed(desk: LiveDesk, **more: Any) -> Mandate:
    terms = _terms(
        desk.world, **{"order_notional_max": Decimal(5000), "notional_max": Decimal(20_000)} | more
    )
    return mandates.propose_mandate(actor=desk.world.person("dave"), terms=terms)


def asked(desk: LiveDesk, mandate: Mandate, who: str) -> dict[str, Any]:
    return mandates.ask_signature(actor=desk.world.person(who), mandate_id=mandate.pk, digest=mandate.digest)


def say_yes(desk: LiveDesk, mandate: Mandate, who: str, assertion: dict[str, Any] | None) -> Mandate:
    return mandates.decide_mandate(
        actor=desk.world.person(who),
        mandate_id=mandate.pk,
        digest=mandate.digest,
        is_yes=True,
        assertion=assertion,
    )


def signed(desk: LiveDesk, **more: Any) -> Mandate:
    mandate = proposed(desk, **more)
    for who in ("bob", "carol"):
        mandate = say_yes(desk, mandate, who, desk.keys[who].get(asked(desk, mandate, who)))
    return mandate


def sent(desk: LiveDesk) -> int:
    for _ in range(2):
        desk.world.turn()
    return len(desk.world.at_broker())


def under(ticket: Ticket) -> Mandate | None:
    return Allowance.objects.get(ticket=ticket).mandate


def fate(ticket: Ticket) -> tuple[str, str]:
    ticket.refresh_from_db()
    return ticket.status, ticket.refusal_code


def test_two_passkeys_make_it_active_and_an_order_under_it_is_sent(desk: LiveDesk) -> None:
    mandate = proposed(desk)
    for nothing in (None, {}):
        with pytest.raises(SignatureMissing):
            say_yes(desk, mandate, "bob", nothing)
    mandate = signed(desk)
    assert (mandate.status, mandate.request.quorum) == ("active", 2)
    assert Entry.objects.filter(event="decision.signed").count() == 2
    ticket = desk.place()
    assert under(ticket) == mandate
    assert sent(desk) == 1


def test_an_answer_for_one_mandate_signs_no_other_and_nobody_elses(desk: LiveDesk) -> None:
    first, second = proposed(desk), proposed(desk)
    assert first.digest != second.digest
    assertion = desk.keys["bob"].get(asked(desk, first, "bob"))
    asked(desk, second, "bob")
    asked(desk, first, "carol")
    for who, mandate in (("bob", second), ("carol", first), ("carol", second)):
        with pytest.raises(PasskeyRefused):
            say_yes(desk, mandate, who, assertion)
    assert not Decision.objects.filter(request__subject_kind="mandate").exists()
    say_yes(desk, first, "bob", assertion)
    with pytest.raises(CerberoError):
        say_yes(desk, first, "carol", assertion)


def test_the_same_terms_another_day_are_signed_anew(desk: LiveDesk) -> None:
    same = {"expires_at": _terms(desk.world).expires_at}
    first, second = proposed(desk, **same), proposed(desk, **same)
    assert first.digest == second.digest
    assertion = desk.keys["bob"].get(asked(desk, first, "bob"))
    asked(desk, second, "bob")
    with pytest.raises(PasskeyRefused):
        say_yes(desk, second, "bob", assertion)


def test_a_mandate_forged_in_rows_sends_nothing(desk: LiveDesk) -> None:
    """Whoever owns the tables, and even has the key of our proofs: what no passkey signed moves no money."""
    honest = signed(desk, count_max=1)
    assert under(desk.place()) == honest
    forged = forge(desk, honest)
    ticket = desk.place()
    assert under(ticket) == forged
    assert sent(desk) == 1
    assert fate(ticket) == ("denied", "signature_missing")
    assert Entry.objects.filter(event="ticket.denied", subject_id=str(ticket.pk)).exists()


def test_signatures_moved_from_one_mandate_to_another_send_nothing(desk: LiveDesk) -> None:
    honest = signed(desk, count_max=1)
    forged = forge(desk, honest)
    for row in Signature.objects.filter(decision__request=honest.request):
        theirs = Decision.objects.get(request=forged.request, person=row.decision.person_id)
        nonce = bytes(row.nonce)
        Signature.objects.create(decision=theirs, passkey=row.passkey, nonce=nonce, assertion=row.assertion)
    Mandate.objects.filter(pk=honest.pk).update(status="revoked")
    ticket = desk.place()
    assert under(ticket) == forged
    assert sent(desk) == 0
    assert fate(ticket) == ("denied", "signature_missing")


def test_a_mandate_without_proofs_is_not_even_used(desk: LiveDesk) -> None:
    forge(desk, signed(desk, count_max=1), is_proven=False)
    desk.place()
    with pytest.raises(CerberoError):
        desk.place()
    assert sent(desk) == 1


def forge(desk: LiveDesk, like: Mandate, *, is_proven: bool = True) -> Mandate:
    """An active mandate of a hundred times the budget, with its question and two yeses, in rows alone."""
    request_id, mandate_id = uuid4(), uuid4()
    with desk.as_owner("cerbero_decisionrequest", "orders_mandate", "cerbero_decision") as owner:
        _copy(owner, "cerbero_decisionrequest", like.request_id, id=request_id, subject_id=mandate_id)
        _copy(
            owner,
            "orders_mandate",
            like.pk,
            id=mandate_id,
            request_id=request_id,
            status="active",
            count_max=1000,
            notional_max=2_000_000,
            used_count=0,
            used_notional=0,
        )
    mandate = Mandate.objects.select_related("request", "account").get(pk=mandate_id)
    request = mandate.request
    assert request is not None
    mandate.digest = request.digest = mandates.digest_of(mandates.canonical(mandate))
    request.facts |= {"terms": mandates.canonical(mandate)}
    request.proof = proofs.of_request(request) if is_proven else ""
    with desk.as_owner("cerbero_decisionrequest", "orders_mandate"):
        Mandate.objects.filter(pk=mandate_id).update(digest=mandate.digest)
        facts = {"digest": request.digest, "facts": request.facts, "proof": request.proof}
        DecisionRequest.objects.filter(pk=request_id).update(**facts)
    for who in ("bob", "carol"):
        yes = Decision(request=request, person=desk.world.people[who], is_yes=True)
        yes.digest_shown = request.digest
        yes.proof = proofs.of_decision(yes) if is_proven else ""
        yes.save(force_insert=True)
    return mandate


def _copy(owner: Any, table: str, key: Any, **other: Any) -> None:
    names = [row[0] for row in owner.execute(f"SELECT * FROM {table} LIMIT 0").description]
    values = ", ".join("%s" if name in other else f'"{name}"' for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    own = [other[name] for name in names if name in other]
    owner.execute(f"INSERT INTO {table} ({listed}) SELECT {values} FROM {table} WHERE id = %s", [*own, key])


@pytest.mark.parametrize("what", ["revoked", "group", "barred", "mandate_revoked"])
def test_what_changed_after_the_signatures_stops_the_sending(desk: LiveDesk, what: str) -> None:
    mandate = signed(desk)
    ticket = desk.place()
    bob = desk.world.people["bob"]
    match what:
        case "revoked":
            key = Passkey.objects.get(person=bob)
            changes.passkeys.revoke(actor=desk.world.person("bob"), passkey_id=key.pk)
        case "group":
            bob.groups.clear()
        case "barred":
            changes.bar(bob, "password reset")
        case "mandate_revoked":
            revoker = desk.world.administrator("erin")
            mandates.revoke_mandate(actor=revoker, mandate_id=mandate.pk, reason="no more")
    assert sent(desk) == 0
    assert fate(ticket) in {("denied", "signature_missing"), ("proposed", "")}


def test_whoever_is_barred_signs_no_live_mandate(desk: LiveDesk) -> None:
    mandate = proposed(desk)
    assertion = desk.keys["bob"].get(asked(desk, mandate, "bob"))
    changes.bar(desk.world.people["bob"], "password reset")
    with pytest.raises(LiveBarred):
        asked(desk, mandate, "bob")
    with pytest.raises(LiveBarred):
        say_yes(desk, mandate, "bob", assertion)


def test_the_page_asks_for_the_passkey_and_takes_its_answer(desk: LiveDesk) -> None:
    mandate = proposed(desk)
    client = Client()
    client.force_login(desk.world.people["bob"])
    assert "Sign with passkey" in client.get(reverse("console:mandates")).content.decode()
    shown = {"digest": mandate.digest}
    address = reverse("console:challenge_mandate", args=[mandate.pk])
    stale = client.post(address, {"digest": "0" * 64})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "digest_mismatch")
    options = client.post(address, shown).json()
    decide = reverse("console:decide_mandate", args=[mandate.pk])
    for nothing in ({}, {"assertion": "nonsense"}):
        told = client.post(decide, shown | {"do": "sign"} | nothing, follow=True).content
        assert b"signature_missing" in told
    answer = json.dumps(desk.keys["bob"].get(options))
    client.post(decide, shown | {"do": "sign", "assertion": answer})
    yes = Decision.objects.get(request=mandate.request)
    assert (yes.person.username, yes.signature.passkey.person.username) == ("bob", "bob")
