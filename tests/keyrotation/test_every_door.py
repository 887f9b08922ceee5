"""Every step at every door in every state: what is not next is refused by name and changes nothing.

Doors are the pages, the administrators' API by session, the tools and the command.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.messages import get_messages
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from brokers.base import SessionToken
from brokers.credentials import store_credential, use_credential
from brokers.generation import new_pair
from brokers.models import Credential, Login
from brokers.sessions import session_turn
from cerbero import access, leases
from cerbero.errors import CerberoError, DigestMismatch, EnvironmentMismatch, ScopeMissing, StateConflict
from cerbero.models import User
from cerbero.people import profile
from cerbero.tool import TOOLS, call
from keyrotation import proving, swapping, sweep
from keyrotation.models import Rotation
from tests.brokers.logins import SYSTEM, somebody
from tests.keyrotation.keys import PRIME, old_pairs
from tests.keyrotation.test_doors import ABORT, CONFIRM, START, post, program, signed_in
from tests.people.desk import administrators, confirmed_key

SIGNATURE = "/admin/ibkr/rotate-keys/signature"
SECRET = "bmV3LXNlY3JldA=="
ENDED = {"aborted", "retired", "rolled_back"}
ISSUED = {
    "consumer_key": "NEWKEYSET",
    "access_token": "0123456789abcdef0123",
    "access_token_secret": SECRET,
}

# In which states a step is next; whatever is not named here is tried, and must be refused.
LEGAL = {
    "start": ENDED | {"active", "settled"},
    "register": {"generated", "registered"},
    "confirm": {"proven"},
    "reject": {"proven"},
    "abort": {"requested", "generated", "registered", "proven"},
    "retry": {"requested", "generated", "registered", "proven", "active", "settled"},
    "roll_back": {"active", "settled"},
    "retire": {"settled"},
}
DOORS = {
    "page": tuple(LEGAL),
    "api": ("start", "confirm", "abort"),
    "tool": ("start", "abort"),
    "command": ("start", "register", "abort", "retry", "roll_back"),
}
one_pair = cache(new_pair)
STATES = ("requested", "generated", "registered", "proven", "active", "settled", *sorted(ENDED))


def brought(desk: Any, state: str) -> Rotation:
    """A rotation in that state, by the moves that lead there."""
    rotation = desk.start().rotation
    row = Rotation.objects.filter(pk=rotation.pk)
    if state == "requested":
        desk.abort(rotation)
        return Rotation.objects.create(login=desk.login, requested_by="carol")
    if state == "aborted":
        desk.abort(rotation)
    way = ("registered", "proven", "active", "settled")
    for step in way[: way.index(state) + 1] if state in way else way if state in ENDED - {"aborted"} else ():
        _ON[step](row)
    if state in {"retired", "rolled_back"}:
        row.update(status=state, ended_at=Now())
    return row.select_related("login", "credential", "request").get()


def _prove(row: Any) -> None:
    proving._proven(SYSTEM, row.select_related("login", "credential", "request").get(), True)


def _activate(row: Any) -> None:
    staged = Credential.objects.select_related("login").get(rotation=row.get())
    row.update(previous=use_credential(staged, actor=SYSTEM), status="active")


_ON: dict[str, Callable[[Any], Any]] = {
    "registered": lambda row: row.update(status="registered", registered_at=Now()),
    "proven": _prove,
    "active": _activate,
    "settled": lambda row: row.update(settled_at=Now(), retire_at=Now()),
}


def snapshot() -> tuple[Any, ...]:
    rotations = Rotation.objects.order_by("pk").values_list("pk", "status", "request__status", "stopped_at")
    return tuple(rotations), tuple(Credential.objects.order_by("pk").values_list("pk", "status"))


class Doors:
    """carol at every door; `try_it` returns the code by which she was refused, or nothing."""

    def __init__(self, desk: Any, monkeypatch: Any) -> None:
        self.desk, self.client = desk, signed_in("carol")
        monkeypatch.setattr("keyrotation.management.commands.rotate_keys.getpass", lambda _: SECRET)

    def try_it(self, door: str, step: str, rotation: Rotation) -> str:
        return getattr(self, f"_by_{door}")(step, rotation)

    def _by_page(self, step: str, rotation: Rotation) -> str:
        sent = {"do": step, "reason": "now", "digest": rotation.request.digest if rotation.request else ""}
        if step == "start":
            url, sent = reverse("admin:rotation_start"), sent | {"login": rotation.login_id}
            sent |= {"kind": "token", "prime": "current"}
        else:
            is_forth = step in {"register", "confirm", "retire"}
            url = reverse(f"admin:rotation_{'act' if is_forth else 'end'}", args=[rotation.pk])
        said = list(get_messages(self.client.post(url, sent | ISSUED).wsgi_request))
        return next((str(each) for each in said if each.level_tag == "error"), "")

    def _by_api(self, step: str, rotation: Rotation) -> str:
        digest = rotation.request.digest if rotation.request else "0" * 64
        about = {"rotation_id": str(rotation.pk)}
        url, body = {
            "start": (START, {"login": rotation.login.name, "reason": "now"}),
            "confirm": (CONFIRM, about | {"digest": digest}),
            "abort": (ABORT, about | {"reason": "now"}),
        }[step]
        return post(self.client, url, body)[1].get("error", {}).get("code", "")

    def _by_tool(self, step: str, rotation: Rotation) -> str:
        about = {"login": rotation.login.name} if step == "start" else {"rotation_id": str(rotation.pk)}
        bot = self.desk.bot("rotation:admin")
        try:
            call(TOOLS[f"{step}_rotation"], bot, about | {"reason": "now"})
        except CerberoError as refusal:
            return refusal.code
        return ""

    def _by_command(self, step: str, rotation: Rotation) -> str:
        words = ["rotate_keys", step.replace("_", "-"), rotation.login.name, "--as", "carol"]
        issued = ["--consumer-key", "NEWKEYSET", "--access-token", ISSUED["access_token"]]
        try:
            call_command(*words, "--reason", "now", *(issued if step == "register" else []))
        except CommandError as refusal:
            return str(refusal)
        return ""


@pytest.fixture(autouse=True)
def _known_pairs(monkeypatch):
    """Keys are made elsewhere; here it is about who may do what, and they take long."""
    monkeypatch.setattr("keyrotation.services.new_pair", one_pair)


@pytest.mark.parametrize("state", STATES)
def test_a_step_that_is_not_next_is_refused_at_every_door(desk, state, monkeypatch):
    rotation, doors = brought(desk, state), Doors(desk, monkeypatch)
    before, tried = snapshot(), 0
    for door, steps in DOORS.items():
        for step in steps:
            if state in LEGAL[step]:
                continue
            said = doors.try_it(door, step, rotation)
            # A page that has no such button does nothing without a word.
            assert said or door == "page", (door, step)
            assert snapshot() == before, (door, step, said)
            tried += 1
    assert tried >= 5


@pytest.mark.parametrize("door", DOORS)
def test_while_one_is_open_no_door_opens_another(desk, door, monkeypatch):
    rotation, doors = brought(desk, "generated"), Doors(desk, monkeypatch)
    assert "rotation_open" in doors.try_it(door, "start", rotation)
    assert Rotation.objects.count() == 1


@pytest.fixture
def live_rotation(desk):
    """Proven on a live login; carol started it, dora is another Administrator."""
    login = Login.objects.create(name="desk-live", environment="live")
    signature, encryption = old_pairs()
    store_credential(
        actor=SYSTEM,
        login=login,
        dh_prime=PRIME,
        consumer_key="LIVEKEYST",
        access_token="live-token",
        access_token_secret=SECRET,
        signature_key_pem=signature.private_pem,
        encryption_key_pem=encryption.private_pem,
    )
    somebody("dora", "Administrator")
    rotation = desk.start(login_id=login.pk).rotation
    row = Rotation.objects.filter(pk=rotation.pk)
    row.update(status="registered", registered_at=Now())
    _prove(row)
    return row.select_related("login", "request").get()


@pytest.fixture
def unbarred(monkeypatch):
    """As if a day had passed since everybody's groups were given."""
    monkeypatch.setattr("keyrotation.services.require_unbarred", lambda person: None)


def test_on_a_live_login_whoever_started_it_is_refused_the_yes_at_every_door(live_rotation, unbarred):
    rotation, carol = live_rotation, signed_in("carol")
    act = reverse("admin:rotation_act", args=[rotation.pk])
    shown = carol.get(reverse("admin:keyrotation_rotation_change", args=[rotation.pk])).content.decode()
    assert "Confirm the swap</button>" not in shown
    page = carol.post(act, {"do": "confirm", "digest": rotation.request.digest})
    assert "self_approval" in "".join(map(str, get_messages(page.wsgi_request)))
    body = {"rotation_id": str(rotation.pk), "digest": rotation.request.digest}
    assert post(carol, CONFIRM, body)[1]["error"]["code"] == "self_approval"
    for scopes in (("rotate", "read"), ("read",)):
        assert post(Client(), CONFIRM, body, **program("dora", *scopes))[0] == 403
    bob = signed_in("bob")
    assert bob.post(act, {"do": "confirm"}).status_code == 403
    assert post(bob, CONFIRM, body)[0] == 403
    assert "confirm_rotation" not in TOOLS
    with pytest.raises(CommandError):
        call_command("rotate_keys", "confirm", rotation.login.name, "--as", "dora")
    assert Rotation.objects.get(pk=rotation.pk).request.status == "pending"

    dora = signed_in("dora")
    status, answer = post(dora, CONFIRM, body)
    assert (status, answer["next"]["who"]) == (200, "Cerbero")
    assert Rotation.objects.get(pk=rotation.pk).request.status == "approved"


def test_a_yes_counts_for_the_two_sets_that_were_shown_and_no_others(live_rotation, unbarred):
    about = {"rotation_id": str(live_rotation.pk), "digest": live_rotation.request.digest}
    assert post(signed_in("dora"), CONFIRM, about)[0] == 200
    row = Rotation.objects.filter(pk=live_rotation.pk).select_related("login", "credential", "request")
    row.update(mode="blackout")
    assert not sweep._is_stale(row.get()), "the broker has ended the old set since: nobody is kept waiting"
    other = Credential.objects.filter(login=live_rotation.login, status="active")
    other.update(signature_fingerprint="f" * 64)
    assert sweep._is_stale(row.get())
    token = SessionToken(b"0" * 20, leases.database_now())
    with session_turn(live_rotation.login, SYSTEM, 30, 1) as turn, pytest.raises(DigestMismatch):
        swapping._put_in_use(turn, row.get(), token)


def test_whose_powers_were_changed_today_confirms_nothing_live(live_rotation):
    about = {"rotation_id": str(live_rotation.pk), "digest": live_rotation.request.digest}
    assert post(signed_in("dora"), CONFIRM, about)[1]["error"]["code"] == "live_barred"


def test_a_yes_to_another_digest_is_refused_at_every_door(live_rotation, unbarred):
    dora, about = signed_in("dora"), {"rotation_id": str(live_rotation.pk), "digest": "0" * 64}
    assert post(dora, CONFIRM, about)[1]["error"]["code"] == "digest_mismatch"
    page = dora.post(
        reverse("admin:rotation_act", args=[live_rotation.pk]), {"do": "confirm", "digest": "0" * 64}
    )
    assert "digest_mismatch" in "".join(map(str, get_messages(page.wsgi_request)))


def test_bots_without_the_scope_or_of_another_environment_are_refused_by_every_tool(desk):
    rotation = desk.start().rotation
    about = {"rotation_id": str(rotation.pk)}
    calls = {
        "start_rotation": {"login": "desk", "reason": "now"},
        "get_rotation": about,
        "abort_rotation": about | {"reason": "now"},
    }
    for name, sent in calls.items():
        with pytest.raises(ScopeMissing):
            call(TOOLS[name], desk.bot(*(set(access.SCOPES) - {"rotation:admin"})), sent)
        with pytest.raises(EnvironmentMismatch):
            call(TOOLS[name], desk.bot("rotation:admin", environment="live"), sent)
    assert "rotation:admin" not in access.DEFAULT_SCOPES


def test_a_sole_operators_yes_by_the_api_is_signed_by_a_passkey(lasting_desk, unbarred, monkeypatch):
    erin, _ = administrators("erin", "frank")
    user = User.objects.get(username="carol")
    device = confirmed_key(user, erin)
    user.groups.add(Group.objects.get(name="Approver"))
    with transaction.atomic():
        profile.enter(actor=access.SERVER, operator=user)
    rotation, carol = brought(lasting_desk, "proven"), signed_in("carol")
    about = {"rotation_id": str(rotation.pk), "digest": rotation.request.digest}
    assert post(carol, CONFIRM, about)[1]["error"]["code"] == "delay_running"
    now = profile._now
    monkeypatch.setattr(profile, "_now", lambda: now() + timedelta(hours=2))
    assert post(carol, CONFIRM, about)[1]["error"]["code"] == "signature_missing"
    status, options = post(carol, SIGNATURE, about)
    assert status == 200, options
    assert post(carol, CONFIRM, about | {"assertion": device.get(options)})[0] == 200
    assert Rotation.objects.get(pk=rotation.pk).request.status == "approved"
    with_scope = program("carol", "rotate", "read")
    assert post(Client(), SIGNATURE, about, **with_scope)[1]["error"]["code"] == "sign_in_required"

    # One yes stood for two; once two are asked for again, it stands for nothing.
    row = Rotation.objects.select_related("login", "request").get(pk=rotation.pk)
    assert not sweep._is_stale(row)
    with transaction.atomic():
        profile.leave(actor=access.SERVER)
    assert sweep._is_stale(row)
    token = SessionToken(b"0" * 20, leases.database_now())
    with session_turn(row.login, SYSTEM, 30, 1) as turn, pytest.raises(StateConflict, match="profile"):
        swapping._put_in_use(turn, row, token)
    assert Credential.objects.get(status="active") == lasting_desk.active
