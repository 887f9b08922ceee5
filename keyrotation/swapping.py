"""The swap, the proof after it, the way back, and the end of the old set.

    hold new orders → wait until nothing is in flight → mint with the new set → one transaction swaps → prove → release

A process that dies before the swap's commit leaves the old set in use, one that dies after it the new one with its
token: either opens the login at every instant. The hold ends by the clock, and the sweep goes on from the row.
"""

import logging
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from brokers.base import SessionToken
from brokers.credentials import destroy_credential, use_credential
from brokers.holding import hold_sending, release_sending
from brokers.models import Credential, Login
from brokers.proving import prove_in_use, set_in_use_opens, try_keys
from brokers.services import seal
from brokers.sessions import Turn, look_now, session_turn
from cerbero import decisions, leases
from cerbero.access import Actor
from cerbero.errors import (
    BrokerError,
    BrokerRejected,
    BrokerUnavailable,
    CannotDecrypt,
    NotFound,
    SessionExpired,
    StateConflict,
)
from cerbero.leases import ClockTime
from cerbero.people import profile
from keyrotation.lifecycle import Mode, RotationStatus
from keyrotation.models import Rotation
from keyrotation.proving import digest_now
from keyrotation.rows import RETRY_SECONDS, enter, failed, locked, move, old_set_ended, postpone
from keyrotation.services import PERMISSION, reason_of
from orders.lifecycle import UNSETTLED, AttemptStatus
from orders.models import Attempt, ChangeAttempt
from orders.trading import require_permission

log = logging.getLogger(__name__)

# How long orders may wait for a swap: the longest drain, the swap and its proof together.
HOLD_SECONDS = 25.0
DRAIN_SECONDS = 8.0
DRAIN_LOOK_SECONDS = 0.05
# Not quiet in time: orders flow again for so long before the next try.
BREATHER_SECONDS = 20
PROOF_SECONDS = 15.0
# Of the session's turn: a process that died in it keeps nobody away for longer.
TURN_SECONDS, TURN_WAIT_SECONDS = 30.0, 5.0
GRACE = timedelta(days=7)
# The broker has answered, and does not take the set; BrokerUnavailable says nothing about it.
REFUSED = (SessionExpired, BrokerRejected, CannotDecrypt)


def swap(actor: Actor, rotation: Rotation) -> bool:
    """Put a proven set, that people said yes to, in use, and prove it; true when it is in use and holds.

    Raises LeaseLost when the login's session is somebody else's for longer than a moment.
    """
    login, request = rotation.login, rotation.request
    if request is None:
        return False
    with session_turn(login, actor, TURN_SECONDS, TURN_WAIT_SECONDS) as turn:
        hold_sending(login, actor=actor, seconds=HOLD_SECONDS, because="its keys are being swapped")
        try:
            token = _mint(actor, rotation) if _drained(rotation) else None
            if token is not None and _put_in_use(turn, rotation, token):
                return _settle(turn, rotation)
            if not is_quiet(rotation):
                _wait_for_quiet(actor, rotation)
            return False
        finally:
            release_sending(login, actor=actor)


def settle(actor: Actor, rotation: Rotation) -> bool:
    """Prove a set that was swapped in by a process that did not come so far; true when it holds."""
    with session_turn(rotation.login, actor, TURN_SECONDS, TURN_WAIT_SECONDS) as turn:
        return _settle(turn, rotation)


def roll_back(actor: Actor, rotation: Rotation, why: str) -> bool:
    """Put the old set back where the broker still honours it, and destroy the new one; true when it is in use.

    Raises StateConflict when there is no way back: retired, ended, swapped again since, or the broker does not
    take the old set. BrokerUnavailable when it cannot be asked. LeaseLost.
    """
    with session_turn(rotation.login, actor, TURN_SECONDS, TURN_WAIT_SECONDS) as turn:
        row = Rotation.objects.select_related("login", "credential", "previous").get(pk=rotation.pk)
        old = _way_back(row)
        try:
            try_keys(old)
        except REFUSED as problem:
            words = f"The broker does not take the old set: putting it back would lock this login out. {problem.message}"
            raise StateConflict(words) from None
        return _roll_back(turn, row, why)


def retire(actor: Actor, rotation: Rotation) -> None:
    """Destroy the old set: its ciphertexts are overwritten, its fingerprints stay.

    Raises StateConflict when the new one is not proven in use, or does not open the login now; BrokerUnavailable.
    """
    rotation.refresh_from_db()
    is_next = rotation.status == RotationStatus.ACTIVE and rotation.settled_at is not None
    if is_next and not set_in_use_opens(rotation.login):
        raise StateConflict("The keys in use do not open the login now; the old ones are kept until they do.")
    with transaction.atomic(durable=True):
        row = locked(rotation.pk)
        if row.settled_at is None:
            raise StateConflict("The new set is not proven in use yet; the old one stays until then.")
        old = row.previous
        if old is not None and old.status == Credential.Status.RETIRED:
            destroy_credential(old, actor=actor)
        fingerprint = old.signature_fingerprint if old else ""
        move(actor, row, RotationStatus.RETIRED, {"destroyed": fingerprint}, ended_at=Now())


def roll_back_rotation(*, actor: Actor, rotation_id: UUID, reason: str) -> None:
    """A person puts the old set back, at once and alone: it is the set that was in use before.

    Raises PermissionMissing or SignInRequired, NotFound, BadInput (no reason), StateConflict where there is no
    way back, or LeaseLost while the session is being worked on.
    """
    actor.require_session()
    require_permission(actor, PERMISSION)
    rotation = Rotation.objects.select_related("login").filter(pk=rotation_id).first()
    if rotation is None:
        raise NotFound(rotation_id=str(rotation_id))
    roll_back(actor, rotation, reason_of(reason))


def retire_rotation(*, actor: Actor, rotation_id: UUID) -> None:
    """A person ends the grace: the old set is destroyed now. Raises as `roll_back_rotation` does."""
    actor.require_session()
    require_permission(actor, PERMISSION)
    rotation = Rotation.objects.filter(pk=rotation_id).first()
    if rotation is None:
        raise NotFound(rotation_id=str(rotation_id))
    retire(actor, rotation)


def is_quiet(rotation: Rotation) -> bool:
    """No attempt of the login is with the broker, or perhaps with it.

    Where the broker has ended the old set only the new one can find out about a doubt: there, none is waited for.
    """
    open_states = {AttemptStatus.SENT} if rotation.mode == Mode.BLACKOUT else UNSETTLED
    login = rotation.login
    amends = ChangeAttempt.objects.filter(account__login=login, kind="amend", status__in=open_states)
    attempts = Attempt.objects.filter(ticket__account__login=login, status__in=open_states)
    return not attempts.exists() and not amends.exists()


def _drained(rotation: Rotation) -> bool:
    deadline = time.monotonic() + DRAIN_SECONDS
    while not is_quiet(rotation):
        if time.monotonic() > deadline:
            return False
        time.sleep(DRAIN_LOOK_SECONDS)
    return True


def _wait_for_quiet(actor: Actor, rotation: Rotation) -> None:
    """Orders flow again for a while; unless the old set died since the canary, which nothing but the swap mends."""
    try:
        old_works = set_in_use_opens(rotation.login)
    except BrokerUnavailable:
        old_works = True
    if not old_works:
        old_set_ended(actor, rotation)
    words = "An order's outcome is not known yet; orders flow, and the swap is tried again."
    postpone(rotation, BREATHER_SECONDS if old_works else 0, words, is_failure=False)


def _mint(actor: Actor, rotation: Rotation) -> SessionToken | None:
    staged = Credential.objects.select_related("login").get(rotation=rotation)
    try:
        return try_keys(staged)
    except (BrokerError, CannotDecrypt) as problem:
        failed(actor, rotation, f"The new set no longer opens a session: {problem.message}")
        return None


def _put_in_use(turn: Turn, rotation: Rotation, token: SessionToken) -> bool:
    """The swap: one transaction under the login's lock, which is looked at again inside. False when it must wait."""
    sealed = seal(rotation.login, "session_token", token.secret)
    with transaction.atomic(durable=True):
        _bound_locks()
        leases.check(*turn.held)
        row = locked(rotation.pk)
        Login.objects.select_for_update().get(pk=row.login_id)
        if row.status != RotationStatus.PROVEN or row.request is None or row.credential is None:
            raise StateConflict(kind="rotation", id=str(row.pk), status=row.status)
        if not profile.still_serves(row.request):
            raise StateConflict("The profile is another by now; the swap must be asked for again.")
        if not is_quiet(row):
            return False
        decisions.consume(row.request, actor=turn.actor, digest=digest_now(row, row.request))
        before = use_credential(
            row.credential, actor=turn.actor, session_token=sealed, expires_at=token.expires_at
        )
        move(
            turn.actor,
            row,
            RotationStatus.ACTIVE,
            {"mode": row.mode},
            previous=before,
            swapped_at=ClockTime(),
        )
    rotation.refresh_from_db()
    return True


def _settle(turn: Turn, rotation: Rotation) -> bool:
    """The proof after the swap. What does not hold in time is rolled back, where the broker still takes the old set."""
    leases.renew(*turn.held, TURN_SECONDS)
    try:
        prove_in_use(turn, time.monotonic() + PROOF_SECONDS)
    except (BrokerError, CannotDecrypt, TimeoutError) as problem:
        words = problem.message if isinstance(problem, BrokerError | CannotDecrypt) else "It took too long."
        log.warning("the swap did not prove itself", extra={"login": rotation.login.name, "why": words})
        _undo(turn, rotation, words)
        return False
    with transaction.atomic(durable=True):
        row = locked(rotation.pk)
        rows = Rotation.objects.filter(pk=row.pk, status=RotationStatus.ACTIVE, settled_at=None)
        changes = {"settled_at": Now(), "retire_at": ClockTime() + GRACE, "problem": "", "failures": 0}
        if rows.update(**changes, dark_until=ClockTime() if row.dark_since else None):
            details: dict[str, Any] = {"proven": "session, read, what-if and stream"}
            if row.dark_since:
                details["dark_seconds"] = round((leases.database_now() - row.dark_since).total_seconds())
            enter(turn.actor, row, "rotation.settled", details)
    return True


def _undo(turn: Turn, rotation: Rotation, why: str) -> None:
    """Back to the old set, but never to one that the broker has ended: the new one may be the last that it will take."""
    row = Rotation.objects.select_related("login", "credential", "previous").get(pk=rotation.pk)
    try:
        try_keys(_way_back(row))
    except BrokerUnavailable:
        postpone(row, RETRY_SECONDS, f"The new set is not proven in use yet: {why}", is_failure=False)
    except REFUSED:
        old_set_ended(turn.actor, row)
        failed(turn.actor, row, f"The new set does not hold, and the broker has ended the old one: {why}")
    else:
        _roll_back(turn, row, why)


def _way_back(row: Rotation) -> Credential:
    """The set that was in use before. Raises StateConflict when it cannot be again."""
    new, old = row.credential, row.previous
    if new is None or old is None or row.status != RotationStatus.ACTIVE:
        raise StateConflict(kind="rotation", id=str(row.pk), status=row.status)
    if (new.status, old.status) != (Credential.Status.ACTIVE, Credential.Status.RETIRED):
        raise StateConflict("There is no way back: the old set is destroyed, or another one is in use.")
    return Credential.objects.select_related("login").get(pk=old.pk)


def _roll_back(turn: Turn, rotation: Rotation, why: str) -> bool:
    with transaction.atomic(durable=True):
        _bound_locks()
        leases.check(*turn.held)
        row = locked(rotation.pk)
        use_credential(_way_back(row), actor=turn.actor)
        new = Credential.objects.get(rotation=row)
        destroy_credential(new, actor=turn.actor)
        move(
            turn.actor, row, RotationStatus.ROLLED_BACK, {"why": why[:300]}, ended_at=Now(), problem=why[:300]
        )
    look_now(turn)
    return True


def _bound_locks() -> None:
    """Senders wait for the login's row while this runs: a stuck swap is ended by the database itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '5s', true), "
            "set_config('idle_in_transaction_session_timeout', '5s', true)"
        )
