"""Who makes a decision whole: two people, or one sole operator by passkey after a stated delay (docs/sole-operator.md).

The profile is the newest row, proven by a MAC that the database cannot make. Without one, or with one that does not
hold, it is two people: whoever writes rows can only make it stricter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max

from audit.services import record
from cerbero import leases, proofs
from cerbero.access import BOOTSTRAP, SERVER, Actor, user_of
from cerbero.database.compiled import Compiled
from cerbero.errors import BadInput, DelayRunning, PermissionMissing, SignatureMissing, StateConflict
from cerbero.models import DecisionRequest, User
from cerbero.people.announcing import announce
from cerbero.people.models import LiveBar, Profile

# In the facts of each question that was asked under the profile; its proof covers them, and what a passkey signs.
MARK = "sole_operator"
# How long a yes waits: for a ticket, an amendment or a resume, and for whatever stands longer than that.
ORDER_DELAY_SECONDS, CHANGE_DELAY_SECONDS = 60, 3600
_SOON = frozenset({"ticket", "amendment", "resume"})
_BOUNDS = {"order_delay_seconds": (30, 900), "change_delay_seconds": (900, 86_400)}
BARRED_FOR = timedelta(hours=24)


_now = leases.database_now
_NEWEST = Compiled(lambda: Profile.objects.select_related("operator").order_by("-number")[:1])


@dataclass(frozen=True)
class Question:
    """What `decisions.ask` puts to people, as the profile in force has it."""

    facts: dict[str, Any]
    quorum: int
    seconds: int
    excluded: set[UUID]


def sole() -> Profile | None:
    """The sole operator's profile, where it is the one in force; None means two people."""
    row = _NEWEST.first()
    if row is None or row.operator is None or row.kind != Profile.Kind.SOLE_OPERATOR:
        return None
    return row if is_proven(row) and row.operator.is_active else None


def is_proven(row: Profile) -> bool:
    return proofs.holds_body("profile", _body(row), row.proof)


def proof_of(row: Profile) -> str:
    return proofs.of_body("profile", _body(row))


def is_operator(person: User) -> bool:
    row = sole()
    return row is not None and row.operator_id == person.pk


def question(
    kind: str, facts: dict[str, Any], quorum: int, seconds: int, excluded: Iterable[UUID]
) -> Question:
    """As it is asked; under the sole operator's profile one yes, theirs, from a moment that the facts name."""
    row, excluded = sole(), set(excluded)
    if row is None or row.operator_id is None:
        return Question({name: facts[name] for name in facts if name != MARK}, quorum, seconds, excluded)
    delay = row.order_delay_seconds if kind in _SOON else row.change_delay_seconds
    mark = {
        "profile": row.number,
        "operator": str(row.operator_id),
        "not_before": (_now() + timedelta(seconds=delay)).isoformat(),
        # Who may not decide wherever two do: should it be asked again, then.
        "excluded": sorted(map(str, excluded)),
    }
    return Question(facts | {MARK: mark}, 1, seconds + delay, excluded - {row.operator_id})


def is_sole(request: DecisionRequest) -> bool:
    """Whether it was asked under the sole operator's profile."""
    return MARK in request.facts


def not_before(request: DecisionRequest) -> datetime | None:
    """From when on the sole operator's yes counts; None where two people decide."""
    return datetime.fromisoformat(request.facts[MARK]["not_before"]) if is_sole(request) else None


def excluded_by(request: DecisionRequest) -> set[UUID]:
    """Whom the question bars from deciding wherever two people do."""
    return {*request.excluded_user_ids, *map(UUID, request.facts.get(MARK, {}).get("excluded", []))}


def require_counts(request: DecisionRequest, person: User) -> None:
    """A yes to what was asked under the profile: the operator's, in time, and only while it is in force.

    Raises PermissionMissing, StateConflict or DelayRunning; does nothing for what was asked of two people.
    """
    if not is_sole(request):
        return
    if why := why_not(request, person):
        raise PermissionMissing(why)
    if not still_serves(request):
        raise StateConflict("The profile is another by now; what waits must be asked again.")
    counts_from = not_before(request)
    if counts_from is not None and _now() < counts_from:
        raise DelayRunning(not_before=f"{counts_from:%Y-%m-%d %H:%M:%S} UTC")


def require_signed(request: DecisionRequest, *, by_passkey: bool) -> None:
    """Raises SignatureMissing for a yes that the profile wants signed, and that nobody is about to verify."""
    if is_sole(request) and not by_passkey:
        raise SignatureMissing


def why_not(request: DecisionRequest, person: User) -> str:
    """Why the profile keeps this person from saying yes, as a sentence; empty when it does not."""
    if is_sole(request) and request.facts[MARK]["operator"] != str(person.pk):
        return "Only the sole operator decides under this profile."
    return ""


def still_serves(request: DecisionRequest) -> bool:
    """Whether what one person decided still stands for two: only under the very profile that it was asked under."""
    if not is_sole(request):
        return True
    row = sole()
    return row is not None and row.number == request.facts[MARK]["profile"]


def meets(request: DecisionRequest, quorum: int) -> bool:
    """Whether its yeses are as many as `quorum` asks for, or one that still stands for them."""
    return still_serves(request) if is_sole(request) else request.quorum >= quorum


def enter(
    *,
    actor: Actor,
    operator: User,
    order_delay_seconds: int = ORDER_DELAY_SECONDS,
    change_delay_seconds: int = CHANGE_DELAY_SECONDS,
) -> Profile:
    """From now on one person decides, by passkey and after these delays. Only the server's own commands ask for it.

    Whoever it is cannot approve live for a day, so that everybody who was told can look. Runs in the caller's
    transaction. Raises PermissionMissing, BadInput or StateConflict.
    """
    if actor not in {SERVER, BOOTSTRAP}:
        raise PermissionMissing("Only the server's own command enters the sole operator's profile.")
    delays = {"order_delay_seconds": order_delay_seconds, "change_delay_seconds": change_delay_seconds}
    for name, value in delays.items():
        least, most = _BOUNDS[name]
        if not least <= value <= most:
            raise BadInput(f"{name} is between {least} and {most}.")
    groups = set(operator.groups.values_list("name", flat=True))
    if not operator.is_active or {"Administrator", "Approver"} - groups:
        raise BadInput("The sole operator is an active Administrator and Approver; grant that first.")
    row = _write(actor, Profile.Kind.SOLE_OPERATOR, operator=operator, **delays)
    LiveBar.objects.create(person=operator, why="became the sole operator", until=_now() + BARRED_FOR)
    announce(f"The sole operator's profile was entered on the server: {row}.")
    return row


def leave(*, actor: Actor) -> Profile:
    """From now on two people decide. Always possible: by the server's command, or by any Administrator.

    What waits must be asked again, and no mandate that one person signed serves any more. Raises
    PermissionMissing, or StateConflict where it is so already.
    """
    person = user_of(actor)
    if actor != SERVER and not (person and person.groups.filter(name="Administrator").exists()):
        raise PermissionMissing(group="Administrator")
    actor.require_session()
    with transaction.atomic():
        if sole() is None:
            raise StateConflict("Two people decide already.")
        row = _write(actor, Profile.Kind.FOUR_EYES)
        announce(f"Two people decide from now on: {actor.name} left the sole operator's profile.")
    return row


def _write(actor: Actor, kind: str, **fields: Any) -> Profile:
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE people_profile IN SHARE ROW EXCLUSIVE MODE")
    newest = Profile.objects.aggregate(newest=Max("number"))["newest"] or 0
    row = Profile(number=newest + 1, kind=kind, made_by=actor.name, **fields)
    row.proof = proof_of(row)
    row.save(force_insert=True)
    event = "profile.entered" if kind == Profile.Kind.SOLE_OPERATOR else "profile.left"
    record(event, actor=actor, subject_kind="profile", subject_id=row.number, details=_body(row))
    return row


def _body(row: Profile) -> dict[str, Any]:
    return {
        "number": row.number,
        "kind": str(row.kind),
        "operator": str(row.operator_id or ""),
        "order_delay_seconds": row.order_delay_seconds,
        "change_delay_seconds": row.change_delay_seconds,
        "made_by": row.made_by,
    }
