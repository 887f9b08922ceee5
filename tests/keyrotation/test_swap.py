"""From what the portal shows to keys in use: proven before, swapped at once, proven after, and back when it fails."""

import itertools
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now

from brokers.credentials import load_credentials, open_credential
from brokers.models import Account, Credential, Instrument, Login
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero.errors import CannotDecrypt, SelfApproval, StateConflict
from cerbero.models import Bot, Lease
from keyrotation import services
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation
from keyrotation.rows import FAILURES_MAX
from keyrotation.swapping import retire, roll_back, roll_back_rotation
from orders.models import Attempt
from tests.brokers.logins import events
from tests.keyrotation.portal import NEW_KEY, SWEEPER, Portal
from tests.orders.world import put_order


def lose_the_database(*_, **__) -> None:
    """The server ends this very connection, in the middle of its transaction, as it does when it restarts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def is_usable(portal: Portal) -> bool:
    with broker_for(portal.login) as broker:
        return broker.session_status().is_up


@pytest.mark.parametrize(("kind", "mode"), [(Kind.KEYS, "overlap"), (Kind.TOKEN, "token_only")])
def test_a_set_is_proven_confirmed_swapped_and_proven_again(portal, kind, mode):
    old = portal.in_use()
    rotation = portal.proven(kind)
    assert (rotation.mode, portal.in_use(), is_usable(portal)) == (mode, old, True)

    portal.sweep()
    assert portal.now(rotation).status == "proven", "nothing is swapped before somebody has said yes"

    portal.say(rotation)
    before = load_credentials(portal.login)
    portal.sweep()
    rotation, after = portal.now(rotation), load_credentials(portal.login)
    assert rotation.status == "active", rotation.problem
    assert before.access_token != after.access_token, "whoever reads next meets the new set"
    assert (after.consumer_key == NEW_KEY) == (kind == Kind.KEYS)
    assert rotation.settled_at, rotation.problem
    assert (portal.in_use(), rotation.previous) == (rotation.credential, old)
    assert (portal.state, is_usable(portal)) == ("up", True)
    login = Login.objects.get(pk=portal.login.pk)
    assert login.held_until is None
    assert events("login.held", "login.released", "rotation.") == [
        "rotation.requested",
        "rotation.generated",
        "rotation.registered",
        "rotation.proven",
        "login.held",
        "rotation.activated",
        "rotation.settled",
        "login.released",
    ]


def test_the_old_set_is_destroyed_after_the_grace_and_its_fingerprints_stay(portal):
    rotation = portal.swapped()
    old = rotation.previous
    portal.sweep()
    assert portal.now(rotation).status == "active"
    Rotation.objects.filter(pk=rotation.pk).update(retire_at=portal.login.state_changed_at)
    portal.sweep()
    assert portal.now(rotation).status == "retired"
    row = Credential.objects.select_related("login").get(pk=old.pk)
    assert (row.status, bytes(row.signature_key), bytes(row.access_token_secret)) == ("destroyed", b"", b"")
    assert row.signature_fingerprint == old.signature_fingerprint
    with pytest.raises(CannotDecrypt):
        open_credential(row)
    with pytest.raises(StateConflict):
        roll_back(SWEEPER, portal.now(rotation), "too late")
    assert is_usable(portal)


def test_a_set_that_passes_the_proof_and_then_fails_is_swapped_back_by_itself(portal):
    old = portal.in_use()
    rotation = portal.swapped(refuses="/iserver/|/tickle")
    assert rotation.status == "rolled_back"
    assert rotation.problem
    assert (portal.in_use(), portal.state, is_usable(portal)) == (old, "up", True)
    assert rotation.credential.status == "destroyed"
    assert Login.objects.get(pk=portal.login.pk).held_until is None


def test_a_person_puts_the_old_set_back_until_it_is_retired(portal):
    old = portal.in_use()
    rotation = portal.swapped()
    roll_back_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="the desk asked")
    assert (portal.now(rotation).status, portal.in_use(), portal.state) == ("rolled_back", old, "up")
    with pytest.raises(StateConflict):
        roll_back_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="again")


def test_a_swap_that_died_before_its_proof_is_proven_by_the_next_sweep(portal, monkeypatch):
    rotation = portal.proven()
    portal.say(rotation)
    monkeypatch.setattr("keyrotation.swapping._settle", lambda *_: True)
    portal.sweep()
    assert (portal.now(rotation).status, portal.now(rotation).settled_at) == ("active", None)
    assert is_usable(portal), "the token of the new set came with the swap"
    with pytest.raises(StateConflict, match="not proven in use"):
        retire(SWEEPER, portal.now(rotation))
    monkeypatch.undo()
    portal.sweep()
    assert portal.now(rotation).settled_at


def test_a_database_that_goes_away_in_the_swap_leaves_the_old_set_and_the_next_sweep_goes_on(
    portal, monkeypatch
):
    old, rotation = portal.in_use(), portal.proven()
    portal.say(rotation)
    monkeypatch.setattr("keyrotation.swapping.use_credential", lose_the_database)
    with pytest.raises((OperationalError, InterfaceError)):
        portal.sweep()
    monkeypatch.undo()
    connection.close()
    waiting = portal.now(rotation)
    assert (waiting.status, waiting.request.status, portal.in_use()) == ("proven", "approved", old)
    assert (waiting.failures, is_usable(portal)) == (0, True)
    # What the process held ends by the clock.
    Lease.objects.update(expires_at=Now())
    portal.sweep()
    assert portal.now(rotation).settled_at


def test_keys_that_wait_for_the_night_are_asked_for_again_and_never_swapped_early(portal):
    portal.sim.config(activation_seconds=3600)
    rotation = portal.registered()
    for _ in range(3):
        portal.sweep()
    waiting = portal.now(rotation)
    assert (waiting.status, waiting.failures, waiting.stopped_at) == ("registered", 3, None)
    assert "invalid consumer" in waiting.problem
    assert waiting.next_try_at > waiting.registered_at
    assert is_usable(portal)
    portal.sim.control("POST", "/_sim/night_reset", {})
    portal.sweep()
    assert portal.now(rotation).status == "proven"


def test_where_saving_ends_the_old_set_the_rotation_is_a_blackout_that_is_measured(portal):
    portal.sim.config(save_replaces=True, activation_seconds=3600)
    rotation = portal.registered()
    portal.sweep()
    assert portal.now(rotation).dark_since
    portal.sim.control("POST", "/_sim/night_reset", {})
    portal.sweep()
    assert portal.now(rotation).mode == "blackout"
    portal.say(rotation)
    portal.sweep()
    lit = portal.now(rotation)
    assert (lit.status, portal.state) == ("active", "up")
    assert lit.dark_since < lit.dark_until


def test_where_a_mint_ends_the_running_session_the_old_set_brings_it_up_again(portal):
    portal.sim.config(mint_ends_session=True)
    rotation = portal.proven()
    assert rotation.mode == "overlap"
    assert portal.state == "expired"
    portal.say(rotation)
    portal.sweep()
    assert (portal.now(rotation).status, portal.state) == ("active", "up")


def test_a_secret_that_fits_the_keys_but_not_the_token_is_told_from_a_slow_broker_only_by_time(portal):
    old = portal.in_use()
    rotation = portal.registered(misfit=True)
    portal.sweep()
    assert (portal.now(rotation).status, portal.in_use()) == ("registered", old)
    Rotation.objects.filter(pk=rotation.pk).update(registered_at="2026-01-01T00:00:00Z")
    portal.sweep()
    stopped = portal.now(rotation)
    assert stopped.stopped_at
    portal.sweep()
    assert portal.now(rotation).failures == stopped.failures, "it asks a person, and does nothing"
    portal.sim.config(activation_seconds=3600)
    portal.register(rotation)
    portal.sweep()
    assert portal.now(rotation).stopped_at is None, "what is entered anew may take as long again"
    portal.sim.control("POST", "/_sim/night_reset", {})
    portal.sweep()
    assert portal.now(rotation).status == "proven"


def test_keys_of_another_username_are_not_taken(portal):
    for number, account in enumerate(Account.objects.filter(login=portal.login)):
        Account.objects.filter(pk=account.pk).update(broker_account_id=f"U{number}")
    rotation = portal.registered()
    portal.sweep()
    assert portal.now(rotation).status == "registered"
    assert "another username" in portal.now(rotation).problem


def test_on_a_live_login_whoever_is_behind_it_does_not_confirm_it(portal, monkeypatch):
    monkeypatch.setattr("keyrotation.proving.LIVE", "paper")
    rotation = portal.proven()
    with pytest.raises(SelfApproval):
        portal.say(rotation, actor=portal.carol)
    portal.say(rotation, actor=portal.dora)
    portal.sweep()
    assert portal.now(rotation).status == "active"


def test_a_no_ends_it_and_destroys_the_new_set(portal):
    rotation = portal.proven()
    portal.say(rotation, is_yes=False, reason="not today")
    ended = portal.now(rotation)
    assert (ended.status, ended.credential.status, is_usable(portal)) == ("aborted", "destroyed", True)


def test_a_yes_that_came_too_late_is_asked_for_again_after_another_proof(portal, monkeypatch):
    rotation = portal.proven()
    portal.say(rotation)
    monkeypatch.setattr("keyrotation.sweep.Now", lambda: Now() + timedelta(days=2))
    portal.sweep()
    monkeypatch.undo()
    again = portal.now(rotation)
    assert (again.status, again.request.status) == ("proven", "pending")
    assert again.request_id != rotation.request_id


def test_an_order_in_flight_is_waited_for(portal, monkeypatch):
    monkeypatch.setattr("keyrotation.swapping.DRAIN_SECONDS", 0.1)
    monkeypatch.setattr("keyrotation.swapping.is_quiet", lambda rotation: False)
    rotation = portal.proven()
    portal.say(rotation)
    portal.sweep()
    waiting = portal.now(rotation)
    assert (waiting.status, waiting.request.status, waiting.failures) == ("proven", "approved", 0)
    assert Login.objects.get(pk=portal.login.pk).held_until is None
    monkeypatch.undo()
    portal.sweep()
    assert portal.now(rotation).status == "active"


def test_a_refusal_that_was_met_by_the_old_keys_says_nothing_of_the_new_session(portal):
    rotation = portal.swapped()
    session_lost(portal.login, SWEEPER, rotation.previous.pk)
    assert portal.state == "up"
    session_lost(portal.login, SWEEPER, rotation.credential.pk)
    assert portal.state == "expired"


def dark(portal, **more):
    """Proven, while the broker has ended the old set on Save."""
    portal.sim.config(save_replaces=True)
    rotation = portal.proven(**more)
    assert (rotation.mode, bool(rotation.dark_since)) == ("blackout", True)
    return rotation


def doubt(portal) -> None:
    """An order of the login whose outcome nobody knows yet."""
    desk = SimpleNamespace(
        account=Account.objects.filter(login=portal.login).first(),
        bot=Bot.objects.create(name="scanner-alpha", owner_id=portal.dora.id, environment="paper"),
        aapl=Instrument.objects.create(symbol="AAPL"),
        keys=itertools.count(1),
    )
    put_order(desk, sent_ago=timedelta(0))
    for status in ("sent", "in_doubt"):
        Attempt.objects.update(status=status)


def test_in_the_dark_a_doubt_that_only_the_new_set_can_settle_keeps_nobody_waiting(portal):
    rotation = dark(portal)
    portal.say(rotation)
    doubt(portal)
    portal.sweep()
    assert Attempt.objects.get().status == "in_doubt"
    assert (portal.now(rotation).status, portal.state) == ("active", "up")


def test_a_doubt_holds_the_swap_up_until_the_old_set_dies_of_it(portal, monkeypatch):
    monkeypatch.setattr("keyrotation.swapping.DRAIN_SECONDS", 0.1)
    rotation = portal.proven()
    portal.say(rotation)
    doubt(portal)
    portal.sweep()
    assert (portal.now(rotation).status, portal.now(rotation).mode) == ("proven", "overlap")
    portal.revoke(portal.in_use())
    portal.sweep()
    assert (portal.now(rotation).status, portal.now(rotation).mode) == ("proven", "blackout")
    portal.sweep()
    assert (portal.now(rotation).status, portal.state) == ("active", "up")


def test_the_last_set_that_the_broker_takes_is_neither_aborted_nor_refused(portal):
    rotation = dark(portal)
    with pytest.raises(StateConflict, match="only one"):
        services.abort_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="wrong day")
    with pytest.raises(StateConflict, match="only one"):
        portal.say(rotation, is_yes=False, reason="not today")
    assert portal.now(rotation).request.status == "pending"
    portal.say(rotation)
    portal.sweep()
    assert portal.state == "up"


def test_what_has_stopped_as_hopeless_can_be_aborted_in_the_dark_too(portal):
    rotation = dark(portal)
    Rotation.objects.filter(pk=rotation.pk).update(stopped_at=rotation.created_at)
    services.abort_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="its keys cannot be read")
    assert portal.now(rotation).status == "aborted"


def test_a_failing_set_is_kept_where_the_old_one_has_died_since_the_canary(portal):
    rotation = portal.proven(refuses="/iserver/|/tickle")
    portal.say(rotation)
    portal.revoke(portal.in_use())
    portal.sweep()
    kept = portal.now(rotation)
    assert (kept.status, kept.mode, kept.credential.status) == ("active", "blackout", "active")
    assert "has ended the old one" in kept.problem
    with pytest.raises(StateConflict, match="lock this login out"):
        roll_back_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="the desk asked")
    assert portal.now(rotation).previous.status == "retired"


def test_the_old_set_is_not_destroyed_while_the_new_one_opens_nothing(portal):
    rotation = portal.swapped()
    portal.revoke(portal.in_use())
    with pytest.raises(StateConflict, match="kept until they do"):
        retire(SWEEPER, portal.now(rotation))
    Rotation.objects.filter(pk=rotation.pk).update(retire_at=portal.login.state_changed_at)
    portal.sweep()
    waiting = portal.now(rotation)
    assert (waiting.status, waiting.previous.status) == ("active", "retired")
    roll_back_rotation(actor=portal.carol, rotation_id=rotation.pk, reason="the new set was revoked")
    assert (portal.state, is_usable(portal)) == ("up", True)


def test_a_login_that_grows_light_again_is_not_called_dark_for_ever(portal):
    portal.sim.config(activation_seconds=3600)
    rotation = portal.registered()
    Rotation.objects.filter(pk=rotation.pk).update(dark_since=rotation.created_at)
    portal.sweep()
    assert portal.now(rotation).dark_since is None
    assert "rotation.grew_light" in events("rotation.")


def test_a_set_that_dies_before_its_swap_is_tried_a_few_times_and_then_a_person_is_asked(portal):
    old = portal.in_use()
    rotation = portal.proven()
    portal.say(rotation)
    portal.revoke(rotation.credential)
    for _ in range(FAILURES_MAX):
        assert portal.now(rotation).stopped_at is None
        portal.sweep()
    stopped = portal.now(rotation)
    assert (stopped.status, bool(stopped.stopped_at), stopped.failures) == ("proven", True, FAILURES_MAX)
    assert (portal.in_use(), portal.state, is_usable(portal)) == (old, "up", True)
