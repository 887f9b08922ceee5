"""People, bots and tokens in admin: who may, and what the trail says of it."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from cerbero.access import authenticate
from cerbero.errors import NotAuthenticated
from cerbero.models import AccessToken, Bot, User
from orders.models import TradingState

pytestmark = pytest.mark.django_db


def someone(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    assert user.groups.count() == len(groups)
    return user


@pytest.fixture
def carol() -> User:
    return someone("carol", "Administrator")


@pytest.fixture
def page(carol: User) -> Client:
    client = Client()
    client.force_login(carol)
    return client


@pytest.fixture
def bot() -> Bot:
    return Bot.objects.create(name="scanner-alpha", owner=someone("alice", "Operator"), environment="paper")


def token_in(response: Any) -> str:
    found = re.search(r"cbr_[\w-]+", response.content.decode())
    assert found
    return found[0]


def change_form(user: User, **changes: object) -> dict:
    return {
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "is_active": "on",
        "is_staff": "on",
        "groups": [group.pk for group in user.groups.all()],
    } | changes


def test_a_token_is_shown_once_works_and_is_in_the_trail_without_its_secret(page: Client, bot: Bot) -> None:
    form = {"bot": str(bot.pk), "label": "laptop", "scopes": ["orders:read"], "days": "30"}
    response = page.post(reverse("admin:token_issue"), form)
    token = token_in(response)
    assert authenticate(f"Bearer {token}", "tag").scopes == {"orders:read"}
    assert "no-store" in response["Cache-Control"]
    assert token not in page.get(reverse("admin:cerbero_accesstoken_changelist")).content.decode()
    entry = Entry.objects.get(event="token.issued")
    assert (entry.actor_name, entry.subject_id) == ("carol", str(bot.pk))
    assert entry.details["scopes"] == ["orders:read"]
    assert token.split("_", 2)[2] not in str(entry.details)


@pytest.mark.parametrize(
    "wrong", [{"scopes": ["decide:all"]}, {"scopes": []}, {"days": "0"}, {"days": "366"}, {"bot": ""}]
)
def test_a_token_that_would_be_wrong_is_not_issued(page: Client, bot: Bot, wrong: dict) -> None:
    form = {"bot": str(bot.pk), "scopes": ["orders:read"], "days": "30"} | wrong
    assert page.post(reverse("admin:token_issue"), form).status_code == 200
    assert not AccessToken.objects.exists()
    assert not Entry.objects.filter(event="token.issued").exists()


def test_revoking_asks_first_and_then_ends_the_token_at_once(page: Client, bot: Bot) -> None:
    issued = page.post(
        reverse("admin:token_issue"), {"bot": str(bot.pk), "scopes": ["orders:read"], "days": "30"}
    )
    token = token_in(issued)
    address = reverse("admin:token_revoke", args=[AccessToken.objects.get().pk])
    assert page.get(address).status_code == 200
    authenticate(f"Bearer {token}", "tag")
    assert page.post(address).status_code == 302
    with pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {token}", "tag")
    page.post(address)
    assert Entry.objects.filter(event="token.revoked", actor_name="carol").count() == 1


@pytest.mark.parametrize("group", ["Operator", "Approver", "Auditor"])
def test_only_an_administrator_keeps_people_bots_and_tokens(bot: Bot, group: str) -> None:
    client = Client()
    client.force_login(someone("dave", group))
    token = AccessToken.objects.create(
        bot=bot, prefix="0" * 8, digest="d", environment="paper", scopes=[], expires_at="2030-01-01T00:00Z"
    )
    for name, keys in (
        ("token_issue", []),
        ("token_revoke", [token.pk]),
        ("cerbero_bot_add", []),
        ("cerbero_user_add", []),
    ):
        address = reverse(f"admin:{name}", args=keys)
        assert client.get(address).status_code == 403, name
        assert client.post(address, {}).status_code == 403, name
    token.refresh_from_db()
    assert token.revoked_at is None


def test_a_new_bot_has_its_trading_state_and_keeps_its_name(page: Client, carol: User) -> None:
    form = {"name": "scanner-beta", "environment": "paper", "owner": str(carol.pk), "is_active": "on"}
    assert page.post(reverse("admin:cerbero_bot_add"), form).status_code == 302
    made = Bot.objects.get(name="scanner-beta")
    assert TradingState.objects.filter(scope=TradingState.Scope.BOT, scope_id=str(made.pk)).exists()
    address = reverse("admin:cerbero_bot_change", args=[made.pk])
    page.post(address, form | {"name": "other", "environment": "live", "is_active": ""})
    made.refresh_from_db()
    assert (made.name, made.environment, made.is_active) == ("scanner-beta", "paper", False)
    assert list(Entry.objects.filter(subject_kind="bot").order_by("id").values_list("event", flat=True)) == [
        "bot.added",
        "bot.changed",
    ]


def test_nobody_becomes_a_superuser_here(page: Client) -> None:
    alice = someone("alice")
    address = reverse("admin:cerbero_user_change", args=[alice.pk])
    posted = page.post(
        address, change_form(alice, is_superuser="on", user_permissions=["1"], first_name="Alice")
    )
    assert posted.status_code == 302
    alice.refresh_from_db()
    assert (alice.first_name, alice.is_superuser) == ("Alice", False)
    assert not alice.user_permissions.exists()
    entry = Entry.objects.get(event="user.changed")
    assert "First name" in str(entry.details)
    assert "Alice" not in str(entry.details)


def test_nobody_changes_their_own_groups(page: Client, carol: User) -> None:
    everything = [group.pk for group in Group.objects.all()]
    address = reverse("admin:cerbero_user_change", args=[carol.pk])
    assert page.post(address, change_form(carol, groups=everything)).status_code == 403
    password = reverse("admin:auth_user_password_change", args=[carol.pk])
    assert page.post(password, {"new_password1": "x", "new_password2": "x"}).status_code == 403
    assert carol.groups.count() == 1


def test_a_superuser_may_nothing(bot: Bot) -> None:
    root = User.objects.create_superuser("root")
    client = Client()
    client.force_login(root)
    assert root.get_all_permissions() == set()
    assert not root.has_perm("cerbero.change_user")
    assert not root.has_module_perms("orders")
    for name in ("cerbero_user_changelist", "cerbero_bot_add", "token_issue", "orders_ticket_changelist"):
        assert client.get(reverse(f"admin:{name}")).status_code == 403, name


def test_people_are_made_inactive_and_never_deleted(page: Client) -> None:
    alice = someone("alice")
    for name in ("cerbero_user_delete", "cerbero_bot_delete"):
        assert page.post(reverse(f"admin:{name}", args=[alice.pk]), {"post": "yes"}).status_code in {302, 403}
    assert User.objects.filter(pk=alice.pk).exists()


def test_groups_and_decisions_are_only_read(page: Client) -> None:
    group = Group.objects.get(name="Approver")
    for name, keys in (
        ("auth_group_add", []),
        ("auth_group_change", [group.pk]),
        ("auth_group_delete", [group.pk]),
        ("cerbero_decisionrequest_add", []),
        ("cerbero_decision_add", []),
        ("cerbero_accesstoken_add", []),
    ):
        assert (
            page.post(reverse(f"admin:{name}", args=keys), {"name": "x", "post": "yes"}).status_code == 403
        ), name
    for model in (
        "auth_group",
        "cerbero_decisionrequest",
        "cerbero_decision",
        "cerbero_accesstoken",
        "cerbero_user",
    ):
        assert page.get(reverse(f"admin:{model}_changelist")).status_code == 200, model


def test_django_keeps_no_second_history(page: Client, bot: Bot) -> None:
    made = page.post(
        reverse("admin:cerbero_user_add"),
        {
            "username": "erin",
            "usable_password": "true",
            "password1": "correct horse battery",
            "password2": "correct horse battery",
        },
    )
    assert made.status_code == 302, made.content
    erin = User.objects.get(username="erin")
    password = {"new_password1": "another horse battery", "new_password2": "another horse battery"}
    changed = page.post(reverse("admin:auth_user_password_change", args=[erin.pk]), password)
    assert changed.status_code == 302, changed.content
    assert not LogEntry.objects.exists()
    events = Entry.objects.filter(subject_kind="user", subject_id=str(erin.pk)).order_by("id")
    assert [event.event for event in events] == ["user.added", "person_change.proposed"]
    assert "horse" not in str([event.details for event in events])
