"""What people settled in advance: versions of the policy, mandates, and the tickets that passed under them."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import MONEY, Account
from cerbero.models import Bot, DecisionRequest, User


class PolicyVersion(models.Model):
    """One version of the policy. Its rules never change; one version is active, all are kept."""

    class Status(models.TextChoices):
        PROPOSED = "proposed"
        ACTIVE = "active"
        RETIRED = "retired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    number = models.PositiveIntegerField(unique=True)
    rules = models.JSONField()
    digest = models.CharField(max_length=64)
    status = models.CharField(max_length=8, choices=Status, default=Status.PROPOSED)
    reason = models.CharField(max_length=500)
    # Nobody for the shipped version, which the bootstrap states in the trail.
    proposed_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    activated_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="policy_version")
    proposed_at = models.DateTimeField(db_default=Now(), editable=False)
    activated_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["status"], condition=Q(status="active"), name="policy_one_active_version"
            ),
        ]
        permissions = [
            ("propose_policy", "Can propose a version of the policy"),
            ("activate_policy", "Can activate or refuse a proposed version of the policy"),
        ]

    def __str__(self) -> str:
        return f"version {self.number}"


class MandateQuerySet(models.QuerySet["Mandate"]):
    def usable(self) -> "MandateQuerySet":
        """Signed, neither revoked nor expired by the database's clock, with orders left."""
        return self.filter(
            status=Mandate.Status.ACTIVE, expires_at__gt=Now(), used_count__lt=F("count_max")
        ).order_by("expires_at", "id")


class Mandate(models.Model):
    """A budget that people sign once for a bot on one account; each order under it uses some of it up.

    Notionals are in the account's currency. Terms never change; what is used moves with the tickets.
    """

    class Status(models.TextChoices):
        PROPOSED = "proposed"
        ACTIVE = "active"
        DECLINED = "declined"
        REVOKED = "revoked"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="mandates")
    bot = models.ForeignKey(Bot, models.PROTECT, related_name="mandates")
    instrument_ids = ArrayField(models.UUIDField())
    sides = ArrayField(models.CharField(max_length=4))
    order_types = ArrayField(models.CharField(max_length=20))
    order_notional_max = models.DecimalField(**MONEY)
    notional_max = models.DecimalField(**MONEY)
    count_max = models.PositiveIntegerField()
    # As a policy rule writes them; empty means at any hour.
    hours = models.JSONField(default=dict, blank=True)
    expires_at = models.DateTimeField()
    digest = models.CharField(max_length=64)
    reason = models.CharField(max_length=500)
    status = models.CharField(max_length=8, choices=Status, default=Status.PROPOSED)
    used_notional = models.DecimalField(**MONEY, default=0)
    used_count = models.PositiveIntegerField(default=0)
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="mandate")
    proposed_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    revoked_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    proposed_at = models.DateTimeField(db_default=Now(), editable=False)
    signed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = MandateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(order_notional_max__gt=0, notional_max__gte=F("order_notional_max")),
                name="mandate_budget_makes_sense",
            ),
            models.CheckConstraint(condition=Q(used_notional__gte=0), name="mandate_used_not_negative"),
        ]
        permissions = [
            ("propose_mandate", "Can propose a mandate"),
            ("revoke_mandate", "Can revoke a mandate"),
        ]

    def __str__(self) -> str:
        return f"mandate of {self.bot} on {self.account}"


class Allowance(models.Model):
    """Why a ticket passed without being asked about: a rule that allows on paper, or a mandate.

    It binds the ticket's digest and the facts of that moment, expires, and is used once, like an approval.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ticket = models.OneToOneField("orders.Ticket", models.PROTECT, related_name="allowance")
    policy_version = models.ForeignKey(PolicyVersion, models.PROTECT, related_name="+")
    rule = models.CharField(max_length=48)
    mandate = models.ForeignKey(Mandate, models.PROTECT, null=True, related_name="uses")
    digest = models.CharField(max_length=64)
    notional = models.DecimalField(**MONEY)
    facts = models.JSONField(default=dict)
    proof = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    consumed_at = models.DateTimeField(null=True)
    # What came back to the mandate after the ticket's proven end; nothing before.
    returned_notional = models.DecimalField(**MONEY, default=0)
    returned_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["mandate"], condition=Q(returned_at=None), name="allowance_to_return")
        ]

    def __str__(self) -> str:
        return f"{self.mandate or self.rule}"
