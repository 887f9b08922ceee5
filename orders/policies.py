"""Versions of the policy: proposed by one Administrator, activated by another, all of them kept."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from audit.services import record
from cerbero import decisions
from cerbero.access import Actor, system
from cerbero.database.compiled import Compiled, together
from cerbero.errors import (
    AlreadyDecided,
    BadInput,
    DigestMismatch,
    NotFound,
    NotProven,
    PolicyUnreadable,
    ReasonRequired,
)
from cerbero.lifecycle import transition
from cerbero.models import Decision, DecisionRequest, DecisionStatus
from cerbero.people import signing
from orders import policy, trading
from orders.canonical import digest_of
from orders.facts import Facts, position_met, worth
from orders.groups.relations import is_exit
from orders.lifecycle import POLICY
from orders.models import Order, PolicyVersion, Ticket

# What is settled in advance is not urgent: a day to read it.
STANDING_SECONDS = 86_400
GROUP = "Administrator"
_ONE_AT_A_TIME = 0x0CE5BE51
# One at most: the database holds it.
_ACTIVE = Compiled(
    lambda: PolicyVersion.objects.select_related("request").filter(status=PolicyVersion.Status.ACTIVE)
)
_YESES = Compiled(
    lambda: Decision.objects.filter(is_yes=True, request__policy_version__status=PolicyVersion.Status.ACTIVE)
)
_OVERDUE = Compiled(
    lambda: PolicyVersion.objects.select_related("request").filter(
        status=PolicyVersion.Status.PROPOSED, request__in=DecisionRequest.objects.overdue()
    )
)


def active() -> tuple[PolicyVersion, list[policy.Rule]]:
    """The version in force and its rules. Raises PolicyUnreadable: then nothing is allowed (gates.md G5).

    A database that fails is no policy that is unreadable: its error ends the caller's transaction.
    """
    try:
        versions, yeses = together(_ACTIVE.asked(), _YESES.asked())
        if not versions:
            raise PolicyUnreadable(why="no version is active")
        (version,) = versions
        if version.request is not None:
            version.request.yeses = [each for each in yeses if each.request_id == version.request_id]
        _prove(version)
        return version, policy.read_rules(version.rules)
    except (DigestMismatch, NotProven) as problem:
        raise PolicyUnreadable(why=problem.code) from None
    except (ValueError, TypeError, KeyError) as problem:
        raise PolicyUnreadable(why=type(problem).__name__) from problem


def case_of(ticket: Ticket, order: Order, facts: Facts, rules: Sequence[policy.Rule]) -> policy.Case:
    """A ticket as the rules see it, at this moment. Of a group the exits only take back what its entry opens.

    What it does to the position is read where a rule asks for it: two orders never reduce the same position.
    """
    asks_effect = any(rule.when.effects for rule in rules)
    before = position_met(facts, order) if asks_effect else facts.position
    legs = ticket.legs if ticket.group else [order]
    others = [leg for leg in legs[1:] if not is_exit(ticket.group, leg.number)]
    return policy.Case(
        environment=facts.account.environment,
        account=facts.account.broker_account_id,
        bot=ticket.bot.name if ticket.bot is not None else "",
        asset_class=facts.instrument.asset_class,
        order_type=str(order.order_type),
        effect=policy.effect_of(before, order.side, order.quantity),
        symbol=facts.instrument.symbol,
        notional=worth(facts, legs, ticket.group),
        at=timezone.now(),
        more_types=tuple(str(leg.order_type) for leg in legs[1:]),
        more_effects=tuple(policy.effect_of(before, leg.side, leg.quantity) for leg in others),
    )


def checked(rules: Any) -> list[dict[str, Any]]:
    """Rules in the form in which they are kept. Raises BadInput that names each problem and its place."""
    try:
        read = policy.read_rules(rules)
    except ValidationError as no:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'rules'}: {each['msg']}" for each in no.errors()]
        raise BadInput("These rules are not valid.", problems=problems) from None
    except ValueError as no:
        raise BadInput("These rules are not valid.", problems=[str(no)]) from None
    groups = {rule.then.group for rule in read if isinstance(rule.then, policy.People)}
    may = Group.objects.filter(name__in=groups, permissions__codename="decide_ticket")
    if missing := sorted(groups - set(may.values_list("name", flat=True))):
        raise BadInput(
            "These rules are not valid.",
            problems=[f"the group {name} cannot decide on tickets" for name in missing],
        )
    return [rule.model_dump(mode="json", exclude_none=True) for rule in read]


def propose_policy(*, actor: Actor, rules: Any, reason: str) -> PolicyVersion:
    """Put a new version before another Administrator. Raises PermissionMissing, ReasonRequired or BadInput."""
    actor.require_session()
    trading.require_permission(actor, "orders.propose_policy")
    if not reason.strip():
        raise ReasonRequired("Say what changes and why; whoever activates it reads that.")
    kept = checked(rules)
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        newest = PolicyVersion.objects.aggregate(newest=Max("number"))["newest"] or 0
        number = newest + 1
        version = PolicyVersion(id=uuid7(), number=number, rules=kept, digest=digest_of(_body(number, kept)))
        version.reason, version.proposed_by_id = reason.strip()[:500], actor.id
        version.request = _ask(actor, version)
        version.save(force_insert=True)
        _record("policy.proposed", actor, version, reason=version.reason)
    return version


def decide_policy(
    *,
    actor: Actor,
    version_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> PolicyVersion:
    """Activate a proposed version, or refuse it: never by whoever proposed it. The old one is retired.

    A sole operator, who may, signs it: `assertion` answers `signing.ask`.
    """
    trading.require_permission(actor, "orders.activate_policy")
    with transaction.atomic(durable=True):
        version = PolicyVersion.objects.select_for_update(of=("self",)).filter(pk=version_id).first()
        if version is None or version.request_id is None:
            raise NotFound(version_id=str(version_id))
        if version.status != PolicyVersion.Status.PROPOSED:
            raise AlreadyDecided(status=version.status)
        request = signing.decide(
            actor=actor,
            request_id=version.request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
        )
        if request.status == DecisionStatus.REJECTED:
            _move(version, PolicyVersion.Status.RETIRED, actor, "policy.refused", retired_at=Now())
        elif request.status == DecisionStatus.APPROVED:
            _activate(actor, version, request)
    return version


def expire_overdue(*, actor: Actor) -> None:
    """Retire proposals that nobody decided on in time."""
    for version in _OVERDUE.rows():
        with transaction.atomic(durable=True):
            if version.request is not None:
                decisions.expire(version.request, actor=actor)
            _move(version, PolicyVersion.Status.RETIRED, actor, "policy.expired", retired_at=Now())


def ensure_shipped() -> bool:
    """Version 1, where there is none yet: stated in the trail as the bootstrap's. True when it was made now."""
    if PolicyVersion.objects.exists():
        return False
    rules = _shipped()
    version = PolicyVersion(number=1, rules=rules, digest=digest_of(_body(1, rules)))
    version.status, version.reason = PolicyVersion.Status.ACTIVE, "the shipped policy"
    version.activated_at = timezone.now()
    try:
        with transaction.atomic():
            version.save(force_insert=True)
    except IntegrityError:
        return False
    _record("policy.shipped", system("bootstrap"), version, digest=version.digest)
    return True


def _prove(version: PolicyVersion) -> None:
    """Its rules are those that a second person decided on, or those that this code ships."""
    digest = digest_of(_body(version.number, version.rules))
    if version.request is not None:
        decisions.prove(version.request, digest=digest)
    elif digest != digest_of(_body(1, _shipped())):
        raise DigestMismatch


def _shipped() -> list[dict[str, Any]]:
    return [rule.model_dump(mode="json", exclude_none=True) for rule in policy.read_rules(policy.SHIPPED)]


def _activate(actor: Actor, version: PolicyVersion, request: DecisionRequest) -> None:
    # First, so that a second activation waits here instead of finding two versions active.
    for old in PolicyVersion.objects.select_for_update().filter(status=PolicyVersion.Status.ACTIVE):
        _move(old, PolicyVersion.Status.RETIRED, actor, "policy.retired", retired_at=Now())
    decisions.consume(request, actor=actor, digest=version.digest)
    changes = {"activated_by_id": actor.id, "activated_at": Now()}
    _move(version, PolicyVersion.Status.ACTIVE, actor, "policy.activated", **changes)


def _ask(actor: Actor, version: PolicyVersion) -> DecisionRequest:
    return decisions.ask(
        actor=actor,
        subject_kind="policy",
        subject_id=version.pk,
        summary=f"Policy version {version.number}",
        digest=version.digest,
        facts={"number": version.number, "rules": version.rules, "reason": version.reason},
        quorum=1,
        group=GROUP,
        seconds=STANDING_SECONDS,
        excluded_user_ids=[actor.id] if actor.id else [],
    )


def _move(version: PolicyVersion, to: str, actor: Actor, event: str, **changes: Any) -> None:
    details = {"number": version.number, "digest": version.digest}
    transition(version, to, moves=POLICY, actor=actor, event=event, details=details, **changes)


def _record(event: str, actor: Actor, version: PolicyVersion, **details: Any) -> None:
    told = {"number": version.number, "digest": version.digest, **details}
    record(event, actor=actor, subject_kind="policyversion", subject_id=version.pk, details=told)


def _body(number: int, rules: Any) -> dict[str, Any]:
    return {"number": number, "rules": rules}
