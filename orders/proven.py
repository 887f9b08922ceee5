"""Rows whose values open something, and that nobody decides on one by one: limits and trading states.

Each carries a MAC over all its values and over a revision, which the database draws anew at every change
(orders/migrations/0015). Whoever writes past this program has neither the key nor an old revision to go back to:
such a row proves nothing, and counts as the strictest that there is.
"""

from datetime import time
from decimal import Decimal
from functools import cache
from typing import Any

from django.db import models, transaction

from cerbero import proofs


def proof_of(row: models.Model) -> str:
    return proofs.of_body(*_words(row))


class ProvenQuerySet(models.QuerySet[Any]):
    def update(self, **changes: Any) -> int:
        """Rows that proved themselves go on doing so, with their new values; what was forged stays so."""
        with transaction.atomic():
            proven = [row.pk for row in self.select_for_update(of=("self",)) if row.is_proven]
            count = super().update(**changes)
            for row in self.model._base_manager.filter(pk__in=proven):
                row.sign()
        return count


class Proven(models.Model):
    """`save` takes the values for this program's own; whoever calls it has looked at what stood there before."""

    revision = models.BigIntegerField(default=0, db_default=0, editable=False)
    proof = models.CharField(max_length=64, default="", db_default="", editable=False)

    objects = ProvenQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            super().save(*args, **options)
            self.refresh_from_db()
            self.sign()

    @property
    def is_proven(self) -> bool:
        return proofs.holds_body(*_words(self), self.proof)

    def sign(self) -> None:
        """As the row stands in the database, read within this transaction."""
        self.proof = proof_of(self)
        type(self)._base_manager.filter(pk=self.pk).update(proof=self.proof)


def _words(row: models.Model) -> tuple[str, dict[str, Any]]:
    """A value that is its column's default is left out, so that a new column leaves old proofs as they are."""
    body = {
        name: _plain(value)
        for name, default in _defaults(type(row))
        if (value := getattr(row, name)) != default
    }
    return str(row._meta.model_name), body


@cache
def _defaults(model: type[models.Model]) -> tuple[tuple[str, Any], ...]:
    """Every column but the proof, with its default; a key has none."""
    fields = [each for each in model._meta.concrete_fields if each.name != "proof"]
    return tuple((each.attname, None if each.primary_key else each.get_default()) for each in fields)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if value is None or isinstance(value, bool | int | str | list):
        return value
    return value.isoformat() if isinstance(value, time) else str(value)
