"""What comes next, done: each unfinished rotation is moved on by one step, from whatever its row says.

The row is the queue. A step that a crash cut off is found here again; one that must wait says until when.
"""

import logging

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from brokers import primes
from brokers.generation import new_pair
from cerbero import leases
from cerbero.access import Actor
from cerbero.errors import BrokerError, CerberoError, LeaseLost, StateConflict
from cerbero.leases import ClockTime
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import profile
from keyrotation.lifecycle import RotationStatus
from keyrotation.models import Rotation
from keyrotation.proving import digest_now, prove
from keyrotation.rows import failed, locked, postpone
from keyrotation.services import stage_pairs
from keyrotation.swapping import retire, settle, swap

log = logging.getLogger(__name__)

# Longer than a step can take; of a worker that died it frees the rotation by the clock.
LEASE_SECONDS = 35
SEARCH_SECONDS = 2.0
UNEXPECTED_SECONDS = 30
UNEXPECTED = "Cerbero failed in this step; the worker's log says how."


def sweep(actor: Actor) -> int:
    """One step for every rotation that is due; returns how many there were. One's trouble keeps no other waiting."""
    due = Rotation.objects.unfinished().filter(stopped_at=None, next_try_at__lte=Now())
    rotations = list(due.select_related("login", "credential", "request").order_by("next_try_at"))
    for rotation in rotations:
        try:
            with leases.lease(f"rotation:{rotation.pk}", LEASE_SECONDS):
                advance(actor, rotation)
        except LeaseLost:
            continue
        except (BrokerError, StateConflict) as problem:
            log.warning("rotation of %s waits: %s", rotation.login.name, problem.code)
            postpone(rotation, UNEXPECTED_SECONDS, problem.message, is_failure=False)
        except CerberoError as problem:
            log.warning("rotation of %s fails: %s", rotation.login.name, problem.code)
            failed(actor, rotation, problem.message)
        except (OperationalError, InterfaceError):
            # The database is away: what was done stands in the row, and the next sweep reads it.
            raise
        except Exception:
            log.exception("rotation of %s failed", rotation.login.name)
            failed(actor, rotation, UNEXPECTED)
    return len(rotations)


def advance(actor: Actor, rotation: Rotation) -> None:
    """The next step of one rotation, if it is ours to take and not a person's."""
    rotation.refresh_from_db()
    status = rotation.status
    if status == RotationStatus.REQUESTED:
        _generate(actor, rotation)
    elif status == RotationStatus.REGISTERED or (status == RotationStatus.PROVEN and _is_stale(rotation)):
        prove(actor, rotation)
    elif status == RotationStatus.PROVEN and _is_approved(rotation):
        swap(actor, rotation)
    elif status == RotationStatus.ACTIVE and rotation.settled_at is None:
        settle(actor, rotation)
    elif status == RotationStatus.ACTIVE and _is_over(rotation):
        retire(actor, rotation)


def _generate(actor: Actor, rotation: Rotation) -> None:
    """Search for a prime of our own for a while; once it is found, the pairs are made and staged with it."""
    prime, tried = primes.search(SEARCH_SECONDS)
    Rotation.objects.filter(pk=rotation.pk).update(primes_tried=F("primes_tried") + tried)
    if prime is None:
        return
    pairs = (new_pair(), new_pair())
    with transaction.atomic(durable=True):
        row = locked(rotation.pk)
        if row.status == RotationStatus.REQUESTED:
            stage_pairs(actor, row, pairs, prime)


def _is_approved(rotation: Rotation) -> bool:
    request = rotation.request
    return request is not None and request.status == DecisionStatus.APPROVED


def _is_stale(rotation: Rotation) -> bool:
    """Nobody answered in time, the yes was not used in time, one person stood for two and does no longer, or other keys
    are in use than were shown. It is proven again then, and asked again.
    """
    request = rotation.request
    if (
        request is None
        or not profile.still_serves(request)
        or request.digest != digest_now(rotation, request)
    ):
        return True
    over = Q(expires_at__lte=Now()) | ~Q(status__in=[DecisionStatus.PENDING, DecisionStatus.APPROVED])
    return DecisionRequest.objects.filter(over, pk=request.pk).exists()


def _is_over(rotation: Rotation) -> bool:
    return Rotation.objects.filter(pk=rotation.pk, retire_at__lte=ClockTime()).exists()
