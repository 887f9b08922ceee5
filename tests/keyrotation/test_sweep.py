"""The sweep: one rotation's trouble is told, ends in a person's hands, and keeps no other waiting."""

import pytest
from django.db import OperationalError
from django.db.models.functions import Now

from brokers.credentials import complete_credential, store_credential
from brokers.models import Credential, Login
from cerbero.errors import CredentialMissing, SessionExpired
from keyrotation import proving, sweep
from keyrotation.models import Rotation
from keyrotation.next_step import next_step
from keyrotation.rows import FAILURES_MAX
from tests.brokers.logins import SYSTEM, events
from tests.keyrotation.keys import PRIME, old_pairs

ISSUED = {"consumer_key": "NEWKEYSET", "access_token": "0123456789abcdef0123"}


def registered(desk, login=None) -> Rotation:
    rotation = desk.start(login_id=(login or desk.login).pk).rotation
    Rotation.objects.filter(pk=rotation.pk).update(status="registered", registered_at=Now())
    return rotation


def swept() -> None:
    Rotation.objects.update(next_try_at="2026-01-01T00:00:00Z")
    sweep.sweep(SYSTEM)


@pytest.mark.parametrize("trouble", [RuntimeError("a slip of ours"), CredentialMissing(login="desk")])
def test_what_nobody_thought_of_stops_after_some_tries_and_keeps_no_other_waiting(desk, monkeypatch, trouble):
    signature, encryption = old_pairs()
    keys = {"signature_key_pem": signature.private_pem, "encryption_key_pem": encryption.private_pem}
    other = Login.objects.create(name="other", environment="paper")
    issued = {"consumer_key": "OTHERKEYS", "access_token": "other", "access_token_secret": "b3RoZXI="}
    store_credential(actor=SYSTEM, login=other, dh_prime=PRIME, **keys, **issued)
    first, second = registered(desk), registered(desk, other)
    seen = []

    def prove(actor, rotation):
        seen.append(rotation.pk)
        if rotation.pk == first.pk:
            raise trouble

    monkeypatch.setattr("keyrotation.sweep.prove", prove)
    for _ in range(FAILURES_MAX):
        assert Rotation.objects.get(pk=first.pk).stopped_at is None
        swept()
    stopped = Rotation.objects.get(pk=first.pk)
    assert (stopped.status, bool(stopped.stopped_at), bool(stopped.problem)) == ("registered", True, True)
    assert "a slip of ours" not in stopped.problem
    assert seen.count(second.pk) == FAILURES_MAX
    assert events("rotation.stopped") == ["rotation.stopped"]


def test_a_database_that_is_away_is_no_failure_of_the_rotation(desk, monkeypatch):
    rotation = registered(desk)

    def prove(actor, rotation):
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr("keyrotation.sweep.prove", prove)
    with pytest.raises(OperationalError):
        swept()
    assert Rotation.objects.get(pk=rotation.pk).failures == 0


@pytest.mark.parametrize("answer", [None, SessionExpired("invalid consumer")])
@pytest.mark.parametrize("meanwhile", ["entered", "aborted"])
def test_what_the_broker_said_of_another_entry_is_not_taken_for_this_one(
    desk, monkeypatch, answer, meanwhile
):
    rotation = registered(desk)

    def while_it_is_asked(staged):
        if meanwhile == "aborted":
            # By a door that has asked the broker already.
            monkeypatch.setattr("keyrotation.services._require_another_set", lambda seen: None)
            desk.abort(rotation)
        else:
            row = Credential.objects.select_related("login").get(rotation=rotation)
            complete_credential(row, actor=SYSTEM, access_token_secret="bmV3", **ISSUED)
        return answer

    monkeypatch.setattr(proving, "_try", while_it_is_asked)
    monkeypatch.setattr(proving, "set_in_use_opens", lambda login: False)
    assert proving.prove(SYSTEM, rotation) is False
    row = Rotation.objects.get(pk=rotation.pk)
    assert row.status == ("aborted" if meanwhile == "aborted" else "registered")
    assert (row.problem, row.dark_since, row.request) == ("", None, None)


def test_who_is_asked_is_told_only_of_ways_out_that_there_are(desk):
    rotation = registered(desk)
    rotation.stopped_at = rotation.created_at
    for status, way in (("registered", "abort"), ("active", "put the old set back")):
        rotation.status = status
        assert f"try again or {way}." in next_step(rotation).what
