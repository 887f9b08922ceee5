"""Every sealed column that there is, and putting all of them under the machine's first encryption key.

In batches, each its own transaction, and a row is only written where nobody else wrote it meanwhile: it can be
ended at any moment and begun again, and what is done is left alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import models, transaction

from brokers import credentials, services
from brokers.models import Credential, Login
from cerbero.encryption import rewrap
from cerbero.errors import CannotDecrypt
from cerbero.people import codes
from cerbero.people.models import CodeApp
from orders.notices.models import Webhook
from orders.notices.sending import sealed_identity

BATCH = 200


@dataclass(frozen=True)
class Sealed:
    """One column of ciphertexts, and what each row's is bound to."""

    model: type[models.Model]
    column: str
    bound_to: Callable[[Any], str]

    def __str__(self) -> str:
        return f"{self.model._meta.model_name}.{self.column}"


def _columns() -> Iterator[Sealed]:
    for column in credentials.SECRET_COLUMNS:
        yield Sealed(Credential, column, partial(_at, credentials.bound_to, column))
    for column in ("session_token", "socket_session"):
        yield Sealed(Login, column, partial(_at, services.bound_to, column))
    for what in ("url", "secret", "former"):
        yield Sealed(Webhook, f"sealed_{what}", partial(_at, sealed_identity, what))
    yield Sealed(CodeApp, "secret", lambda row: codes.bound_to(row.person))


def _at(bound_to: Callable[[Any, str], str], column: str, row: Any) -> str:
    return bound_to(row, column)


COLUMNS = tuple(_columns())


@dataclass
class Outcome:
    """What a run did with one column."""

    column: str
    rewrapped: int = 0
    left: int = 0
    unreadable: int = 0


def rewrap_all() -> list[Outcome]:
    """Put every ciphertext under the first key; says for each column how many there were, and how many would not."""
    return [_rewrap_column(each) for each in COLUMNS]


def _rewrap_column(sealed: Sealed) -> Outcome:
    outcome, last = Outcome(str(sealed)), None
    while True:
        rows = sealed.model._default_manager.order_by("pk").exclude(**{sealed.column: b""})
        batch = list((rows.filter(pk__gt=last) if last else rows)[:BATCH])
        if not batch:
            return outcome
        with transaction.atomic(durable=True):
            for row in batch:
                _rewrap_row(sealed, row, outcome)
        last = batch[-1].pk


def _rewrap_row(sealed: Sealed, row: Any, outcome: Outcome) -> None:
    before = bytes(getattr(row, sealed.column))
    try:
        after = rewrap(before, sealed.bound_to(row))
    except CannotDecrypt:
        outcome.unreadable += 1
        return
    if after == before:
        outcome.left += 1
        return
    rows = sealed.model._default_manager.filter(pk=row.pk, **{sealed.column: before})
    outcome.rewrapped += rows.update(**{sealed.column: after})
