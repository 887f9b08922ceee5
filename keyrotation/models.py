"""Replacing a broker's keys without losing the session."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import Credential, Login
from keyrotation.lifecycle import RotationStatus


class Rotation(models.Model):
    """One replacement of a login's keys. At most one is open for a login, by a database constraint."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    login = models.ForeignKey(Login, models.PROTECT, related_name="rotations")
    credential = models.OneToOneField(Credential, models.PROTECT, null=True, related_name="rotation")
    status = models.CharField(max_length=11, choices=RotationStatus, default=RotationStatus.REQUESTED)
    reason = models.CharField(max_length=300, blank=True)
    requested_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["login"],
                condition=Q(status__in=["requested", "generated", "registered", "proven"]),
                name="rotation_one_open_a_login",
            )
        ]
        permissions = [("rotate_keys", "Can start and abort key rotations")]

    def __str__(self) -> str:
        return f"rotation of {self.login}: {self.status}"
