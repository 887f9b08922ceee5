"""The state machines, all of them: what we may decide (COMMANDS) and what the broker may prove (REPORTS).

The same tables stand in the database as triggers (orders/migrations); a test holds the two equal.
"""

from django.db.models import TextChoices


class TicketStatus(TextChoices):
    PROPOSED = "proposed"
    ALLOWED = "allowed"
    SENT = "sent"
    DONE = "done"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


class Group(TextChoices):
    """How the orders of one ticket hang together; a ticket of one order has none (docs/groups.md)."""

    # An entry, its take profit and its stop loss; of the exits one cancels the other.
    BRACKET = "bracket"
    # Two orders, of which one cancels the other.
    OCO = "oco"
    # An entry, and the exit that waits for it.
    OTO = "oto"


class GroupState(TextChoices):
    """What became of a group at the broker, and what is done about a half that was not taken."""

    WATCHED = ""
    UNWINDING = "unwinding"
    COMPLETING = "completing"
    NAKED = "naked"
    SETTLED = "settled"


class OrderStatus(TextChoices):
    PENDING = "pending"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    REJECTED = "rejected"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    EXPIRED = "expired"


class AttemptStatus(TextChoices):
    PREPARED = "prepared"
    SENT = "sent"
    ANSWERED = "answered"
    IN_DOUBT = "in_doubt"
    SETTLED = "settled"


# With the broker, or perhaps with it.
UNSETTLED = frozenset({AttemptStatus.SENT, AttemptStatus.IN_DOUBT})

Moves = dict[str, frozenset[str]]

TICKET: Moves = {
    # To SENT without us, from here as from an end: a stale reply can go live after we said no to it.
    TicketStatus.PROPOSED: frozenset(
        {TicketStatus.ALLOWED, TicketStatus.DENIED, TicketStatus.WITHDRAWN, TicketStatus.SENT}
    ),
    # Back to PROPOSED when the market moved away from what was approved.
    TicketStatus.ALLOWED: frozenset(
        {TicketStatus.SENT, TicketStatus.DENIED, TicketStatus.WITHDRAWN, TicketStatus.PROPOSED}
    ),
    # Back to PROPOSED after a "no" to a broker's question, DENIED when it never arrived.
    TicketStatus.SENT: frozenset({TicketStatus.DONE, TicketStatus.DENIED, TicketStatus.PROPOSED}),
    TicketStatus.DONE: frozenset({TicketStatus.SENT}),
    TicketStatus.DENIED: frozenset({TicketStatus.SENT}),
    TicketStatus.WITHDRAWN: frozenset({TicketStatus.SENT}),
}

WORKING = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_CANCEL})
# What may still fill: limits count it as filled, whether the broker has answered or not.
OPEN = WORKING | {OrderStatus.SUBMITTED}
ENDED = frozenset({OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED})

# What the broker may prove of any order that ever had an attempt: real-world orders do all of these.
BROKER_STATES = WORKING | ENDED

COMMANDS: Moves = {
    OrderStatus.PENDING: frozenset({OrderStatus.SUBMITTED, OrderStatus.CANCELED}),
    # Back to PENDING when it is certain that nothing left or arrived.
    OrderStatus.SUBMITTED: frozenset({OrderStatus.PENDING, OrderStatus.CANCELED}),
    OrderStatus.ACCEPTED: frozenset({OrderStatus.PENDING_CANCEL}),
    OrderStatus.PARTIALLY_FILLED: frozenset({OrderStatus.PENDING_CANCEL}),
}

REPORTS: Moves = {status: BROKER_STATES - {status} for status in OrderStatus}

ORDER: Moves = {
    status: COMMANDS.get(status, frozenset()) | REPORTS.get(status, frozenset()) for status in OrderStatus
}

ATTEMPT: Moves = {
    AttemptStatus.PREPARED: frozenset({AttemptStatus.SENT, AttemptStatus.SETTLED}),
    # Back to PREPARED when it certainly did not leave.
    AttemptStatus.SENT: frozenset({AttemptStatus.ANSWERED, AttemptStatus.IN_DOUBT, AttemptStatus.PREPARED}),
    AttemptStatus.IN_DOUBT: frozenset({AttemptStatus.SETTLED}),
    AttemptStatus.ANSWERED: frozenset(),
    AttemptStatus.SETTLED: frozenset(),
}

# An amendment of a working order, decided and sent as a ticket is.
AMENDMENT: Moves = {
    TicketStatus.PROPOSED: frozenset({TicketStatus.ALLOWED, TicketStatus.DENIED, TicketStatus.WITHDRAWN}),
    TicketStatus.ALLOWED: frozenset({TicketStatus.SENT, TicketStatus.DENIED, TicketStatus.WITHDRAWN}),
    # Back to PROPOSED after a "no" to a broker's question. DENIED is also what the broker did not take.
    TicketStatus.SENT: frozenset({TicketStatus.DONE, TicketStatus.DENIED, TicketStatus.PROPOSED}),
    TicketStatus.DONE: frozenset(),
    # It turned out to have been taken after all.
    TicketStatus.DENIED: frozenset({TicketStatus.DONE}),
    TicketStatus.WITHDRAWN: frozenset(),
}

# What people settle in advance. Whatever has ended stays ended.
POLICY: Moves = {
    "proposed": frozenset({"active", "retired"}),
    "active": frozenset({"retired"}),
    "retired": frozenset(),
}
MANDATE: Moves = {
    "proposed": frozenset({"active", "declined"}),
    "active": frozenset({"revoked"}),
    "declined": frozenset(),
    "revoked": frozenset(),
}

# A difference is settled once; one that comes back is another case.
DRIFT: Moves = {"open": frozenset({"adopted", "ignored", "resolved"})}
