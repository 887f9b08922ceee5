"""Deciding through every door that there is, by everybody who must not."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from cerbero import access
from cerbero.errors import CerberoError, PermissionMissing, SelfApproval
from cerbero.models import AccessToken
from orders import services
from orders.models import Ticket
from tests.adversarial.hands import address, bearer, place, press, signed_in

PORTS = pytest.mark.parametrize("port", ["cerbero.urls", "cerbero.tool_urls"])


# People


def test_the_bots_owner_approves_in_the_console(siege, attempt):
    ticket = attempt.on(siege.place())
    press(signed_in(siege, "alice"), ticket)
    attempt.told("decision.refused", code="self_approval")


def test_the_requester_approves_what_they_proposed(siege, attempt):
    proposal = siege.desk.proposal(limit_price=siege.resting)
    ticket = attempt.on(services.place_order(actor=siege.desk.person("bob"), proposal=proposal))
    with pytest.raises(SelfApproval):
        siege.desk.decide(ticket, "bob")
    attempt.told("decision.refused", code="self_approval")


def test_the_owner_approves_after_giving_the_bot_away(siege, attempt):
    ticket = attempt.on(siege.place())
    type(siege.desk.bot).objects.update(owner=siege.desk.people["carol"])
    press(signed_in(siege, "alice"), ticket)
    attempt.told("decision.refused", code="self_approval")


def test_somebody_without_the_group_approves(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob")
    siege.desk.people["bob"].groups.clear()
    assert press(client, ticket).status_code == 403
    attempt.told("access.refused", status=403)


def test_a_superuser_outside_the_group_approves(siege, attempt):
    ticket = attempt.on(siege.place())
    bob = siege.desk.people["bob"]
    type(bob).objects.filter(pk=bob.pk).update(is_superuser=True)
    bob.groups.clear()
    assert press(signed_in(siege, "bob"), ticket).status_code == 403
    attempt.told("access.refused", status=403)


def test_somebody_approves_who_was_switched_off_while_signed_in(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob")
    type(siege.desk.people["bob"]).objects.filter(username="bob").update(is_active=False)
    assert press(client, ticket).status_code == 302
    attempt.told("access.refused", status=302)


def test_nobody_approves_signed_out(siege, attempt):
    ticket = attempt.on(siege.place())
    assert press(Client(), ticket).status_code == 302
    attempt.told("access.refused", status=302)


def test_a_session_that_ran_out_approves(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob")
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert press(client, ticket).status_code == 302
    attempt.told("access.refused", status=302)


def test_a_session_that_was_ended_elsewhere_approves(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob")
    Session.objects.all().delete()
    assert press(client, ticket).status_code == 302
    attempt.told("access.refused", status=302)


def test_a_forged_session_cookie_approves(siege, attempt, settings):
    ticket = attempt.on(siege.place())
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32
    assert press(client, ticket).status_code == 302
    attempt.told("access.refused", status=302)


# The request


@pytest.mark.parametrize("token", ["", "a" * 64])
def test_another_site_presses_approve_in_somebodys_browser(siege, attempt, token):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob", enforce_csrf_checks=True)
    answer = press(client, ticket, csrfmiddlewaretoken=token)
    assert answer.status_code == 403
    attempt.told("access.refused", status=403)


@pytest.mark.parametrize("method", ["get", "head"])
def test_a_link_approves(siege, attempt, method):
    ticket = attempt.on(siege.place())
    answer = getattr(signed_in(siege, "bob"), method)(address(ticket), {"digest": ticket.request.digest})
    assert answer.status_code == 405
    attempt.told("access.refused", status=405)


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_another_method_approves(siege, attempt, method):
    ticket = attempt.on(siege.place())
    answer = getattr(signed_in(siege, "bob"), method)(address(ticket), f"digest={ticket.request.digest}")
    assert answer.status_code == 405
    attempt.told("access.refused", status=405)


@pytest.mark.parametrize("digest", ["", "0" * 64, "another ticket's", "in capitals"])
def test_another_digest_than_the_one_that_was_asked(siege, attempt, digest):
    ticket, other = siege.place(), siege.place(quantity=11)
    attempt.on(ticket, other)
    sent = {"another ticket's": other.request.digest, "in capitals": ticket.request.digest.upper()}
    signed_in(siege, "bob").post(address(ticket), {"digest": sent.get(digest, digest)})
    attempt.told("decision.refused", code="digest_mismatch")


def test_a_post_is_replayed_after_it_was_sent(siege, attempt):
    attempt.expects = 1
    ticket, client = siege.place(), signed_in(siege, "bob")
    press(client, ticket)
    siege.turn()
    for name in ("bob", "carol"):
        press(signed_in(siege, name), ticket)
        siege.turn()
    attempt.told("decision.refused", code="already_decided")


def test_an_old_page_approves_what_is_asked_again(siege, attempt):
    """The market moved, so the question is another, although every term is the same (gates.md G17)."""
    ticket = siege.approved()
    old = ticket.request.digest
    type(ticket.account.limits).objects.update(drift_percent=0)
    siege.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": 1})
    siege.turn()
    siege.sim.control("POST", "/_sim/price", {"conid": 265598, "percent": -1})
    attempt.on(ticket)
    assert ticket.status == "proposed"
    signed_in(siege, "carol").post(address(ticket), {"digest": old})
    attempt.told("decision.refused", code="digest_mismatch")


def test_one_post_for_many_tickets(siege, attempt):
    tickets = [siege.place() for _ in range(3)]
    attempt.on(*tickets)
    client = signed_in(siege, "bob")
    for path in ("/admin/queue/", "/admin/queue/approve/", "/admin/queue/all/approve/"):
        answer = client.post(path, {"digest": [ticket.request.digest for ticket in tickets]})
        assert answer.status_code >= 400 or answer.status_code == 302
    attempt.told("access.refused")


@pytest.mark.parametrize(
    "path",
    [
        "/admin/orders/ticket/{ticket}/change/",
        "/admin/orders/order/{order}/change/",
        "/admin/cerbero/decisionrequest/{request}/change/",
        "/admin/cerbero/decision/add/",
        "/admin/orders/attempt/add/",
        "/admin/orders/ticket/add/",
    ],
)
def test_the_admins_own_forms_change_no_row_of_the_gate(siege, attempt, path):
    ticket = attempt.on(siege.place())
    order = siege.desk.order(ticket)
    bob = siege.desk.people["bob"]
    type(bob).objects.filter(pk=bob.pk).update(is_superuser=True)
    at = path.format(ticket=ticket.pk, order=order.pk, request=ticket.request_id)
    fields = {"status": "allowed", "quantity": "1", "request": str(ticket.request_id), "is_yes": "on"}
    assert signed_in(siege, "bob").post(at, fields).status_code == 403
    attempt.told("access.refused", status=403)


# Bots


@PORTS
@pytest.mark.parametrize("tool", ["approve_ticket", "decide_ticket", "allow_ticket", "submit_ticket"])
def test_there_is_no_tool_that_decides(siege, attempt, settings, port, tool):
    settings.ROOT_URLCONF = port
    ticket = attempt.on(siege.place())
    body = {"ticket_id": str(ticket.pk), "digest": ticket.request.digest, "is_yes": True}
    answer = Client().post(f"/tools/{tool}", body, content_type="application/json", headers=bearer(siege))
    assert answer.status_code == 404
    attempt.told("access.refused", status=404)


@PORTS
def test_a_bots_token_presses_approve_in_the_console(siege, attempt, settings, port):
    settings.ROOT_URLCONF = port
    ticket = attempt.on(siege.place())
    client = Client(enforce_csrf_checks=True)
    answer = client.post(address(ticket), {"digest": ticket.request.digest}, headers=bearer(siege))
    assert answer.status_code in {403, 404}
    attempt.told("access.refused")


@PORTS
@pytest.mark.parametrize(
    "extra",
    [
        {"approved": True},
        {"force": True},
        {"reduce_only": True},
        {"status": "allowed"},
        {"digest": "0" * 64},
        {"confirm": "yes"},
    ],
)
def test_a_proposal_does_not_approve_itself(siege, attempt, settings, port, extra):
    settings.ROOT_URLCONF = port
    siege.quote()
    body = {
        "account": siege.desk.account.broker_account_id,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "1",
        "order_type": "limit",
        "limit_price": str(siege.resting),
        "idempotency_key": uuid.uuid4().hex,
    }
    client = Client()
    answer = client.post(
        "/tools/place_order", {**body, **extra}, content_type="application/json", headers=bearer(siege)
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")
    siege.turn()
    attempt.told("tool.called", outcome="bad_input")


@pytest.mark.parametrize("kind", ["none", "unknown", "expired", "revoked", "bot off", "owner off", "basic"])
def test_a_token_that_opens_nothing(siege, attempt, kind):
    headers = bearer(siege)
    tokens = AccessToken.objects.filter(bot=siege.desk.bot)
    if kind == "none":
        del headers["Authorization"]
    elif kind == "unknown":
        headers["Authorization"] = "Bearer cbr_00000000_" + "a" * 43
    elif kind == "expired":
        tokens.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif kind == "revoked":
        tokens.update(revoked_at=timezone.now())
    elif kind == "bot off":
        type(siege.desk.bot).objects.update(is_active=False)
    elif kind == "owner off":
        type(siege.desk.people["alice"]).objects.filter(username="alice").update(is_active=False)
    else:
        headers["Authorization"] = headers["Authorization"].replace("Bearer", "Basic")
    assert place(headers, siege).status_code == 401
    AccessToken.objects.all().delete()
    attempt.told("access.refused", status=401)


def test_a_token_without_the_scope(siege, attempt):
    assert place(bearer(siege, scopes=("orders:read",)), siege).status_code == 403
    attempt.told("tool.called", outcome="scope_missing")


def test_a_paper_token_reaches_no_live_account(siege, attempt):
    type(siege.desk.account).objects.filter(pk=siege.desk.account.pk).update(environment="live")
    assert place(bearer(siege), siege).json()["error"]["code"] == "environment_mismatch"
    attempt.told("tool.called", outcome="environment_mismatch")


def test_a_flood_of_bad_tokens_is_told_of_without_a_flood_of_entries(siege, attempt):
    from audit.models import Entry
    from cerbero.middleware import REFUSALS_A_MINUTE

    client, headers = Client(), {"Authorization": "Bearer no", "X-Bot-Tag": "x"}
    before = Entry.objects.filter(event="access.refused").count()
    for _ in range(3 * REFUSALS_A_MINUTE):
        client.post("/tools/place_order", {}, content_type="application/json", headers=headers)
    assert Entry.objects.filter(event="access.refused").count() - before <= REFUSALS_A_MINUTE
    attempt.told("access.refused", status=401)


@pytest.mark.parametrize("who", ["bot", "process", "unknown person", "switched off"])
def test_only_people_decide_whoever_calls_the_service(siege, attempt, who):
    ticket = attempt.on(siege.place())
    actors = {
        "bot": siege.desk.scanner,
        "process": access.system("orders"),
        "unknown person": access.Actor(kind="person", id=uuid.uuid4(), name="bob"),
        "switched off": siege.desk.person("bob"),
    }
    type(siege.desk.people["bob"]).objects.filter(username="bob").update(is_active=False)
    with pytest.raises(PermissionMissing):
        services.decide_ticket(
            actor=actors[who], ticket_id=ticket.pk, digest=ticket.request.digest, is_yes=True
        )
    attempt.told("decision.refused", code="permission_missing")


# Every status, pressed again


@pytest.mark.parametrize("word", ["approve", "reject"])
@pytest.mark.parametrize("status", ["rejected", "withdrawn", "expired", "allowed", "sent", "done", "denied"])
def test_a_button_of_an_old_page_is_pressed_again(siege, attempt, settings, status, word):
    ticket = _standing(siege, attempt, settings, status)
    attempt.on(ticket)
    before = (ticket.status, Ticket.objects.get(pk=ticket.pk).request.status)
    press(signed_in(siege, "carol"), ticket, word, reason="again")
    with pytest.raises(CerberoError):
        siege.desk.decide(ticket, "bob", is_yes=word == "approve", reason="again")
    after = Ticket.objects.get(pk=ticket.pk)
    assert (after.status, after.request.status) == before
    attempt.told("decision.refused", code="already_decided")


def _standing(siege: Any, attempt: Any, settings: Any, status: str) -> Ticket:
    if status == "expired":
        settings.APPROVAL_SECONDS = -1
        ticket = siege.place()
        services.expire_overdue(actor=access.system("orders"))
        return ticket
    ticket = siege.place()
    if status == "rejected":
        return siege.desk.decide(ticket, "bob", is_yes=False, reason="no")
    if status == "withdrawn":
        services.cancel_order(actor=siege.desk.scanner, order_id=siege.desk.order(ticket).pk)
        return ticket
    ticket = siege.desk.decide(ticket, "bob")
    if status == "denied":
        type(siege.desk.bot).objects.update(is_active=False)
    if status != "allowed":
        attempt.expects = 0 if status == "denied" else 1
        siege.turn()
    if status == "done":
        siege.desk.sim.control(
            "POST", "/_sim/fill", {"order_id": int(siege.desk.order(ticket).broker_order_id)}
        )
        siege.desk.reconcile()
        siege.turn()
        assert Ticket.objects.get(pk=ticket.pk).status == "done"
    return ticket
