"""Trading states: who may send what, and the halt that holds."""

from collections.abc import Sequence

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from audit.services import record
from brokers.models import Account
from brokers.reports import notify_orders
from cerbero.access import Actor, user_of
from cerbero.database.compiled import Asked, Compiled, Given, together
from cerbero.errors import NotFound, PermissionMissing, StateConflict, TradingHalted
from cerbero.leases import ClockTime
from cerbero.models import Bot, Environment
from orders.lifecycle import UNSETTLED
from orders.models import Attempt, ChangeAttempt, Halt, Limits, Order, TradingState

Scope, State = TradingState.Scope, TradingState.State
_SEVERITY = {State.ACTIVE: 0, State.REDUCING: 1, State.HALTED: 2}


def _applying() -> QuerySet[TradingState]:
    rows = TradingState.objects.filter(
        Q(scope=Scope.EVERYTHING)
        | Q(scope=Scope.BROKER, scope_id=Given("broker"))
        | Q(scope=Scope.ACCOUNT, scope_id=Given("account"))
        | Q(scope=Scope.BOT, scope_id=Given("bot"))
    )
    return rows.order_by("scope", "scope_id")


_STATES = Compiled(_applying)
_LOCKED_STATES = Compiled(lambda: _applying().select_for_update())


def ensure_states(account: Account | None = None, bot: Bot | None = None) -> None:
    """Create the rows that submissions lock; called when accounts and bots are made, and by the migrate step."""
    wanted = [(Scope.EVERYTHING, "")]
    if account is not None:
        wanted += [(Scope.BROKER, account.login.broker), (Scope.ACCOUNT, str(account.pk))]
    if bot is not None:
        wanted.append((Scope.BOT, str(bot.pk)))
    for scope, scope_id in wanted:
        TradingState.objects.get_or_create(scope=scope, scope_id=scope_id)


def ensure_all() -> None:
    """Give every account and bot that came since its row, and every account the default limits."""
    known = set(TradingState.objects.values_list("scope_id", flat=True))
    for account in Account.objects.select_related("login"):
        if str(account.pk) not in known:
            ensure_states(account=account)
        Limits.objects.get_or_create(account=account)
    for bot in Bot.objects.all():
        if str(bot.pk) not in known:
            ensure_states(bot=bot)


def worst_state(account: Account, bot_id: object | None, *, lock: bool = False) -> str:
    """The strictest state that applies. A row that is missing, or that does not prove itself, counts as halted.

    `lock` holds halts off until commit.
    """
    (rows,) = together(states_asked(account, bot_id, lock=lock))
    return strictest(rows, bot_id)


def states_asked(account: Account, bot_id: object | None, *, lock: bool = False) -> Asked[TradingState]:
    """The rows that speak for an order of this bot in this account, in the order in which everybody locks them."""
    named = {"broker": account.login.broker, "account": str(account.pk), "bot": str(bot_id or "")}
    return (_LOCKED_STATES if lock else _STATES).asked(**named)


def strictest(rows: Sequence[TradingState], bot_id: object | None) -> str:
    """The strictest of them; where one is missing it is halted."""
    if len(rows) != (4 if bot_id else 3):
        return State.HALTED
    return max((row.effective for row in rows), key=lambda state: _SEVERITY[State(state)])


def require_open(state: str, *, reduce_only: bool, by_person: bool) -> None:
    """Raises TradingHalted unless an order of this kind may pass in `state` (house.md §6, reducing risk)."""
    if state == State.ACTIVE or (reduce_only and (state == State.REDUCING or by_person)):
        return
    raise TradingHalted(state=state)


def stop_new(*, actor: Actor, scope: str, scope_id: str, reason: str, event: str = "trading.halted") -> None:
    """Halt a scope, inside the caller's transaction: once that has committed nothing new leaves.

    Takes the same row lock as every submission. Those hold it for milliseconds and are ended by the
    database after 5 s (`submission.prepare`), so that a stuck one cannot keep a halt waiting. Raises
    PermissionMissing or NotFound.
    """
    may_halt(actor, scope, scope_id)
    _set_state(actor, scope, scope_id, State.HALTED, reason, event)


def reduce_trading(*, actor: Actor, scope: str = Scope.EVERYTHING, scope_id: str = "", reason: str) -> None:
    """Let only cancels and closes pass in a scope. Raises StateConflict while it is halted: that is stricter.

    For people with the permission to halt, and for the system's own limits.
    """
    may_halt(actor, scope, scope_id)
    with transaction.atomic(durable=True):
        reduce_within(actor, scope, scope_id, reason)


def reduce_within(actor: Actor, scope: str, scope_id: str, reason: str) -> None:
    """Reduce a scope inside the caller's transaction. Raises StateConflict or NotFound."""
    if locked(scope, scope_id).effective == State.HALTED:
        raise StateConflict("This scope is halted, which is stricter; resume it first.", scope=scope)
    _set_state(actor, scope, scope_id, State.REDUCING, reason, "trading.reduced")


def resume_trading(*, actor: Actor, scope: str = Scope.EVERYTHING, scope_id: str = "", reason: str) -> None:
    """Make a scope active again: a person with the permission, never a bot.

    Raises StateConflict where it takes two: ask with `resuming.request_resume`, another decides.
    """
    require_permission(actor, "orders.resume_trading")
    if takes_two(scope, scope_id):
        raise StateConflict("This is resumed by two people: ask, and another decides.", scope=scope)
    with transaction.atomic(durable=True):
        activate(actor, scope, scope_id, reason)


def activate(actor: Actor, scope: str, scope_id: str, reason: str) -> None:
    """Lift what holds a scope, and disarm its halts. Runs in the caller's transaction."""
    _set_state(actor, scope, scope_id, State.ACTIVE, reason, "trading.resumed", needs_two=False)
    Halt.objects.armed().filter(scope=scope, scope_id=scope_id).update(released_at=ClockTime())
    notify_orders()


def locked(scope: str, scope_id: str) -> TradingState:
    """The row of a scope, locked against submissions until the caller's transaction ends. Raises NotFound."""
    _bound_the_wait()
    row = TradingState.objects.select_for_update().filter(scope=scope, scope_id=scope_id).first()
    if row is None:
        raise NotFound(scope=scope, scope_id=scope_id)
    return row


def takes_two(scope: str, scope_id: str) -> bool:
    """Whether two people resume a scope: where money is live, after a restore, and where a row was forged."""
    rows = TradingState.objects.filter(scope=scope, scope_id=scope_id)
    return any(row.needs_two or not row.is_proven for row in rows) or is_live(scope, scope_id)


def is_live(scope: str, scope_id: str) -> bool:
    """Whether orders with real money are held by this scope; an account that nobody called paper counts."""
    if not TradingState.objects.filter(scope=scope, scope_id=scope_id).exists():
        return False
    if scope == Scope.BOT:
        return Bot.objects.filter(pk=scope_id, environment=Environment.LIVE).exists()
    accounts = accounts_of(scope, scope_id)
    accounts = accounts.exclude(environment=Environment.PAPER, login__environment=Environment.PAPER)
    return accounts.filter(login__is_enabled=True).exists()


def accounts_of(scope: str, scope_id: str) -> QuerySet[Account]:
    """The accounts in which a scope's orders can rest."""
    narrowed = {
        Scope.EVERYTHING: Q(),
        Scope.BROKER: Q(login__broker=scope_id),
        Scope.ACCOUNT: Q(pk__in=[scope_id] if scope_id else []),
        Scope.BOT: Q(tickets__bot_id=scope_id or None),
    }[Scope(scope)]
    return Account.objects.filter(narrowed).select_related("login").distinct()


def in_flight(scope: str, scope_id: str) -> list[str]:
    """Client order ids of the attempts in this scope whose outcome is not known yet."""
    rows = Attempt.objects.filter(of_scope(scope, scope_id), status__in=UNSETTLED)
    return list(rows.values_list("client_order_id", flat=True))


def amendments_in_flight(scope: str, scope_id: str) -> list[str]:
    """The amendments in this scope whose outcome is not known yet, by the broker's numbers of their orders."""
    orders = Order.objects.filter(of_scope(scope, scope_id))
    rows = ChangeAttempt.objects.filter(order__in=orders, kind=ChangeAttempt.Kind.AMEND, status__in=UNSETTLED)
    return [f"amendment of {number}" for number in rows.values_list("broker_order_id", flat=True)]


def of_scope(scope: str, scope_id: str) -> Q:
    """Which attempts and orders belong to a scope."""
    return {
        Scope.EVERYTHING: Q(),
        Scope.BROKER: Q(ticket__account__login__broker=scope_id),
        Scope.ACCOUNT: Q(ticket__account_id=scope_id or None),
        Scope.BOT: Q(ticket__bot_id=scope_id or None),
    }[Scope(scope)]


def _set_state(
    actor: Actor,
    scope: str,
    scope_id: str,
    state: str,
    reason: str,
    event: str,
    *,
    needs_two: bool | None = None,
) -> None:
    row = locked(scope, scope_id)
    # What stood in a row that was forged is not carried on: two people lift what follows.
    row.needs_two = (row.needs_two or not row.is_proven) if needs_two is None else needs_two
    row.state, row.changed_by, row.reason = state, actor.name, reason[:300]
    row.changed_at = ClockTime()
    row.save()
    details = {"scope": scope, "scope_id": scope_id, "reason": reason[:300]}
    record(event, actor=actor, subject_kind="tradingstate", subject_id=scope_id or scope, details=details)


def _bound_the_wait() -> None:
    """Longer than a submission may hold its locks, so that a halt outlives a stuck one."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '8s'")


def may_halt(actor: Actor, scope: str, scope_id: str) -> None:
    """Raises PermissionMissing: a bot halts only itself, a person needs the permission."""
    if actor.is_bot and not (scope == Scope.BOT and scope_id == str(actor.id)):
        raise PermissionMissing("A bot halts only itself.")
    if actor.is_person:
        require_permission(actor, "orders.halt_trading")


def require_permission(actor: Actor, permission: str) -> None:
    """Raises PermissionMissing unless the actor is an active person with the permission.

    Raises ScopeMissing or SignInRequired for a person's token that does not open it.
    """
    actor.require_opened(permission)
    person = user_of(actor)
    if person is None or not person.has_perm(permission):
        raise PermissionMissing(permission=permission)


def must_be_signed(account: Account) -> bool:
    """Whether a yes needs a passkey: everywhere but where both rows say paper.

    The login's keys are encrypted for its environment: whoever rewrites that row can no longer send by it.
    """
    return {account.environment, account.login.environment} != {Environment.PAPER}
