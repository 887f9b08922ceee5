"""One run of the kill switch, and what became of each order that it met."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import Account
from cerbero.models import User


class HaltMode(models.TextChoices):
    """What a halt does to what rests at the broker (gates.md §8). New orders stop in each."""

    STOP_NEW = "stop_new", "stop new orders only"
    STOP_AND_CANCEL_OPENING = "stop_and_cancel_opening", "cancel what opens, keep exits"
    CANCEL_ALL = "cancel_all", "cancel every order"
    FLATTEN = "flatten", "cancel every order and close every position"


class HaltQuerySet(models.QuerySet["Halt"]):
    def armed(self) -> "HaltQuerySet":
        """Those that still hold: not resumed, and no drill."""
        return self.filter(released_at=None, is_drill=False)


class Halt(models.Model):
    """One use of the kill switch. The two claims are set only when the broker proved them, and taken back when
    something turns up; `report` says, login by login, what was read and what went wrong.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    scope = models.CharField(max_length=12)
    scope_id = models.CharField(max_length=64, blank=True)
    mode = models.CharField(max_length=24, choices=HaltMode)
    is_drill = models.BooleanField(default=False)
    by = models.CharField(max_length=150)
    # Whose closes a flatten places: a person may close while halted, nobody else.
    person = models.ForeignKey(User, models.PROTECT, null=True, related_name="halts")
    reason = models.CharField(max_length=300)
    started_at = models.DateTimeField()
    # When the locks were ours and the state stood: from its commit on nothing new leaves.
    halted_at = models.DateTimeField()
    # When everything that the mode asks for was proven; a late arrival takes it back.
    finished_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    no_working_orders_at = models.DateTimeField(null=True)
    flat_at = models.DateTimeField(null=True)
    report = models.JSONField(default=dict)

    objects = HaltQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["scope", "scope_id"], condition=Q(released_at=None), name="halt_held")
        ]

    def __str__(self) -> str:
        return f"{'drill' if self.is_drill else 'halt'} {self.pk}"


class HaltedOrder(models.Model):
    """One order that a halt met at the broker: whether it must go, what was asked, and its fate."""

    class Action(models.TextChoices):
        CANCEL = "cancel"
        KEEP = "keep"

    halt = models.ForeignKey(Halt, models.PROTECT, related_name="orders")
    account = models.ForeignKey(Account, models.PROTECT, related_name="+")
    # Empty for an order that was not placed through Cerbero.
    order = models.ForeignKey("orders.Order", models.PROTECT, null=True, related_name="halts")
    broker_order_id = models.CharField(max_length=32)
    label = models.CharField(max_length=200)
    effect = models.CharField(max_length=8, help_text="on the broker's position: opening or reducing")
    action = models.CharField(max_length=6, choices=Action)
    asked_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=48, blank=True, help_text="what the broker answered to the cancel")
    fate = models.CharField(max_length=16, blank=True)
    seen_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["halt", "account", "broker_order_id"], name="halted_order_once_a_halt"
            )
        ]

    def __str__(self) -> str:
        return f"{self.label}: {self.fate or self.action}"
