"""Mandates: proposed by one person, signed by others, used up order by order, revocable at once."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from itertools import product
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from pydantic import ValidationError
from uuid_utils.compat import uuid7

from audit.services import record
from brokers.base import OrderType, Side
from brokers.models import Account, Instrument
from cerbero import decisions
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Compiled, CompiledUpdate, Given, together
from cerbero.errors import AlreadyDecided, MandateRefused, NotFound, NotProven
from cerbero.lifecycle import transition
from cerbero.models import Bot, DecisionRequest, DecisionStatus
from cerbero.people import profile, signing
from orders import policies, policy, trading
from orders.canonical import digest_of, plain
from orders.lifecycle import MANDATE, AttemptStatus, Group, TicketStatus
from orders.models import Allowance, Mandate, Order, Ticket

_NOTIONAL: Any = Given("notional", Mandate._meta.get_field("used_notional"))
_COVERING = Compiled(
    lambda: (
        Mandate.objects.usable()
        .select_related("account", "request")
        .filter(
            account=Given("account"),
            bot=Given("bot"),
            instrument_ids__contains=Given("instruments"),
            sides__contains=Given("sides"),
            order_types__contains=Given("order_types"),
            order_notional_max__gte=_NOTIONAL,
        )
    )
)
# Its WHERE is the lock and its row count the verdict: of 100 at once for the last 10, 10 pass.
_USE_ONE = CompiledUpdate(
    lambda: Mandate.objects.usable().filter(
        pk=Given("mandate"), used_notional__lte=F("notional_max") - _NOTIONAL
    ),
    used_count=F("used_count") + 1,
    used_notional=F("used_notional") + _NOTIONAL,
)
_OVERDUE = Compiled(
    lambda: Mandate.objects.select_related("request").filter(
        status=Mandate.Status.PROPOSED, request__in=DecisionRequest.objects.overdue()
    )
)
_USED = Allowance.objects.exclude(mandate=None).select_related("ticket__account__login", "mandate")
_ENDED = Compiled(
    lambda: _USED.filter(
        returned_at=None,
        ticket__status__in=[TicketStatus.DONE, TicketStatus.DENIED, TicketStatus.WITHDRAWN],
    )
)
_REVIVED = Compiled(lambda: _USED.filter(returned_at__isnull=False, ticket__status=TicketStatus.SENT))
_ACTIVE = Compiled(
    lambda: Mandate.objects.filter(
        pk=Given("mandate"), status=Mandate.Status.ACTIVE, expires_at__gt=Now()
    ).values_list("pk", flat=True)
)


@dataclass(frozen=True)
class Terms:
    """What a mandate would allow; notionals in the account's currency. Empty hours mean at any hour."""

    account: Account
    bot: Bot
    instruments: tuple[Instrument, ...]
    sides: tuple[Side, ...]
    order_types: tuple[OrderType, ...]
    order_notional_max: Decimal
    notional_max: Decimal
    count_max: int
    expires_at: datetime
    hours: dict[str, Any]
    reason: str


def propose_mandate(*, actor: Actor, terms: Terms) -> Mandate:
    """Ask people to sign a budget. Raises PermissionMissing, MandateRefused or PolicyUnreadable."""
    actor.require_session()
    trading.require_permission(actor, "orders.propose_mandate")
    _require_sense(terms)
    needs = signatures(terms)
    mandate = _build(actor, terms)
    with transaction.atomic(durable=True):
        mandate.request = decisions.ask(
            actor=actor,
            subject_kind="mandate",
            subject_id=mandate.pk,
            summary=summary(mandate),
            digest=mandate.digest,
            facts={"terms": canonical(mandate), "policy": {"rule": needs.rule}},
            quorum=needs.quorum,
            group=needs.group,
            seconds=policies.STANDING_SECONDS,
            excluded_user_ids={mandate.proposed_by_id, terms.bot.owner_id},
        )
        mandate.save(force_insert=True)
        _record("mandate.proposed", actor, mandate, digest=mandate.digest, quorum=needs.quorum)
    return mandate


def signatures(terms: Terms) -> policy.Requirement:
    """As many people as the strictest approval that the mandate replaces. Raises MandateRefused when none would do."""
    _, rules = policies.active()
    effects = {Side.BUY: ("opening", "reducing", "flipping"), Side.SELL: ("short", "reducing", "flipping")}
    found = []
    for instrument, order_type, side in product(terms.instruments, terms.order_types, terms.sides):
        for effect in effects[side]:
            case = policy.Case(
                environment=terms.account.environment,
                account=terms.account.broker_account_id,
                bot=terms.bot.name,
                asset_class=instrument.asset_class,
                order_type=order_type,
                effect=effect,
                symbol=instrument.symbol,
                notional=terms.order_notional_max,
                at=terms.expires_at,
            )
            found.append(policy.strictest_people(rules, case))
    needed = [each for each in found if each is not None]
    if not needed:
        raise MandateRefused("The policy refuses these orders, so no mandate can replace their approval.")
    return max(needed, key=lambda each: each.quorum)


def decide_mandate(
    *,
    actor: Actor,
    mandate_id: UUID,
    digest: str,
    is_yes: bool,
    reason: str = "",
    assertion: dict[str, Any] | None = None,
) -> Mandate:
    """One person's signature, or no. The last signature that is needed makes it active.

    A yes for a live account needs `assertion`, a passkey's answer to `ask_signature`; a no never does.
    """
    trading.require_permission(actor, "orders.decide_ticket")
    with transaction.atomic(durable=True):
        mandate = _locked(mandate_id)
        if mandate.request_id is None:
            raise NotFound(mandate_id=str(mandate_id))
        request = signing.decide(
            actor=actor,
            request_id=mandate.request_id,
            digest=digest,
            is_yes=is_yes,
            reason=reason,
            assertion=assertion,
            is_live=trading.must_be_signed(mandate.account),
        )
        if request.status == DecisionStatus.REJECTED:
            _move(mandate, Mandate.Status.DECLINED, actor, "mandate.declined", ended_at=Now())
        elif request.status == DecisionStatus.APPROVED:
            decisions.consume(request, actor=actor, digest=mandate.digest)
            _move(mandate, Mandate.Status.ACTIVE, actor, "mandate.signed", signed_at=Now())
    return mandate


def ask_signature(*, actor: Actor, mandate_id: UUID, digest: str) -> dict[str, Any]:
    """What a passkey is to sign for a yes to this mandate. Raises as cerbero.people.signing.ask does."""
    actor.require_session()
    trading.require_permission(actor, "orders.decide_ticket")
    mandate = Mandate.objects.filter(pk=mandate_id).exclude(request=None).first()
    if mandate is None or mandate.request_id is None:
        raise NotFound(mandate_id=str(mandate_id))
    is_live = trading.must_be_signed(mandate.account)
    with transaction.atomic(durable=True):
        return signing.ask(actor=actor, request_id=mandate.request_id, digest=digest, is_live=is_live)


def revoke_mandate(*, actor: Actor, mandate_id: UUID, reason: str) -> Mandate:
    """End a mandate at once. What passed under it and was not sent goes back to people at the sending."""
    trading.require_permission(actor, "orders.revoke_mandate")
    with transaction.atomic(durable=True):
        mandate = _locked(mandate_id)
        is_open = mandate.status == Mandate.Status.PROPOSED
        if is_open and mandate.request is not None:
            decisions.withdraw(mandate.request, actor=actor)
        to = Mandate.Status.DECLINED if is_open else Mandate.Status.REVOKED
        details = {"reason": reason.strip()[:500]}
        changes = {"revoked_by_id": actor.id, "ended_at": Now()}
        _move(mandate, to, actor, "mandate.revoked", details, **changes)
    return mandate


def expire_overdue(*, actor: Actor) -> None:
    """Decline proposals that too few people signed in time."""
    for mandate in _OVERDUE.rows():
        with transaction.atomic(durable=True):
            if mandate.request is not None:
                decisions.expire(mandate.request, actor=actor)
            _move(mandate, Mandate.Status.DECLINED, actor, "mandate.expired", ended_at=Now())


def claim(ticket: Ticket, order: Order, case: policy.Case) -> Mandate | None:
    """Use up one order of a mandate that covers this one, or None. Runs in the caller's transaction."""
    if ticket.bot_id is None or case.notional is None:
        return None
    covering = {
        "account": ticket.account_id,
        "bot": ticket.bot_id,
        "instruments": [order.instrument_id],
        "sides": [str(order.side)],
        "order_types": [str(order.order_type), *map(str, case.more_types)],
        "notional": case.notional,
    }
    for mandate in _COVERING.rows(**covering):
        if not (within_hours(mandate, case.at) and _still_counts(mandate)):
            continue
        if _USE_ONE.run(mandate=mandate.pk, notional=case.notional) == 1:
            prove(mandate)
            return mandate
    return None


def prove(mandate: Mandate) -> None:
    """People signed exactly these terms. Raises DigestMismatch or NotProven."""
    if mandate.request is None:
        raise NotProven
    decisions.prove(mandate.request, digest=digest_of(canonical(mandate)))


def still_serves(mandate: Mandate, at: datetime) -> bool:
    """At the sending: neither revoked nor expired since, and within its hours. Its budget is taken already."""
    is_active = bool(_ACTIVE.rows(mandate=mandate.pk))
    return is_active and within_hours(mandate, at) and _still_counts(mandate)


def _still_counts(mandate: Mandate) -> bool:
    """What a sole operator signed serves as long as they are the sole operator."""
    return mandate.request is not None and profile.still_serves(mandate.request)


def within_hours(mandate: Mandate, at: datetime) -> bool:
    return not mandate.hours or policy.Hours.model_validate(mandate.hours).hold(at)


def canonical(mandate: Mandate) -> dict[str, Any]:
    """The terms that people sign: decimals as text, lists sorted, times in UTC."""
    return {
        "account": str(mandate.account_id),
        "environment": mandate.account.environment,
        "bot": str(mandate.bot_id),
        "instruments": sorted(map(str, mandate.instrument_ids)),
        "sides": sorted(mandate.sides),
        "order_types": sorted(mandate.order_types),
        "order_notional_max": plain(mandate.order_notional_max),
        "notional_max": plain(mandate.notional_max),
        "currency": mandate.account.currency,
        "count_max": mandate.count_max,
        "hours": mandate.hours,
        "expires_at": mandate.expires_at.isoformat(),
    }


def summary(mandate: Mandate) -> str:
    """The mandate in one sentence."""
    currency = mandate.account.currency
    return (
        f"{mandate.bot} on {mandate.account}: {mandate.count_max} orders up to "
        f"{plain(mandate.order_notional_max)} {currency}, {plain(mandate.notional_max)} {currency} in all"
    )


def return_unfilled(*, actor: Actor) -> int:
    """Give back what ended tickets did not fill, the count never. Returns how many tickets were settled.

    Sent tickets: only after the broker's reports ended every leg and a later round of reconciliation, all of
    it applied, found nothing more. Tickets that never left: at once.
    """
    count = 0
    ended, revived = together(_ENDED.asked(), _REVIVED.asked())
    for use in ended:
        if _end_is_proven(use.ticket):
            _give_back(actor, use)
            count += 1
    for use in revived:
        # A late report revived the order after its end was proven: the broker's word wins.
        _take_back(actor, use)
    return count


def _end_is_proven(ticket: Ticket) -> bool:
    if not ticket.attempts.exclude(sent_at=None).exists():
        return not ticket.attempts.exclude(status=AttemptStatus.SETTLED).exists()
    balance = getattr(ticket.account, "balance", None)
    if ticket.status != TicketStatus.DONE or ticket.ended_at is None or balance is None:
        return False
    return balance.as_of > ticket.ended_at and not ticket.account.login.reports.waiting().exists()


def _give_back(actor: Actor, use: Allowance) -> None:
    order = use.ticket.first_order
    filled = order.filled_quantity
    if use.ticket.group == Group.OCO:
        filled = sum((leg.filled_quantity for leg in use.ticket.legs), Decimal(0))
    unfilled = max(order.quantity - filled, Decimal(0))
    # Down to the cent, so that rounding never gives back what was not there.
    back = (use.notional * unfilled / order.quantity).quantize(Decimal("0.01"), ROUND_DOWN)
    with transaction.atomic(durable=True):
        fresh = Allowance.objects.filter(pk=use.pk, returned_at=None)
        if fresh.update(returned_notional=back, returned_at=Now()) == 1:
            _spend(actor, use, -back, "mandate.returned")


def _take_back(actor: Actor, use: Allowance) -> None:
    with transaction.atomic(durable=True):
        fresh = Allowance.objects.filter(pk=use.pk, returned_at=use.returned_at)
        if fresh.update(returned_notional=0, returned_at=None) == 1:
            _spend(actor, use, use.returned_notional, "mandate.spent_again")


def _spend(actor: Actor, use: Allowance, notional: Decimal, event: str) -> None:
    Mandate.objects.filter(uses=use.pk).update(used_notional=F("used_notional") + notional)
    details = {"ticket": str(use.ticket_id), "notional": abs(notional)}
    record(event, actor=actor, subject_kind="mandate", subject_id=str(use.mandate_id), details=details)


def _require_sense(terms: Terms) -> None:
    problems = []
    if not (terms.instruments and terms.sides and terms.order_types):
        problems.append("name at least one instrument, side and order type")
    if not 0 < terms.order_notional_max <= terms.notional_max:
        problems.append("the most per order must be above nought and within the total")
    if not 1 <= terms.count_max <= 10_000:
        problems.append("between 1 and 10,000 orders")
    if terms.expires_at <= timezone.now():
        problems.append("it would have expired already")
    if terms.account.environment != terms.bot.environment:
        problems.append("the bot and the account are of different environments")
    try:
        if terms.hours:
            policy.Hours.model_validate(terms.hours)
    except ValidationError as no:
        problems += [str(error["msg"]) for error in no.errors()]
    if problems:
        raise MandateRefused(problems=problems)


def _build(actor: Actor, terms: Terms) -> Mandate:
    mandate = Mandate(
        id=uuid7(),
        account=terms.account,
        bot=terms.bot,
        instrument_ids=sorted(each.pk for each in terms.instruments),
        sides=sorted(map(str, terms.sides)),
        order_types=sorted(map(str, terms.order_types)),
        order_notional_max=terms.order_notional_max,
        notional_max=terms.notional_max,
        count_max=terms.count_max,
        hours=terms.hours,
        expires_at=terms.expires_at,
        reason=terms.reason.strip()[:500],
        proposed_by=user_of(actor),
    )
    mandate.digest = digest_of(canonical(mandate))
    return mandate


def _locked(mandate_id: UUID) -> Mandate:
    rows = Mandate.objects.select_for_update(of=("self",)).select_related("account__login", "bot", "request")
    mandate = rows.filter(pk=mandate_id).first()
    if mandate is None:
        raise NotFound(mandate_id=str(mandate_id))
    if mandate.status not in {Mandate.Status.PROPOSED, Mandate.Status.ACTIVE}:
        raise AlreadyDecided(status=mandate.status)
    return mandate


def _move(
    mandate: Mandate,
    to: str,
    actor: Actor,
    event: str,
    details: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    transition(mandate, to, moves=MANDATE, actor=actor, event=event, details=details, **changes)


def _record(event: str, actor: Actor, mandate: Mandate, **details: Any) -> None:
    record(event, actor=actor, subject_kind="mandate", subject_id=mandate.pk, details=details)
