"""What the policy in force asks of a ticket, and how a ticket passes that needs nobody asked.

Each runs in its caller's transaction, so that a mandate is used up with the ticket or not at all.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from audit.services import record_change, record_insert
from brokers.base import OrderType, TimeInForce
from brokers.calendars import takes_orders_until
from cerbero import decisions, leases, proofs
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, CompiledUpdate, Given, Insert, bind
from cerbero.errors import AlreadyDecided, DigestMismatch, NotProven, PolicyRefused
from cerbero.leases import ClockTime
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest
from orders import mandates, policies, policy
from orders.canonical import decision_digest
from orders.facts import Facts
from orders.lifecycle import TICKET, TicketStatus
from orders.models import Allowance, Mandate, Order, PolicyVersion, Ticket
from orders.policy import Requirement

ON_CLOSE = frozenset({OrderType.MARKET_ON_CLOSE, OrderType.LIMIT_ON_CLOSE})
_ALLOWANCE = Compiled(
    lambda: Allowance.objects.select_related("mandate__request", "mandate__account").filter(
        ticket=Given("ticket")
    )
)
_USE = CompiledUpdate(
    lambda: Allowance.objects.filter(
        pk=Given("allowance"), consumed_at=None, expires_at__gt=ClockTime(), ticket__request=None
    ),
    consumed_at=Now(),
)


@dataclass(frozen=True)
class Judgement:
    """The rule that speaks, of which version, and the mandate of which one order is used up."""

    version: PolicyVersion
    needs: Requirement
    mandate: Mandate | None = None

    def as_facts(self) -> dict[str, Any]:
        return {"version": self.version.number, "rule": self.needs.rule}

    def mark(self, ticket: Ticket) -> None:
        ticket.policy_version, ticket.policy_rule = self.version, self.needs.rule

    def refusal(self) -> dict[str, Any]:
        return {**self.as_facts(), "reason": self.needs.reason}


def judge(ticket: Ticket, order: Order, facts: Facts) -> Judgement:
    """The first rule that speaks; a mandate rule does where a mandate is left. Raises PolicyUnreadable."""
    version, rules = policies.active()
    case = policies.case_of(ticket, order, facts, rules)
    for needs in policy.requirements(rules, case):
        if needs.outcome != policy.MANDATE:
            return Judgement(version, needs)
        mandate = mandates.claim(ticket, order, case)
        if mandate is not None:
            return Judgement(version, needs, mandate)
    return Judgement(version, policy.first_people(rules, case))


def who_decides(ticket: Ticket, order: Order, facts: Facts) -> Judgement:
    """Whom to ask, where neither mandate nor allowance serves. Raises PolicyRefused or PolicyUnreadable."""
    version, rules = policies.active()
    case = policies.case_of(ticket, order, facts, rules)
    judgement = Judgement(version, policy.first_people(rules, case))
    if judgement.needs.outcome == policy.REFUSE:
        raise PolicyRefused(**judgement.refusal())
    return judgement


def seconds_to_decide(ticket: Ticket, order: Order, needs: policy.Requirement) -> int:
    """How long a question stands: the rule's time or the setting's; for an auction until that takes no more orders.

    So what is asked overnight for the opening still stands in the morning, unless the rule names a time.
    """
    seconds = needs.seconds or settings.APPROVAL_SECONDS
    is_opening = order.time_in_force == TimeInForce.OPG
    if not is_opening and order.order_type not in ON_CLOSE:
        return seconds
    now = leases.database_now()
    until = takes_orders_until(ticket.account.login, order.instrument, now, is_opening=is_opening)
    if until is None:
        return seconds
    left = max(1, int((until - now).total_seconds()))
    return min(left, needs.seconds) if needs.seconds else left


def allow(actor: Actor, ticket: Ticket, judgement: Judgement, seen: dict[str, Any]) -> None:
    """Let a proposed ticket pass unasked; the database looks whether it may (orders/migrations)."""
    seconds = judgement.needs.seconds or settings.APPROVAL_SECONDS
    allowance = Allowance(
        ticket=ticket,
        policy_version=judgement.version,
        rule=judgement.needs.rule,
        mandate=judgement.mandate,
        digest=ticket.digest,
        notional=ticket.notional or 0,
        facts=seen,
        expires_at=Now() + timedelta(seconds=seconds),
    )
    allowance.proof = proof_of(allowance)
    details: dict[str, Any] = {"policy": judgement.as_facts()}
    if judgement.mandate is None:
        Insert.of(allowance).run()
    else:
        details["mandate"] = str(judgement.mandate.pk)
        record_insert(
            [allowance],
            "mandate.used",
            actor=actor,
            subject_kind="mandate",
            subject_id=judgement.mandate.pk,
            details={"ticket": str(ticket.pk), "notional": ticket.notional},
        )
    transition(
        ticket,
        TicketStatus.ALLOWED,
        moves=TICKET,
        actor=actor,
        event="ticket.allowed",
        details=details,
        allowed_at=Now(),
    )


def granted(ticket: Ticket) -> DecisionRequest | Allowance | None:
    """What lets the ticket pass: people's word where they were asked, else its allowance; None for a close."""
    if ticket.request is not None or ticket.reduce_only:
        return ticket.request
    return _ALLOWANCE.first(ticket=ticket.pk)


def use(actor: Actor, ticket: Ticket, grant: DecisionRequest | Allowance) -> None:
    """Use it up, once. Raises AlreadyDecided unless it is unused and unexpired, or as `prove` does."""
    if isinstance(grant, DecisionRequest):
        decisions.consume(grant, actor=actor, digest=decision_digest(ticket.digest, grant.facts))
        return
    prove(ticket, grant)
    is_used = record_change(
        bind(_USE.words, {"allowance": grant.pk}),
        "allowance.used",
        actor=actor,
        subject_kind="ticket",
        subject_id=ticket.pk,
        details={"rule": grant.rule, "mandate": str(grant.mandate_id or "")},
    )
    if not is_used:
        raise AlreadyDecided(status="used")


def prove(ticket: Ticket, grant: DecisionRequest | Allowance) -> None:
    """This program granted it, for exactly these terms; a row written past it opens nothing.

    Raises DigestMismatch or NotProven.
    """
    if isinstance(grant, DecisionRequest):
        decisions.prove(grant, digest=decision_digest(ticket.digest, grant.facts))
        return
    if grant.digest != ticket.digest:
        raise DigestMismatch(approved=grant.digest, wanted=ticket.digest)
    if not is_proven(grant):
        raise NotProven
    if grant.mandate is not None:
        mandates.prove(grant.mandate)


def is_proven(allowance: Allowance) -> bool:
    return proofs.holds_body("allowance", _body(allowance), allowance.proof)


def proof_of(allowance: Allowance) -> str:
    return proofs.of_body("allowance", _body(allowance))


def _body(allowance: Allowance) -> dict[str, Any]:
    return {
        "ticket": str(allowance.ticket_id),
        "version": str(allowance.policy_version_id),
        "rule": allowance.rule,
        "mandate": str(allowance.mandate_id or ""),
        "digest": allowance.digest,
        "facts": allowance.facts,
    }
