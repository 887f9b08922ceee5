"""What was sent to a broker, each in a row that is committed before the wire."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from orders.lifecycle import AttemptStatus


class Attempt(models.Model):
    """One sending of one ticket. The row is committed before the wire; the outcome after."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ticket = models.ForeignKey("orders.Ticket", models.PROTECT, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    client_order_id = models.CharField(max_length=32, unique=True)
    digest = models.CharField(max_length=64, help_text="of the terms that were sent; equals the ticket's")
    status = models.CharField(max_length=8, choices=AttemptStatus, default=AttemptStatus.PREPARED)
    fence = models.BigIntegerField()
    outcome = models.JSONField(default=dict)
    prepared_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    # When the broker, with a live session, was last asked in vain, and how often.
    absent_at = models.DateTimeField(null=True)
    absent_count = models.PositiveSmallIntegerField(default=0)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["ticket", "number"], name="attempt_number_once_a_ticket"),
            models.UniqueConstraint(
                fields=["ticket"],
                condition=Q(status__in=["prepared", "sent", "in_doubt"]),
                name="attempt_one_unsettled_a_ticket",
            ),
        ]

    def __str__(self) -> str:
        return self.client_order_id
