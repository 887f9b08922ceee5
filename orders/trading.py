"""Trading states: who may send what, and the halt that holds."""

from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.services import record
from brokers.models import Account
from brokers.reports import notify_orders
from cerbero.access import Actor, user_of
from cerbero.errors import NotFound, PermissionMissing, TradingHalted
from cerbero.models import Bot, Environment
from orders.lifecycle import AttemptStatus
from orders.models import Attempt, Limits, TradingState

Scope, State = TradingState.Scope, TradingState.State
_SEVERITY = {State.ACTIVE: 0, State.REDUCING: 1, State.HALTED: 2}


def ensure_states(account: Account | None = None, bot: Bot | None = None) -> None:
    """Create the rows that submissions lock; called when accounts and bots are made, and by the migrate step."""
    wanted = [(Scope.EVERYTHING, "")]
    if account is not None:
        wanted += [(Scope.BROKER, account.login.broker), (Scope.ACCOUNT, str(account.pk))]
    if bot is not None:
        wanted.append((Scope.BOT, str(bot.pk)))
    TradingState.objects.bulk_create(
        [TradingState(scope=scope, scope_id=scope_id) for scope, scope_id in wanted], ignore_conflicts=True
    )


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


def scopes_of(account: Account, bot_id: object | None) -> Q:
    """The rows that speak for an order of this account and bot."""
    rows = (
        Q(scope=Scope.EVERYTHING)
        | Q(scope=Scope.BROKER, scope_id=account.login.broker)
        | Q(scope=Scope.ACCOUNT, scope_id=str(account.pk))
    )
    return rows | Q(scope=Scope.BOT, scope_id=str(bot_id)) if bot_id else rows


def worst_state(account: Account, bot_id: object | None, *, lock: bool = False) -> str:
    """The strictest state that applies. A missing row counts as halted. `lock` holds halts off until commit."""
    rows = TradingState.objects.filter(scopes_of(account, bot_id)).order_by("scope", "scope_id")
    states = list((rows.select_for_update() if lock else rows).values_list("state", flat=True))
    if len(states) != (4 if bot_id else 3):
        return State.HALTED
    return max(states, key=lambda state: _SEVERITY[State(state)])


def require_open(state: str, *, reduce_only: bool, by_person: bool) -> None:
    """Raises TradingHalted unless an order of this kind may pass in `state` (house.md §6, reducing risk)."""
    if state == State.ACTIVE or (reduce_only and (state == State.REDUCING or by_person)):
        return
    raise TradingHalted(state=state)


def halt_trading(
    *, actor: Actor, scope: str = Scope.EVERYTHING, scope_id: str = "", reason: str
) -> dict[str, Any]:
    """Stop new orders in a scope. After it returns nothing new leaves; what is in flight is listed.

    Takes the same row lock as every submission. Those hold it for milliseconds and are ended by the
    database after 5 s (`submission.prepare`), so that a stuck one cannot keep a halt waiting.
    """
    _may_halt(actor, scope, scope_id)
    _set_state(actor, scope, scope_id, State.HALTED, reason, "trading.halted")
    return {
        "state": State.HALTED,
        "scope": scope,
        "scope_id": scope_id,
        "in_flight": in_flight(scope, scope_id),
    }


def resume_trading(*, actor: Actor, scope: str = Scope.EVERYTHING, scope_id: str = "", reason: str) -> None:
    """Make a scope active again: a person with the permission, never a bot."""
    require_permission(actor, "orders.resume_trading")
    _set_state(actor, scope, scope_id, State.ACTIVE, reason, "trading.resumed")
    notify_orders()


def in_flight(scope: str, scope_id: str) -> list[str]:
    """Client order ids of the attempts in this scope whose outcome is not known yet."""
    narrowed = {
        Scope.EVERYTHING: Q(),
        Scope.BROKER: Q(ticket__account__login__broker=scope_id),
        Scope.ACCOUNT: Q(ticket__account_id=scope_id or None),
        Scope.BOT: Q(ticket__bot_id=scope_id or None),
    }[Scope(scope)]
    unsettled = [AttemptStatus.SENT, AttemptStatus.IN_DOUBT]
    rows = Attempt.objects.filter(narrowed, status__in=unsettled)
    return list(rows.values_list("client_order_id", flat=True))


def _set_state(actor: Actor, scope: str, scope_id: str, state: str, reason: str, event: str) -> None:
    with transaction.atomic(durable=True):
        _bound_the_wait()
        changed = TradingState.objects.filter(scope=scope, scope_id=scope_id).update(
            state=state, changed_by=actor.name, reason=reason[:300], changed_at=Now()
        )
        if changed != 1:
            raise NotFound(scope=scope, scope_id=scope_id)
        details = {"scope": scope, "scope_id": scope_id, "reason": reason[:300]}
        record(event, actor=actor, subject_kind="tradingstate", subject_id=scope_id or scope, details=details)


def _bound_the_wait() -> None:
    """Longer than a submission may hold its locks, so that a halt outlives a stuck one."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '8s'")


def _may_halt(actor: Actor, scope: str, scope_id: str) -> None:
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
