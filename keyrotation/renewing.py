"""Every column that one of the machine's keys made, and making it anew under the first of them.

In batches, each its own transaction, and a row is only written where nobody else wrote it meanwhile: it can be
ended at any moment and begun again, and what is done is left alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import models, transaction

from brokers import credentials, services
from brokers.models import Credential, Login
from cerbero import proofs
from cerbero.encryption import rewrap
from cerbero.errors import CannotDecrypt
from cerbero.models import Decision, DecisionRequest
from cerbero.people import codes, profile
from cerbero.people.models import CodeApp, Passkey, Profile
from cerbero.people.passkeys import is_sealed, seal_of
from orders import amending, judging, proven
from orders.models import Allowance, Amendment, Limits, LimitSet, TradingState
from orders.notices.models import Webhook
from orders.notices.sending import sealed_identity

BATCH = 200


@dataclass(frozen=True)
class Made:
    """One column that a key made, and how a row's value is made anew; `renewed` raises CannotDecrypt where no key opens it."""

    model: type[models.Model]
    column: str
    renewed: Callable[[Any, Any], Any]

    def __str__(self) -> str:
        return f"{self.model._meta.model_name}.{self.column}"


def _ciphertext(model: type[models.Model], column: str, bound_to: Callable[[Any], str]) -> Made:
    return Made(model, column, lambda row, before: rewrap(before, bound_to(row)))


def _mark(
    model: type[models.Model], column: str, holds: Callable[[Any], bool], made: Callable[[Any], Any]
) -> Made:
    """What does not hold is worth nothing under any key, and stays so."""
    return Made(model, column, lambda row, before: made(row) if holds(row) else before)


def _by_encryption_key() -> Iterator[Made]:
    for column in credentials.SECRET_COLUMNS:
        yield _ciphertext(Credential, column, partial(_at, credentials.bound_to, column))
    for column in ("session_token", "socket_session"):
        yield _ciphertext(Login, column, partial(_at, services.bound_to, column))
    for what in ("url", "secret", "former"):
        yield _ciphertext(Webhook, f"sealed_{what}", partial(_at, sealed_identity, what))
    yield _ciphertext(CodeApp, "secret", lambda row: codes.bound_to(row.person))
    yield _mark(Passkey, "seal", is_sealed, seal_of)


def _by_secret_key() -> Iterator[Made]:
    yield _mark(DecisionRequest, "proof", proofs.holds_request, proofs.of_request)
    yield _mark(Decision, "proof", lambda row: proofs.holds_decision(row, row.request), proofs.of_decision)
    yield _mark(Profile, "proof", profile.is_proven, profile.proof_of)
    yield _mark(Allowance, "proof", judging.is_proven, judging.proof_of)
    yield _mark(Amendment, "proof", amending.is_ours, amending.proof_of)
    for model in (TradingState, Limits, LimitSet):
        yield _mark(model, "proof", lambda row: row.is_proven, proven.proof_of)


def _at(bound_to: Callable[[Any, str], str], column: str, row: Any) -> str:
    return bound_to(row, column)


BY_ENCRYPTION_KEY, BY_SECRET_KEY = tuple(_by_encryption_key()), tuple(_by_secret_key())


@dataclass
class Outcome:
    """What a run did with one column."""

    column: str
    renewed: int = 0
    left: int = 0
    unreadable: int = 0


def renew_all(columns: Iterable[Made]) -> list[Outcome]:
    """Make everything anew under the first key; says for each column how many there were, and how many would not."""
    return [_renew_column(each) for each in columns]


def _renew_column(made: Made) -> Outcome:
    outcome, last = Outcome(str(made)), None
    filled = made.model._base_manager.exclude(**{f"{made.column}__in": _nothing(made)})
    rows = filled.exclude(**{made.column: None}).order_by("pk")
    while batch := list((rows.filter(pk__gt=last) if last else rows)[:BATCH]):
        with transaction.atomic(durable=True):
            for row in batch:
                _renew_row(made, row, outcome)
        last = batch[-1].pk
    return outcome


def _nothing(made: Made) -> list[Any]:
    return [b""] if isinstance(made.model._meta.get_field(made.column), models.BinaryField) else [""]


def _renew_row(made: Made, row: Any, outcome: Outcome) -> None:
    value = getattr(row, made.column)
    before = value if isinstance(value, str) else bytes(value)
    try:
        after = made.renewed(row, before)
    except CannotDecrypt:
        outcome.unreadable += 1
        return
    if after == before:
        outcome.left += 1
        return
    rows = made.model._base_manager.filter(pk=row.pk, **{made.column: before})
    outcome.renewed += rows.update(**{made.column: after})
