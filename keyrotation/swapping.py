"""The swap, the proof after it, the way back, and the end of the old set.

    hold new orders → wait until nothing is in flight → mint with the new set → one transaction swaps → prove → release

A process that dies before the swap's commit leaves the old set in use, one that dies after it the new one with its
token: either opens the login at every instant. The hold ends by the clock, and the sweep goes on from the row.
"""

import logging
import time
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from brokers.base import SessionToken
from brokers.credentials import destroy_credential, use_credential
from brokers.holding import hold_sending, release_sending
from brokers.models import Credential, Login
from brokers.proving import prove_in_use, try_keys
from brokers.services import seal
from brokers.sessions import Turn, look_now, session_turn
from cerbero import decisions, leases
from cerbero.access import Actor
from cerbero.errors import BrokerError, CannotDecrypt, NotFound, StateConflict
from cerbero.leases import ClockTime
from keyrotation.lifecycle import Mode, RotationStatus
from keyrotation.models import Rotation
from keyrotation.rows import enter, locked, move, postpone, stop
from keyrotation.services import PERMISSION, reason_of
from orders.lifecycle import UNSETTLED
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
RETRY_SECONDS, FAILURES_MAX = 15, 5
GRACE = timedelta(days=7)


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
            token = _mint(actor, rotation) if _drained(login) else None
            if token is not None and _put_in_use(turn, rotation, token):
                return _settle(turn, rotation)
            if not is_quiet(login):
                words = "An order's outcome is not known yet; orders flow, and the swap is tried again."
                postpone(rotation, BREATHER_SECONDS, words, is_failure=False)
            return False
        finally:
            release_sending(login, actor=actor)


def settle(actor: Actor, rotation: Rotation) -> bool:
    """Prove a set that was swapped in by a process that did not come so far; true when it holds."""
    with session_turn(rotation.login, actor, TURN_SECONDS, TURN_WAIT_SECONDS) as turn:
        return _settle(turn, rotation)


def roll_back(actor: Actor, rotation: Rotation, why: str) -> bool:
    """Put the old set back where the broker still honours it, and destroy the new one; true when it is in use.

    Raises StateConflict when there is no way back: retired, ended, or swapped again since. LeaseLost.
    """
    with session_turn(rotation.login, actor, TURN_SECONDS, TURN_WAIT_SECONDS) as turn:
        return _roll_back(turn, rotation, why)


def retire(actor: Actor, rotation: Rotation) -> None:
    """Destroy the old set: its ciphertexts are overwritten, its fingerprints stay. Raises StateConflict."""
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


def is_quiet(login: Login) -> bool:
    """No attempt of the login is with the broker, or perhaps with it."""
    amends = ChangeAttempt.objects.filter(account__login=login, kind="amend", status__in=UNSETTLED)
    attempts = Attempt.objects.filter(ticket__account__login=login, status__in=UNSETTLED)
    return not attempts.exists() and not amends.exists()


def _drained(login: Login) -> bool:
    deadline = time.monotonic() + DRAIN_SECONDS
    while not is_quiet(login):
        if time.monotonic() > deadline:
            return False
        time.sleep(DRAIN_LOOK_SECONDS)
    return True


def _mint(actor: Actor, rotation: Rotation) -> SessionToken | None:
    staged = Credential.objects.select_related("login").get(rotation=rotation)
    try:
        return try_keys(staged)
    except (BrokerError, CannotDecrypt) as problem:
        _failed(actor, rotation, f"The new set no longer opens a session: {problem.message}")
        return None


def _put_in_use(turn: Turn, rotation: Rotation, token: SessionToken) -> bool:
    """The swap: one transaction under the login's lock, which is looked at again inside. False when it must wait."""
    sealed = seal(rotation.login, "session_token", token.secret)
    with transaction.atomic(durable=True):
        _bound_locks()
        leases.check(*turn.held)
        row = locked(rotation.pk)
        login = Login.objects.select_for_update().get(pk=row.login_id)
        if row.status != RotationStatus.PROVEN or row.request is None or row.credential is None:
            raise StateConflict(kind="rotation", id=str(row.pk), status=row.status)
        if not is_quiet(login):
            return False
        decisions.consume(row.request, actor=turn.actor, digest=row.request.digest)
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
    """The proof after the swap. What does not hold in time is rolled back, unless the broker ended the old set."""
    leases.renew(*turn.held, TURN_SECONDS)
    try:
        prove_in_use(turn, time.monotonic() + PROOF_SECONDS)
    except (BrokerError, CannotDecrypt, TimeoutError) as problem:
        words = problem.message if isinstance(problem, BrokerError | CannotDecrypt) else "It took too long."
        log.warning("the swap did not prove itself", extra={"login": rotation.login.name, "why": words})
        if rotation.mode == Mode.BLACKOUT:
            _failed(turn.actor, rotation, f"The new set does not hold, and the old one is gone: {words}")
        else:
            _roll_back(turn, rotation, words)
        return False
    with transaction.atomic(durable=True):
        row = locked(rotation.pk)
        rows = Rotation.objects.filter(pk=row.pk, status=RotationStatus.ACTIVE, settled_at=None)
        changes = {"settled_at": Now(), "retire_at": ClockTime() + GRACE, "problem": "", "failures": 0}
        if rows.update(**changes, dark_until=ClockTime() if row.dark_since else None):
            enter(turn.actor, row, "rotation.settled", {"proven": "session, read, what-if and stream"})
    return True


def _roll_back(turn: Turn, rotation: Rotation, why: str) -> bool:
    with transaction.atomic(durable=True):
        _bound_locks()
        leases.check(*turn.held)
        row = locked(rotation.pk)
        new, old = row.credential, row.previous
        if new is None or old is None or row.status != RotationStatus.ACTIVE:
            raise StateConflict(kind="rotation", id=str(row.pk), status=row.status)
        if (new.status, old.status) != (Credential.Status.ACTIVE, Credential.Status.RETIRED):
            raise StateConflict("There is no way back: the old set is destroyed, or another one is in use.")
        use_credential(old, actor=turn.actor)
        new.refresh_from_db()
        destroy_credential(new, actor=turn.actor)
        move(
            turn.actor, row, RotationStatus.ROLLED_BACK, {"why": why[:300]}, ended_at=Now(), problem=why[:300]
        )
    look_now(turn)
    return True


def _failed(actor: Actor, rotation: Rotation, why: str) -> None:
    """Tried again a few times; then a person is asked."""
    rotation.refresh_from_db()
    postpone(rotation, RETRY_SECONDS, why)
    if rotation.failures + 1 >= FAILURES_MAX:
        with transaction.atomic(durable=True):
            stop(actor, rotation, why)


def _bound_locks() -> None:
    """Senders wait for the login's row while this runs: a stuck swap is ended by the database itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '5s', true), "
            "set_config('idle_in_transaction_session_timeout', '5s', true)"
        )
