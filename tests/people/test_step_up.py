"""Once a shift: a code, a recovery code or a passkey before what gives power; never before what lessens risk."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pyotp
import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from audit.models import Entry
from cerbero import access
from cerbero.errors import CerberoError, CodeRefused, StateConflict
from cerbero.models import AccessToken, Bot, User
from cerbero.people import codes, step_up
from cerbero.people.models import Announcement, CodeApp, RecoveryCode
from cerbero.people.signing_in import BY_NAME

pytestmark = [pytest.mark.django_db, pytest.mark.asks]


@pytest.fixture
def erin() -> User:
    user = User.objects.create_user("erin", is_staff=True)
    user.groups.add(Group.objects.get(name="Administrator"))
    return user


@pytest.fixture
def client(erin: User) -> Client:
    client = Client()
    client.force_login(erin)
    return client


def enrolled(user: User) -> tuple[str, list[str]]:
    """A person's secret and recovery codes; the app's next code is one that was not taken yet."""
    secret = codes.begin(actor=access.person(user))
    made = codes.confirm(actor=access.person(user), code=pyotp.TOTP(secret).now())
    CodeApp.objects.update(last_step=0)
    return secret, made


def token_form(bot: Bot) -> dict[str, Any]:
    return {"bot": str(bot.pk), "scopes": ["orders:read"], "days": "30"}


def test_a_token_is_issued_only_after_a_code(client: Client, erin: User) -> None:
    secret, _ = enrolled(erin)
    bot = Bot.objects.create(name="scanner-alpha", owner=erin, environment="paper")
    issue = reverse("admin:token_issue")
    answer = client.post(issue, token_form(bot))
    assert answer.url == f"/admin/me/step-up/?next={issue.replace('/', '%2F')}"
    assert not AccessToken.objects.exists()
    refused = client.post("/admin/me/step-up/", {"code": "000000", "next": issue})
    assert b"code_refused" in refused.content
    key = client.session.session_key
    done = client.post("/admin/me/step-up/", {"code": pyotp.TOTP(secret).now(), "next": issue})
    assert (done.url, client.session.session_key != key) == (issue, True)
    assert client.post(issue, token_form(bot)).status_code == 200
    assert AccessToken.objects.count() == 1


def test_it_lasts_for_a_shift_of_this_session(client: Client, erin: User, settings) -> None:
    session = client.session
    session[step_up.SESSION_FLAG] = int(time.time()) - settings.STEP_UP_SECONDS + 60
    session.save()
    page = reverse("admin:cerbero_bot_add")
    assert client.get(page).status_code == 200
    for wrong in (int(time.time()) - settings.STEP_UP_SECONDS - 1, int(time.time()) + 3600, "1", None):
        session[step_up.SESSION_FLAG] = wrong
        session.save()
        assert client.get(page).status_code == 302
    other = Client()
    other.force_login(erin)
    assert other.get(page).status_code == 302


def test_what_gives_power_asks_and_what_lessens_risk_never_does() -> None:
    def asked(name: str, *keys: Any, method: str = "POST", **posted: str) -> bool:
        from django.test import RequestFactory

        factory = RequestFactory()
        make = factory.post if method == "POST" else factory.get
        return step_up.is_asked(make(reverse(name, args=keys), posted))

    some = "0190a1b2-0000-7000-8000-000000000000"
    for name, keys in (
        ("admin:cerbero_user_add", []),
        ("admin:cerbero_user_change", [some]),
        ("admin:auth_user_password_change", [some]),
        ("admin:cerbero_bot_change", [some]),
        ("admin:orders_limits_change", [some]),
        ("admin:account_live", [some]),
        ("admin:token_issue", []),
        ("console:resume", []),
        ("people:begin_passkey", []),
    ):
        assert asked(name, *keys), name
    for name, keys in (
        ("console:halt", []),
        ("console:cancel", [some]),
        ("console:reject", [some]),
        ("console:approve", [some]),
        ("console:challenge", [some]),
        ("admin:token_revoke", [some]),
        ("people:revoke_passkey", [some]),
        ("people:end_others", []),
        ("people:codes", []),
        ("people:step_up", []),
        ("admin:logout", []),
        ("admin:password_change", []),
    ):
        assert not asked(name, *keys), name
    assert not asked("admin:account_live", some, do="disable")
    # A no to one view is nothing to another, and what says neither is a yes.
    for do in ("disable", "refuse", "decline"):
        assert asked("admin:cerbero_user_change", some, do=do)
        assert asked("admin:token_issue", do=do, answer="no")
    assert asked("console:decide_mandate", some)
    assert asked("console:decide_resume", some, answer="maybe")
    assert not asked("people:decide_change", some, do="refuse")
    assert asked("people:decide_change", some, do="confirm")
    assert not asked("admin:cerbero_user_changelist", method="GET")


def test_whatever_is_posted_anywhere_asks_unless_it_lessens_risk(client: Client, erin: User) -> None:
    """Every address below /admin/ and /api/, also those that nobody has written yet."""
    erin.groups.set(Group.objects.exclude(name="Auditor"))
    found = dict(addresses())
    assert len(found) > 100
    assert set(found) >= step_up.EXEMPT
    # Last those that ask nothing: some of them sign out.
    for name, address in sorted(found.items(), key=lambda each: each[0] in step_up.EXEMPT):
        if name in step_up.EXEMPT:
            other = Client()
            other.force_login(erin)
            assert "step-up" not in other.post(address).headers.get("Location", ""), name
            continue
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(client, method)(address, HTTP_REFERER="http://testserver/admin/duty/")
            if address.startswith("/api/"):
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_missing"), (
                    name
                )
            else:
                back = "%2Fadmin%2Fduty%2F" if method == "post" else quote(address, safe="")
                assert answer.headers.get("Location") == f"/admin/me/step-up/?next={back}", (name, method)


def addresses() -> Iterator[tuple[str, str]]:
    """The name and one address of each of our views below /admin/ and /api/."""
    arguments = {
        "uuid": "0190a1b2-0000-7000-8000-000000000000",
        "int": "1",
        "path": "1",
        "str": "x",
        "slug": "x",
    }
    for names, pattern in walk(get_resolver().url_patterns, "", "/"):
        if not pattern.startswith(("/admin/", "/api/")):
            continue
        yield names, re.sub(r"<(?:(\w+):)?\w+>", lambda found: arguments[found[1] or "str"], pattern)


def walk(patterns: Any, space: str, prefix: str) -> Iterator[tuple[str, str]]:
    for each in patterns:
        # Of a regular expression its first alternative; Django's own admin has two of them.
        plain = re.sub(r"\(\?P<\w+>(\w*)[^)]*\)", r"\1", str(each.pattern))
        route = prefix + plain.strip("^$")
        if isinstance(each, URLResolver):
            inner = f"{space}{each.namespace}:" if each.namespace else space
            yield from walk(each.url_patterns, inner, route)
        elif each.name:
            yield space + each.name, route


def test_a_code_is_taken_once_and_only_in_its_time(erin: User) -> None:
    actor = access.person(erin)
    secret, _ = enrolled(erin)
    totp, now = pyotp.TOTP(secret), int(time.time())
    for late in (now - 120, now + 120):
        with pytest.raises(CodeRefused):
            codes.check(actor=actor, code=totp.at(late))
    code = totp.at(now)
    codes.check(actor=actor, code=f"{code[:3]} {code[3:]}")
    for again in (code, totp.at(now - 30), "", "٣٣٣٣٣٣"):
        with pytest.raises(CodeRefused):
            codes.check(actor=actor, code=again)


def test_a_recovery_code_opens_once_and_everybody_hears_of_it(erin: User) -> None:
    actor = access.person(erin)
    _, made = enrolled(erin)
    assert len(made) == codes.RECOVERY_CODES
    assert not set(made) & set(RecoveryCode.objects.values_list("digest", flat=True))
    codes.check(actor=actor, code=made[0].upper())
    with pytest.raises(CodeRefused):
        codes.check(actor=actor, code=made[0])
    codes.check(actor=actor, code=made[1])
    assert Entry.objects.filter(event="recovery_code.used").count() == 2
    assert Announcement.objects.filter(words="erin used a recovery code.").exists()


def test_the_secret_stands_encrypted_for_its_person_and_is_never_shown_again(
    client: Client, erin: User
) -> None:
    page = reverse("people:codes")
    client.post(page)
    shown = re.search(r'id="secret">([A-Z2-7]{32})<', client.get(page).content.decode())
    assert shown
    secret = shown[1]
    qr = client.get(reverse("people:qr"))
    assert qr["Content-Type"] == "image/svg+xml"
    assert b"code_refused" in client.post(page, {"code": "123456"}).content
    done = client.post(page, {"code": pyotp.TOTP(secret).now()}).content.decode()
    assert len(re.findall(r"<code>[0-9a-f]{10}</code>", done)) == codes.RECOVERY_CODES
    assert secret not in client.get(page).content.decode()
    assert client.get(reverse("people:qr")).status_code == 404
    with pytest.raises(StateConflict):
        codes.begin(actor=access.person(erin))
    row = CodeApp.objects.get()
    assert secret.encode() not in bytes(row.secret)
    bob = User.objects.create_user("bob")
    CodeApp.objects.create(person=bob, secret=bytes(row.secret))
    with pytest.raises(CerberoError):
        codes.pending_secret(bob)


def test_codes_cannot_be_guessed_at_length(client: Client, erin: User) -> None:
    secret, _ = enrolled(erin)
    for _ in range(BY_NAME):
        client.post("/admin/me/step-up/", {"code": "000000"})
    answer = client.post("/admin/me/step-up/", {"code": pyotp.TOTP(secret).now()})
    assert b"Too many wrong codes" in answer.content
    assert step_up.SESSION_FLAG not in client.session


def test_where_it_leads_afterwards_is_a_page_of_ours(client: Client, erin: User) -> None:
    secret, _ = enrolled(erin)
    done = client.post(
        "/admin/me/step-up/", {"code": pyotp.TOTP(secret).now(), "next": "https://evil.example/"}
    )
    assert done.url == "/admin/"


def test_whoever_has_no_factor_is_led_to_one(client: Client) -> None:
    page = client.get(reverse("admin:token_issue"), follow=True).content.decode()
    assert reverse("people:codes") in page
