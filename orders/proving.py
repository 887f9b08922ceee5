"""What a halt may claim. *No working orders*: every known order ended by the broker's word for its id, and two
full lists that show none. *Flat*: every position zero in both. Anything less is said as it is (gates.md G14, §8).
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery

from audit.services import record
from brokers.base import Broker, BrokerOrderState, OrderReport
from brokers.models import Account, Login
from cerbero.access import Actor
from cerbero.leases import ClockTime
from orders.cancels import is_working, let_through, must_go, ours
from orders.halt_notes import LISTS, Notes, note_list, of_login
from orders.lifecycle import ENDED, UNSETTLED, WORKING, AttemptStatus, OrderStatus
from orders.models import Attempt, Halt, HaltedOrder, HaltMode, Order, Position, TradingState
from orders.trading import accounts_of, of_scope

ENDED_STATES = {
    BrokerOrderState.FILLED,
    BrokerOrderState.CANCELED,
    BrokerOrderState.EXPIRED,
    BrokerOrderState.REJECTED,
}


def logins_of(halt: Halt, *, enabled: bool = True) -> QuerySet[Login]:
    """The logins that must prove a halt's claims; `enabled` False are those that cannot be asked."""
    accounts = accounts_of(halt.scope, halt.scope_id)
    return Login.objects.filter(is_enabled=enabled, accounts__in=accounts).distinct().order_by("name")


def note_counts(halt: Halt, login: Login, listed: Sequence[OrderReport], asked_at: datetime) -> None:
    """Write down what one full list, together with the ledger, leaves to do."""
    ids = _working_ids(halt, login, listed)
    kept = halt.orders.filter(action=HaltedOrder.Action.KEEP).values_list("broker_order_id", flat=True)
    passed = _orders(halt, login).filter(let_through(halt)).values_list("broker_order_id", flat=True)
    flying = _flying(halt, login)
    note_list(
        halt,
        login,
        asked_at,
        left=len(ids - set(kept) - set(passed)) + flying.exclude(let_through(halt)).count(),
        working=len(ids) + flying.count(),
        positions=_positions(halt, login).count(),
    )


def note_fates(halt: Halt, login: Login, listed: Sequence[OrderReport], broker: Broker) -> None:
    """What became of orders that were not placed here: from the list, or by id where the list lacks them."""
    rows = {row.broker_order_id: row for row in listed}
    for each in halt.orders.filter(order=None, ended_at=None, account__login=login):
        row = rows.get(each.broker_order_id) or broker.order(each.broker_order_id)
        fate = row.state.value if row and row.state else each.fate
        ended_at = ClockTime() if row and row.state in ENDED_STATES else None
        HaltedOrder.objects.filter(pk=each.pk).update(fate=fate, ended_at=ended_at)


def conclude(actor: Actor, halt: Halt) -> None:
    """Bring fates and claims up to what is proven by now."""
    status = Order.objects.filter(pk=OuterRef("order_id")).values("status")
    mine = halt.orders.filter(order__isnull=False, ended_at=None)
    mine.update(fate=Subquery(status))
    mine.filter(fate__in=ENDED).update(ended_at=ClockTime())
    with transaction.atomic():
        row = Halt.objects.select_for_update().get(pk=halt.pk)
        if row.finished_at is None and not row.is_drill:
            _claim(actor, row)
    halt.refresh_from_db()


def is_disturbed(halt: Halt) -> bool:
    """Whether something that a finished halt must cancel has turned up, or an exit exits no longer."""
    if _flying(halt).exclude(let_through(halt)).exists():
        return True
    return any(_must_still_go(halt, login) for login in logins_of(halt))


def lists_of(halt: Halt, login: Login) -> list[Notes]:
    return of_login(halt.report, login).get("lists", [])


def nothing_left(halt: Halt, login: Login) -> bool:
    """Two lists in which nothing is left to cancel."""
    return len(lists_of(halt, login)) == LISTS and not any(each["left"] for each in lists_of(halt, login))


def _claim(actor: Actor, row: Halt) -> None:
    logins = list(logins_of(row))
    lists = [each for login in logins for each in lists_of(row, login)]
    is_read = all(len(lists_of(row, login)) == LISTS for login in logins)
    is_read = is_read and not logins_of(row, enabled=False).exists()
    at = max((datetime.fromisoformat(each["at"]) for each in lists), default=None) or row.halted_at
    is_bare = is_read and not any(each["working"] for each in lists)
    is_flat = is_read and row.scope != TradingState.Scope.BOT and not any(each["positions"] for each in lists)
    row.no_working_orders_at = at if is_bare else None
    row.flat_at = at if is_flat else None
    is_done = all(nothing_left(row, login) for login in logins)
    if row.mode == HaltMode.FLATTEN:
        is_done = is_bare and is_flat
    if is_done:
        row.finished_at = ClockTime()
        claims = {"no_working_orders": is_bare, "flat": is_flat}
        record("halt.finished", actor=actor, subject_kind="halt", subject_id=row.pk, details=claims)
    row.save(update_fields=["no_working_orders_at", "flat_at", "finished_at"])


def _must_still_go(halt: Halt, login: Login) -> bool:
    held = {
        (account, instrument): quantity
        for account, instrument, quantity in _positions(halt, login).values_list(
            "account_id", "broker_instrument_id", "quantity"
        )
    }
    return any(
        must_go(halt.mode, each, held.get((each.account.pk, each.broker_instrument_id), Decimal(0)))
        for each in ours(halt, login)
    )


def _working_ids(halt: Halt, login: Login, listed: Sequence[OrderReport]) -> set[str]:
    """At work by the ledger or by the list: both must agree that nothing is."""
    ledger = _orders(halt, login).filter(status__in=WORKING).values_list("broker_order_id", flat=True)
    ids = {row.broker_order_id for row in listed if is_working(row)}
    if halt.scope == TradingState.Scope.BOT:
        mine = _orders(halt, login).filter(broker_order_id__in=ids)
        return {*ledger, *mine.values_list("broker_order_id", flat=True)}
    accounts = set(_accounts(halt, login).values_list("broker_account_id", flat=True))
    here = (row for row in listed if is_working(row) and row.broker_account_id in accounts)
    return {*ledger, *(row.broker_order_id for row in here)}


def _orders(halt: Halt, login: Login) -> QuerySet[Order]:
    return Order.objects.filter(of_scope(halt.scope, halt.scope_id), ticket__account__login=login)


def _flying(halt: Halt, login: Login | None = None) -> QuerySet[Attempt]:
    """Sendings whose outcome is not known, or not in the ledger yet: nothing is proven while there are any."""
    at_login = Q(ticket__account__login=login) if login else Q()
    submitted = OrderStatus.SUBMITTED
    carries = Q(legs__order__status=submitted) | Q(legs=None, ticket__orders__status=submitted)
    unread = Q(status=AttemptStatus.ANSWERED) & carries
    rows = Attempt.objects.filter(Q(status__in=UNSETTLED) | unread, of_scope(halt.scope, halt.scope_id))
    return rows.filter(at_login).distinct()


def _accounts(halt: Halt, login: Login) -> QuerySet[Account]:
    return accounts_of(halt.scope, halt.scope_id).filter(login=login)


def _positions(halt: Halt, login: Login) -> QuerySet[Position]:
    return Position.objects.filter(account__in=_accounts(halt, login)).exclude(quantity=0)
