"""What was sent to a broker, each in a row that is committed before the wire, and what was asked about it since."""

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import MONEY, Account
from cerbero.models import Bot, DecisionRequest, User
from orders.lifecycle import AttemptStatus, TicketStatus

if TYPE_CHECKING:
    from orders.models import Order

_UNSETTLED = Q(status__in=["prepared", "sent", "in_doubt"])


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
    # When it was armed: the last commit before the wire.
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
                fields=["ticket"], condition=_UNSETTLED, name="attempt_one_unsettled_a_ticket"
            ),
        ]
        indexes = [models.Index(fields=["prepared_at"], name="attempt_prepared")]

    def __str__(self) -> str:
        return self.client_order_id

    @property
    def carried(self) -> "models.QuerySet[Order]":
        """The orders that it sends: a group's first sending carries all, one that completes it only what was missing."""
        orders = self.ticket.orders.order_by("number")
        return orders.filter(sendings__attempt=self) if self.ticket.group else orders

    @property
    def completes(self) -> bool:
        """Whether it sends again what the broker did not take of a group that was approved and sent."""
        return self.ticket.group != "" and self.legs.filter(order__completes__isnull=False).exists()


class AttemptLeg(models.Model):
    """One order of a group in one sending, by our own id for it. An exit that waits for its entry carries none on the
    wire (ibkr-web-api.md §6.2): its id is the ledger's alone.
    """

    attempt = models.ForeignKey(Attempt, models.PROTECT, related_name="legs")
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="sendings")
    client_order_id = models.CharField(max_length=32, unique=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attempt", "order"], name="attempt_leg_once_an_attempt"),
        ]

    def __str__(self) -> str:
        return self.client_order_id


class Amendment(models.Model):
    """Other terms for an order that works. Bound to the terms and the fill that the broker named when it was asked;
    `quantity` is the total, with what is filled.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="amendments")
    bot = models.ForeignKey(Bot, models.PROTECT, null=True, related_name="+")
    person = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    was_quantity = models.DecimalField(**MONEY)
    was_limit_price = models.DecimalField(**MONEY, null=True)
    was_stop_price = models.DecimalField(**MONEY, null=True)
    filled_quantity = models.DecimalField(**MONEY)
    quantity = models.DecimalField(**MONEY)
    limit_price = models.DecimalField(**MONEY, null=True)
    stop_price = models.DecimalField(**MONEY, null=True)
    # Nothing grows and no price gets more aggressive: it passes under the order's first approval (gates.md §8).
    tightens = models.BooleanField()
    digest = models.CharField(max_length=64)
    proof = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    status = models.CharField(max_length=9, choices=TicketStatus, default=TicketStatus.PROPOSED)
    refusal_code = models.CharField(max_length=48, blank=True)
    refusal = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True)
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="amendment")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    allowed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(status__in=["proposed", "allowed", "sent"]),
                name="amendment_one_open_an_order",
            ),
            models.CheckConstraint(
                condition=Q(quantity__gt=models.F("filled_quantity")), name="amendment_leaves_something"
            ),
        ]

    def __str__(self) -> str:
        return f"amendment of {self.order_id}"


class ChangeAttempt(models.Model):
    """One asking for a cancel or an amendment. A cancel may be asked for again, by another row; an amendment never."""

    class Kind(models.TextChoices):
        CANCEL = "cancel"
        AMEND = "amend"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=6, choices=Kind)
    account = models.ForeignKey(Account, models.PROTECT, related_name="+")
    # Empty for an order that was not placed here; `broker_order_id` is then all that is known.
    order = models.ForeignKey("orders.Order", models.PROTECT, null=True, related_name="changes")
    broker_order_id = models.CharField(max_length=32, help_text="-1 is every order of the account")
    amendment = models.ForeignKey(Amendment, models.PROTECT, null=True, related_name="attempts")
    asked_by = models.CharField(max_length=150)
    digest = models.CharField(max_length=64, blank=True, help_text="of the amendment that was sent")
    status = models.CharField(max_length=8, choices=AttemptStatus, default=AttemptStatus.PREPARED)
    fence = models.BigIntegerField(default=0)
    outcome = models.JSONField(default=dict)
    prepared_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    absent_at = models.DateTimeField(null=True)
    absent_count = models.PositiveSmallIntegerField(default=0)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order"], condition=_UNSETTLED & Q(kind="amend"), name="change_one_amend_an_order"
            ),
            models.CheckConstraint(
                condition=Q(kind="amend", amendment__isnull=False, order__isnull=False)
                | Q(kind="cancel", amendment=None),
                name="change_names_its_amendment",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "status"], condition=_UNSETTLED, name="change_unsettled"),
            models.Index(fields=["prepared_at"], condition=Q(kind="amend"), name="change_amend_prepared"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.broker_order_id}"

    @property
    def ticket(self) -> models.Model | None:
        return self.order.ticket if self.order else None


class Inquiry(models.Model):
    """One asking of the broker about something in doubt, and what came of it."""

    class Result(models.TextChoices):
        FOUND = "found"
        ABSENT = "absent"
        FAILED = "failed", "no answer"
        UNCLEAR = "unclear", "neither the old terms nor the new"

    attempt = models.ForeignKey(Attempt, models.PROTECT, null=True, related_name="inquiries")
    change = models.ForeignKey(ChangeAttempt, models.PROTECT, null=True, related_name="inquiries")
    asked_at = models.DateTimeField()
    looked_in = models.CharField(max_length=100, help_text="which of the broker's records")
    had_session = models.BooleanField(help_text="the session was live when the answers were read")
    result = models.CharField(max_length=8, choices=Result)
    text = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "inquiries"
        constraints = [
            models.CheckConstraint(
                condition=Q(attempt=None, change__isnull=False) | Q(attempt__isnull=False, change=None),
                name="inquiry_is_about_one",
            )
        ]

    def __str__(self) -> str:
        return f"{self.result} {self.asked_at:%H:%M:%S}"
