"""Rows written past this program: they open nothing (orders/proven.py), and here people are told of them.

The scope that such a row speaks for is halted, which two people lift once the row is right again.
"""

from typing import Any

from django.db import transaction

from cerbero.access import Actor
from cerbero.database.compiled import Compiled, together
from orders import trading
from orders.models import Limits, LimitSet, TradingState
from orders.notices.alerting import alert

Scope, State = TradingState.Scope, TradingState.State
CODE = "not_proven"
_STATES = Compiled(lambda: TradingState.objects.all())
_LIMITS = Compiled(lambda: Limits.objects.all())
_SETS = Compiled(lambda: LimitSet.objects.all())


def halt_forged(actor: Actor) -> list[str]:
    """Halt what unproven rows speak for, unless it is; returns what each was, in words."""
    held_rows, limits, sets = together(_STATES.asked(), _LIMITS.asked(), _SETS.asked())
    states = {(row.scope, row.scope_id): row for row in held_rows}
    found = [(*key, f"the trading state of {row.label}") for key, row in states.items() if not row.is_proven]
    wrong: list[tuple[str, str, str]] = [
        *((Scope.ACCOUNT, str(row.pk), str(row)) for row in _unproven(limits)),
        *((Scope.EVERYTHING, "", f"the limit set of {row}") for row in _unproven(sets)),
    ]
    for scope, scope_id, words in wrong:
        held = states.get((scope, scope_id))
        if held is not None and held.effective != State.HALTED:
            found.append((scope, scope_id, words))
    for scope, scope_id, words in found:
        _halt(actor, scope, scope_id, f"{CODE}: {words} was written past this program")
    return [words for *_, words in found]


def _unproven(rows: list[Any]) -> list[Any]:
    return [row for row in rows if not row.is_proven]


def _halt(actor: Actor, scope: str, scope_id: str, reason: str) -> None:
    with transaction.atomic(durable=True):
        trading.stop_new(actor=actor, scope=scope, scope_id=scope_id, reason=reason)
        held = TradingState.objects.filter(scope=scope, scope_id=scope_id)
        held.update(needs_two=True)
        alert(
            f"{CODE}:{scope}:{scope_id}:{held.get().revision}",
            f"{held.get().label} is halted: somebody writes to the database past this program",
            f"{reason}. Look at who can reach the database, and at the values; then two people resume.",
            path="/admin/resume/",
            is_urgent=True,
        )
