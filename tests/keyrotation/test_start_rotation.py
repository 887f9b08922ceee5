"""New keys exist, encrypted and in nobody's use; nothing of them is seen anywhere."""

import json
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.db import InterfaceError, OperationalError, connection

from audit.models import Entry
from brokers.credentials import SECRET_COLUMNS, fingerprint, load_credentials, open_credential
from brokers.generation import GROUP_14_PRIME
from brokers.ibkr.oauth import private_key
from brokers.models import Credential, Login
from cerbero.errors import (
    BadInput,
    CannotDecrypt,
    CredentialMissing,
    EnvironmentMismatch,
    NotFound,
    PermissionMissing,
    RotationOpen,
    ScopeMissing,
)
from cerbero.tool import TOOLS, call
from keyrotation.models import Rotation
from keyrotation.services import Prime
from tests.brokers.logins import SYSTEM, events
from tests.keyrotation.keys import PRIME
from tests.keyrotation.test_swap import lose_the_database
from tests.rig import run_together


def staged(desk) -> Credential:
    return Credential.objects.select_related("login").get(login=desk.login, status="staged")


def test_new_keys_are_staged_and_the_old_set_stays_in_use(desk):
    before = load_credentials(desk.login)
    started = desk.start()
    assert started.rotation.status == "generated"
    assert started.rotation.credential == staged(desk)
    assert load_credentials(desk.login) == before
    assert Login.objects.get(pk=desk.login.pk).state == desk.login.state


def test_the_public_halves_belong_to_the_stored_private_ones(desk):
    started = desk.start()
    row, keys = staged(desk), open_credential(staged(desk))
    for public, pem, stored in (
        (started.signature, keys.signature_key_pem, row.signature_fingerprint),
        (started.encryption, keys.encryption_key_pem, row.encryption_fingerprint),
    ):
        key = private_key(pem)
        assert load_pem_public_key(public.pem.encode()) == key.public_key()
        assert key.key_size == 2048
        assert public.fingerprint == fingerprint(pem) == stored
    assert started.signature.fingerprint != started.encryption.fingerprint


@pytest.mark.parametrize(("prime", "wanted"), [(Prime.CURRENT, PRIME), (Prime.GROUP_14, GROUP_14_PRIME)])
def test_the_prime_is_the_one_that_was_chosen(desk, prime, wanted):
    desk.start(prime=prime)
    assert open_credential(staged(desk)).dh_prime == int(wanted, 16)


def test_the_known_prime_is_a_safe_prime_of_2048_bits():
    prime = int(GROUP_14_PRIME, 16)
    half = (prime - 1) // 2
    assert prime.bit_length() == 2048
    # Fermat's test, with a base of its own for each.
    assert pow(2, prime - 1, prime) == pow(3, half - 1, half) == 1


def test_a_ciphertext_cannot_be_moved_to_another_row(desk):
    desk.start()
    row = staged(desk)
    Credential.objects.filter(pk=row.pk).update(signature_key=desk.active.signature_key)
    with pytest.raises(CannotDecrypt):
        open_credential(staged(desk))


def test_every_step_stands_in_the_trail(desk):
    desk.start()
    assert events("rotation", "credential")[-3:] == [
        "rotation.requested",
        "credential.stored",
        "rotation.generated",
    ]
    entry = Entry.objects.filter(event="rotation.requested").get()
    assert (entry.actor_name, entry.details["reason"]) == ("carol", "yearly")


def test_a_second_open_rotation_is_refused(desk):
    desk.start()
    with pytest.raises(RotationOpen):
        desk.start()
    assert Credential.objects.filter(login=desk.login, status="staged").count() == 1


def test_of_two_starts_at_once_one_wins(lasting_desk):
    results = run_together(*[lasting_desk.start] * 4)
    refused = [each for each in results if isinstance(each, RotationOpen)]
    assert len(refused) == 3, results
    assert Rotation.objects.count() == 1
    assert Credential.objects.filter(status="staged").count() == 1


def test_a_login_without_keys_has_nothing_to_replace(desk):
    Credential.objects.filter(pk=desk.active.pk).update(status="retired")
    with pytest.raises(CredentialMissing):
        desk.start()


def test_an_unknown_login_and_a_missing_reason_are_refused(desk):
    with pytest.raises(NotFound):
        desk.start(login_id=desk.active.pk)
    with pytest.raises(BadInput):
        desk.start(reason="  ")


def test_who_may_not_is_refused_before_anything_is_read(desk):
    nobody = desk.active.pk
    for actor, refusal in (
        (desk.bob, PermissionMissing),
        (SYSTEM, PermissionMissing),
        (desk.bot("orders:write"), ScopeMissing),
    ):
        with pytest.raises(refusal):
            desk.start(actor)
        with pytest.raises(refusal):
            desk.start(actor, login_id=nobody)
    assert not Rotation.objects.exists()


def test_a_bots_token_reaches_logins_of_its_own_environment_only(desk):
    with pytest.raises(EnvironmentMismatch):
        desk.start(desk.bot("rotation:admin", environment="live"))
    assert desk.start(desk.bot("rotation:admin")).rotation.requested_by == "ops"


def test_the_tool_answers_with_the_public_halves(desk):
    bot = desk.bot("rotation:admin")
    answer: Any = call(TOOLS["start_rotation"], bot, {"login": "desk", "reason": "yearly"})
    row = staged(desk)
    assert answer.signature_key.fingerprint == row.signature_fingerprint
    assert answer.encryption_key.fingerprint == row.encryption_fingerprint
    with pytest.raises(NotFound):
        call(TOOLS["start_rotation"], bot, {"login": "other", "reason": "yearly"})


def test_a_connection_that_ends_between_the_keys_and_the_commit_leaves_nothing(lasting_desk, monkeypatch):
    """A process that is killed there is played by `make rotation-faults`: to the database it is the same."""
    monkeypatch.setattr("keyrotation.rows.transition", lose_the_database)
    with pytest.raises((OperationalError, InterfaceError)):
        lasting_desk.start()
    monkeypatch.undo()
    connection.close()
    assert not Rotation.objects.exists()
    assert Credential.objects.get().status == "active"
    assert lasting_desk.start().rotation.status == "generated"


def test_no_private_key_is_seen_in_answers_entries_logs_or_reprs(desk, caplog):
    caplog.set_level(logging.DEBUG)
    started = desk.start()
    answer: Any = call(
        TOOLS["abort_rotation"],
        desk.bot("rotation:admin"),
        {"rotation_id": str(started.rotation.pk), "reason": "test"},
    )
    again: Any = call(
        TOOLS["start_rotation"], desk.bot("rotation:admin"), {"login": "desk", "reason": "once more"}
    )
    keys = open_credential(staged(desk))
    seen = "\n".join(
        [
            repr(started) + repr(keys) + repr(started.rotation.__dict__) + repr(staged(desk)),
            answer.model_dump_json() + again.model_dump_json(),
            json.dumps(list(Entry.objects.values_list("details", flat=True))),
            caplog.text,
        ]
    )
    assert again.signature_key.pem.strip().splitlines()[1] in seen.replace("\\n", "\n")
    for pem in (keys.signature_key_pem, keys.encryption_key_pem):
        for line in pem.decode().splitlines()[1:-1]:
            assert line not in seen
    assert "PRIVATE KEY" not in seen


def test_nothing_is_stored_in_clear(desk):
    desk.start()
    keys, row = open_credential(staged(desk)), staged(desk)
    stored = b"".join(bytes(getattr(row, column)) for column in SECRET_COLUMNS)
    assert len(stored) > len(keys.signature_key_pem) + len(keys.encryption_key_pem)
    assert b"PRIVATE KEY" not in stored
    for pem in (keys.signature_key_pem, keys.encryption_key_pem):
        assert pem[100:200] not in stored
        assert private_key(pem).private_numbers().p.to_bytes(128, "big") not in stored
