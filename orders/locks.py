"""What a sending holds until its commit, and the statements whose WHERE is a lock; each is compiled once."""

from typing import Any

from django.db import connection
from django.db.models import Exists, Q
from django.db.models.functions import Now

from brokers.models import Login
from cerbero.database.compiled import Compiled, CompiledUpdate, Given
from cerbero.leases import ClockTime
from cerbero.models import Lease
from orders import trading
from orders.lifecycle import AttemptStatus
from orders.models import TICKET_ROWS, Attempt, Order, Ticket


def bound_locks() -> None:
    """Nobody holds the trading states for long: a stuck submission is ended by the database itself.

    And what was committed stays committed through a crash of the database, also where it was told not to wait for
    its log: an arming that is forgotten would be armed, and sent, again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', '5s', true), "
            "set_config('idle_in_transaction_session_timeout', '5s', true), "
            "set_config('synchronous_commit', COALESCE("
            "NULLIF(current_setting('synchronous_commit'), 'off'), 'on'), true)"
        )


def locked_state(ticket: Ticket) -> str:
    """The strictest trading state that applies, locked until the caller's transaction ends."""
    return trading.worst_state(ticket.account, ticket.bot_id, lock=True)


def locked_ticket(ticket: Ticket) -> Ticket:
    """The ticket with everything around it as it is now, whenever the caller read it."""
    (row,) = _TICKET.rows(ticket=ticket.pk)
    return row


def leased(name: Any, fence: Any) -> Exists:
    """That a lease is ours at this very moment, as a condition of a query."""
    return Exists(Lease.objects.filter(name=name, fence=fence, expires_at__gt=ClockTime()))


def _ours(status: str) -> Any:
    held = leased(Given("lease"), Given("fence"))
    return Attempt.objects.filter(held, pk=Given("attempt"), fence=Given("fence"), status=status)


def _arming() -> CompiledUpdate:
    # As Attempt.carried has it: of a group only what this sending carries.
    carried = Q(ticket__group="") | Q(sendings__attempt=Given("attempt"))
    canceled = Order.objects.filter(carried, ticket=Given("ticket"), cancel_requested_at__isnull=False)
    return CompiledUpdate(
        lambda: _ours(AttemptStatus.PREPARED).filter(~Exists(canceled)),
        status=AttemptStatus.SENT,
        sent_at=Now(),
    )


# Of an attempt that is ours under the lease: armed unless its order is to be canceled; and that it is armed still.
ARM = _arming()
ARMED = Compiled(lambda: _ours(AttemptStatus.SENT).values_list("pk", flat=True))
ATTEMPTS = Compiled(lambda: Attempt.objects.filter(ticket=Given("ticket")).values_list("pk", flat=True))
_TICKET = Compiled(
    lambda: (
        Ticket.objects.select_for_update(of=("self",))
        .select_related(*TICKET_ROWS)
        .defer(*(f"account__login__{name}" for name in Login.OF_ITS_CALLS))
        .filter(pk=Given("ticket"))
    )
)
