"""The judge: what was intended, what the ledger says, and what truly stands in the broker's book.

The intents are the harness's own record of what people approved; the ledger is never its own witness.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

COUNTS = ("duplicates", "lost", "unapproved", "sent_after_halt", "stuck")
UNSETTLED = {"prepared", "sent", "in_doubt"}
# What the ledger must say of an order that stands in the book in this state.
IN_BOOK = {
    "PreSubmitted": {"accepted"},
    "Submitted": {"accepted", "partially_filled"},
    "PendingCancel": {"pending_cancel"},
    "Filled": {"filled"},
    "Cancelled": {"canceled", "expired"},
    "Inactive": {"rejected"},
}
FINAL = {"filled", "canceled", "expired", "rejected"}
# The rules by which an approved order goes back to people, in the product's own words; any other waiting is stuck.
PARKED = {"broker_asked", "quote_missing", "price_drifted", "policy_stricter"}


@dataclass
class Intent:
    """One order as it was proposed, and whether people agreed to it."""

    ticket_id: UUID
    account: str
    side: str
    quantity: Decimal
    price: Decimal
    is_approved: bool
    # Which leg of its ticket it is; the price of a stop is where it triggers.
    number: int = 1
    order_type: str = "LMT"
    # Questions of the broker that were answered yes in advance.
    accepted: set[str] = field(default_factory=set)
    # What people changed it to, and may change it to once.
    amended_price: Decimal | None = None
    # Known when it was halted or withdrawn: from then on nothing may be sent for it.
    barred_ms: int | None = None

    @property
    def key(self) -> tuple[UUID, int]:
        return self.ticket_id, self.number

    def is_(self, row: dict[str, Any]) -> bool:
        """Whether an order of the book has exactly these terms."""
        wanted = (self.account, self.side.upper(), self.quantity, self.order_type)
        found = (row["account"], row["side"], Decimal(row["quantity"]), row["order_type"])
        return wanted == found and price_of(row) in {self.price, self.amended_price}


def price_of(row: dict[str, Any]) -> Decimal:
    """Of an order in the book: its limit, or where a stop triggers."""
    return Decimal(row["limit_price"] or row["stop_price"] or 0)


@dataclass
class Ledger:
    """What our own rows say of one intent."""

    ticket: str
    refusal: str
    order: str
    price: Decimal
    filled: Decimal
    is_cancel_asked: bool
    attempts: list[tuple[str, str]]
    changes: list[str]
    amended: list[str]
    executed: Decimal
    was_doubted: bool
    was_revived: bool
    # Why it went back to people; "" where it did not.
    waits_for: str


@dataclass
class Verdict:
    """What one run did. Every count but `parked` and `doubted` must be zero."""

    duplicates: int = 0
    lost: int = 0
    unapproved: int = 0
    sent_after_halt: int = 0
    stuck: int = 0
    parked: int = 0
    doubted: int = 0
    settled_itself: int = 0
    why: list[str] = field(default_factory=list)

    def blame(self, count: str, why: str, times: int = 1) -> None:
        if times > 0:
            setattr(self, count, getattr(self, count) + times)
            self.why.append(f"{count}: {why}")

    @property
    def is_clean(self) -> bool:
        return not any(getattr(self, name) for name in COUNTS)


@dataclass
class Evidence:
    """Everything that is judged: the book's new rows, and a ledger entry for each intent."""

    intents: list[Intent]
    ledgers: dict[tuple[UUID, int], Ledger]
    orders: list[dict[str, Any]]
    arrivals: list[dict[str, Any]]
    # Open reports, and orders of the book that the harness itself entered at the broker.
    waiting: int = 0
    manual: set[int] = field(default_factory=set)
    is_halted: bool = False
    # Halted with everything canceled: what comes to the broker after all ends there, too.
    must_end: bool = False

    def rests(self, ledger: Ledger) -> bool:
        """Nothing of it is on its way, as far as the ledger knows; a halt holds back what never left."""
        if ledger.waits_for:
            return ledger.waits_for in PARKED
        unsettled = UNSETTLED - {"prepared"} if self.is_halted else UNSETTLED
        if any(status in unsettled for status, _ in ledger.attempts) or UNSETTLED & set(ledger.changes):
            return False
        is_held = self.is_halted and any(status == "prepared" for status, _ in ledger.attempts)
        return is_held or ledger.order not in {"submitted", "pending_cancel"}


def difference(evidence: Evidence, intent: Intent) -> str:
    """Where ledger and book differ about one intent; "" where they agree."""
    ledger = evidence.ledgers[intent.key]
    rows = [row for row in evidence.orders if intent.is_(row)]
    if not rows:
        is_claimed = ledger.order in {"accepted", "partially_filled", "filled", "expired", "pending_cancel"}
        return f"{ledger.order} in the ledger, nowhere in the book" if is_claimed else ""
    row = rows[-1]
    if ledger.order not in IN_BOOK[row["status"]]:
        return f"{ledger.order} in the ledger, {row['status']} in the book"
    if ledger.price != price_of(row):
        return f"at {ledger.price} in the ledger, at {price_of(row)} in the book"
    if ledger.filled != Decimal(row["filled"]) or ledger.executed != Decimal(row["filled"]):
        return (
            f"{ledger.filled} filled ({ledger.executed} executed) in the ledger, {row['filled']} in the book"
        )
    return ""


def is_settled(evidence: Evidence) -> bool:
    """Whether everything came to rest and agrees."""
    if evidence.waiting:
        return False
    for intent in evidence.intents:
        ledger = evidence.ledgers[intent.key]
        if not evidence.rests(ledger) or difference(evidence, intent):
            return False
        if ledger.ticket == "allowed" and not evidence.is_halted:
            return False
        is_to_end = evidence.must_end or ledger.is_cancel_asked
        if is_to_end and ledger.order in {"accepted", "partially_filled"}:
            return False
    return all(row["status"] != "PendingCancel" for row in evidence.orders)


def judge(evidence: Evidence, *, settled: bool) -> Verdict:
    """Hold the run against the four invariants and the one of liveness (gates.md §6)."""
    verdict = Verdict()
    for intent in evidence.intents:
        _judge_one(evidence, intent, verdict, settled)
    for row in evidence.orders:
        known = any(intent.is_(row) for intent in evidence.intents)
        if not known and row["order_id"] not in evidence.manual:
            verdict.blame("unapproved", f"nobody proposed order {row['order_id']} of the book")
    if not settled and not verdict.stuck and verdict.is_clean:
        verdict.blame("stuck", f"it did not come to rest; {evidence.waiting} reports wait")
    return verdict


def _judge_one(evidence: Evidence, intent: Intent, verdict: Verdict, settled: bool) -> None:
    ledger = evidence.ledgers[intent.key]
    rows = [row for row in evidence.orders if intent.is_(row)]
    mine = {coid for _, coid in ledger.attempts} | {row["cOID"] for row in rows if row["cOID"]}
    arrivals = [each for each in evidence.arrivals if mine & set(each["cOIDs"])]
    verdict.blame("duplicates", f"{len(rows)} orders in the book for one intent", len(rows) - 1)
    changes = max((row["modifications"] for row in rows), default=0)
    verdict.blame("duplicates", f"amended {changes} times", changes - (intent.amended_price is not None))
    for coid in mine:
        times = sum(coid in each["cOIDs"] for each in arrivals)
        verdict.blame("duplicates", f"{coid} came to the broker {times} times", times - 1)
    _judge_permission(intent, rows, arrivals, verdict)
    said = difference(evidence, intent)
    if ledger.was_revived:
        verdict.blame("lost", "the ledger had called it ended while the broker had it")
    if said and (ledger.order in FINAL or not rows):
        verdict.blame("lost", said)
    elif said or (not settled and not evidence.rests(ledger)):
        verdict.blame("stuck", said or f"{ledger.ticket}, {ledger.order}, {ledger.attempts}")
    elif not settled and ledger.ticket == "allowed" and not evidence.is_halted:
        verdict.blame("stuck", "allowed, and not sent")
    verdict.parked += ledger.waits_for in PARKED
    verdict.doubted += ledger.was_doubted
    verdict.settled_itself += ledger.was_doubted and evidence.rests(ledger) and not ledger.waits_for


def _judge_permission(intent: Intent, rows: list[Any], arrivals: list[Any], verdict: Verdict) -> None:
    if not intent.is_approved:
        verdict.blame("unapproved", "nobody approved it", len(rows) or len(arrivals))
    for each in arrivals:
        unasked = set(each["confirmed"]) - intent.accepted
        if unasked:
            verdict.blame("unapproved", f"questions {sorted(unasked)} were answered yes")
        if intent.barred_ms is not None and each["at_ms"] > intent.barred_ms:
            verdict.blame("sent_after_halt", f"{each['at_ms'] - intent.barred_ms} ms after the halt")
