"""The pages where people decide: what they show, who may act, and that a refusal changes nothing."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

QUEUE = "/admin/queue/"


@pytest.fixture
def desk(db: None) -> Any:
    from brokers.models import Login
    from tests.orders import world

    desk = world.build()
    Login.objects.update(feed_alive_at=timezone.now())
    return desk


@pytest.fixture
def browse(desk: Any) -> Callable[[str], Client]:
    def sign_in(name: str) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(desk.people[name])
        return client

    return sign_in


def page(client: Client, path: str = QUEUE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def post(client: Client, path: str, **fields: str) -> str:
    """Post as a browser does: with the page's CSRF token, then read where it leads."""
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page(client))
    assert token
    answer = client.post(path, {"csrfmiddlewaretoken": token[1], **fields}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def card(text: str, ticket: Any) -> str:
    found = re.search(rf'<article[^>]*id="t-{ticket.pk}".*?</article>', text, re.S)
    assert found, "the ticket has no card"
    return found[0]


def field(text: str, name: str) -> str:
    found = re.search(rf'data-field="{name}"[^>]*>([^<]*)<', text)
    assert found, name
    return found[1]


def test_a_card_says_the_whole_order(desk: Any, browse: Any) -> None:
    ticket = desk.place(reason="breakout", quantity=Decimal(400))
    shown = card(page(browse("bob")), ticket)
    words = " ".join(re.sub(r"<[^>]+>", " ", shown).split())
    assert "PAPER Buy 400 AAPL limit 190.00 day" in words
    assert "76,000.00 USD" in words
    assert "0 → 400 AAPL · opening" in words
    assert "Order value 76,000 of 100,000" in words
    assert "One decision is enough" in words
    assert (field(shown, "bid"), field(shown, "ask")) == ("189.98", "190.02")
    assert ticket.request.digest in shown


def test_the_most_urgent_card_comes_first(desk: Any, browse: Any, settings: Any) -> None:
    late = desk.place()
    settings.APPROVAL_SECONDS = 60
    urgent = desk.place()
    text = page(browse("bob"))
    assert text.index(f"t-{urgent.pk}") < text.index(f"t-{late.pk}")


def test_the_bots_words_are_text_and_marked_as_the_bots(desk: Any, browse: Any) -> None:
    ticket = desk.place(reason="<script>alert(1)</script><b>sure</b>")
    shown = card(page(browse("bob")), ticket)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script>" not in shown
    assert "the bot's words, unchecked" in shown


def test_approving_allows_the_ticket_and_says_so(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    text = post(browse("bob"), f"{QUEUE}{ticket.pk}/approve/", digest=ticket.request.digest)
    ticket.refresh_from_db()
    assert ticket.status == "allowed"
    assert "Approved: Buy 10 AAPL" in text
    assert f"t-{ticket.pk}" not in text


def test_rejecting_needs_a_reason_and_the_bot_reads_it(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    bob = browse("bob")
    text = post(bob, f"{QUEUE}{ticket.pk}/reject/", digest=ticket.request.digest, reason=" ")
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert "reason_required" in text
    text = post(bob, f"{QUEUE}{ticket.pk}/reject/", digest=ticket.request.digest, reason="too large")
    ticket.refresh_from_db()
    assert ticket.status == "denied"
    assert "too large" in text


def test_the_bots_owner_sees_why_she_cannot_decide_and_her_post_changes_nothing(
    desk: Any, browse: Any
) -> None:
    ticket = desk.place()
    alice = browse("alice")
    shown = card(page(alice), ticket)
    assert "owner of the bot" in shown
    assert "/approve/" not in shown
    text = post(alice, f"{QUEUE}{ticket.pk}/approve/", digest=ticket.request.digest)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert "self_approval" in text
    assert "Nothing was changed." in text


def test_a_digest_that_was_not_on_the_screen_decides_nothing(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    text = post(browse("bob"), f"{QUEUE}{ticket.pk}/approve/", digest="0" * 64)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert "digest_mismatch" in text


def test_a_second_click_finds_it_decided(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    carol = browse("carol")
    page(carol)
    desk.decide(ticket)
    text = post(carol, f"{QUEUE}{ticket.pk}/approve/", digest=ticket.request.digest)
    assert "already_decided" in text


def test_a_post_without_the_forms_token_is_refused_with_our_page(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    answer = browse("bob").post(f"{QUEUE}{ticket.pk}/approve/", {"digest": ticket.request.digest})
    ticket.refresh_from_db()
    assert (answer.status_code, ticket.status) == (403, "proposed")
    assert "That form was out of date" in answer.content.decode()


def test_a_get_decides_nothing(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    answer = browse("bob").get(f"{QUEUE}{ticket.pk}/approve/")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Nothing was done" in answer.content.decode()


@pytest.mark.parametrize("path", [QUEUE, "/live/", "/live/blotter.json", "/admin/halt/", "/admin/health/"])
def test_nobody_sees_a_page_without_signing_in(desk: Any, path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/?next=")


def test_without_the_permission_the_queue_is_closed_and_its_posts_too(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    desk.people["bob"].groups.clear()
    bob = browse("bob")
    assert bob.get(QUEUE).status_code == 403
    assert bob.get("/live/").status_code == 403
    bob = Client()
    bob.force_login(desk.people["bob"])
    path = f"{QUEUE}{ticket.pk}/approve/"
    assert bob.post(path, {"digest": ticket.request.digest}).status_code == 403
    ticket.refresh_from_db()
    assert ticket.status == "proposed"


def test_who_may_only_look_gets_no_button(desk: Any, browse: Any) -> None:
    from django.contrib.auth.models import Group

    ticket = desk.place()
    desk.people["bob"].groups.set(Group.objects.filter(name="Auditor"))
    shown = card(page(browse("bob")), ticket)
    assert "You may look, not decide" in shown
    assert "<button" not in shown


def test_with_a_silent_feed_approving_is_off_and_rejecting_is_not(desk: Any, browse: Any) -> None:
    from brokers.models import Login

    ticket = desk.place()
    Login.objects.update(feed_alive_at=timezone.now() - timedelta(seconds=41))
    shown = card(page(browse("bob")), ticket)
    assert re.search(r"The feed has been silent for [\d ms]+\.", shown)
    assert re.search(r'<button class="btn go" disabled>', shown)
    assert 'class="col market dead"' in shown
    assert re.search(r'<button class="btn bad">Reject', shown)


def test_who_has_decided_stands_on_the_card(desk: Any, browse: Any) -> None:
    from brokers.models import Account
    from cerbero import decisions

    Account.objects.update(environment="paper")
    ticket = desk.place()
    # What policy asks of a live account; the row's own terms cannot be changed afterwards.
    second = decisions.ask(
        actor=desk.scanner,
        subject_kind="ticket",
        subject_id=ticket.pk,
        summary="two",
        digest=ticket.request.digest,
        facts=ticket.request.facts,
        quorum=2,
        group="Approver",
        seconds=900,
        excluded_user_ids=[],
    )
    type(ticket).objects.filter(pk=ticket.pk).update(request=second)
    desk.decide(ticket, "carol")
    assert re.search(r"1 of 2 decisions · carol approved [\d.]+ s ago", page(browse("bob")))


def test_the_state_names_what_waits_and_what_became_of_the_rest(desk: Any, browse: Any) -> None:
    waits, done = desk.place(), desk.place()
    desk.decide(done, is_yes=False, reason="no")
    state = browse("carol").get(f"{QUEUE}state.json").json()
    assert list(state["waiting"]) == [str(waits.pk)]
    assert state["waiting"][str(waits.pk)] == {
        "broker": {"rows": [], "notes": [], "at": ""},
        "who": "One decision is enough",
        "seen": "seen by nobody yet",
        "sentence": "Buy 10 AAPL limit 190.00 day",
        "environment": "paper",
        "is_mine": True,
        "not_yet": "",
    }
    assert [(row["id"], row["decision"], row["why"]) for row in state["decided"]] == [
        (str(done.pk), "rejected", "no")
    ]


def test_an_empty_queue_says_who_decided_last(desk: Any, browse: Any) -> None:
    assert "No decision has been made yet." in page(browse("bob"))
    desk.decide(desk.place(), "carol")
    assert re.search(
        r"Nothing waits for you.</strong>Last decision [\d.]+ s ago by carol", page(browse("bob"))
    )


def test_pages_carry_nothing_inline(desk: Any, browse: Any) -> None:
    desk.place()
    bob = browse("bob")
    for path in (QUEUE, "/live/", "/admin/orders/order/", "/admin/halt/", "/admin/", "/admin/login/"):
        text = page(bob, path) if path != "/admin/login/" else page(Client(), path)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path


def test_halting_asks_first_then_shows_on_every_page_until_it_is_resumed(desk: Any, browse: Any) -> None:
    from orders.models import TradingState

    bob = browse("bob")
    assert "Halt now" in page(bob, "/admin/halt/")
    assert TradingState.objects.exclude(state="active").count() == 0
    text = post(bob, "/admin/halt/", reason="strange fills")
    assert TradingState.objects.get(scope="1-everything").state == "halted"
    assert "Trading is halted. Nothing new leaves." in text
    assert "strange fills" in page(bob, "/live/")


def test_only_who_may_resume_can_resume(desk: Any, browse: Any) -> None:
    from django.contrib.auth.models import Group

    from orders.models import TradingState

    desk.people["carol"].groups.set(Group.objects.filter(name="Administrator"))
    post(browse("bob"), "/admin/halt/", reason="stop")
    desk.people["bob"].groups.set(Group.objects.filter(name="Auditor"))
    assert 'name="reason"' not in page(browse("bob"), "/admin/resume/")
    post(browse("carol"), "/admin/resume/", scope="1-everything", scope_id="", reason="all clear")
    assert TradingState.objects.get(scope="1-everything").state == "active"


def test_an_order_that_was_not_sent_is_canceled_from_its_page(desk: Any, browse: Any) -> None:
    order = desk.order(desk.place())
    bob = browse("bob")
    assert "Cancel this order" in page(bob, f"/admin/orders/order/{order.pk}/change/")
    post(bob, f"/admin/orders/order/{order.pk}/cancel/")
    order.refresh_from_db()
    assert order.status == "canceled"
    assert "Cancel this order" not in page(bob, f"/admin/orders/order/{order.pk}/change/")


def administrator() -> Client:
    """Signed in with all that a person can have; Django's mark of a superuser adds nothing."""
    from django.contrib.auth.models import Group

    from cerbero.models import User

    root = User.objects.create_superuser("root")
    root.groups.add(Group.objects.get(name="Administrator"))
    client = Client()
    client.force_login(root)
    return client


MODELS = [
    "ticket",
    "order",
    "attempt",
    "execution",
    "position",
    "balance",
    "drift",
    "dayreport",
    "tradingstate",
]


@pytest.mark.parametrize("model", MODELS)
def test_what_services_own_is_read_only_even_for_an_administrator(desk: Any, model: str) -> None:
    desk.place()
    root = administrator()
    assert root.get(f"/admin/orders/{model}/").status_code == 200
    assert root.get(f"/admin/orders/{model}/?q=AAPL").status_code == 200
    assert root.get(f"/admin/orders/{model}/add/").status_code == 403
    assert root.post(f"/admin/orders/{model}/add/", {}).status_code == 403


def test_an_order_page_cannot_be_used_to_edit_or_delete(desk: Any) -> None:
    order = desk.order(desk.place())
    root = administrator()
    path = f"/admin/orders/order/{order.pk}"
    assert root.post(f"{path}/change/", {"status": "filled"}).status_code == 403
    assert root.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    order.refresh_from_db()
    assert order.status == "pending"


def test_accounts_wear_their_label_and_numbers_are_trimmed(desk: Any, browse: Any) -> None:
    desk.place(quantity=Decimal("400.000000"))
    text = page(browse("bob"), "/admin/orders/order/")
    assert '<span class="env paper">PAPER</span> DU1234567' in text
    assert "0 of 400<" in text
    assert "Buy 400 AAPL limit 190.00 day" in text


def test_a_page_that_does_not_exist_looks_like_ours(desk: Any, browse: Any) -> None:
    answer = browse("bob").get("/admin/nothing/")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
