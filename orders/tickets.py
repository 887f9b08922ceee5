"""What a ticket is made of: a proposal becomes rows, rows become terms, a question, or a refusal.

Each runs in its caller's transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.services import record, record_insert
from brokers.base import OrderTerms, OrderType, Side, TimeInForce
from brokers.models import Account
from brokers.occ import canonical
from brokers.services import DEPLOYMENT, live_missing
from cerbero import decisions
from cerbero.access import Actor
from cerbero.errors import (
    CerberoError,
    DatabaseUnavailable,
    IdempotencyConflict,
    LiveTradingDenied,
    PermissionMissing,
    PolicyRefused,
)
from cerbero.lifecycle import transition
from cerbero.models import Bot, DecisionRequest
from cerbero.people import profile
from orders import judging
from orders.canonical import MORE_TERMS, TERMS, decision_digest, ticket_digest
from orders.facts import Facts, bought_by, worth
from orders.lifecycle import ENDED, ORDER, TICKET, OrderStatus, TicketStatus
from orders.models import Order, Ticket
from orders.overrides import MARK, MORE_DECISIONS
from orders.presentation import sentences

# What the database takes (cerbero.models.DecisionRequest).
DECISIONS_MAX = 3
SENDER_NAMED = frozenset({"FUT", "FOP"})
SENDER_CHARACTERS_MAX = 20


@dataclass(frozen=True)
class Proposal:
    """What a caller wants; units and prices are the instrument's own, money in its currency.

    `quantity` is None where `cash_quantity` says how much money it is to be.
    """

    account: str
    symbol: str
    side: Side
    quantity: Decimal | None
    order_type: OrderType
    idempotency_key: str
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    reason: str = ""
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    offset: Decimal | None = None
    cash_quantity: Decimal | None = None
    outside_hours: bool = False

    @property
    def group(self) -> str:
        return ""

    @property
    def legs(self) -> tuple["Proposal", ...]:
        return (self,)

    def order(self, facts: Facts, number: int = 1) -> Order:
        """The order as a row. Raises ImpossibleOrder where its money buys nothing."""
        terms = {name: getattr(self, name) for name in (*TERMS, *MORE_TERMS)}
        if self.cash_quantity is not None:
            terms["quantity"] = bought_by(self.cash_quantity, self.limit_price, facts)
        return Order(number=number, instrument=facts.instrument, reference_price=facts.market.mid, **terms)


@dataclass(frozen=True)
class GroupProposal:
    """Several orders of one instrument and account, wanted as one; the first carries the key and the reason."""

    group: str
    legs: tuple[Proposal, ...]

    @property
    def account(self) -> str:
        return self.legs[0].account

    @property
    def symbol(self) -> str:
        return self.legs[0].symbol

    @property
    def idempotency_key(self) -> str:
        return self.legs[0].idempotency_key

    @property
    def reason(self) -> str:
        return self.legs[0].reason


Wanted = Proposal | GroupProposal


def once(actor: Actor, account: Account, proposal: Wanted, write: Callable[[], Ticket]) -> Ticket:
    """Write under the unique key; whoever comes second is given the first one's ticket.

    A repetition is rare, so the key is looked up only when the write fails: because of it, or because
    the moment is not one to propose in any more.
    """
    try:
        return write()
    except (CerberoError, IntegrityError):
        ticket = existing(actor, account, proposal)
        if ticket is None:
            raise
        return ticket


def existing(actor: Actor, account: Account, proposal: Wanted) -> Ticket | None:
    """The ticket of this key. Raises IdempotencyConflict, naming the fields, when its terms differ."""
    key = Q(account=account, idempotency_key=proposal.idempotency_key)
    mine = Q(bot_id=actor.id) if actor.is_bot else Q(person_id=actor.id)
    ticket = Ticket.objects.filter(key & mine).first()
    if ticket is None:
        return None
    differs = _differs(ticket, proposal)
    if differs:
        raise IdempotencyConflict(ticket_id=str(ticket.pk), differs=differs)
    return ticket


def _differs(ticket: Ticket, proposal: Wanted) -> list[str]:
    """The fields in which a proposal under a used key is another one; a group's with the number of the order."""
    if ticket.group != proposal.group:
        return ["group"]
    found = _terms_differ(ticket, proposal) if not ticket.reduce_only else []
    # A close names no size: that, and its side, are of the position at its moment.
    if ticket.reduce_only and any(leg.quantity or leg.cash_quantity for leg in proposal.legs):
        found = ["reduce_only"]
    if ticket.first_order.instrument.symbol != canonical(proposal.symbol):
        found.append("symbol")
    return found


def _terms_differ(ticket: Ticket, proposal: Wanted) -> list[str]:
    found = []
    for order, leg in zip(ticket.legs, proposal.legs, strict=True):
        # What money bought depends on the moment; the money does not.
        but = {"quantity"} if leg.cash_quantity is not None else set()
        terms = [name for name in (*TERMS, *MORE_TERMS) if name not in but]
        names = [name for name in terms if getattr(order, name) != getattr(leg, name)]
        found += [f"{order.number}.{name}" for name in names] if ticket.group else names
    return found


def build(actor: Actor, facts: Facts, proposal: Wanted, *, reduce_only: bool = False) -> tuple[Ticket, Order]:
    """The rows of a proposal, not stored yet: the ticket with its legs, and the first of these."""
    orders = [leg.order(facts, number) for number, leg in enumerate(proposal.legs, 1)]
    ticket = Ticket(
        account=facts.account,
        bot_id=actor.id if actor.is_bot else None,
        person_id=actor.id if actor.is_person else None,
        idempotency_key=proposal.idempotency_key,
        group=proposal.group,
        reduce_only=reduce_only,
        reason=proposal.reason,
        tag=actor.tag,
        notional=worth(facts, orders, proposal.group),
        notional_currency=facts.account.currency,
    )
    for order in orders:
        order.ticket = ticket
    ticket.legs = orders
    if actor.is_bot and actor.id and actor.owner_id:
        # What authentication read a moment ago; saves reading the row again.
        ticket.bot = Bot(pk=actor.id, name=actor.name, owner_id=actor.owner_id)
    ticket.digest = ticket_digest(ticket, facts.account, orders)
    return ticket, orders[0]


def insert(actor: Actor, ticket: Ticket, event: str) -> None:
    details = {"order": told(ticket), "account": str(ticket.account), "digest": ticket.digest}
    if ticket.refusal_code:
        details["code"] = ticket.refusal_code
    rows = [ticket, *ticket.legs]
    record_insert(rows, event, actor=actor, subject_kind="ticket", subject_id=ticket.pk, details=details)


def ask_people(
    actor: Actor,
    ticket: Ticket,
    facts: Facts,
    order: Order,
    seen: dict[str, Any],
    judged: judging.Judgement | None = None,
) -> DecisionRequest:
    """Open the decision request of a ticket; its facts are what the approver sees.

    Names the rule that judged it on the ticket. Raises PolicyRefused or PolicyUnreadable.
    """
    judged = judged or judging.who_decides(ticket, order, facts)
    judged.mark(ticket)
    quorum = judged.needs.quorum + (MORE_DECISIONS if seen.get(MARK) else 0)
    if quorum > DECISIONS_MAX:
        raise PolicyRefused(**judged.as_facts(), reason="no limit is overridden where three people decide")
    return decisions.ask(
        actor=actor,
        subject_kind="ticket",
        subject_id=ticket.pk,
        summary=told(ticket),
        digest=decision_digest(ticket.digest, seen),
        facts=seen | {"policy": judged.as_facts()},
        quorum=quorum,
        group=judged.needs.group,
        seconds=judging.seconds_to_decide(ticket, order, judged.needs),
        excluded_user_ids=_excluded(ticket),
    )


def told(ticket: Ticket) -> str:
    """The whole ticket as one sentence."""
    return "; ".join(map(str, sentences(ticket.group, ticket.legs)))


def deny(actor: Actor, ticket: Ticket, code: str, refusal: dict[str, Any]) -> None:
    """Refuse a ticket that has not been sent, and end its orders. Runs in the caller's transaction."""
    transition(
        ticket,
        TicketStatus.DENIED,
        moves=TICKET,
        actor=actor,
        event="ticket.denied",
        details={"code": code},
        refusal_code=code,
        refusal=refusal,
        ended_at=Now(),
    )
    end_orders(actor, ticket, "order.denied")


@contextmanager
def decided_on_record(actor: Actor, ticket_id: UUID, *, is_yes: bool) -> Iterator[None]:
    """A refused decision is recorded, and changes nothing else."""
    try:
        yield
    except CerberoError as refusal:
        _enter_refusal(actor, ticket_id, refusal.code, is_yes)
        refusal.is_entered = True
        raise
    except (OperationalError, InterfaceError):
        # A database that is still away takes no entry; what the caller learns is the first failure.
        with suppress(OperationalError, InterfaceError):
            _enter_refusal(actor, ticket_id, DatabaseUnavailable.code, is_yes)
        raise


def _enter_refusal(actor: Actor, ticket_id: UUID, code: str, is_yes: bool) -> None:
    with transaction.atomic(durable=True):
        details = {"code": code, "is_yes": is_yes}
        record("decision.refused", actor=actor, subject_kind="ticket", subject_id=ticket_id, details=details)


def end_orders(actor: Actor, ticket: Ticket, event: str, text: str = "") -> None:
    for order in ticket.orders.exclude(status__in=ENDED):
        transition(order, OrderStatus.CANCELED, moves=ORDER, actor=actor, event=event, text=text)


def end_if_over(actor: Actor, ticket: Ticket) -> None:
    """A sent ticket of which every order ended is done. In the caller's transaction."""
    if ticket.status == TicketStatus.SENT and not ticket.orders.exclude(status__in=ENDED).exists():
        transition(ticket, TicketStatus.DONE, moves=TICKET, actor=actor, event="ticket.ended", ended_at=Now())


def terms_of(order: Order, broker_instrument_id: str, actor: Actor | None = None) -> OrderTerms:
    """The leg as it goes to the adapter, sent by `actor`, or by whoever proposed its ticket."""
    return OrderTerms(
        broker_instrument_id=broker_instrument_id,
        side=Side(order.side),
        quantity=order.quantity,
        order_type=OrderType(order.order_type),
        time_in_force=TimeInForce(order.time_in_force),
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trailing_amount=order.trailing_amount,
        trailing_percent=order.trailing_percent,
        offset=order.offset,
        outside_hours=order.outside_hours,
        **(sender(order, actor.name, actor.is_person) if actor else _proposer(order)),
    )


def terms_of_all(ticket: Ticket, broker_instrument_id: str) -> list[OrderTerms]:
    """Every leg as it goes to the adapter, in order."""
    return [terms_of(order, broker_instrument_id) for order in ticket.legs]


def sender(order: Order, name: str, is_person: bool) -> dict[str, Any]:
    """Who sends an order or a cancel, where the exchange wants it said (CME rule 536-B, ibkr-web-api.md §6.1)."""
    return sender_of(order.instrument.asset_class, name, is_person)


def sender_of(asset_class: str, name: str, is_person: bool) -> dict[str, Any]:
    """The same for an order that was not placed here; of an instrument that nobody knows (empty) it is said too."""
    if asset_class and asset_class not in SENDER_NAMED:
        return {}
    return {"manual_indicator": is_person, "ext_operator": name[:SENDER_CHARACTERS_MAX]}


def _proposer(order: Order) -> dict[str, Any]:
    ticket = order.ticket
    name = ticket.bot.name if ticket.bot else ticket.person.username if ticket.person else ""
    return sender(order, name, is_person=ticket.bot is None)


def require_live(account: Account, *, is_persons_close: bool = False) -> None:
    """Raises LiveTradingDenied while the broker has not said what the account is, or a live one is not cleared.

    A clearance that was taken away keeps no person from closing what the account holds.
    """
    if not account.environment:
        raise LiveTradingDenied(missing=["the broker has not yet said whether this account is paper or live"])
    missing = live_missing(account) if account.environment == "live" else []
    if is_persons_close:
        missing = [name for name in missing if name in DEPLOYMENT]
    if missing:
        raise LiveTradingDenied(missing=missing)


def _excluded(ticket: Ticket) -> list[UUID]:
    """Whoever asked, and the owner of the bot that asked, as of the proposal (gates.md §1)."""
    if ticket.request is not None:
        return list(profile.excluded_by(ticket.request))
    if ticket.counter_of is not None and ticket.counter_of.request is not None and ticket.person_id:
        return [*profile.excluded_by(ticket.counter_of.request), ticket.person_id]
    if ticket.bot is not None:
        return [ticket.bot.owner_id]
    if ticket.person_id is None:
        raise PermissionMissing("A ticket needs a proposer.")
    return [ticket.person_id]
