"""Replacing a broker's keys without losing the session."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import Credential, Login
from cerbero.models import DecisionRequest
from keyrotation.lifecycle import OPEN, Kind, Mode, RotationStatus


class RotationQuerySet(models.QuerySet["Rotation"]):
    def open(self) -> "RotationQuerySet":
        """Not in use yet, and not ended."""
        return self.filter(status__in=OPEN)

    def unfinished(self) -> "RotationQuerySet":
        """Whatever the sweep may still have to move on."""
        return self.filter(status__in=[*OPEN, RotationStatus.ACTIVE])


class Rotation(models.Model):
    """One replacement of a login's keys. At most one is open for a login, by a database constraint."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    login = models.ForeignKey(Login, models.PROTECT, related_name="rotations")
    credential = models.OneToOneField(Credential, models.PROTECT, null=True, related_name="rotation")
    # What was in use before the swap, and is put back by a roll back.
    previous = models.ForeignKey(Credential, models.PROTECT, null=True, related_name="+")
    status = models.CharField(max_length=11, choices=RotationStatus, default=RotationStatus.REQUESTED)
    kind = models.CharField(max_length=5, choices=Kind, default=Kind.KEYS)
    mode = models.CharField(max_length=10, choices=Mode, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    requested_by = models.CharField(max_length=150)
    # The people behind it so far: on a live login none of them confirms it.
    asked_by_ids = ArrayField(models.UUIDField(), default=list)
    request = models.ForeignKey(DecisionRequest, models.PROTECT, null=True, related_name="+")
    # The step that comes next: how often it failed in a row, why, and when it is tried again.
    failures = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True)
    next_try_at = models.DateTimeField(db_default=Now())
    # Set when it asks a person instead of trying again.
    stopped_at = models.DateTimeField(null=True)
    primes_tried = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    registered_at = models.DateTimeField(null=True)
    swapped_at = models.DateTimeField(null=True)
    # The proof after the swap has held.
    settled_at = models.DateTimeField(null=True)
    retire_at = models.DateTimeField(null=True)
    # From when until when neither set opened the login.
    dark_since = models.DateTimeField(null=True)
    dark_until = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = RotationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["login"],
                condition=Q(status__in=["requested", "generated", "registered", "proven"]),
                name="rotation_one_open_a_login",
            ),
            models.CheckConstraint(
                condition=Q(previous=None) | ~Q(previous=F("credential")), name="rotation_of_two_sets"
            ),
        ]
        permissions = [("rotate_keys", "Can start and abort key rotations")]

    def __str__(self) -> str:
        return f"rotation of {self.login}: {self.status}"


class SystemKey(models.Model):
    """A key that lives outside the database, by a MAC that tells it from its successor, and since when it was seen."""

    name = models.CharField(max_length=32)
    fingerprint = models.CharField(max_length=32)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "fingerprint"], name="system_key_once")]

    def __str__(self) -> str:
        return f"{self.name} {self.fingerprint[:8]}"
