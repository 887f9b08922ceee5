"""The trail: entries as they happen, the chain that seals them, and the signed heads of the chain.

Triggers (migration 0002) stamp entries and refuse UPDATE, DELETE and TRUNCATE; grants keep the application
from writing anything but entries (prepare_database). The owner of the tables can undo both: that is what the
chain, its signatures and the anchor outside the database are for (gates.md §7).
"""

from django.db import models
from django.db.models import Func
from django.db.models.functions import Now


class Entry(models.Model):
    """One thing that happened. Inserted only by `audit.services.record`, in the business transaction."""

    id = models.BigAutoField(primary_key=True)
    # Both are stamped by a trigger, whatever the INSERT says. The transaction's number, held against the
    # snapshot's xmin, orders entries by commit.
    transaction_id = models.BigIntegerField(db_default=0, editable=False)
    at = models.DateTimeField(db_default=Func(function="clock_timestamp"), editable=False)
    event = models.CharField(max_length=64)
    actor_kind = models.CharField(max_length=8)
    actor_id = models.UUIDField(null=True)
    actor_name = models.CharField(max_length=150)
    subject_kind = models.CharField(max_length=32, blank=True)
    subject_id = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "entries"
        indexes = [
            models.Index(fields=["transaction_id", "id"]),
            models.Index(fields=["subject_kind", "subject_id"]),
            models.Index(fields=["event", "at"]),
            models.Index(fields=["at"]),
        ]

    def __str__(self) -> str:
        return f"{self.event} by {self.actor_name}"


class Link(models.Model):
    """One entry's place in the chain: digest = SHA-256(previous digest, entry's canonical form)."""

    position = models.BigIntegerField(primary_key=True)
    entry_id = models.BigIntegerField(unique=True)
    digest = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.position}: {self.digest[:12]}"


class Checkpoint(models.Model):
    """The chain's head at one moment, signed with the seal key; the same note is anchored outside."""

    position = models.BigIntegerField(primary_key=True)
    digest = models.CharField(max_length=64)
    epoch = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)
    sealed_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"head {self.position}"


class Cursor(models.Model):
    """How far the sealer has read within one life of the database cluster; the newest number is in use.

    A restored database counts its transactions anew, so each life (epoch) has a cursor of its own.
    """

    epoch = models.CharField(max_length=64, primary_key=True)
    number = models.PositiveIntegerField(unique=True)
    first_position = models.BigIntegerField()
    transaction_id = models.BigIntegerField(default=0)
    entry_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.epoch}: {self.transaction_id}/{self.entry_id}"
