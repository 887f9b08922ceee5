"""The pages where people propose by hand, counter, set the policy and sign mandates."""

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from brokers.models import Login
from cerbero.errors import PermissionMissing
from orders import policies, services
from orders.models import Mandate, PolicyVersion, Ticket
from tests.orders.test_policy_gate import LAST, ONE


@pytest.fixture
def browse(desk):
    Login.objects.update(feed_alive_at=timezone.now())
    people = desk.people | {"dora": None, "egon": None}

    def sign_in(name):
        from cerbero.models import User

        if people[name] is None:
            desk.administrator(name)
        client = Client()
        client.force_login(User.objects.get(username=name))
        return client

    return sign_in


def _page(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    text = answer.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path
    return text


def _post(client, path, **fields):
    answer = client.post(path, fields, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def _ticket(desk, **changes):
    fields = {
        "key": "hand-1",
        "account": desk.account.pk,
        "symbol": desk.aapl.pk,
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": "190.00",
        "time_in_force": "day",
        "reason": "rebalance",
    }
    return fields | changes


NEW = "/admin/tickets/new/"


def test_a_person_proposes_by_hand_and_another_decides(desk, browse):
    bob = browse("bob")
    assert "New ticket" in _page(bob, NEW)
    assert "Proposed: Buy 10 AAPL limit 190.00 day" in _post(bob, NEW, **_ticket(desk))
    ticket = Ticket.objects.get()
    assert (ticket.person.username, ticket.status) == ("bob", "proposed")
    assert ticket.request.excluded_user_ids == [desk.people["bob"].pk]
    assert desk.decide(ticket, "carol").status == "allowed"


def test_a_person_proposes_groups_by_hand(desk, browse):
    bob = browse("bob")
    exits = {"group": "bracket", "exit_limit_price": "200", "exit_stop_price": "180"}
    told = _post(bob, NEW, **_ticket(desk, **exits))
    assert "take profit: Sell 10 AAPL limit 200.00 day; stop loss: Sell 10 AAPL stop 180.00 day" in told
    oto = {"group": "oto", "exit_stop_price": "180", "exit_time_in_force": "gtc", "key": "hand-2"}
    assert "exit: Sell 10 AAPL stop 180.00 gtc" in _post(bob, NEW, **_ticket(desk, **oto))
    oco = {"group": "oco", "limit_price": "188", "exit_stop_price": "192", "exit_stop_limit_price": "193"}
    assert "alternative: Buy 10 AAPL stop 192.00" in _post(bob, NEW, **_ticket(desk, **oco, key="hand-3"))
    trail = exits | {"exit_stop_price": "", "exit_trailing_percent": "2.5", "key": "hand-4"}
    assert "stop loss: Sell 10 AAPL trailing stop 2.5 %" in _post(bob, NEW, **_ticket(desk, **trail))
    assert sorted(Ticket.objects.values_list("group", flat=True)) == ["bracket", "bracket", "oco", "oto"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exit_stop_price": ""}, "This group needs it."),
        ({"exit_stop_price": "195"}, "below the entry&#x27;s price"),
        ({"quantity": "", "cash_quantity": "1000"}, "have quantities"),
        ({"time_in_force": "ioc"}, "must rest"),
        ({"exit_trailing_amount": "2", "exit_trailing_percent": "1"}, "one of the two"),
        ({"group": "", "exit_trailing_amount": "2"}, "Only the stop of a bracket"),
    ],
)
def test_a_group_that_cannot_be_is_refused_on_the_page(desk, browse, changes, words):
    exits = {"group": "bracket", "exit_limit_price": "200", "exit_stop_price": "180"}
    assert words in _post(browse("bob"), NEW, **_ticket(desk, **exits | changes))
    assert not Ticket.objects.exists()


def test_pressing_twice_proposes_once(desk, browse):
    bob = browse("bob")
    for _ in range(2):
        _post(bob, NEW, **_ticket(desk))
    assert Ticket.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"limit_price": ""}, "A limit order needs a limit price."),
        ({"order_type": "market"}, "A market order has no limit price."),
        ({"quantity": "-1"}, "The quantity must be above nought."),
        ({"quantity": "ten"}, "Enter a number."),
        ({"quantity": "600"}, "Order value"),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_what_is_wrong_with_a_ticket_stands_on_its_form(desk, browse, changes, says):
    assert says in _post(browse("bob"), NEW, **_ticket(desk, **changes))
    assert not Ticket.objects.filter(status="proposed").exists()


def test_without_the_permission_nobody_proposes_by_hand(desk, browse):
    desk.people["bob"].groups.clear()
    assert browse("bob").get(NEW).status_code == 403
    with pytest.raises(PermissionMissing):
        services.place_order(actor=desk.person("bob"), proposal=desk.proposal())


def test_a_counter_is_made_on_its_page(desk, browse):
    ticket, carol = desk.place(), browse("carol")
    path = f"/admin/queue/{ticket.pk}/counter/"
    assert 'name="quantity" value="10"' in _page(browse("bob"), path)
    assert ticket.request.digest in _page(carol, path)
    said = {"digest": ticket.request.digest, "quantity": "4", "limit_price": "190.00", "reason": "half"}
    assert "no worse than 190" in _post(carol, path, **said | {"limit_price": "191"})
    assert "Countered: Buy 10 AAPL" in _post(carol, path, **said)
    made = Ticket.objects.get(counter_of=ticket)
    assert (made.person.username, desk.order(made).quantity) == ("carol", Decimal(4))


def test_the_drift_that_an_approver_enters_is_kept_with_the_yes(desk, browse):
    ticket, bob = desk.place(), browse("bob")
    path = f"/admin/queue/{ticket.pk}/approve/"
    assert "bad_input" in _post(bob, path, digest=ticket.request.digest, drift_percent="lots")
    assert "reason_required" in _post(bob, path, digest=ticket.request.digest, drift_percent="3.5")
    _post(bob, path, digest=ticket.request.digest, drift_percent="3.5", reason="thin market")
    assert ticket.request.decisions.get().conditions == {"drift_percent": "3.5"}


def test_the_policy_is_proposed_on_one_page_and_activated_by_another_administrator(desk, browse):
    dora, egon = browse("dora"), browse("egon")
    assert "paper-small" in _page(dora, "/admin/policy/")
    assert "paper-mandate" in _page(dora, "/admin/policy/new/")
    _post(dora, "/admin/policy/new/", rules=json.dumps([ONE, LAST]), reason="ask about everything")
    version = PolicyVersion.objects.get(number=2)
    assert "Whoever asked" in _page(dora, "/admin/policy/2/")
    refused = _post(dora, "/admin/policy/2/decide/", digest=version.digest, do="activate")
    assert "self_approval" in refused
    assert "Activate" in _page(egon, "/admin/policy/2/")
    assert "Version 2 is in force" in _post(
        egon, "/admin/policy/2/decide/", digest=version.digest, do="activate"
    )
    assert policies.active()[0].number == 2


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("{", "This is not JSON"),
        ("[]", "This field is required"),
        (json.dumps([ONE]), "the last rule must refuse"),
        (json.dumps([{"name": "x", "then": {"do": "people", "quorum": 7}}, LAST]), "0.then.people.quorum"),
        ('[{"name": "x", "name": "y"}]', "stands twice"),
    ],
)
def test_what_is_wrong_with_rules_is_named_and_the_text_is_kept(desk, browse, rules, says):
    text = _post(browse("dora"), "/admin/policy/new/", rules=rules, reason="x")
    assert says in text
    assert PolicyVersion.objects.count() == 1


def test_only_administrators_reach_the_forms(desk, browse):
    bob = browse("bob")
    assert bob.get("/admin/policy/new/").status_code == 403
    assert bob.post("/admin/policy/1/decide/", {"do": "activate"}).status_code == 403
    assert "Propose a version" not in _page(bob, "/admin/policy/")


@pytest.mark.parametrize(
    ("notional", "says"),
    [("500", "passes under the limits"), ("1500", "passes if a mandate is left"), ("1500", "1 decision by")],
)
def test_the_simulator_says_which_rule_a_ticket_would_meet(desk, browse, notional, says):
    path = (
        f"/admin/policy/simulate/?account={desk.account.pk}&instrument={desk.aapl.pk}&order_type=limit"
        f"&effect=opening&notional={notional}"
    )
    assert says in _page(browse("bob"), path)
    assert "otherwise" in _page(browse("bob"), "/admin/policy/simulate/")


def test_a_mandate_is_proposed_signed_used_up_and_revoked_on_its_pages(desk, browse):
    bob, carol = browse("bob"), browse("carol")
    assert "There are no mandates" in _page(bob, "/admin/mandates/")
    _page(bob, "/admin/mandates/new/")
    fields = {
        "account": desk.account.pk,
        "bot": desk.bot.pk,
        "instruments": [desk.aapl.pk],
        "sides": ["buy"],
        "order_types": ["limit"],
        "order_notional_max": "2000",
        "notional_max": "20000",
        "count_max": "10",
        "expires_at": f"{timezone.now() + timedelta(days=1):%Y-%m-%d %H:%M}",
        "reason": "the morning",
    }
    assert "hours need a zone" in _post(bob, "/admin/mandates/new/", **fields, zone="UTC").lower()
    assert "within the total" in _post(bob, "/admin/mandates/new/", **fields | {"notional_max": "1"})
    assert "1 other people must sign it" in _post(bob, "/admin/mandates/new/", **fields)
    mandate = Mandate.objects.get()
    path = f"/admin/mandates/{mandate.pk}"
    assert "self_approval" in _post(bob, f"{path}/decide/", digest=mandate.digest, do="sign")
    assert "Signed." in _post(carol, f"{path}/decide/", digest=mandate.digest, do="sign")
    desk.place()
    text = _page(carol, "/admin/mandates/")
    assert "1,900 of 20,000 USD used" in text
    assert "<b>18,100.00 USD</b> left" in text
    assert 'max="20000' in text
    assert "Revoked." in _post(carol, f"{path}/revoke/")
    mandate.refresh_from_db()
    assert mandate.status == "revoked"
