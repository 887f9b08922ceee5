"""What a sending holds until its commit, and the statements whose WHERE is a lock; each is compiled once."""

from typing import Any

from django.db.models import Exists, Q
from django.db.models.functions import Now

from brokers.models import Login
from cerbero import leases
from cerbero.database.compiled import Asked, Compiled, CompiledUpdate, Given, together
from cerbero.errors import LeaseLost
from cerbero.leases import ClockTime
from cerbero.models import Decision, Lease
from orders import trading
from orders.lifecycle import AttemptStatus
from orders.models import LEGS, TICKET_ROWS, Attempt, Order, Ticket

# Nobody holds the trading states for long: a stuck submission is ended by the database itself. And what was committed
# stays committed through a crash of the database, also where it was told not to wait for its log: an arming that is
# forgotten would be armed, and sent, again.
_BOUNDS: Asked[Any] = Asked(
    "SELECT set_config('statement_timeout', '5s', true), "
    "set_config('idle_in_transaction_session_timeout', '5s', true), "
    "set_config('synchronous_commit', COALESCE("
    "NULLIF(current_setting('synchronous_commit'), 'off'), 'on'), true)"
)


def bound_locks() -> None:
    """Bound how long this transaction holds what it locks, and let it last once it is committed."""
    together(_BOUNDS)


def locked_state(ticket: Ticket) -> str:
    """The strictest trading state that applies, locked until the caller's transaction ends, which is bounded."""
    _, states = together(_BOUNDS, trading.states_asked(ticket.account, ticket.bot_id, lock=True))
    return trading.strictest(states, ticket.bot_id)


def locked(ticket: Ticket, hold: leases.Held) -> tuple[str, Ticket]:
    """The strictest trading state, and the ticket with everything around it as it is now, whenever the caller read it.

    All is locked until the caller's transaction ends, which is bounded: the lease first, then the states, then the
    ticket. Raises LeaseLost.
    """
    _, ours, states, (fresh,), legs, yeses = together(
        _BOUNDS,
        leases.OURS.asked(name=hold.name, fence=hold.fence),
        trading.states_asked(ticket.account, ticket.bot_id, lock=True),
        _TICKET.asked(ticket=ticket.pk),
        LEGS.asked(ticket=ticket.pk),
        _YESES.asked(ticket=ticket.pk),
    )
    if not ours:
        raise LeaseLost(lease=hold.name)
    fresh.take_legs(legs)
    if fresh.request is not None:
        fresh.request.yeses = yeses
    return trading.strictest(states, ticket.bot_id), fresh


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
_YESES = Compiled(lambda: Decision.objects.filter(request__ticket=Given("ticket"), is_yes=True))
_TICKET = Compiled(
    lambda: (
        Ticket.objects.select_for_update(of=("self",))
        .select_related(*TICKET_ROWS)
        .defer(*(f"account__login__{name}" for name in Login.OF_ITS_CALLS))
        .filter(pk=Given("ticket"))
    )
)
