"""The same rules at every door: pages, the admin API with a session and with a token, tools."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from brokers.credentials import open_credential
from brokers.generation import GROUP_14_PRIME
from brokers.models import Credential, Login
from cerbero.access import issue_person_token
from cerbero.models import User
from keyrotation.models import Rotation
from keyrotation.services import PUBLIC_FILES
from keyrotation.sweep import sweep
from tests.brokers.logins import SYSTEM, events

START, CONFIRM, ABORT, HEALTH = (
    f"/admin/ibkr/{word}"
    for word in ("rotate-keys/start", "rotate-keys/confirm", "rotate-keys/abort", "health")
)


def signed_in(name: str) -> Client:
    client = Client()
    user = User.objects.get(username=name)
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    from django.contrib.auth.models import Group

    from cerbero.management.commands.prepare_database import ensure_groups

    if not Group.objects.get(name="Administrator").permissions.exists():
        ensure_groups()
    client.force_login(user)
    return client


@pytest.fixture
def carol(desk):
    return signed_in("carol")


def program(name: str, *scopes: str) -> dict:
    user = User.objects.get(username=name)
    User.objects.filter(pk=user.pk).update(is_staff=True)
    return {"headers": {"authorization": f"Bearer {issue_person_token(user, scopes=scopes, days=1)}"}}


def post(client: Client, url: str, body: dict, **extra) -> tuple[int, dict]:
    answer = client.post(url, body, content_type="application/json", **extra)
    return answer.status_code, answer.json()


def test_the_stepper_says_who_must_do_what_and_gives_out_public_halves_alone(desk, carol):
    body = {"login": desk.login.pk, "kind": "keys", "prime": "current", "reason": "yearly"}
    page = carol.post(reverse("admin:rotation_start"), body, follow=True)
    text = page.content.decode()
    assert "Next: a person" in text
    assert "PRIVATE" not in text
    rotation = Rotation.objects.get()
    for which in ("signature", "encryption", "dhparam"):
        pem = carol.get(reverse("admin:rotation_public", args=[rotation.pk, which])).content.decode()
        assert pem.startswith("-----BEGIN")
        assert not [each for each in ("PRIVATE", "\r") if each in pem]
    assert carol.get(f"/admin/keyrotation/rotation/{rotation.pk}/private.pem").status_code == 404


def test_what_was_typed_wrong_is_said_beside_its_field(desk, carol):
    rotation = desk.start().rotation
    typed = {
        "do": "register",
        "consumer_key": "newkeyset",
        "access_token": "XYZ",
        "access_token_secret": "%%not-base64-and-yet-secret",
    }
    text = carol.post(reverse("admin:rotation_act", args=[rotation.pk]), typed).content.decode()
    for said in ("capital letters", "20 digits", "not base64"):
        assert said in text
    assert "yet-secret" not in text, "what was typed as a secret is shown nowhere again"
    assert Rotation.objects.get().status == "generated"


def test_a_bystander_reads_and_does_nothing(desk, carol):
    rotation = desk.start().rotation
    bob = signed_in("bob")
    assert (
        "Enter"
        not in bob.get(reverse("admin:keyrotation_rotation_change", args=[rotation.pk])).content.decode()
    )
    for name in ("rotation_act", "rotation_end"):
        assert bob.post(reverse(f"admin:{name}", args=[rotation.pk]), {"do": "abort"}).status_code == 403
    assert bob.get(reverse("admin:rotation_start")).status_code == 403
    assert Rotation.objects.get().status == "generated"


def test_a_token_starts_and_aborts_with_its_scope_and_never_confirms(desk, carol):
    with_scope, without = program("carol", "rotate", "read"), program("carol", "read")
    body = {"login": "desk", "reason": "yearly"}
    client = Client()
    assert post(client, START, body, **without)[1]["error"]["code"] == "scope_missing"
    status, started = post(client, START, body, **with_scope)
    assert (status, started["kind"], started["next"]["who"]) == (201, "token", "a person")
    assert post(client, START, body, **with_scope)[1]["error"]["code"] == "rotation_open"
    refused = post(client, CONFIRM, {"rotation_id": started["rotation_id"], "digest": "0" * 64}, **with_scope)
    assert (refused[0], refused[1]["error"]["code"]) == (403, "sign_in_required")
    assert client.get(HEALTH, **without).json()["rotations"][0]["login"] == "desk"
    assert client.get(HEALTH).status_code == 401
    gone = post(client, ABORT, {"rotation_id": started["rotation_id"], "reason": "wrong day"}, **with_scope)
    assert (gone[0], gone[1]["status"]) == (200, "aborted")
    assert events("api.").count("api.called") == 3


def test_no_door_takes_a_step_that_is_not_next(desk, carol):
    rotation = desk.start().rotation
    confirm = {"rotation_id": str(rotation.pk), "digest": "0" * 64}
    assert post(carol, CONFIRM, confirm)[1]["error"]["code"] == "not_found", "nothing was asked yet"
    for name, do in (("rotation_act", "confirm"), ("rotation_act", "retire"), ("rotation_end", "roll_back")):
        carol.post(
            reverse(f"admin:{name}", args=[rotation.pk]), {"do": do, "reason": "now", "digest": "0" * 64}
        )
        assert Rotation.objects.get().status == "generated", do
    desk.abort(rotation)
    assert post(carol, ABORT, {"rotation_id": str(rotation.pk), "reason": "again"})[0] == 409


def test_a_bots_token_is_replaced_while_both_work(desk, carol):
    from cerbero import access, tokens
    from cerbero.models import AccessToken, Bot

    bot = Bot.objects.create(name="ops", owner=User.objects.get(username="bob"), environment="paper")
    old = access.issue_token(bot, days=90)
    row = AccessToken.objects.get()
    text = carol.post(reverse("admin:token_rotate", args=[row.pk])).content.decode()
    fresh = text.split('<code id="token">')[1].split("<")[0]
    for token in (old, fresh):
        assert access.authenticate(f"Bearer {token}", "t").id == bot.pk
    row.refresh_from_db()
    assert row.expires_at < timezone.now() + timedelta(hours=tokens.OVERLAP_HOURS + 1)
    new = AccessToken.objects.exclude(pk=row.pk).get()
    assert (new.scopes, (new.expires_at - timezone.now()).days) == (row.scopes, 89)


def test_decisions_hold_under_a_secret_key_that_was_replaced(settings):
    from cerbero import proofs

    proof = proofs.of_body("thing", {"a": "1"})
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    assert proofs.holds_body("thing", {"a": "1"}, proof)
    settings.SECRET_KEY_FALLBACKS = []
    assert not proofs.holds_body("thing", {"a": "1"}, proof)


def test_whoever_is_signed_in_stays_so_under_a_secret_key_that_was_replaced(desk, carol, settings):
    page = reverse("admin:keyrotation_rotation_changelist")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    assert carol.get(page).status_code == 200
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a third", []
    assert carol.get(page).status_code == 302


def test_the_header_says_that_new_orders_wait_for_as_long_as_they_do(desk, carol):
    page = reverse("admin:keyrotation_rotation_changelist")
    Login.objects.filter(pk=desk.login.pk).update(
        held_until=timezone.now() + timedelta(hours=1), held_because="its keys are being swapped"
    )
    text = carol.get(page).content.decode()
    assert "New orders of desk wait until" in text
    assert "its keys are being swapped. Cancels do not." in text
    Login.objects.filter(pk=desk.login.pk).update(held_until=timezone.now() - timedelta(hours=1))
    assert "New orders of desk" not in carol.get(page).content.decode()


def test_the_search_for_a_prime_goes_on_in_the_background_and_shows_how_far_it_is(
    desk, carol, monkeypatch, tmp_path, capsys
):
    found = iter([(None, 900), (None, 300), (int(GROUP_14_PRIME, 16), 7)])
    monkeypatch.setattr("keyrotation.sweep.primes.search", lambda seconds: next(found))
    asked = ("--kind", "keys", "--prime", "own", "--reason", "yearly", "--as", "carol")
    call_command("rotate_keys", "start", "desk", *asked, "--public-to", str(tmp_path / "new"))
    assert "not made yet" in capsys.readouterr().out
    desk.abort(Rotation.objects.get())
    body = {"login": desk.login.pk, "kind": "keys", "prime": "own", "reason": "yearly"}
    text = carol.post(reverse("admin:rotation_start"), body, follow=True).content.decode()
    assert "0 candidates tried" in text
    rotation = Rotation.objects.open().get()
    state = reverse("admin:rotation_state", args=[rotation.pk])
    page = reverse("admin:keyrotation_rotation_change", args=[rotation.pk])
    before = carol.get(state).json()
    for _ in range(2):
        sweep(SYSTEM)
    assert carol.get(state).json() != before, "the page reads this, and shows itself anew"
    text = carol.get(page).content.decode()
    assert "1,200 candidates tried" in text
    assert '<progress max="100" value="13"' in text
    sweep(SYSTEM)
    assert Rotation.objects.open().get().status == "generated"
    call_command("rotate_keys", "status", "desk", "--public-to", str(tmp_path / "new"))
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PUBLIC_FILES.values())
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="name another folder"):
        call_command("rotate_keys", "status", "desk", "--public-to", str(tmp_path / "file"))
    staged = Credential.objects.select_related("login").get(status="staged")
    assert open_credential(staged).dh_prime == int(GROUP_14_PRIME, 16)
