"""People, bots, what people are asked and what they answered, and who holds which lease."""

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.functional import cached_property
from uuid_utils.compat import uuid7

from cerbero.database.compiled import Compiled, Given


class Environment(models.TextChoices):
    PAPER = "paper"
    LIVE = "live"


class User(AbstractUser):
    """A person. Groups say what they may do: Operator, Approver, Auditor, Administrator."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """What groups give. Django's own answer would let `is_superuser` pass; here it opens nothing."""
        return perm in self.get_all_permissions(obj)

    def has_module_perms(self, app_label: str) -> bool:
        return any(perm.startswith(f"{app_label}.") for perm in self.get_all_permissions())


class Bot(models.Model):
    """A program that proposes. Its owner can never decide on what it proposes."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=64, unique=True)
    owner = models.ForeignKey(User, models.PROTECT, related_name="bots")
    environment = models.CharField(max_length=5, choices=Environment)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class AccessTokenQuerySet(models.QuerySet["AccessToken"]):
    def usable(self) -> "AccessTokenQuerySet":
        """Neither revoked nor expired by the database's clock, and the bot and its owner are active."""
        return self.filter(
            revoked_at=None, expires_at__gt=Now(), bot__is_active=True, bot__owner__is_active=True
        )


class AccessToken(models.Model):
    """A bot's bearer token: only its digest is kept; the prefix is for recognising it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    bot = models.ForeignKey(Bot, models.CASCADE, related_name="tokens")
    label = models.CharField(max_length=64, blank=True)
    prefix = models.CharField(max_length=8)
    digest = models.CharField(max_length=64, unique=True)
    environment = models.CharField(max_length=5, choices=Environment)
    scopes = ArrayField(models.CharField(max_length=32))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = AccessTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"cbr_{self.prefix}_…"


class PersonTokenQuerySet(models.QuerySet["PersonToken"]):
    def usable(self) -> "PersonTokenQuerySet":
        """Neither revoked nor expired by the database's clock, of a person who may sign in to the console."""
        return self.filter(
            revoked_at=None, expires_at__gt=Now(), person__is_active=True, person__is_staff=True
        )


class PersonToken(models.Model):
    """A bearer token of a person's own programs, for `/api/`: it reads and reduces risk. Only its digest is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(User, models.CASCADE, related_name="tokens")
    label = models.CharField(max_length=64, blank=True)
    prefix = models.CharField(max_length=8)
    digest = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=8))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = PersonTokenQuerySet.as_manager()

    class Meta:
        constraints = [
            # Whatever a bug or a hand at the database writes: there is no token that decides.
            models.CheckConstraint(
                condition=Q(scopes__contained_by=["read", "reject", "cancel", "close", "halt", "rotate"]),
                name="person_token_never_decides",
            )
        ]

    def __str__(self) -> str:
        return f"cbp_{self.prefix}_…"


class DecisionStatus(models.TextChoices):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    CONSUMED = "consumed"


class DecisionRequestQuerySet(models.QuerySet["DecisionRequest"]):
    def open(self) -> "DecisionRequestQuerySet":
        """Still waiting, by the database's clock."""
        return self.filter(status=DecisionStatus.PENDING, expires_at__gt=Now())

    def overdue(self) -> "DecisionRequestQuerySet":
        """Waiting, or approved and never used, past its time."""
        return self.filter(
            status__in=[DecisionStatus.PENDING, DecisionStatus.APPROVED], expires_at__lte=Now()
        )


class DecisionRequest(models.Model):
    """What people are asked. It binds a digest, is used once, and moves only as decisions.py allows."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    subject_kind = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    summary = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    facts = models.JSONField(default=dict)
    quorum = models.PositiveSmallIntegerField(default=1)
    group = models.CharField(max_length=64, default="Approver")
    # Frozen when asked: the requester and the bot's owner, whoever owns the bot later.
    excluded_user_ids = ArrayField(models.UUIDField(), default=list)
    requested_by = models.CharField(max_length=150)
    status = models.CharField(max_length=9, choices=DecisionStatus, default=DecisionStatus.PENDING)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    consumed_at = models.DateTimeField(null=True)
    # cerbero/proofs.py: that this program wrote the row, and the row is as it was written.
    proof = models.CharField(max_length=64, blank=True, default="", editable=False)

    objects = DecisionRequestQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(quorum__range=(1, 3)), name="decision_quorum_1_to_3"),
            models.CheckConstraint(
                condition=Q(status="consumed", consumed_at__isnull=False)
                | (~Q(status="consumed") & Q(consumed_at=None)),
                name="decision_consumed_says_when",
            ),
        ]
        indexes = [
            models.Index(fields=["subject_kind", "subject_id"]),
            models.Index(fields=["expires_at"], condition=Q(status="pending"), name="decision_waiting"),
        ]

    def __str__(self) -> str:
        return self.summary

    @cached_property
    def yeses(self) -> "list[Decision]":
        """Who had said yes when this was first asked of this object, as the rows have it; yeses are only ever added.

        What they are worth says cerbero.decisions.prove.
        """
        return YESES.rows(request=self.pk)


class Decision(models.Model):
    """One person's yes or no, with the digest that stood on their screen."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(DecisionRequest, models.PROTECT, related_name="decisions")
    person = models.ForeignKey(User, models.PROTECT, related_name="decisions")
    is_yes = models.BooleanField()
    reason = models.CharField(max_length=500, blank=True)
    digest_shown = models.CharField(max_length=64)
    # What the person attached to a yes, such as another price drift for this one ticket.
    conditions = models.JSONField(null=True)
    decided_at = models.DateTimeField(db_default=Now(), editable=False)
    proof = models.CharField(max_length=64, blank=True, default="", editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request", "person"], name="decision_once_a_person"),
            models.CheckConstraint(condition=Q(is_yes=True) | ~Q(reason=""), name="decision_no_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.person} said {'yes' if self.is_yes else 'no'}"


YESES = Compiled(lambda: Decision.objects.filter(request=Given("request"), is_yes=True))


class Lease(models.Model):
    """Who may act under a name, until when by the database's clock; the fence grows with each holder."""

    name = models.CharField(max_length=100, primary_key=True)
    holder = models.CharField(max_length=100, blank=True)
    fence = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField(db_default=Now())
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.holder or 'free'})"
