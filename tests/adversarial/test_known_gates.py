"""How other gates were opened: gates.md §1, one test for each, G1 to G20."""

import ast
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from brokers.models import Account, Quote
from brokers.services import broker_for
from cerbero import access
from cerbero.access import SCOPES, issue_token
from cerbero.errors import (
    AlreadyDecided,
    CerberoError,
    DigestMismatch,
    PermissionMissing,
    RiskRefused,
    SelfApproval,
)
from cerbero.models import Decision
from cerbero.tool import TOOLS
from orders import halting, services, trading
from orders.models import Attempt, Limits, Ticket
from tests.adversarial.hands import bearer, place, signed_in
from tests.orders.world import until
from tests.rig import BASE_DIR, run_together
from tests.source import sources, tree

ME = access.system("orders")


def test_g01_an_approval_serves_no_other_order(siege, attempt):
    """The yes for one order, on the screen of another: whatever differs, the digest does."""
    small = siege.place(quantity=1)
    # Above what rests on the other side: an order that meets our own is refused before anybody is asked.
    sale = {"side": "sell", "limit_price": siege.ask + 1}
    for other in ({"quantity": 300}, sale, {"order_type": "market", "limit_price": None}):
        ticket = attempt.on(siege.place(**other))
        with pytest.raises(DigestMismatch):
            services.decide_ticket(
                actor=siege.desk.person("bob"), ticket_id=ticket.pk, digest=small.request.digest, is_yes=True
            )
    attempt.told("decision.refused", code="digest_mismatch")


def test_g02_a_price_is_part_of_what_is_approved(siege, attempt):
    ticket = siege.approved(limit_price=siege.resting)
    dearer = attempt.on(siege.place(limit_price=siege.resting + Decimal("0.01")))
    assert dearer.digest != ticket.digest
    with pytest.raises(DigestMismatch):
        services.decide_ticket(
            actor=siege.desk.person("bob"), ticket_id=dearer.pk, digest=ticket.request.digest, is_yes=True
        )
    attempt.told("decision.refused", code="digest_mismatch")


@pytest.mark.parametrize("ended", ["used", "rejected"])
def test_g03_an_old_button_revives_nothing(siege, attempt, ended):
    ticket = siege.place()
    siege.desk.decide(ticket, "bob", is_yes=ended == "used", reason="no")
    siege.turn()
    attempt.expects = int(ended == "used")
    with pytest.raises(AlreadyDecided):
        siege.desk.decide(ticket, "carol")
    words = "UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s"
    attempt.refused_by_database(words, ticket.request_id, says="not a legal move|needs its quorum")
    siege.turn()


def test_g04_two_people_who_approve_at_once_send_one_order(siege, attempt):
    ticket = siege.place()
    results = run_together(*(lambda who=who: siege.desk.decide(ticket, who) for who in ("bob", "carol")))
    assert sum(isinstance(result, AlreadyDecided) for result in results) == 1
    siege.turn()
    attempt.expects = 1
    assert Attempt.objects.filter(ticket=ticket).count() == 1
    attempt.told("decision.refused", code="already_decided")


def test_g05_a_state_that_cannot_be_read_is_no_permission(siege, attempt, monkeypatch):
    from django.db import OperationalError

    attempt.on(siege.approved())
    headers = bearer(siege)

    def fails(*_: Any, **__: Any) -> str:
        raise OperationalError("away")

    monkeypatch.setattr(trading, "worst_state", fails)
    siege.process()
    assert place(headers, siege).status_code == 503
    attempt.told("orders.interrupted", why="OperationalError")
    attempt.told("tool.called", outcome="internal_error")


def test_g06_the_gate_keeps_nobody_from_reducing_risk(siege, attempt):
    """Halted, out of limits and without an approver: cancel and close pass for a person."""
    siege.sim.config(fills="immediate")
    siege.approved(quantity=5, limit_price=siege.ask + 1)
    siege.turn()
    siege.desk.reconcile()
    siege.sim.config(fills="normal")
    resting = siege.approved()
    siege.turn()
    halting.halt_trading(mode="stop_new", actor=ME, reason="attack")
    Limits.objects.update(quantity_max=0, notional_max=0)
    services.cancel_order(actor=siege.desk.person("bob"), order_id=siege.desk.order(resting).pk)
    close = services.close_position(
        actor=siege.desk.person("bob"),
        account=siege.desk.account.broker_account_id,
        symbol="AAPL",
        idempotency_key=f"close-{resting.pk}"[:64],
    )
    siege.sim.config(fills="immediate")
    siege.turn()
    assert Attempt.objects.filter(ticket=close, status="answered").exists()
    until(lambda: siege.desk.reconcile() or siege.turn() or siege.desk.order(close).status == "filled")
    attempt.expects = 3
    attempt.told("cancel.sent", outcome="accepted")


def test_g07_no_token_confirms_itself(siege, attempt):
    """No tool decides, no scope can, and a resent proposal is the same question."""
    assert not [name for name in TOOLS if re.search(r"approve|decide|confirm|allow|resume", name)]
    assert not [scope for scope in SCOPES if re.search(r"approve|decide", scope)]
    proposal = siege.desk.proposal(limit_price=siege.resting)
    first = attempt.on(services.place_order(actor=siege.desk.scanner, proposal=proposal))
    assert services.place_order(actor=siege.desk.scanner, proposal=proposal).pk == first.pk
    with pytest.raises(PermissionMissing):
        services.decide_ticket(
            actor=siege.desk.scanner, ticket_id=first.pk, digest=first.request.digest, is_yes=True
        )
    attempt.told("decision.refused", code="permission_missing")


def test_g08_pressing_is_not_being_allowed(siege, attempt):
    ticket = attempt.on(siege.place())
    for name in ("alice", "carol"):
        siege.desk.people["carol"].groups.clear()
        with pytest.raises((SelfApproval, PermissionMissing)):
            siege.desk.decide(ticket, name)
    attempt.told("decision.refused")


def test_g09_nothing_in_the_environment_opens_the_gate(siege, attempt, monkeypatch):
    """The settings that exist, by name: none of them says who must approve, and nothing else reads the environment."""
    names = {
        call.args[0].value
        for call in ast.walk(tree("cerbero.settings"))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"text", "flag", "whole", "secret"}
        and isinstance(call.args[0], ast.Constant)
    }
    assert names
    assert not [
        name for name in names if re.search(r"AUTO|APPROVE$|BYPASS|SKIP|NO_|DISABLE|GATE|UNSAFE", name)
    ]
    read = [
        name
        for name in sources()
        if name.startswith("orders.") and "settings." in sources()[name].read_text()
    ]
    words = {
        word for name in read for word in re.findall(r"settings\.([A-Z_]+)", sources()[name].read_text())
    }
    assert not [word for word in words if re.search(r"AUTO|BYPASS|SKIP|DISABLE", word)]
    for name in ("AUTO_APPROVE", "APPROVALS", "SKIP_GATE", "TRADING_MODE", "DEBUG", "CERBERO_UNSAFE"):
        monkeypatch.setenv(name, "auto")
    ticket = attempt.on(siege.place())
    siege.turn()
    attempt.ran_out(ticket)


def test_g10_no_address_decides_on_more_than_one(siege, attempt):
    tickets = [siege.place(quantity=1 + index) for index in range(3)]
    attempt.on(*tickets)
    found = [str(each.pattern) for each in _patterns() if re.search(r"approve|decide", str(each.pattern))]
    assert found
    assert all(re.search("<(uuid|int):", pattern) for pattern in found), found
    client = signed_in(siege, "bob")
    ids = [str(ticket.pk) for ticket in tickets]
    for path in ("/admin/orders/ticket/", "/admin/cerbero/decisionrequest/"):
        client.post(path, {"action": "approve", "_selected_action": ids})
    # A batch is decided ticket by ticket, each by what stood on the screen for it.
    client.post("/admin/queue/selected/", {"do": "approve", "ticket": [*ids, f"{ids[0]}:{'0' * 64}"]})
    assert Decision.objects.filter(request__ticket__in=tickets).count() == 0
    attempt.told("decision.refused", code="digest_mismatch")


def _patterns() -> list[Any]:
    def walk(patterns: list[Any]) -> list[Any]:
        return [
            leaf
            for each in patterns
            for leaf in (walk(each.url_patterns) if hasattr(each, "url_patterns") else [each])
        ]

    return walk(get_resolver().url_patterns)


@pytest.mark.parametrize("unknown", ["no quote", "old quote", "one side", "no multiplier", "no rate"])
def test_g11_what_is_not_known_is_no(siege, attempt, unknown):
    if unknown == "no quote":
        Quote.objects.all().delete()
    elif unknown == "old quote":
        Quote.objects.update(received_at=timezone.now() - timedelta(minutes=5))
    elif unknown == "one side":
        Quote.objects.update(ask=None, last=None)
    elif unknown == "no multiplier":
        type(siege.desk.aapl).objects.update(multiplier=0, asset_class="FUT")
    else:
        type(siege.desk.aapl).objects.update(currency="EUR")
    answer = place(bearer(siege), siege).json()["error"]["code"]
    type(siege.desk.aapl).objects.update(asset_class="STK")
    assert answer in {"quote_missing", "risk_refused"}
    attempt.told("tool.called", outcome=answer)


def test_g12_limits_count_our_rows_and_not_what_the_caller_says(siege, attempt):
    from orders.tools.orders import PlaceOrder

    said = {"notional", "price", "position", "multiplier", "currency", "equity"}
    assert not said & PlaceOrder.model_fields.keys()
    with pytest.raises(RiskRefused):
        siege.place(quantity=Decimal(9_999))
    attempt.told("ticket.denied", code="risk_refused")


def test_g13_an_unknown_question_is_answered_no(siege, attempt):
    assert Account.objects.get(pk=siege.desk.account.pk).allowed_question_ids == []
    siege.sim.config(questions=["o354"])
    ticket = siege.approved()
    siege.turn()
    attempt.expects = 1
    sending = Attempt.objects.get(ticket=ticket)
    assert sending.outcome["refused"] is True
    booked = [row for row in siege.desk.at_broker() if row["cOID"] == sending.client_order_id]
    assert not [row for row in booked if row["status"] in {"Submitted", "PreSubmitted", "Filled"}]
    attempt.told("attempt.doubted")


def test_g14_no_order_comes_after_the_kill(siege, attempt):
    tickets = [siege.approved(quantity=1 + index) for index in range(3)]
    attempt.on(*tickets)
    halted = halting.halt_trading(mode="stop_new", actor=ME, reason="attack")
    ours = Attempt.objects.filter(ticket__in=tickets, client_order_id__in=halted["in_flight"])
    assert not ours.exists()
    for _ in range(3):
        siege.turn()
    with pytest.raises(CerberoError) as refusal:
        siege.place()
    assert refusal.value.code == "trading_halted"
    attempt.told("trading.halted")


def test_g15_the_same_order_again_and_again_needs_a_person_each_time(siege, attempt):
    tickets = []
    with_refusal = 0
    for _ in range(30):
        try:
            tickets.append(siege.place())
        except CerberoError:
            with_refusal += 1
    attempt.on(*tickets)
    siege.turn()
    assert not Ticket.objects.filter(pk__in=[each.pk for each in tickets], status="allowed").exists()
    attempt.told("ticket.proposed")


def test_g16_a_slow_reply_is_not_a_second_order(siege, attempt):
    attempt.expects = 1
    ticket = siege.approved()
    siege.sim.fault("drop_after", path="/orders", method="POST", times=1)
    for _ in range(3):
        siege.turn()
    sending = Attempt.objects.get(ticket=ticket)
    assert sending.status == "in_doubt"
    assert len([row for row in siege.desk.at_broker() if row["cOID"] == sending.client_order_id]) == 1
    attempt.told("attempt.doubted")


def test_g17_another_market_than_the_one_that_was_approved(siege, attempt):
    ticket = siege.approved()
    Limits.objects.update(drift_percent=Decimal("0.1"))
    siege.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": 1})
    siege.turn()
    siege.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": -1})
    attempt.on(ticket)
    assert (ticket.status, ticket.request.facts["asked_again"]) == ("proposed", "price_drifted")
    attempt.told("ticket.proposed_again", why="price_drifted")


def test_g18_keys_live_in_rows_and_not_in_a_process(siege, attempt):
    """A credential that is taken away is gone for the very next sending of a process that runs already."""
    from brokers.models import Credential
    from cerbero.errors import CredentialMissing

    with broker_for(siege.desk.login):
        pass
    ticket = attempt.on(siege.approved())
    active = Credential.objects.filter(login=siege.desk.login, status="active")
    pk = active.get().pk
    siege.as_owner(("UPDATE brokers_credential SET status = 'retired' WHERE id = %s", [pk]))
    try:
        with pytest.raises(CredentialMissing), broker_for(siege.desk.login):
            pass
        siege.turn()
    finally:
        siege.as_owner(("UPDATE brokers_credential SET status = 'active' WHERE id = %s", [pk]))
    attempt.held(ticket, "credential_missing")


@pytest.mark.parametrize("tool", ["start_rotation", "abort_rotation"])
def test_g19_a_token_rotates_no_keys_without_the_scope_for_it(siege, attempt, tool):
    assert "rotation:admin" not in access.DEFAULT_SCOPES
    headers = {"Authorization": f"Bearer {issue_token(siege.desk.bot)}", "X-Bot-Tag": "test-1"}
    answer = Client().post(f"/tools/{tool}", {}, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_missing")
    for path in ("/admin/audit/entry/", "/live/blotter.json"):
        assert Client().get(path, headers=headers).status_code == 302
    attempt.told("tool.called", outcome="scope_missing")


def test_g20_what_waits_is_announced_and_ends(siege, attempt):
    """It is counted and counts down for everybody who may decide; nobody's silence is a yes."""
    ticket = attempt.on(siege.place())
    client = Client()
    client.force_login(siege.desk.people["bob"])
    assert str(ticket.pk) in client.get("/admin/queue/state.json").json()["waiting"]
    assert str(ticket.pk) in client.get("/admin/queue/").content.decode()
    attempt.ran_out(ticket)


def test_every_gate_of_the_list_has_its_test():
    listed = {f"g{number:02}" for number in range(1, 21)}
    text = (BASE_DIR / "tests" / "adversarial" / "test_known_gates.py").read_text()
    assert listed == set(re.findall(r"def test_(g\d\d)_", text))
