"""Who is told that a decision waits, by which way, who has seen it, and who is on duty."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from cerbero.models import DecisionRequest, User

WAITING, ESCALATED, ALERT = "decision.waiting", "decision.escalated", "alert.raised"
EVENTS = {
    WAITING: "a decision waits for people",
    ESCALATED: "half of its time is gone and nobody has decided",
    ALERT: "a break: drift, a login or an account that was stopped",
}


def all_events() -> list[str]:
    """What a new webhook is told of unless it is said otherwise."""
    return list(EVENTS)


class Webhook(models.Model):
    """A place that is told. Its address opens it for anybody (Slack's do), so that is stored like its secret."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=64, unique=True)
    host = models.CharField(max_length=253, editable=False)
    sealed_url = models.BinaryField()
    sealed_secret = models.BinaryField()
    # While the receiver changes over, deliveries are signed by the former secret too.
    sealed_former = models.BinaryField(default=b"", editable=False)
    former_until = models.DateTimeField(null=True, editable=False)
    secret_at = models.DateTimeField(null=True, editable=False)
    events = ArrayField(models.CharField(max_length=32, choices=list(EVENTS.items())), default=all_events)
    is_active = models.BooleanField(default=True)
    # After failures in a row it is left alone until then, so that a dead one holds up nobody.
    failures = models.PositiveSmallIntegerField(default=0)
    rests_until = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # What a second Administrator was asked before it was switched on.
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="webhook")

    def __str__(self) -> str:
        return f"{self.name} ({self.host})"

    @property
    def waits(self) -> bool:
        """Whether it waits for a second Administrator."""
        asked = self.request_id
        return asked is not None and DecisionRequest.objects.open().filter(pk=asked).exists()


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> "DeliveryQuerySet":
        """Not yet out, whose next try has come, to a webhook that is on and does not rest, or to a person."""
        is_ready = Q(webhook=None) | Q(webhook__is_active=True, webhook__rests_until__lte=Now())
        return self.filter(is_ready, sent_at=None, given_up_at=None, next_at__lte=Now()).order_by("next_at")


class Delivery(models.Model):
    """One thing to be told to one place or person: the row is the queue. It says a text and decides nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.CharField(max_length=32, choices=list(EVENTS.items()))
    key = models.CharField(max_length=100, help_text="the same news never goes twice to one receiver")
    webhook = models.ForeignKey(Webhook, models.CASCADE, null=True, related_name="deliveries")
    person = models.ForeignKey(User, models.PROTECT, null=True, related_name="notices")
    request = models.ForeignKey(DecisionRequest, models.PROTECT, null=True, related_name="notices")
    subject = models.CharField(max_length=150)
    body = models.CharField(max_length=1000)
    path = models.CharField(max_length=200, help_text="the page where people decide")
    tries = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["key", "webhook"], name="delivery_once_a_webhook"),
            models.UniqueConstraint(fields=["key", "person"], name="delivery_once_a_person"),
            models.CheckConstraint(
                condition=Q(webhook=None, person__isnull=False) | Q(webhook__isnull=False, person=None),
                name="delivery_has_one_receiver",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_at"], condition=Q(sent_at=None, given_up_at=None), name="delivery_waiting"
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook or self.person}"


class OutageQuerySet(models.QuerySet["Outage"]):
    def running(self) -> "OutageQuerySet":
        return self.filter(ended_at=None)


class Outage(models.Model):
    """A session, feed or process that was dead or silent, since when and until when; people are told of each once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    words = models.CharField(max_length=400)
    began_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    objects = OutageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], condition=Q(ended_at=None), name="outage_one_a_name")
        ]

    def __str__(self) -> str:
        return f"{self.name} since {self.began_at:%Y-%m-%d %H:%M:%S} UTC"


class Seen(models.Model):
    """A decision request stood on this person's screen, and since when."""

    request = models.ForeignKey(DecisionRequest, models.PROTECT, related_name="seen")
    person = models.ForeignKey(User, models.PROTECT, related_name="seen")
    seen_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "seen"
        constraints = [models.UniqueConstraint(fields=["request", "person"], name="seen_once_a_person")]

    def __str__(self) -> str:
        return f"{self.person} saw {self.request}"


class DutyQuerySet(models.QuerySet["Duty"]):
    def now(self) -> "DutyQuerySet":
        """Shifts that run at this moment, by the database's clock, of people who are active."""
        return self.filter(starts_at__lte=Now(), ends_at__gt=Now(), person__is_active=True)


class Duty(models.Model):
    """A shift: this person is told first, from then until then."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(User, models.PROTECT, related_name="duties")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = DutyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "duties"
        # Going off duty before the shift began leaves one of no length.
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="duty_ends_after_it_starts")
        ]
        permissions = [("take_duty", "Can go on and off duty")]

    def __str__(self) -> str:
        return f"{self.person} until {self.ends_at:%Y-%m-%d %H:%M} UTC"
