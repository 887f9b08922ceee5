"""An aborted rotation leaves the old keys in use, and nothing of the new ones."""

from typing import Any

import pytest

from audit.models import Entry
from brokers.credentials import SECRET_COLUMNS, load_credentials, open_credential
from brokers.models import Credential
from cerbero.errors import (
    BadInput,
    CannotDecrypt,
    EnvironmentMismatch,
    NotFound,
    PermissionMissing,
    ScopeMissing,
    StateConflict,
)
from cerbero.tool import TOOLS, call
from keyrotation.models import Rotation
from tests.brokers.logins import events
from tests.rig import run_together


def test_the_new_private_halves_are_destroyed_and_their_fingerprints_kept(desk):
    started = desk.start()
    aborted = desk.abort(started.rotation)
    row = Credential.objects.select_related("login").get(pk=started.rotation.credential_id)
    assert (aborted.status, row.status) == ("aborted", "destroyed")
    assert aborted.ended_at is not None
    assert {bytes(getattr(row, column)) for column in SECRET_COLUMNS} == {b""}
    assert row.signature_fingerprint == started.signature.fingerprint
    with pytest.raises(CannotDecrypt):
        open_credential(row)


def test_the_old_set_stays_in_use(desk):
    before = load_credentials(desk.login)
    desk.abort(desk.start().rotation)
    assert load_credentials(desk.login) == before


def test_after_it_another_rotation_may_begin(desk):
    first = desk.start()
    desk.abort(first.rotation)
    second = desk.start()
    assert second.signature.fingerprint != first.signature.fingerprint


def test_both_ends_stand_in_the_trail_with_the_reason(desk):
    desk.abort(desk.start().rotation, reason="wrong day")
    assert events("rotation", "credential")[-2:] == ["rotation.aborted", "credential.destroyed"]
    assert Entry.objects.get(event="rotation.aborted").details["reason"] == "wrong day"


def test_it_is_aborted_once(desk):
    rotation = desk.start().rotation
    desk.abort(rotation)
    with pytest.raises(StateConflict):
        desk.abort(rotation)


def test_of_two_aborts_at_once_one_wins(lasting_desk):
    rotation = lasting_desk.start().rotation
    results = run_together(*[lambda: lasting_desk.abort(rotation)] * 3)
    assert sum(isinstance(each, StateConflict) for each in results) == 2, results
    assert Entry.objects.filter(event="credential.destroyed").count() == 1


def test_keys_in_use_cannot_be_aborted(desk):
    rotation = desk.start().rotation
    for status in ("registered", "proven", "active"):
        Rotation.objects.filter(pk=rotation.pk).update(status=status)
    with pytest.raises(StateConflict):
        desk.abort(rotation)
    assert open_credential(Credential.objects.select_related("login").get(pk=rotation.credential_id))


def test_what_was_registered_while_it_was_looked_at_is_not_destroyed(desk, monkeypatch):
    rotation = desk.start().rotation

    def meanwhile(seen):
        Rotation.objects.filter(pk=seen.pk).update(status="registered")

    monkeypatch.setattr("keyrotation.services._require_another_set", meanwhile)
    with pytest.raises(StateConflict):
        desk.abort(rotation)
    assert Rotation.objects.get(pk=rotation.pk).status == "registered"
    assert open_credential(Credential.objects.select_related("login").get(pk=rotation.credential_id))


def test_when_the_entry_cannot_be_written_nothing_is_destroyed(desk, monkeypatch):
    rotation = desk.start().rotation

    def away(*_, **__):
        raise ConnectionError("the trail cannot be written")

    monkeypatch.setattr("cerbero.lifecycle.record_change", away)
    with pytest.raises(ConnectionError):
        desk.abort(rotation)
    assert Rotation.objects.get(pk=rotation.pk).status == "generated"
    assert open_credential(Credential.objects.select_related("login").get(pk=rotation.credential_id))


def test_who_may_not_is_refused(desk):
    rotation = desk.start().rotation
    for actor, refusal in (
        (desk.bob, PermissionMissing),
        (desk.bot("orders:write"), ScopeMissing),
        (desk.bot("rotation:admin", environment="live"), EnvironmentMismatch),
    ):
        with pytest.raises(refusal):
            desk.abort(rotation, actor)
    with pytest.raises(BadInput):
        desk.abort(rotation, reason=" ")
    with pytest.raises(NotFound):
        desk.abort(Rotation(), desk.carol)
    assert Rotation.objects.get(pk=rotation.pk).status == "generated"


def test_the_tool_aborts_and_says_so(desk):
    rotation = desk.start().rotation
    arguments = {"rotation_id": str(rotation.pk), "reason": "wrong day"}
    answer: Any = call(TOOLS["abort_rotation"], desk.bot("rotation:admin"), arguments)
    assert (answer.rotation_id, answer.login, answer.status) == (rotation.pk, "desk", "aborted")
