"""Changing limits: what only tightens counts at once, what loosens waits for a second Administrator."""

from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import transaction

from audit.services import record
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.errors import DigestMismatch, PermissionMissing, StateConflict
from cerbero.models import DecisionRequest, DecisionStatus
from cerbero.people import signing
from cerbero.people.announcing import announce
from orders import trading
from orders.canonical import digest_of
from orders.limit_table import LIMITS, common
from orders.models import Limits, LimitSet

KIND = "limit_change"
GROUP = "Administrator"
SECONDS = 86_400
PERMISSION = "orders.change_limits"
_ROWS: dict[str, type[Limits] | type[LimitSet]] = {"limits": Limits, "limitset": LimitSet}
_PICKS = {limit.name: limit.strictest for limit in LIMITS}
_OWN: dict[type[Limits] | type[LimitSet], dict[str, Any]] = {
    Limits: {"cash_tolerance": min},
    LimitSet: {"symbols": common, "accounts": common},
}

Row = Limits | LimitSet


def change_limits(*, actor: Actor, row: Row) -> DecisionRequest | None:
    """Take a row with new values: saved where it only tightens, otherwise put to another Administrator, unsaved.

    A narrower set that is new can only tighten. A row that does not prove itself is put to the other one whole,
    since nobody knows what it stands before. Runs in the caller's transaction.
    """
    trading.require_permission(actor, PERMISSION)
    rows: Any = type(row).objects.select_for_update()
    before = None if row._state.adding else rows.get(pk=row.pk)
    if before is None or (before.is_proven and not loosened(before, row)):
        row.save()
        return None
    return _ask(actor, before, row)


def loosened(before: Row, after: Row) -> list[str]:
    """The limits of which the new value is not the stricter one. Pure."""
    picks = _PICKS | _OWN[type(after)]
    return [
        name for name, pick in picks.items() if _loosens(pick, getattr(before, name), getattr(after, name))
    ]


def decide_limits(
    *,
    actor: Actor,
    request_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> DecisionRequest:
    """The second Administrator's word, or a sole operator's signed one; a yes changes the limits at once.

    Raises what `signing.decide` raises, and StateConflict when one of these limits moved since.
    """
    trading.require_permission(actor, PERMISSION)
    with transaction.atomic(durable=True):
        decisions.asked(KIND, request_id)
        request = signing.decide(
            actor=actor,
            request_id=request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
        )
        if request.status == DecisionStatus.APPROVED:
            _apply(actor, request)
    return request


def _loosens(pick: Any, old: Any, new: Any) -> bool:
    # None and an empty list say nothing, which is the loosest that there is.
    if old is None or old == []:
        return False
    if new is None or new == []:
        return True
    strict = pick([old, new])
    return set(strict) != set(new) if isinstance(new, list) else strict != new


def _ask(actor: Actor, before: Row, after: Row) -> DecisionRequest:
    person = user_of(actor)
    if person is None:
        raise PermissionMissing("Only a signed-in person loosens a limit.")
    names = [
        each for each in _names(after) if not before.is_proven or _text(before, each) != _text(after, each)
    ]
    facts = {
        "kind": str(after._meta.model_name),
        "row": str(after.pk),
        "label": str(after),
        "before": {name: _text(before, name) for name in names},
        "after": {name: _text(after, name) for name in names},
    }
    request = decisions.ask(
        actor=actor,
        subject_kind=KIND,
        subject_id=uuid5(NAMESPACE_URL, f"cerbero:{facts['kind']}:{after.pk}"),
        summary=f"Change {after}"[:200],
        digest=digest_of(facts),
        facts={"change": facts},
        quorum=1,
        group=GROUP,
        seconds=SECONDS,
        excluded_user_ids=[person.pk],
    )
    _record("limits.proposed", actor, facts)
    announce(f"{person} proposes to loosen {after}. It waits for a decision."[:300])
    return request


def _apply(actor: Actor, request: DecisionRequest) -> None:
    facts = request.facts["change"]
    if digest_of(facts) != request.digest:
        raise DigestMismatch
    decisions.consume(request, actor=actor, digest=request.digest)
    model = _ROWS[facts["kind"]]
    row: Any = model.objects.select_for_update().filter(pk=facts["row"]).first()
    moved = row is None or any(_text(row, name) != words for name, words in facts["before"].items())
    # A yes to some values must not make the others ours, where somebody wrote past this program.
    if moved or not (row.is_proven or set(_names(row)) <= facts["before"].keys()):
        raise StateConflict("These limits moved since this was proposed; propose it anew.")
    for name, words in facts["after"].items():
        setattr(row, name, None if words is None else row._meta.get_field(name).to_python(words))
    row.full_clean()
    row.save()
    _record("limits.changed", actor, facts)
    announce(f"Done: {request.summary}, proposed by {request.requested_by}, confirmed by {actor.name}."[:300])


def _names(row: Row) -> list[str]:
    return [*_PICKS, *_OWN[type(row)]]


def _text(row: Row, name: str) -> str | None:
    """A value as it is kept in the question; the same number is the same text, whatever wrote it."""
    value = getattr(row, name)
    if value is None:
        return None
    field: Any = row._meta.get_field(name)
    cleaned = type(row)(**{name: field.to_python(value)})
    words = field.value_to_string(cleaned)
    return f"{field.to_python(words).normalize():f}" if field.get_internal_type() == "DecimalField" else words


def _record(event: str, actor: Actor, facts: dict[str, Any]) -> None:
    details = {name: facts[name] for name in ("label", "before", "after")}
    record(event, actor=actor, subject_kind=facts["kind"], subject_id=facts["row"], details=details)
