"""A live desk: whatever is pressed, replayed, borrowed or written into rows, only a passkey's word counts."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from cerbero import proofs
from cerbero.errors import CerberoError, PasskeyRefused, RiskRefused, SignatureMissing
from cerbero.models import Decision, DecisionRequest
from cerbero.people.models import Passkey, Signature
from orders import mandates
from orders.canonical import decision_digest
from orders.models import Limits, Ticket
from orders.overriding import override_limits
from tests.adversarial.hands import press, signed_in
from tests.adversarial.siege import Siege
from tests.orders import budgets
from tests.people.authenticator import PRESENT, VERIFIED, Authenticator
from tests.people.desk import LiveDesk, open_desk
from tests.rig import Servers, django_uses
from tests.simulator_process import start_simulator


class LiveSiege(Siege):
    """The same hands and the same judge, around a desk whose orders are for real money."""

    live: LiveDesk

    def put_in_order(self) -> None:
        self.desk.near()
        for device in self.live.keys.values():
            device.flags = PRESENT | VERIFIED

    @property
    def mine(self) -> Authenticator:
        return self.live.keys["bob"]


@pytest.fixture(scope="module")
def besieged(
    migrated: Servers,
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveSiege]:
    from django.conf import settings

    from brokers.connections import close_connections

    database = migrated.create_database()
    before = settings.LIVE_TRADING, settings.EMBEDDED_SERVERS
    running = start_simulator(tmp_path_factory.mktemp("besieged-live"), "--live")
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock(), django_uses(database):
        patch.setattr("brokers.pacing.REQUESTS_PER_SECOND", 100)
        live = open_desk(running, database, settings)
        running.config(freeze=True, fill_delay=[0.01, 0.02], questions=[], per_side_limit=10_000)
        siege = LiveSiege(live.world, database, live.world.near())
        siege.live = live
        yield siege
        close_connections()
    running.stop()
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = before
    migrated.drop_database(database.name)


@pytest.fixture
def siege(besieged: LiveSiege) -> LiveSiege:
    besieged.put_in_order()
    return besieged


@pytest.mark.parametrize(
    "terms",
    [{"order_type": "market"}, {"order_type": "midprice"}, {"order_type": "market", "time_in_force": "opg"}],
)
def test_an_order_that_would_leave_at_whatever_price(siege, attempt, terms):
    with pytest.raises(RiskRefused) as refusal:
        siege.live.place(limit_price=None, **terms)
    assert [check["code"] for check in refusal.value.details["checks"]] == ["price_cap"]
    attempt.told("ticket.denied", code="risk_refused")


def _refused(
    siege: LiveSiege, attempt: Any, ticket: Ticket, assertion: Any, code: str, who: str = "bob"
) -> None:
    with pytest.raises(CerberoError) as refusal:
        siege.live.say_yes(ticket, who, assertion)
    assert refusal.value.code == code
    siege.turn()
    attempt.told("decision.refused", code=code)


@pytest.mark.parametrize("nothing", [None, {}, {"id": 7}])
def test_a_yes_without_a_passkey(siege, attempt, nothing):
    ticket = attempt.on(siege.place())
    code = PasskeyRefused.code if nothing and nothing.get("id") else SignatureMissing.code
    _refused(siege, attempt, ticket, nothing, code)


def test_a_press_in_the_console_without_a_passkey(siege, attempt):
    ticket = attempt.on(siege.place())
    press(signed_in(siege, "bob"), ticket)
    press(signed_in(siege, "bob"), ticket, confirmed="1", assertion="{}")
    siege.turn()
    attempt.told("decision.refused", code=SignatureMissing.code)


def test_an_answer_replayed_for_the_same_ticket_by_another(siege, attempt):
    """It has been used up by then, whoever sends it again."""
    ticket = siege.place(quantity=200)
    assert ticket.request.quorum == 2
    attempt.on(ticket)
    assertion = siege.mine.get(siege.live.asked(ticket, "bob"))
    siege.live.say_yes(ticket, "bob", assertion)
    siege.live.asked(ticket, "carol")
    _refused(siege, attempt, ticket, assertion, PasskeyRefused.code, who="carol")


def test_an_answer_for_another_ticket(siege, attempt):
    first, second = siege.place(), siege.place()
    attempt.on(first, second)
    assertion = siege.mine.get(siege.live.asked(first, "bob"))
    siege.live.asked(second, "bob")
    _refused(siege, attempt, second, assertion, PasskeyRefused.code)


def test_the_credential_of_another_person(siege, attempt):
    ticket = attempt.on(siege.place())
    theirs = siege.live.keys["carol"].get(siege.live.asked(ticket, "bob"))
    _refused(siege, attempt, ticket, theirs, PasskeyRefused.code)


@pytest.mark.parametrize("wrong", ["nobody verified", "nobody present", "count goes back", "site", "key"])
def test_an_answer_that_the_person_did_not_give(siege, attempt, wrong):
    ticket = attempt.on(siege.place())
    options = siege.live.asked(ticket, "bob")
    device = siege.mine
    key, origin, count = device.key, device.origin, device.count
    match wrong:
        case "nobody verified":
            device.flags = PRESENT
        case "nobody present":
            device.flags = VERIFIED
        case "count goes back":
            Passkey.objects.filter(person__username="bob").update(sign_count=count + 50)
        case "site":
            device.origin = "https://desk.example.evil"
        case "key":
            device.key = Authenticator().key
    assertion = device.get(options)
    device.key, device.origin, device.count = key, origin, count + 100
    _refused(siege, attempt, ticket, assertion, PasskeyRefused.code)


@pytest.mark.parametrize("signature", ["none", "of another ticket"])
def test_a_decision_written_by_sql_on_live(siege, attempt, signature):
    """With the very key for proofs, so that every row is as our program would have written it."""
    signed = siege.live.approved() if signature != "none" else None
    attempt.expects = int(signed is not None)
    ticket = siege.place()
    attempt.on(ticket)
    request = DecisionRequest.objects.get(pk=ticket.request_id)
    decision = Decision(
        request=request, person=siege.desk.people["bob"], is_yes=True, digest_shown=request.digest, reason=""
    )
    decision.proof = proofs.of_decision(decision)
    decision.save(force_insert=True)
    if signed is not None:
        kept = Signature.objects.get(decision__request=signed.request)
        Signature.objects.create(
            decision=decision, passkey=kept.passkey, nonce=bytes(kept.nonce), assertion=kept.assertion
        )
    siege.sql("UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s", request.pk)
    siege.sql("UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", ticket.pk)
    attempt.watch(ticket.pk, "allowed")
    siege.turn()
    attempt.denied(ticket, "signature_missing")


def test_a_mandate_signed_without_a_passkey(siege, attempt):
    """A budget on a live account replaces signed yeses, so it is signed itself."""
    mandate = budgets.proposed(siege.desk, "carol")
    path = reverse("console:decide_mandate", args=[mandate.pk])
    signed_in(siege, "bob").post(path, {"digest": mandate.digest, "do": "sign"})
    assert mandates.Mandate.objects.get(pk=mandate.pk).status == "proposed"
    assert attempt.on(siege.place(quantity=1)).status == "proposed"
    attempt.told("access.refused", code=SignatureMissing.code)


@pytest.fixture
def overridden(siege):
    """A live ticket that a limit refused, proposed again by bob who overrides; signed by nobody yet."""
    people, limits = siege.desk.people, {"quantity_max": Limits.objects.get().quantity_max}
    people["bob"].groups.add(Group.objects.get(name="Risk"))
    siege.live.a_day_later()
    Limits.objects.update(quantity_max=9)
    with pytest.raises(RiskRefused) as refusal:
        siege.place()
    first = Ticket.objects.get(pk=refusal.value.details["ticket_id"])
    said = {"digest": first.digest, "ceilings": {"quantity_max": Decimal(10)}, "reason": "rebalancing"}
    yield override_limits(actor=siege.desk.person("bob"), ticket_id=first.pk, **said)
    Limits.objects.update(**limits)


def test_an_override_without_a_passkey(siege, attempt, overridden):
    attempt.on(overridden)
    _refused(siege, attempt, overridden, None, SignatureMissing.code)


def test_an_overrider_whose_passkey_is_another_persons(siege, attempt, overridden):
    attempt.on(overridden)
    theirs = siege.live.keys["carol"].get(siege.live.asked(overridden, "bob"))
    _refused(siege, attempt, overridden, theirs, PasskeyRefused.code)


def test_a_ceiling_raised_with_the_very_key_for_proofs(siege, attempt, overridden):
    """Every row as our program would have written it; but the passkeys signed another ceiling."""
    made = overridden
    for who in ("bob", "carol"):
        siege.live.sign(made, who)
    attempt.on(made)
    request = DecisionRequest.objects.get(pk=made.request_id)
    request.facts["override"]["limits"][0]["ceiling"] = "1000"
    request.digest = decision_digest(made.digest, request.facts)
    request.proof = proofs.of_request(request)
    words = "UPDATE cerbero_decisionrequest SET facts = %s, digest = %s, proof = %s WHERE id = %s"
    changes = [(words, [json.dumps(request.facts), request.digest, request.proof, request.pk])]
    for yes in request.decisions.all():
        yes.digest_shown = request.digest
        words = "UPDATE cerbero_decision SET digest_shown = %s, proof = %s WHERE id = %s"
        changes.append((words, [yes.digest_shown, proofs.of_decision(yes, request), yes.pk]))
    siege.as_owner(*changes)
    siege.turn()
    attempt.denied(made, "signature_missing")
