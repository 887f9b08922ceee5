"""Signing in: guessing is slowed down, a known device is not locked out, and sessions end."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import Entry
from cerbero.models import User
from cerbero.people.models import KnownDevice, PersonSession, SignInAttempt
from cerbero.people.signing_in import BY_ADDRESS, BY_DEVICE, BY_NAME, COOKIE

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"
PASSWORD = "correct horse battery"


@pytest.fixture
def bob(settings) -> User:
    # Its price per guess is not what is measured here.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = User.objects.create_user("bob", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name="Approver"))
    return user


def sign_in(client: Client, name: str = "bob", password: str = PASSWORD, address: str = "192.0.2.1") -> Any:
    return client.post(LOGIN, {"username": name, "password": password}, REMOTE_ADDR=address)


def is_in(client: Client) -> bool:
    return client.get(reverse("people:own")).status_code == 200


def test_too_many_wrong_passwords_stop_even_the_right_one(bob: User) -> None:
    for number in range(BY_NAME):
        assert sign_in(Client(), password="wrong", address=f"192.0.2.{number}").status_code == 200
    guessed = Entry.objects.filter(event="access.refused", details__path=LOGIN)
    assert [each.details["code"] for each in guessed] == ["not_authenticated"] * BY_NAME
    assert "wrong" not in str(list(guessed.values()))
    assert "bob" not in str(list(guessed.values()))
    client = Client()
    assert b"Too many wrong passwords" in sign_in(client, "BOB ", address="198.51.100.7").content
    assert not is_in(client)
    assert Entry.objects.filter(event="signin.throttled").count() == 1
    SignInAttempt.objects.update(created_at=timezone.now() - timedelta(minutes=16))
    assert sign_in(client).status_code == 302
    assert is_in(client)


def test_a_known_device_is_not_locked_out_by_others(bob: User) -> None:
    mine = Client()
    sign_in(mine)
    cookie = mine.cookies[COOKIE]
    assert (cookie["httponly"], cookie["path"]) == (True, "/admin/")
    assert cookie.value not in str(list(KnownDevice.objects.values()))
    mine.logout()
    mine.cookies[COOKIE] = cookie.value
    for _ in range(BY_NAME + 3):
        sign_in(Client(), password="wrong")
    assert sign_in(mine).status_code == 302
    mine.logout()
    mine.cookies[COOKIE] = cookie.value
    for _ in range(BY_DEVICE):
        sign_in(mine, password="wrong")
    assert sign_in(mine).status_code == 200


def test_a_device_is_known_for_its_own_person_only(bob: User) -> None:
    User.objects.create_user("alice", password=PASSWORD, is_staff=True)
    theirs = Client()
    sign_in(theirs, "alice")
    for _ in range(BY_NAME):
        sign_in(Client(), password="wrong")
    stranger = Client()
    stranger.cookies[COOKIE] = theirs.cookies[COOKIE].value
    assert b"Too many" in sign_in(stranger).content


def test_one_address_cannot_try_everybody(bob: User) -> None:
    for number in range(BY_ADDRESS):
        sign_in(Client(), f"person-{number}", "wrong")
    assert b"Too many" in sign_in(Client()).content
    assert sign_in(Client(), address="198.51.100.7").status_code == 302


def test_a_right_password_leaves_no_attempt(bob: User) -> None:
    for _ in range(BY_NAME * 2):
        assert sign_in(Client()).status_code == 302
    assert not SignInAttempt.objects.exists()


def test_an_idle_session_ends_and_a_page_that_refreshes_itself_does_not_keep_it(bob: User) -> None:
    client = Client()
    sign_in(client)
    assert is_in(client)
    ago = timezone.now() - timedelta(minutes=29)
    PersonSession.objects.update(seen_at=ago)
    client.get(reverse("console:queue_state"))
    assert PersonSession.objects.get().seen_at == ago
    assert is_in(client)
    assert PersonSession.objects.get().seen_at > ago
    PersonSession.objects.update(seen_at=timezone.now() - timedelta(minutes=31))
    assert not is_in(client)


def test_sessions_are_listed_and_ended(bob: User) -> None:
    here, there, elsewhere = Client(), Client(HTTP_USER_AGENT="An old phone"), Client()
    for client in (here, there, elsewhere):
        sign_in(client)
        assert is_in(client)
    page = here.get(reverse("people:own")).content.decode()
    assert "An old phone" in page
    assert all(row.session_key not in page for row in PersonSession.objects.all())
    phone = PersonSession.objects.get(device="An old phone")
    here.post(reverse("people:end_session", args=[phone.pk]))
    assert (is_in(here), is_in(there), is_in(elsewhere)) == (True, False, True)
    here.post(reverse("people:end_others"))
    assert (is_in(here), is_in(elsewhere)) == (True, False)
    assert Entry.objects.filter(event="session.revoked", actor_name="bob").count() == 2


def test_only_an_administrator_ends_anothers_session(bob: User) -> None:
    erin = User.objects.create_user("erin", is_staff=True)
    erin.groups.add(Group.objects.get(name="Administrator"))
    alice = User.objects.create_user("alice", is_staff=True)
    theirs, other, root = Client(), Client(), Client()
    sign_in(theirs)
    assert is_in(theirs)
    other.force_login(alice)
    root.force_login(erin)
    end = reverse("people:end_session", args=[PersonSession.objects.get(person=bob).pk])
    other.post(end)
    assert other.get(reverse("people:sessions")).status_code == 403
    assert is_in(theirs)
    assert "bob" in root.get(reverse("people:sessions")).content.decode()
    root.post(end)
    assert not is_in(theirs)


def test_a_new_password_ends_the_other_sessions(bob: User) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        sign_in(client)
        assert is_in(client)
    new = {"old_password": PASSWORD, "new_password1": "another horse", "new_password2": "another horse"}
    assert here.post("/admin/password_change/", new).status_code == 302
    assert (is_in(here), is_in(there)) == (True, False)
    assert PersonSession.objects.filter(person=bob, ended_at=None).count() == 1


CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1"


@pytest.mark.parametrize(
    ("says", "is_called"),
    [
        (CHROME, "Chrome on Linux"),
        (f"{CHROME} Edg/140.0.0.0", "Edge on Linux"),
        (SAFARI, "Safari on iPhone"),
        ("An old phone", "An old phone"),
        ("", "unknown"),
    ],
)
def test_a_device_is_called_as_people_call_it(says: str, is_called: str) -> None:
    assert PersonSession(device=says).device_name == is_called
