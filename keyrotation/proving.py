"""The canary: a set that is registered and not in use opens a session of its own, and reads.

The broker may activate keys only after its nightly reset, some days later at worst (ibkr-web-api.md §1.1): until
then the answer is the same as for a wrong key, so it is asked again, later and later, and never swapped early.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction

from brokers.models import Credential
from brokers.proving import set_in_use_opens, try_keys
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero import decisions, leases, plain
from cerbero.access import Actor
from cerbero.errors import BrokerRejected, BrokerUnavailable, CannotDecrypt, SessionExpired
from cerbero.models import DecisionRequest, Environment
from keyrotation.lifecycle import Kind, Mode, RotationStatus
from keyrotation.models import Rotation
from keyrotation.rows import enter, go_on, grows_dark, grows_light, locked, move, postpone, stop

LIVE = Environment.LIVE
KIND, GROUP = "rotation", "Administrator"
# How long people have for the yes; after that the set is proven and asked for anew.
ASK_SECONDS = 24 * 3600
FIRST_WAIT_SECONDS, WAIT_SECONDS_MAX = 15, 1800
# Two weeks are the longest that anybody reported; a wrong entry is told from a slow broker only by time.
WAIT_MAX = timedelta(days=15)
# What a mint says that no waiting mends: the secret cannot be opened, or is another token's.
HOPELESS = {"unusable_keys", "token_mismatch", "bad_dh_response"}
HOPELESS_TRIES = 3
RESET_ZONE, RESET_HOUR = ZoneInfo("America/New_York"), 1


def prove(actor: Actor, rotation: Rotation) -> bool:
    """One look with the new set; true when it is proven. Whatever is not, is written in the row with its next try."""
    staged = Credential.objects.select_related("login").get(rotation=rotation)
    try:
        token_error = _try(staged)
        old_works = set_in_use_opens(rotation.login)
    except BrokerUnavailable as problem:
        postpone(rotation, FIRST_WAIT_SECONDS, f"The broker cannot be asked now: {problem.message}")
        return False
    except (BrokerRejected, CannotDecrypt) as problem:
        with transaction.atomic(durable=True):
            if row := _still(rotation, staged):
                stop(actor, row, problem.message)
        return False
    if old_works and not _session_runs(rotation):
        # This mint ended it, or something else did: its keeper shall not wait for the next tickle to find out.
        session_lost(rotation.login, actor)
    with transaction.atomic(durable=True):
        row = _still(rotation, staged)
        if row is None:
            return False
        if token_error is None:
            _proven(actor, row, old_works)
        else:
            _not_yet(actor, row, token_error, old_works)
    return token_error is None


def next_reset(now: datetime) -> datetime:
    """The broker's next nightly reset: about 01:00 of the region (gates.md §8)."""
    local = now.astimezone(RESET_ZONE)
    reset = local.replace(hour=RESET_HOUR, minute=0, second=0, microsecond=0)
    return (reset if reset > local else reset + timedelta(days=1)).astimezone(UTC)


def _try(staged: Credential) -> SessionExpired | None:
    try:
        try_keys(staged)
    except SessionExpired as refused:
        return refused
    return None


def _still(rotation: Rotation, tried: Credential) -> Rotation | None:
    """The row under lock; None where something else was entered, or it was ended, while the broker was asked."""
    row = locked(rotation.pk)
    now = row.credential
    is_same = now is not None and bytes(now.access_token_secret) == bytes(tried.access_token_secret)
    return row if is_same else None


def _session_runs(rotation: Rotation) -> bool:
    try:
        with broker_for(rotation.login) as broker:
            return broker.session_status().is_up
    except (SessionExpired, BrokerRejected):
        return False


def _proven(actor: Actor, row: Rotation, old_works: bool) -> None:
    mode = Mode.BLACKOUT if not old_works else Mode.TOKEN_ONLY if row.kind == Kind.TOKEN else Mode.OVERLAP
    (grows_light if old_works else grows_dark)(actor, row)
    if row.status == RotationStatus.PROVEN:
        # Nobody answered in time, or the set was tried again: it still works, so people are asked anew.
        go_on(actor, row)
        Rotation.objects.filter(pk=row.pk).update(mode=mode)
    else:
        move(actor, row, RotationStatus.PROVEN, {"mode": str(mode)}, mode=mode)
    row.mode = mode
    Rotation.objects.filter(pk=row.pk).update(request=_ask(actor, row))


def _not_yet(actor: Actor, row: Rotation, refused: SessionExpired, old_works: bool) -> None:
    said = str(refused.details.get("broker_says") or refused.message)
    is_hopeless = refused.details.get("reason") in HOPELESS
    now = leases.database_now()
    (grows_light if old_works else grows_dark)(actor, row)
    if is_hopeless and row.failures + 1 >= HOPELESS_TRIES:
        stop(actor, row, f"{refused.message} Enter what the portal shows again, or abort.")
    elif row.registered_at and now - row.registered_at > WAIT_MAX:
        stop(actor, row, f"The broker has not taken the new set for {WAIT_MAX.days} days: {said}")
    else:
        postpone(row, _pause(row.failures, now), f"The broker does not take the new set yet: {said}")
        enter(actor, row, "rotation.not_proven", {"broker_says": said, "old_set_works": old_works})


def _pause(failures: int, now: datetime) -> float:
    """Later and later, but right after the nightly reset, when keys become valid."""
    seconds = min(FIRST_WAIT_SECONDS * 2 ** min(failures, 10), WAIT_SECONDS_MAX)
    until_reset = (next_reset(now) - now).total_seconds() + 60
    return min(seconds, until_reset)


def digest_of(facts: dict[str, Any]) -> str:
    """What a yes is bound to: this set, for this login, found in this mode."""
    return hashlib.sha256(plain.dumps(dict(sorted(facts.items()))).encode()).hexdigest()


def digest_now(rotation: Rotation, request: DecisionRequest) -> str:
    """The digest of what the swap would do now; where the broker has ended the old set since, the yes still counts."""
    return digest_of(_facts(rotation) | {"mode": request.facts["mode"]})


def _facts(rotation: Rotation) -> dict[str, Any]:
    login, new = rotation.login, rotation.credential
    old = login.credentials.filter(status=Credential.Status.ACTIVE).first()
    return {
        "environment": login.environment,
        "login": login.name,
        "rotation": str(rotation.pk),
        "kind": str(rotation.kind),
        "mode": str(rotation.mode),
        "old_signature_fingerprint": old.signature_fingerprint if old else "",
        "new_signature_fingerprint": new.signature_fingerprint if new else "",
        "credential": str(rotation.credential_id),
        "new_consumer_key": new.consumer_key if new else "",
    }


def _ask(actor: Actor, rotation: Rotation) -> DecisionRequest:
    """Put the swap to people; on a live login to somebody who is not behind it."""
    login, facts = rotation.login, _facts(rotation)
    if rotation.request is not None:
        decisions.withdraw(rotation.request, actor=actor)
    return decisions.ask(
        actor=actor,
        subject_kind=KIND,
        subject_id=rotation.pk,
        summary=f"Swap the {'token' if rotation.kind == Kind.TOKEN else 'keys'} of {login.name}",
        digest=digest_of(facts),
        facts=facts,
        quorum=1,
        group=GROUP,
        seconds=ASK_SECONDS,
        excluded_user_ids=rotation.asked_by_ids if login.environment == LIVE else [],
    )
