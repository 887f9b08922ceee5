"""What was planted is found nowhere in clear: not in a dump, a log, an answer, a variable on a crash's page, or Redis."""

import base64
import inspect
import json
import subprocess
from typing import Any

import pytest
import redis
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from brokers.credentials import open_credential
from brokers.ibkr.oauth import decrypt_secret, private_key
from brokers.models import Credential, Login
from brokers.services import session_token
from cerbero.access import Actor
from cerbero.celery import app
from cerbero.embedded import _binaries
from cerbero.tool import TOOLS, call
from keyrotation import tasks
from tests.keyrotation.test_doors import ABORT, CONFIRM, START, signed_in

TYPED = "cGxhbnRlZCBhcyBhIHNlY3JldA=="


def planted(login: Login) -> list[bytes]:
    """Every secret of both sets, whole and in the pieces that a line break or another encoding leaves of it."""
    token = session_token(Login.objects.get(pk=login.pk))
    assert token
    plain = [token]
    for row in Credential.objects.select_related("login").filter(login=login):
        keys = open_credential(row)
        plain.append(keys.access_token_secret.encode())
        plain.append(decrypt_secret(keys.access_token_secret, private_key(keys.encryption_key_pem)))
        for pem in (keys.signature_key_pem, keys.encryption_key_pem):
            numbers = private_key(pem).private_numbers()
            plain += [*pem.splitlines()[1:4], str(numbers.d).encode()]
            plain += [each.to_bytes(128, "big") for each in (numbers.p, numbers.q)]
    return [form for each in plain for form in (each, each.hex().encode(), base64.b64encode(each))]


def test_what_was_planted_is_found_nowhere_in_clear(portal, fresh_database, redis_url, caplog):
    """Every secret of a whole rotation, searched for in the dump, Redis, the log, the trail and whatever a door answers."""
    rotation = portal.swapped()
    secrets = planted(portal.login)
    assert len(secrets) > 50
    dump = _dump(fresh_database)
    assert portal.in_use().access_token.encode() in dump, "it holds the rows"
    seen = {"the dump": dump, "the log": caplog.text.encode(), **_answers(portal, rotation)}
    seen["Redis"] = _redis(redis_url)
    seen["reprs"] = repr([[row, row.__dict__, open_credential(row)] for row in _sets(portal)]).encode()
    assert len(seen) > 8
    for where, text in seen.items():
        assert not [each for each in secrets if each in text], where


def _sets(portal: Any) -> Any:
    return Credential.objects.select_related("login").filter(login=portal.login)


def _redis(url: str) -> bytes:
    with redis.Redis.from_url(url) as client:
        return b"".join(name + (client.dump(name) or b"") for name in client.scan_iter())


def _answers(portal: Any, rotation: Any) -> dict[str, bytes]:
    """What every page, address and tool says of a rotation, refusals with it."""
    carol, about = signed_in("carol"), str(rotation.pk)
    names = ("rotation_changelist", "calendar")
    pages = [reverse(f"admin:keyrotation_{name}") for name in names]
    pages += [
        reverse("admin:keyrotation_rotation_change", args=[about]),
        "/admin/ibkr/health",
        "/health/ready",
    ]
    pages += [reverse("admin:rotation_state", args=[about]), reverse("admin:rotation_start")]
    pages += [reverse("admin:brokers_credential_changelist")]
    pages += [reverse("admin:brokers_credential_change", args=[rotation.credential.pk])]
    said = {url: carol.get(url, follow=True).content for url in pages}
    wrong = {"rotation_id": about, "reason": "x", "digest": "0" * 64, "login": portal.login.name}
    for url in (START, CONFIRM, ABORT):
        said[url] = carol.post(url, wrong, content_type="application/json").content
    bot = Actor(
        "bot", portal.login.pk, "ops", scopes=frozenset({"rotation:admin"}), environment="paper", tag="t"
    )
    said["the tool"] = call(TOOLS["get_rotation"], bot, {"rotation_id": about}).model_dump_json().encode()
    said["the trail"] = json.dumps(list(Entry.objects.values_list("details", flat=True))).encode()
    return said


def _dump(database: Any) -> bytes:
    """What pg_dump writes, in clear text."""
    command = [str(_binaries() / "pg_dump"), "--format=plain", database.url("postgres")]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("is_debug", [False, True])
def test_a_crash_shows_no_variable_and_nothing_that_was_typed(desk, settings, monkeypatch, caplog, is_debug):
    settings.DEBUG = is_debug
    rotation = desk.start().rotation
    keys = open_credential(Credential.objects.select_related("login").get(rotation=rotation))

    def crash(*_: Any, **__: Any) -> None:
        local = [keys.signature_key_pem, TYPED]
        raise RuntimeError(f"a slip beside {len(local)} secrets")

    monkeypatch.setattr("brokers.credentials.record", crash)
    client: Client = signed_in("carol")
    client.raise_request_exception = False
    typed = {"do": "register", "consumer_key": "NEWKEYSET", "access_token": "0123456789abcdef0123"}
    monkeypatch.setattr("keyrotation.services.mistakes_in", lambda *_: [])
    url = reverse("admin:rotation_act", args=[rotation.pk])
    answer = client.post(url, typed | {"access_token_secret": TYPED})
    assert answer.status_code == 500
    said = answer.content.decode() + caplog.text
    assert ("a slip beside 2 secrets" in answer.content.decode()) == is_debug, "it says where it broke"
    lines = keys.signature_key_pem.decode().splitlines()[1:-1]
    for secret in (TYPED, *lines, settings.REDIS_URL, client.cookies[settings.SESSION_COOKIE_NAME].value):
        assert secret not in said


def test_no_task_of_a_rotation_takes_an_argument_or_leaves_a_result():
    for task in (tasks.sweep_rotations, tasks.watch_secrets):
        assert not inspect.signature(task.run).parameters
        assert task.ignore_result
    assert app.conf.task_ignore_result
