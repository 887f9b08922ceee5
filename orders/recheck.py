"""Looking again at the moment of sending: values that people saw, against values of now (gates.md G17)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils.crypto import constant_time_compare

from brokers.base import Broker
from brokers.models import Account, SessionState
from cerbero import decisions, leases
from cerbero.database.compiled import Compiled, Given
from cerbero.errors import (
    DigestMismatch,
    LiveTradingDenied,
    NotProven,
    PolicyUnreadable,
    SignatureMissing,
    TradingHalted,
)
from cerbero.models import AccessToken, DecisionRequest
from cerbero.people import profile, signing
from orders import environment, judging, mandates, overrides, policies, policy, risk, trading
from orders.amended import Terms, as_approved, terms, was
from orders.amending import digest_for, is_ours
from orders.canonical import decision_digest, ticket_digest
from orders.closing import closable, positions_now, proof_of
from orders.facts import Facts, check_sending, contract, gather_for, market_of
from orders.groups.wire import closes
from orders.lifecycle import OrderStatus, TicketStatus
from orders.models import Allowance, Amendment, Attempt, Order, Ticket
from orders.tickets import require_live
from orders.trading import must_be_signed

# A close needs no approval, so nothing else ends its wait.
CLOSE_WAITS_SECONDS = 60
_REVOKED = Compiled(
    lambda: AccessToken.objects.filter(bot=Given("bot"), revoked_at__gte=Given("since")).values_list(
        "pk", flat=True
    )[:1]
)


@dataclass(frozen=True)
class Moment:
    """What the broker said right before the look; `held` is read for closes only."""

    facts: Facts
    held: Decimal | None


def read_moment(ticket: Ticket, order: Order, broker: Broker) -> Moment:
    """A fresh reference price, and for a close the position, from the broker itself. Raises BrokerError."""
    stored = gather_for(ticket.account, order)
    if ticket.reduce_only:
        return Moment(
            stored, positions_now(broker, ticket.account).get(stored.broker_instrument_id, Decimal(0))
        )
    quotes = broker.snapshot([stored.broker_instrument_id])
    mine = next((row for row in quotes if row.broker_instrument_id == stored.broker_instrument_id), None)
    availability = mine.availability if mine else stored.availability
    return Moment(replace(stored, market=market_of(mine), availability=availability), None)


def renewed(moment: Moment, ticket: Ticket, order: Order) -> Moment:
    """The moment with our own rows as they are now; only what the broker said stays. `ticket` is read afresh."""
    market, availability = moment.facts.market, moment.facts.availability
    facts = replace(gather_for(ticket.account, order), market=market, availability=availability)
    return replace(moment, facts=facts)


class Refusal(Exception):
    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code, self.details = code, details
        self.checks: list[risk.Check] = []


class Waits(Refusal):
    """Not now; asked again until the approval expires."""


class Denied(Refusal):
    """Never, on these terms."""


class Moved(Refusal):
    """The market or the policy is not the one under which it was allowed; people are asked."""


def look_again(
    ticket: Ticket,
    order: Order,
    moment: Moment,
    state: str,
    granted: DecisionRequest | Allowance | None = None,
) -> None:
    """Everything that the proposal was held against, at the moment of sending (gates.md G17).

    `order` and the ticket's other legs are the very objects whose terms are sent, so that what is digested and what
    leaves cannot differ.
    """
    granted = granted or judging.granted(ticket)
    account, now = moment.facts.account, leases.database_now()
    legs = [order, *ticket.legs[1:]]
    if ticket_digest(ticket, account, legs) != ticket.digest:
        raise Denied("terms_changed")
    if any(leg.cancel_requested_at is not None for leg in legs):
        raise Denied("canceled_before_sending")
    look_at_proposer(ticket)
    _look_at_state(ticket, account, state, now)
    if ticket.reduce_only:
        _look_at_wait(ticket, now)
        if not constant_time_compare(ticket.proof, proof_of(ticket, moment.facts.broker_instrument_id)):
            raise Denied("approval_not_proven", why="not a close of ours")
        if granted is not None:
            look_at_proof(ticket, granted)
        _look_at_position(ticket, order, moment)
        return
    if granted is None or granted.expires_at <= now:
        raise Denied("approval_expired")
    _look_at_signatures(account, granted)
    _look_at_market(legs, ticket.group, moment, granted)
    look_at_proof(ticket, granted)
    _look_at_override(account, granted)
    _look_at_policy(ticket, order, moment.facts, granted)


def look_at_proof(ticket: Ticket, granted: DecisionRequest | Allowance) -> None:
    """What lets it pass is this ticket's, and was given: by more than what the rows say of themselves."""
    try:
        judging.prove(ticket, granted)
    except (DigestMismatch, NotProven) as refusal:
        raise Denied("approval_not_proven", why=refusal.code) from None
    if isinstance(granted, DecisionRequest) and granted.subject_id != ticket.pk:
        raise Denied("approval_not_proven", why="another subject")


def look_at_return(ticket: Ticket, order: Order) -> None:
    """An attempt that never left belongs to a ticket on its way, with its approval used up for it."""
    if ticket.status != TicketStatus.SENT or any(leg.status != OrderStatus.SUBMITTED for leg in ticket.legs):
        raise Denied("not_on_its_way", ticket=ticket.status, order=order.status)
    if ticket.reduce_only:
        return
    granted = judging.granted(ticket)
    if granted is None or granted.consumed_at is None:
        raise Denied("approval_not_proven", why="not used")
    look_at_proof(ticket, granted)


def look_at_completion(ticket: Ticket, state: str) -> None:
    """What an approved exit is held against that is sent again: its price and size were agreed with its group, so that
    neither drift nor REDUCING keeps it back (gates.md §8); a halt does.
    """
    account = ticket.account
    # Amendments since carry approvals of their own.
    for leg in ticket.legs:
        _look_at_amendments(leg)
    if ticket_digest(ticket, account, [as_approved(leg) for leg in ticket.legs]) != ticket.digest:
        raise Denied("terms_changed")
    if not account.login.is_enabled:
        raise Waits("login_disabled")
    if environment.is_mismatched(account):
        raise Waits(environment.CODE)
    if not may_pass(ticket, state, completes=True):
        raise Waits("trading_halted")
    granted = judging.granted(ticket)
    if granted is None or granted.consumed_at is None:
        raise Denied("approval_not_proven", why="not used")
    look_at_proof(ticket, granted)
    _look_at_signatures(account, granted)


def _look_at_amendments(leg: Order) -> None:
    """An order whose terms moved has an amendment of ours for each step, each within the first approval or with its own."""
    at: Terms | None = None
    for each in (
        leg.amendments.filter(status=TicketStatus.DONE).select_related("request").order_by("ended_at")
    ):
        if at not in (None, was(each)) or digest_for(each, leg) != each.digest or not is_ours(each):
            raise Denied("terms_changed")
        at = terms(each)
        if each.request is None and each.tightens:
            continue
        if each.request is None or each.request.subject_id != each.pk or each.request.consumed_at is None:
            raise Denied("approval_not_proven", why="an amendment")
        try:
            decisions.prove(each.request, digest=decision_digest(each.digest, each.request.facts))
        except (DigestMismatch, NotProven) as refusal:
            raise Denied("approval_not_proven", why=refusal.code) from None
    if at is not None and any(getattr(leg, name) != value for name, value in at.items()):
        raise Denied("terms_changed")


def is_still_wanted(attempt: Attempt) -> bool:
    """Whether nobody halted or canceled it since it was armed."""
    ticket = attempt.ticket
    is_canceled = attempt.carried.exclude(cancel_requested_at=None).exists()
    state = trading.worst_state(ticket.account, ticket.bot_id)
    return not is_canceled and may_pass(ticket, state, completes=attempt.completes)


def may_pass(ticket: Ticket, state: str, *, completes: bool = False) -> bool:
    """Whether a trading state lets this ticket through; an exit that completes a group only takes back."""
    reduces = ticket.reduce_only or completes
    try:
        trading.require_open(state, reduce_only=reduces, by_person=ticket.person_id is not None)
    except TradingHalted:
        return False
    return True


def may_amend(amendment: Amendment, state: str) -> bool:
    """A halt stops every amendment; what only tightens passes while trading is reducing, as does an exit."""
    reduces = amendment.tightens or closes(amendment.order)
    try:
        trading.require_open(state, reduce_only=reduces, by_person=False)
    except TradingHalted:
        return False
    return True


def look_at_amendment(amendment: Amendment, changed: Order, moment: Moment | None, state: str) -> None:
    """What a new order on these terms is held against; what only tightens needs neither market nor approval."""
    ticket = changed.ticket
    account, request = ticket.account, amendment.request
    look_at_proposer(ticket)
    if amendment.person is not None and not amendment.person.is_active:
        raise Denied("person_disabled")
    if not account.login.is_enabled:
        raise Waits("login_disabled")
    if environment.is_mismatched(account):
        raise Waits(environment.CODE)
    if not may_amend(amendment, state):
        raise Waits("trading_halted")
    if amendment.tightens and request is None:
        return
    if request is None or moment is None or request.expires_at <= leases.database_now():
        raise Denied("approval_expired")
    try:
        require_live(account)
    except LiveTradingDenied as denied:
        raise Denied(denied.code, **denied.details) from None
    _look_at_signatures(account, request)
    _look_at_market([changed], ticket.group, moment, request)
    _look_at_policy(ticket, changed, moment.facts, request)


def look_at_proposer(ticket: Ticket) -> None:
    """Whoever may no longer act sends nothing, whatever was approved meanwhile. Raises Denied."""
    if ticket.person is not None and not ticket.person.is_active:
        raise Denied("person_disabled")
    if ticket.bot is None:
        return
    if not (ticket.bot.is_active and ticket.bot.owner.is_active):
        raise Denied("bot_disabled")
    if _REVOKED.rows(bot=ticket.bot_id, since=ticket.created_at):
        raise Denied("bot_token_revoked")


def _look_at_state(ticket: Ticket, account: Account, state: str, now: datetime) -> None:
    if not account.login.is_enabled:
        raise Waits("login_disabled")
    if account.login.state == SessionState.MISMATCHED:
        raise Waits(environment.CODE)
    try:
        trading.require_open(state, reduce_only=ticket.reduce_only, by_person=ticket.person_id is not None)
        require_live(account, is_persons_close=ticket.reduce_only and ticket.person_id is not None)
    except TradingHalted:
        if ticket.reduce_only:
            _look_at_wait(ticket, now)
        raise Waits("trading_halted") from None
    except LiveTradingDenied as denied:
        raise Denied(denied.code, **denied.details) from None
    if environment.is_mismatched(account):
        raise Waits(environment.CODE)


def _look_at_signatures(account: Account, granted: DecisionRequest | Allowance) -> None:
    """A row that says yes is worth nothing on a live account, nor where one person stands for two: what the
    passkeys signed is verified again.
    """
    is_live = must_be_signed(account)
    mandate = granted.mandate if isinstance(granted, Allowance) else None
    request = mandate.request if mandate is not None else granted
    if not isinstance(request, DecisionRequest):
        if is_live:
            raise Denied("signature_missing")
        return
    if not is_live and not profile.is_sole(request):
        return
    try:
        signing.require_signed(request, is_live=is_live)
    except SignatureMissing as missing:
        raise Denied("signature_missing", **missing.details) from None


def _look_at_override(account: Account, granted: DecisionRequest | Allowance) -> None:
    """A limit is passed only by the word of the person who may override it, and who may still."""
    if not isinstance(granted, DecisionRequest):
        return
    if why := overrides.why_not_counted(granted, is_live=must_be_signed(account)):
        raise Denied("override_not_proven", why=why)


def _look_at_wait(ticket: Ticket, now: datetime) -> None:
    waited = (now - ticket.allowed_at).total_seconds() if ticket.allowed_at else 0
    if waited > CLOSE_WAITS_SECONDS:
        raise Denied("not_sent_in_time", waited_seconds=int(waited))


def _look_at_position(ticket: Ticket, order: Order, moment: Moment) -> None:
    held = moment.held or Decimal(0)
    left = closable(ticket.account, moment.facts, held, but=ticket.pk)
    reduces = (held > 0) == (order.side == "sell")
    if held == 0 or not reduces or order.quantity > left:
        raise Denied("position_changed", position=str(held), closable=str(left))


def _look_at_market(
    legs: Sequence[Order], group: str, moment: Moment, granted: DecisionRequest | Allowance
) -> None:
    facts = moment.facts
    if granted.facts.get("contract") != contract(facts):
        raise Denied("contract_changed")
    failed = risk.failed(overrides.lifted(check_sending(facts, *legs, group=group), granted))
    codes = {check.code for check in failed}
    if "quote_age_max_seconds" in codes:
        raise Moved("quote_missing")
    if "figures_age_max_seconds" in codes:
        raise Waits("figures_missing")
    if failed:
        refused = Denied("risk_refused", checks=[check.as_json() for check in failed])
        refused.checks = failed
        raise refused
    seen = granted.facts.get("quote", {}).get("mid")
    percent = _drift_percent(granted, facts.bounds.drift_percent)
    drift = risk.check_drift(Decimal(seen) if seen else None, facts.market.mid, percent)
    if not drift.ok:
        raise Moved("price_drifted", check=drift.as_json())


def _drift_percent(granted: DecisionRequest | Allowance, default: Decimal) -> Decimal:
    """The strictest that the yeses carry; one that carries none means the account's own."""
    if isinstance(granted, Allowance):
        return default
    said = [yes.conditions or {} for yes in granted.yeses]
    return min((Decimal(each.get("drift_percent", default)) for each in said), default=default)


def _look_at_policy(ticket: Ticket, order: Order, facts: Facts, granted: DecisionRequest | Allowance) -> None:
    """The policy of now may not ask for more than what the ticket passed under."""
    try:
        version, rules = policies.active()
    except PolicyUnreadable as problem:
        raise Denied(problem.code, **problem.details) from None
    case = policies.case_of(ticket, order, facts, rules)
    for needs in policy.requirements(rules, case):
        details = {"version": version.number, "rule": needs.rule}
        if needs.outcome == policy.REFUSE:
            raise Denied("policy_refused", **details, reason=needs.reason)
        if _is_met(needs, granted, case):
            return
        if needs.outcome == policy.PEOPLE:
            raise Moved("policy_stricter", **details)


def _is_met(needs: policy.Requirement, granted: DecisionRequest | Allowance, case: policy.Case) -> bool:
    if needs.outcome == policy.ALLOW:
        return True
    if isinstance(granted, DecisionRequest):
        quorum = needs.quorum + overrides.more(granted)
        asked_enough = profile.meets(granted, quorum) and granted.group == needs.group
        return needs.outcome == policy.PEOPLE and asked_enough
    if needs.outcome != policy.MANDATE or granted.mandate is None:
        return False
    return mandates.still_serves(granted.mandate, case.at)
