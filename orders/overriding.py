"""Letting one ticket pass a limit that refused it: a named person proposes it again, and signs why (docs/limits.md).

The refused ticket stays refused, as every end is an end. What is made is a ticket of its own, with the same terms and
the same proposer, which people must decide on; the override stands in what they are asked (orders/overrides.py).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from audit.services import record
from cerbero import leases
from cerbero.access import Actor, user_of
from cerbero.errors import (
    DigestMismatch,
    NotFound,
    OverrideRefused,
    PermissionMissing,
    ReasonRequired,
    RiskRefused,
    SelfApproval,
    StateConflict,
)
from cerbero.models import User
from cerbero.people import profile
from cerbero.people.announcing import announce
from cerbero.people.models import PersonChange
from orders import overrides, recheck, risk, services, tickets, trading
from orders.canonical import MORE_TERMS, TERMS, plain, ticket_digest
from orders.facts import Facts, as_seen, check_order, find_account, gather_for, worth
from orders.lifecycle import TicketStatus
from orders.limit_table import BY_NAME
from orders.models import Order, Ticket
from orders.risk import Check

# A refused ticket is as old as its reasons: later it is proposed anew.
WINDOW = timedelta(hours=1)
# How much worse than what is seen now a value may be that is signed. More than that is a change of limits.
HEADROOM = Decimal("1.25")


def refused_by(actor: Actor, ticket: Ticket) -> list[Check]:
    """The checks that this ticket fails now, for the page. Raises as a proposal does where nothing can be looked at."""
    account = find_account(actor, ticket.account.broker_account_id)
    facts = gather_for(account, ticket.first_order)
    return risk.failed(check_order(facts, *_copy(ticket, facts).legs, group=ticket.group))


def refused_lately() -> int:
    """How many tickets a limit refused that are young enough to be let pass, and were not."""
    since = leases.database_now() - WINDOW
    rows = Ticket.objects.filter(
        status=TicketStatus.DENIED, refusal_code=RiskRefused.code, ended_at__gt=since
    )
    return rows.exclude(refusal__has_key="override_ticket_id").count()


def worst(checks: Iterable[Check]) -> dict[str, Check]:
    """Of the failed checks those that may be overridden, by code; of several legs the one that is furthest past."""
    found: dict[str, Check] = {}
    for check in sorted((each for each in checks if each.over is not None), key=lambda each: each.over or 0):
        if BY_NAME[check.code].is_lifted:
            found[check.code] = check
    return found


def why_not(ticket: Ticket) -> str:
    """Why no limit is overridden for this ticket, as a sentence; empty where one may be."""
    if ticket.status != TicketStatus.DENIED or ticket.refusal_code != RiskRefused.code or ticket.reduce_only:
        return "Only a ticket that a limit refused is let pass."
    if overridden_by(ticket) is not None:
        return "It has been proposed again already, once and no more."
    if ticket.ended_at is None or leases.database_now() - ticket.ended_at > WINDOW:
        return "It was refused more than an hour ago; have it proposed anew."
    if profile.sole() is not None:
        return "Under the sole operator's profile no limit is overridden: change the limit, with its delay."
    return _why_proposer_may_not(ticket)


def overridden_by(ticket: Ticket) -> Ticket | None:
    """The ticket that was made of a refused one."""
    return Ticket.objects.filter(
        account=ticket.account_id,
        bot=ticket.bot_id,
        person=ticket.person_id,
        idempotency_key=_key(ticket),
    ).first()


def override_limits(
    *, actor: Actor, ticket_id: UUID, digest: str, ceilings: Mapping[str, Decimal], reason: str
) -> Ticket:
    """Propose a refused ticket again, to pass the limits named in `ceilings` up to these values.

    It waits for one more decision than the policy asks for; the first is the overrider's own, signed on a live account.
    Raises SignInRequired, PermissionMissing, NotFound, SelfApproval, OverrideRefused, ReasonRequired, DigestMismatch,
    RiskRefused (for what is not named, or cannot be), PolicyRefused, or as a proposal does; then nothing is kept.
    """
    with tickets.decided_on_record(actor, ticket_id, is_yes=True):
        actor.require_session()
        trading.require_permission(actor, overrides.PERMISSION)
        person = user_of(actor)
        if person is None:
            raise PermissionMissing("Only a signed-in person overrides a limit.")
        if not reason.strip():
            raise ReasonRequired("Say why this ticket may pass a limit; everybody reads it.")
        with transaction.atomic(durable=True):
            refused = (
                Ticket.objects.select_for_update(of=("self",))
                .select_related("account", "bot__owner", "person", "request")
                .filter(pk=ticket_id)
                .first()
            )
            if refused is None:
                raise NotFound(ticket_id=str(ticket_id))
            if refused.digest != digest:
                raise DigestMismatch
            if why := why_not(refused):
                raise OverrideRefused(why)
            return _open(actor, person, refused, ceilings, reason.strip()[:500])


def _open(
    actor: Actor, person: User, refused: Ticket, ceilings: Mapping[str, Decimal], reason: str
) -> Ticket:
    facts = gather_for(find_account(actor, refused.account.broker_account_id), refused.first_order)
    services.require_ready(actor, facts)
    made = _copy(refused, facts)
    if made.digest != refused.digest:
        raise StateConflict("The account is not the one that this ticket was refused on.")
    checks = check_order(facts, *made.legs, group=made.group)
    said = {
        "limits": _signed_limits(checks, ceilings),
        "by": person.username,
        "by_id": str(person.pk),
        "reason": reason,
        "ticket": str(refused.pk),
    }
    seen = as_seen(facts, made.first_order, checks, made) | {overrides.MARK: said}
    made.request = tickets.ask_people(actor, made, facts, made.first_order, seen)
    if person.pk in made.request.excluded_user_ids:
        raise SelfApproval
    if not person.groups.filter(name=made.request.group).exists():
        raise PermissionMissing(group=made.request.group)
    tickets.insert(actor, made, "ticket.proposed")
    record("override.proposed", actor=actor, subject_kind="ticket", subject_id=made.pk, details=said)
    refusal = refused.refusal | {
        "override_ticket_id": str(made.pk),
        "override_order_id": str(made.legs[0].pk),
    }
    Ticket.objects.filter(pk=refused.pk).update(refusal=refusal)
    passes = f"{overrides.passes(said)}: {tickets.told(made)} on {made.account}"
    announce(f"{person} asks to pass a limit ({passes}), because: {reason}"[:300])
    return made


def _signed_limits(checks: list[Check], ceilings: Mapping[str, Decimal]) -> list[dict[str, str]]:
    """The limits that are passed, each with the value of now and the ceiling; nothing that fails is left out."""
    found = worst(risk.failed(checks))
    if not ceilings or ceilings.keys() - found.keys():
        raise OverrideRefused(
            "Name limits that refuse it now, and that may be overridden.", may=sorted(found)
        )
    for code, most in ceilings.items():
        value = found[code].over or Decimal(0)
        if not most.is_finite() or not value <= most <= value * HEADROOM:
            raise OverrideRefused(
                "A ceiling is no less than the value of now, and at most a quarter more.",
                limit=code,
                value=plain(value),
            )
    lifted = {code: risk.Ceiling(found[code].limit, most) for code, most in ceilings.items()}
    if left := risk.failed(risk.lift(checks, lifted)):
        raise RiskRefused(checks=[check.as_json() for check in left])
    return [_as_signed(found[code], most) for code, most in ceilings.items()]


def _as_signed(check: Check, most: Decimal) -> dict[str, str]:
    words = {"code": check.code, "name": check.name, "limit": check.limit, "value": check.value}
    return words | {"ceiling": plain(most) or ""}


def _copy(refused: Ticket, facts: Facts) -> Ticket:
    """The same terms by the same proposer, as rows that are not stored yet."""
    made = Ticket(
        account=facts.account,
        bot=refused.bot,
        person=refused.person,
        idempotency_key=_key(refused),
        group=refused.group,
        reason=refused.reason,
        tag=refused.tag,
        counter_of=refused.counter_of,
        notional_currency=facts.account.currency,
        # Whom its first question barred, the next one bars, too.
        request=refused.request,
    )
    made.legs = [_leg(made, leg, facts) for leg in refused.legs]
    made.notional = worth(facts, made.legs, made.group)
    made.digest = ticket_digest(made, facts.account, made.legs)
    return made


def _leg(made: Ticket, leg: Order, facts: Facts) -> Order:
    terms: dict[str, Any] = {name: getattr(leg, name) for name in (*TERMS, *MORE_TERMS)}
    mid = facts.market.mid
    return Order(ticket=made, number=leg.number, instrument=facts.instrument, reference_price=mid, **terms)


def _key(refused: Ticket) -> str:
    # With a space, which no caller's key has.
    return f"override of {refused.pk}"


def _why_proposer_may_not(ticket: Ticket) -> str:
    """The copy is younger than what befell its proposer since the first was proposed: that is looked at here."""
    try:
        recheck.look_at_proposer(ticket)
    except recheck.Denied as refusal:
        return f"Whoever proposed it may not any more: {refusal.code.replace('_', ' ')}."
    moved = PersonChange.objects.filter(
        kind=PersonChange.Kind.OWNER, terms__bot=str(ticket.bot_id), applied_at__gte=ticket.created_at
    )
    return "The bot has another owner since; have it proposed anew." if moved.exists() else ""
