"""The queue page's further promises: look-alikes, looking twice, dead feeds, batches, who has seen what."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from brokers.models import Account, Login, Quote
from cerbero import access
from cerbero.errors import ConfirmationNeeded, FeedDead, RiskRefused
from cerbero.models import Decision
from orders import services
from orders.holding import hold_back
from orders.models import Limits, Ticket
from orders.notices.models import Seen
from tests.orders import world

QUEUE = "/admin/queue/"


@pytest.fixture
def desk(fresh_database: Any) -> Any:
    return world.build()


@pytest.fixture
def browse(desk: Any) -> Callable[[str], Client]:
    def sign_in(name: str) -> Client:
        client = Client()
        client.force_login(desk.people[name])
        return client

    return sign_in


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def card(text: str, ticket: Any) -> str:
    found = re.search(rf'<article[^>]*id="t-{ticket.pk}".*?</article>', text, re.S)
    assert found, "the ticket has no card"
    return found[0]


def yes(desk: Any, ticket: Any, **how: Any) -> Ticket:
    digest = ticket.request.digest
    return services.decide_ticket(
        actor=desk.person("bob"), ticket_id=ticket.pk, digest=digest, is_yes=True, **how
    )


def silence(seconds: int = 60) -> None:
    Login.objects.update(feed_alive_at=timezone.now() - timedelta(seconds=seconds))


def test_the_service_refuses_a_yes_by_a_dead_feed_and_takes_a_no(desk: Any) -> None:
    ticket = desk.place()
    silence()
    for how in ({}, {"is_confirmed": True}):
        with pytest.raises(FeedDead):
            yes(desk, ticket, **how)
    assert not Decision.objects.exists()
    assert Entry.objects.filter(event="decision.refused", details__code="feed_dead").count() == 2
    services.decide_ticket(
        actor=desk.person("bob"), ticket_id=ticket.pk, digest=ticket.request.digest, is_yes=False, reason="no"
    )
    ticket.refresh_from_db()
    assert ticket.status == "denied"


@pytest.mark.parametrize("why", ["never heard", "no quote", "no data"])
def test_whatever_makes_the_market_unknown_refuses_a_yes(desk: Any, why: str) -> None:
    ticket = desk.place()
    if why == "never heard":
        Login.objects.update(feed_alive_at=None)
    elif why == "no quote":
        Quote.objects.all().delete()
    else:
        Quote.objects.update(availability="none")
    with pytest.raises(FeedDead):
        yes(desk, ticket)


@pytest.mark.parametrize(
    "changes", [{"availability": "delayed"}, {"availability": "frozen"}, {"is_halted": True}]
)
def test_a_closed_or_delayed_market_is_asked_about_once_more(desk: Any, changes: dict[str, Any]) -> None:
    ticket = desk.place()
    Quote.objects.update(**changes)
    with pytest.raises(ConfirmationNeeded):
        yes(desk, ticket)
    assert yes(desk, ticket, is_confirmed=True).status == "allowed"


def test_the_page_asks_once_more_without_any_script(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    Quote.objects.update(availability="delayed")
    bob, path = browse("bob"), f"{QUEUE}{ticket.pk}/approve/"
    assert "Approving asks once more." in card(text_of(bob.get(QUEUE)), ticket)
    asked = text_of(bob.post(path, {"digest": ticket.request.digest}))
    assert "nothing has been decided yet" in asked
    assert "The data is delayed by the broker" in card(asked, ticket)
    assert "Approve all the same" in asked
    assert not Decision.objects.exists()
    fields = dict(re.findall(r'<input type="hidden" name="(digest|confirmed)" value="(\w+)"', asked))
    assert "Approved:" in text_of(bob.post(path, fields, follow=True))


def test_look_alikes_of_the_last_hour_stand_on_the_card(desk: Any, browse: Any) -> None:
    alone = desk.place(side="sell", limit_price=Decimal("189.50"))
    first, second = desk.place(), desk.place(quantity=Decimal(20))
    text = text_of(browse("bob").get(QUEUE))
    assert "none within an hour" in card(text, alone)
    assert re.search(
        r"Look-alikes.*Buy 20 AAPL limit 190.00 day, [\d.]+ s ago, proposed", words(card(text, first))
    )
    assert "Buy 10 AAPL" in words(card(text, second)).split("Look-alikes")[1]


def test_a_look_alike_is_older_than_an_hour_no_more(desk: Any, browse: Any) -> None:
    from orders.models import Order

    old, new = desk.place(), desk.place()
    Order.objects.filter(ticket=old).update(created_at=timezone.now() - timedelta(minutes=61))
    assert "none within an hour" in card(text_of(browse("bob").get(QUEUE)), new)


def test_what_stood_on_a_screen_is_told_to_the_others(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    answer = browse("carol").post(f"{QUEUE}seen/", {"ticket": [str(ticket.pk), "no id", str(desk.bot.pk)]})
    assert answer.status_code == 204
    assert Seen.objects.get().person == desk.people["carol"]
    assert "seen by carol" in card(text_of(browse("bob").get(QUEUE)), ticket)
    assert (
        browse("bob").get(f"{QUEUE}state.json").json()["waiting"][str(ticket.pk)]["seen"] == "seen by carol"
    )


def test_the_page_says_who_is_on_duty_and_when_nobody_is(desk: Any, browse: Any) -> None:
    from orders.notices import duty

    assert "nobody is on duty" in text_of(browse("bob").get(QUEUE))
    duty.go_on_duty(actor=desk.person("bob"), hours=1)
    duty.go_on_duty(actor=desk.person("carol"), hours=1)
    assert "on duty: you, carol" in words(text_of(browse("bob").get(QUEUE)))


def test_what_keeps_an_approved_ticket_from_leaving_is_said(desk: Any, browse: Any) -> None:
    ticket = desk.approved()
    hold_back(access.system("orders"), ticket, "trading_halted")
    assert "waits: trading halted" in words(text_of(browse("bob").get(QUEUE)))


def picked(*tickets: Any) -> list[str]:
    return [f"{ticket.pk}:{ticket.request.digest}" for ticket in tickets]


def test_a_batch_shows_each_tickets_facts_and_decides_each_by_itself(desk: Any, browse: Any) -> None:
    one, two, other = desk.place(), desk.place(quantity=Decimal(20)), desk.place(quantity=Decimal(30))
    bob = browse("bob")
    assert 'form="batch"' in text_of(bob.get(QUEUE))
    shown = text_of(bob.get(f"{QUEUE}selected/", {"ticket": [one.pk, two.pk]}))
    for ticket in (one, two):
        assert "Order value" in card(shown, ticket)
        assert f"{ticket.pk}:{ticket.request.digest}" in card(shown, ticket)
    assert f"t-{other.pk}" not in shown
    told = words(
        text_of(bob.post(f"{QUEUE}selected/", {"ticket": picked(one, two), "do": "approve"}, follow=True))
    )
    assert "Approved: Buy 10 AAPL" in told
    assert "Approved: Buy 20 AAPL" in told
    assert Entry.objects.filter(event="decision.made").count() == 2
    assert Ticket.objects.filter(status="allowed").count() == 2


def test_what_cannot_be_decided_in_a_batch_is_said_by_itself_and_holds_up_nothing(
    desk: Any, browse: Any
) -> None:
    one, two, gone = desk.place(), desk.place(quantity=Decimal(20)), desk.place(quantity=Decimal(30))
    desk.decide(gone, "carol", is_yes=False, reason="no")
    stale = f"{two.pk}:{'0' * 64}"
    answer = browse("bob").post(
        f"{QUEUE}selected/", {"ticket": [stale, *picked(gone, one)], "do": "approve"}, follow=True
    )
    told = words(text_of(answer))
    assert re.search(r"Buy 20 AAPL limit 190.00 day: [^()]*\(digest_mismatch\)", told)
    assert re.search(r"Buy 30 AAPL limit 190.00 day: [^()]*\(already_decided", told)
    assert "Approved: Buy 10 AAPL" in told
    two.refresh_from_db()
    assert two.status == "proposed"


def test_a_batch_confirms_each_ticket_by_its_own_box(desk: Any, browse: Any) -> None:
    one, two = desk.place(), desk.place(quantity=Decimal(20))
    Quote.objects.update(availability="frozen")
    bob = browse("bob")
    assert text_of(bob.get(f"{QUEUE}selected/", {"ticket": [one.pk, two.pk]})).count('name="confirmed"') == 2
    fields = {"ticket": picked(one, two), "do": "approve", "confirmed": [str(two.pk)]}
    assert "confirmation_needed" in text_of(bob.post(f"{QUEUE}selected/", fields, follow=True))
    assert Ticket.objects.get(status="allowed") == two


def test_a_batch_rejects_with_one_reason_and_needs_one(desk: Any, browse: Any) -> None:
    one, two = desk.place(), desk.place(quantity=Decimal(20))
    bob, fields = browse("bob"), {"ticket": picked(one, two), "do": "reject"}
    assert text_of(bob.post(f"{QUEUE}selected/", fields, follow=True)).count("reason_required") == 2
    bob.post(f"{QUEUE}selected/", fields | {"reason": "not today"})
    assert Ticket.objects.filter(status="denied", refusal__reason="not today").count() == 2


def test_a_live_ticket_is_not_approved_in_a_batch(desk: Any, browse: Any) -> None:
    ticket = desk.place()
    Account.objects.update(environment="live")
    bob = browse("bob")
    fields = {"ticket": picked(ticket), "do": "approve"}
    assert "signed with a passkey on its own card" in text_of(
        bob.get(f"{QUEUE}selected/", {"ticket": ticket.pk})
    )
    assert "It waits." in text_of(bob.post(f"{QUEUE}selected/", fields, follow=True))
    assert not Decision.objects.exists()


def test_who_may_not_decide_has_no_batch(desk: Any, browse: Any) -> None:
    one, two = desk.place(), desk.place()
    desk.people["carol"].groups.set(Group.objects.filter(name="Auditor"))
    carol = browse("carol")
    assert 'id="batch"' not in text_of(carol.get(QUEUE))
    assert carol.post(f"{QUEUE}selected/", {"ticket": picked(one, two), "do": "approve"}).status_code == 403
    # The bot's owner has the permission and not the right.
    told = browse("alice").post(f"{QUEUE}selected/", {"ticket": picked(one), "do": "approve"}, follow=True)
    assert "self_approval" in text_of(told)
    assert not Decision.objects.exists()


def test_a_refused_ticket_is_let_pass_from_its_page_and_stands_so_on_the_card(desk: Any, browse: Any) -> None:
    desk.people["bob"].groups.add(Group.objects.get(name="Risk"))
    desk.people["bob"].groups.add(Group.objects.get(name="Operator"))
    Limits.objects.update(quantity_max=9)
    with pytest.raises(RiskRefused) as refusal:
        desk.place()
    ticket = Ticket.objects.get(pk=refusal.value.details["ticket_id"])
    path, bob, carol = f"/admin/tickets/{ticket.pk}/override/", browse("bob"), browse("carol")
    assert "1 refused by a limit…" in text_of(bob.get(QUEUE))
    assert "refused by a limit" not in text_of(carol.get(QUEUE))
    assert str(ticket.pk) in text_of(bob.get("/admin/orders/ticket/?refusal_code=risk_refused"))
    assert path in text_of(bob.get(f"/admin/orders/ticket/{ticket.pk}/change/"))
    assert carol.get(path).status_code == 403
    form = text_of(bob.get(path))
    assert "10 now, of 9" in form
    said = {"digest": ticket.digest, "quantity_max": "11", "reason": "the <b>index</b> moves"}
    assert bob.post(path, said).headers["Location"] == QUEUE
    made = Ticket.objects.get(status="proposed")
    assert "refused by a limit" not in text_of(bob.get(QUEUE))
    theirs = card(text_of(carol.get(QUEUE)), made)
    assert "the &lt;b&gt;index&lt;/b&gt; moves" in theirs
    assert "Over a limit: quantity 10 of 9, at most 11. bob overrides it for this ticket alone" in words(
        theirs
    )
    assert "bob approves first. Rejecting works." in words(theirs)
    assert re.search(r'<button class="btn go" disabled>', theirs)
    state = carol.get("/admin/queue/state.json").json()["waiting"][str(made.pk)]
    assert state["not_yet"] == "bob approves first. Rejecting works."
    yes(desk, made)
    assert '<button class="btn go" disabled>' not in card(text_of(carol.get(QUEUE)), made)
    assert "proposed again with a limit overridden" in words(
        text_of(bob.get(f"/admin/orders/ticket/{ticket.pk}/change/"))
    )
    assert "It has been proposed again already" in text_of(bob.get(path))
