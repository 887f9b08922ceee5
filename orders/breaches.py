"""What follows when a limit is reached: a bot that repeats itself is halted, an account may only reduce.

Each runs in its caller's transaction or makes its own; only a named person puts a state back.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.models import Account
from cerbero import access
from cerbero.access import Actor
from orders.limits import Subject, applying, read_book
from orders.models import Ticket, TradingState
from orders.notices.alerting import alert
from orders.risk import Book, Bounds, Check
from orders.risk.time import loss_today
from orders.risk.values import money, shown

Scope, State = TradingState.Scope, TradingState.State
ACTOR = "limits"


def halt_repeating(ticket: Ticket, refused: Iterable[Check]) -> None:
    """Halt the bot of a ticket that the repeated-order throttle refused. Runs in the caller's transaction."""
    found = next((check for check in refused if check.code == "repeats_max"), None)
    if found is None or ticket.bot_id is None:
        return
    reason = f"the same order {found.value} times, {found.limit} are allowed"
    _move(Scope.BOT, str(ticket.bot_id), State.HALTED, reason, {"ticket": str(ticket.pk)})


def watch_day(account: Account) -> None:
    """Let an account that reached a daily limit only reduce; a person resumes it, and while the limit stays
    reached the next look moves it again. Without limits nothing may be ordered anyway."""
    if not hasattr(account, "limits"):
        return
    rules = applying(account, None)
    book = read_book(Subject(account, None), rules)
    reached = reached_today(book, rules.bounds)
    if reached:
        with transaction.atomic():
            _move(
                Scope.ACCOUNT, str(account.pk), State.REDUCING, "; ".join(reached), {"account": str(account)}
            )


def reached_today(book: Book, bounds: Bounds) -> list[str]:
    """Which of the account's own daily limits are reached, in words. Pure."""
    loss, day = loss_today(book.net_liquidation, book.day_start), book.counted[0]
    found = []
    if loss is not None and loss >= bounds.daily_loss_max:
        found.append(f"daily loss {money(loss)} of {shown(bounds.daily_loss_max)}")
    if day.turnover is not None and day.turnover >= bounds.daily_turnover_max:
        found.append(f"daily turnover {money(day.turnover)} of {shown(bounds.daily_turnover_max)}")
    if day.orders_day >= bounds.daily_orders_max:
        found.append(f"{day.orders_day} orders today of {bounds.daily_orders_max}")
    return found


def _move(scope: str, scope_id: str, state: str, reason: str, details: dict[str, str]) -> None:
    """Only ever to a stricter state; the WHERE clause is the lock."""
    weaker = [State.ACTIVE] if state == State.REDUCING else [State.ACTIVE, State.REDUCING]
    actor: Actor = access.system(ACTOR)
    changed = TradingState.objects.filter(scope=scope, scope_id=scope_id, state__in=weaker).update(
        state=state, changed_by=actor.name, reason=reason[:300], changed_at=Now()
    )
    if changed:
        event = "trading.halted" if state == State.HALTED else "trading.reduced"
        record(
            event,
            actor=actor,
            subject_kind="tradingstate",
            subject_id=scope_id,
            details={"scope": scope, "scope_id": scope_id, "reason": reason[:300], **details},
        )
        row = TradingState.objects.get(scope=scope, scope_id=scope_id)
        now = "is halted" if state == State.HALTED else "may only reduce"
        alert(
            f"breach:{row.pk}:{row.revision}",
            f"{row.label} {now}: a limit is reached",
            reason,
            path="/admin/halt/",
        )
