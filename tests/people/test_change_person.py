"""Who may do what is changed by two Administrators, told to all, and bars for a day (gates.md §8)."""

import json
from typing import Any

import psycopg
import pyotp
import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from cerbero import access, checks, health
from cerbero.access import issue_person_token
from cerbero.errors import (
    AlreadyDecided,
    CerberoError,
    DigestMismatch,
    NotProven,
    PermissionMissing,
    SelfApproval,
)
from cerbero.models import Bot, DecisionStatus, PersonToken, User
from cerbero.people import changes, codes, signing, step_up
from cerbero.people.models import Announcement, CodeApp, Passkey, PersonChange, RecoveryCode
from tests.people.authenticator import Authenticator
from tests.people.desk import confirm, confirmed_key


def someone(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


@pytest.fixture
def bob(fresh_database) -> User:
    return someone("bob")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def form(user: User, **wanted: Any) -> dict[str, Any]:
    told = {"username": user.username, "is_active": "on", "is_staff": "on"}
    groups = [group.pk for group in Group.objects.filter(name__in=wanted.pop("groups", ()))]
    return told | {"groups": groups} | wanted


def test_a_grant_waits_for_another_administrator(admins: list[User], bob: User) -> None:
    erin, frank = admins
    page = reverse("admin:cerbero_user_change", args=[bob.pk])
    assert signed_in(erin).post(page, form(bob, groups=["Approver", "Operator"])).status_code == 302
    change = PersonChange.objects.get()
    assert (bob.groups.count(), change.terms["groups"]) == (0, ["Approver", "Operator"])
    for who in (erin, bob):
        with pytest.raises(SelfApproval):
            confirm(change, who)
    with pytest.raises(PermissionMissing):
        confirm(change, someone("dave", "Approver"))
    with pytest.raises(DigestMismatch):
        changes.decide(actor=access.person(frank), change_id=change.pk, digest="0" * 64, is_yes=True)
    confirm(change, frank)
    assert {group.name for group in bob.groups.all()} == {"Approver", "Operator"}
    with pytest.raises(CerberoError):
        signing.require_unbarred(bob)
    with pytest.raises(AlreadyDecided):
        confirm(change, frank)
    assert Entry.objects.filter(event="person_change.applied", actor_name="frank").count() == 1
    assert Announcement.objects.filter(words__startswith="Done: bob becomes Approver, Operator").exists()


def test_taking_away_needs_nobody_and_giving_back_does(admins: list[User], bob: User) -> None:
    erin, frank = admins
    bob.groups.set(Group.objects.filter(name__in=["Approver", "Operator"]))
    page = reverse("admin:cerbero_user_change", args=[bob.pk])
    signed_in(erin).post(page, form(bob, groups=["Operator"], is_active=""))
    bob.refresh_from_db()
    assert ([group.name for group in bob.groups.all()], bob.is_active) == (["Operator"], False)
    assert not PersonChange.objects.exists()
    signed_in(erin).post(page, form(bob, groups=["Operator"]))
    bob.refresh_from_db()
    assert not bob.is_active
    confirm(PersonChange.objects.get(), frank)
    bob.refresh_from_db()
    assert bob.is_active


def test_a_new_password_counts_once_confirmed_and_stands_nowhere_in_plain(
    admins: list[User], bob: User
) -> None:
    erin, frank = admins
    password = {"new_password1": "correct horse battery", "new_password2": "correct horse battery"}
    page = reverse("admin:auth_user_password_change", args=[bob.pk])
    assert signed_in(erin).post(page, password).status_code == 302
    change = PersonChange.objects.get()
    assert not User.objects.get(pk=bob.pk).check_password("correct horse battery")
    assert "pbkdf2" not in str(change.terms)
    confirm(change, frank)
    assert User.objects.get(pk=bob.pk).check_password("correct horse battery")
    assert signing.barred(bob) is not None


def test_a_new_password_closes_what_the_old_one_opened(admins: list[User], bob: User) -> None:
    issue_person_token(bob, scopes=("read",), days=1)
    client = signed_in(bob)
    assert client.get(reverse("people:own")).status_code == 200
    assert client.get("/api/orders").status_code != 401
    change = changes.propose_password(actor=access.person(admins[0]), person=bob, password="correct horse")
    assert PersonToken.objects.usable().exists()
    confirm(change, admins[1])
    assert not PersonToken.objects.usable().exists()
    assert client.get(reverse("people:own")).status_code == 302
    assert Entry.objects.filter(event="persontokens.revoked", subject_id=str(bob.pk)).exists()


def test_ones_own_new_password_ends_the_other_sessions_and_the_tokens(bob: User) -> None:
    bob.set_password("an old horse battery")
    bob.save()
    issue_person_token(bob, scopes=("read",), days=1)
    here, there = signed_in(bob), signed_in(bob)
    assert there.get(reverse("people:own")).status_code == here.get(reverse("people:own")).status_code == 200
    words = {"new_password1": "a new horse battery", "new_password2": "a new horse battery"}
    form = {"old_password": "an old horse battery"} | words
    assert here.post(reverse("admin:password_change"), form).status_code == 302
    assert here.get(reverse("people:own")).status_code == 200
    assert there.get(reverse("people:own")).status_code == 302
    assert not PersonToken.objects.usable().exists()


def test_a_shell_on_the_server_changes_no_password_by_itself(
    admins: list[User], bob: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("changepassword", "bob")
    password = dict([capsys.readouterr().out.splitlines()[0].split()])["bob"]
    change = PersonChange.objects.get()
    assert not User.objects.get(pk=bob.pk).check_password(password)
    assert Announcement.objects.filter(words__startswith="the server's command proposes").exists()
    assert "the server&#x27;s command" in signed_in(admins[0]).get(reverse("people:changes")).content.decode()
    with pytest.raises(SelfApproval):
        confirm(change, bob)
    confirm(change, admins[0])
    assert User.objects.get(pk=bob.pk).check_password(password)
    with pytest.raises(CommandError, match="nobody of that name"):
        call_command("changepassword", "mallory")


def test_nobody_is_made_a_superuser_and_one_that_was_is_said_loudly(bob: User) -> None:
    with pytest.raises(CommandError, match="bootstrap_people"):
        call_command("createsuperuser", "--noinput", username="root")
    assert checks.nobody_is_superuser(databases=["default"]) == []
    assert _of_health("superusers") is None
    User.objects.filter(pk=bob.pk).update(is_superuser=True)
    (error,) = checks.nobody_is_superuser(databases=["default"])
    assert (error.id, error.msg) == ("cerbero.E006", "Marked as superuser: bob.")
    with pytest.raises(SystemCheckError, match="E006"):
        call_command("check", databases=["default"])
    told = _of_health("superusers")
    assert told is not None
    assert (told["is_ok"], "bob" in told["detail"]) == (False, False)


def _of_health(name: str) -> dict[str, Any] | None:
    return next((row for row in health.examine()["dependencies"] if row["name"] == name), None)


def test_a_new_owner_waits_and_then_bars_both(admins: list[User], bob: User) -> None:
    erin, frank = admins
    alice = someone("alice")
    bot = Bot.objects.create(name="scanner-alpha", owner=alice, environment="paper")
    page = reverse("admin:cerbero_bot_change", args=[bot.pk])
    signed_in(erin).post(page, {"owner": str(bob.pk), "is_active": "on"})
    assert Bot.objects.get().owner == alice
    confirm(PersonChange.objects.get(), frank)
    assert Bot.objects.get().owner == bob
    assert signing.barred(alice)
    assert signing.barred(bob)


def test_a_refused_change_changes_nothing(admins: list[User], bob: User) -> None:
    erin, frank = admins
    change = changes.propose_grant(actor=access.person(erin), person=bob, groups=["Administrator"])
    page = reverse("people:decide_change", args=[change.pk])
    shown = {"digest": change.request.digest}
    client = signed_in(frank)
    assert "becomes Administrator" in client.get(reverse("people:changes")).content.decode()
    assert b"reason_required" in client.post(page, shown | {"do": "refuse"}, follow=True).content
    client.post(page, shown | {"do": "refuse", "reason": "who is bob?"})
    change.request.refresh_from_db()
    assert change.request.status == DecisionStatus.REJECTED
    assert not bob.groups.exists()
    assert signing.barred(bob) is None


def test_terms_cannot_be_rewritten_nor_a_change_be_written_into_rows(
    admins: list[User], bob: User, fresh_database
) -> None:
    erin, frank = admins
    change = changes.propose_grant(actor=access.person(erin), person=bob, groups=["Operator"])
    with fresh_database.connect() as own:
        with pytest.raises(psycopg.errors.CheckViolation):
            own.execute("""UPDATE people_personchange SET terms = '{"groups": ["Administrator"]}'""")
        own.execute(
            "INSERT INTO cerbero_decisionrequest (id, subject_kind, subject_id, summary, digest, facts, quorum,"
            ' "group", excluded_user_ids, requested_by, status, expires_at, proof) SELECT gen_random_uuid(),'
            " subject_kind, subject_id, summary, digest, facts, quorum, 'Operator', '{}', requested_by, status,"
            " expires_at, proof FROM cerbero_decisionrequest"
        )
        made = own.execute(
            "INSERT INTO people_personchange (id, kind, person_id, terms, request_id, proposed_by_id)"
            " SELECT gen_random_uuid(), c.kind, c.person_id, c.terms, r.id, c.proposed_by_id"
            " FROM people_personchange c, cerbero_decisionrequest r WHERE r.\"group\" = 'Operator' RETURNING id"
        ).fetchone()
    forged = PersonChange.objects.get(pk=made[0])
    with pytest.raises(NotProven):
        confirm(forged, someone("dave", "Operator"))
    assert not bob.groups.exists()
    confirm(change, frank)


def test_everybody_is_told_in_the_header_and_by_mail(admins: list[User], bob: User, settings) -> None:
    settings.EMAIL_IS_ON = True
    User.objects.filter(pk=bob.pk).update(email="bob@desk.example")
    key = confirmed_key(bob, admins[0])
    assert isinstance(key, Authenticator)
    assert Passkey.objects.get().usable_from is not None
    bob.groups.add(Group.objects.get(name="Operator"))
    page = signed_in(bob).get(reverse("people:own")).content.decode()
    assert "Done: a new passkey, key, for bob" in page
    assert "does not count on live accounts until" in page
    assert [message.to for message in mail.outbox] == [["bob@desk.example"]] * 2


def test_only_the_first_two_administrators_are_made_without_two(fresh_database, capsys) -> None:
    with pytest.raises(CommandError):
        call_command("bootstrap_people", "erin", "erin")
    call_command("bootstrap_people", "erin", "frank")
    told = dict(line.split() for line in capsys.readouterr().out.splitlines()[:2])
    for name, password in told.items():
        user = User.objects.get(username=name)
        assert user.check_password(password)
        assert [group.name for group in user.groups.all()] == ["Administrator"]
    with pytest.raises(CommandError):
        call_command("bootstrap_people", "grace", "heidi")
    assert User.objects.count() == 2


def test_a_lost_code_app_is_forgotten_by_two(admins: list[User], bob: User) -> None:
    erin, frank = admins
    secret = codes.begin(actor=access.person(bob))
    codes.confirm(actor=access.person(bob), code=pyotp.TOTP(secret).now())
    reset = reverse("people:propose_reset")
    signed_in(bob).post(reset, {"person": str(bob.pk)})
    assert not PersonChange.objects.exists()
    signed_in(erin).post(reset, {"person": str(bob.pk)})
    assert CodeApp.objects.filter(person=bob).exists()
    confirm(PersonChange.objects.get(), frank)
    assert not CodeApp.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert signing.barred(bob)


@pytest.mark.asks
def test_a_passkey_steps_up_too(admins: list[User], bob: User) -> None:
    device = confirmed_key(bob, admins[0])
    client = signed_in(bob)
    options = client.post(reverse("people:step_up_challenge")).json()
    answer = {"assertion": json.dumps(device.get(options)), "next": "/admin/me/"}
    assert client.post(reverse("people:step_up"), answer).url == "/admin/me/"
    assert client.session[step_up.SESSION_FLAG]
    again = Client()
    again.force_login(bob)
    assert b"passkey_refused" in again.post(reverse("people:step_up"), answer).content
