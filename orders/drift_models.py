"""Drift: what the broker and we say differently, for a person to adopt or ignore; our book; the day's report."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.models import MONEY, Account
from cerbero.models import DecisionRequest, User


class DriftKind(models.TextChoices):
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_EXECUTION = "unknown_execution"
    LIQUIDATION_TRADE = "liquidation_trade"
    POSITION_DIFFERENCE = "position_difference"
    CASH_DIFFERENCE = "cash_difference"
    TERMS_DIFFER = "terms_differ"
    ORDER_MISSING = "order_missing"
    IMPOSSIBLE_REPORT = "impossible_report"


class DriftCause(models.TextChoices):
    """What it looks like: a guess for people, on which nothing is decided."""

    UNKNOWN = "unknown", "not known"
    MADE_ELSEWHERE = "made_elsewhere", "entered elsewhere, such as in the broker's own platform"
    LOST_RECORD = "lost_record", "ours, sent before a backup was restored"
    LIQUIDATION = "liquidation", "the broker liquidated for want of margin"
    DIVIDEND = "dividend", "dividend, or the payment in its place"
    INTEREST = "interest", "interest"
    FEE = "fee", "fee"
    TRANSFER = "transfer", "deposit or withdrawal"
    AUTO_FX = "auto_fx", "currency converted by the broker"
    SPLIT = "split", "split"
    ASSIGNMENT = "assignment", "assignment, exercise or expiry"
    BROKERS_WORD = "brokers_word", "the broker corrected itself, or a report came late"


class Drift(models.Model):
    """A difference between the broker and us that a person must see.

    `about` names a holding by the broker's id, or a currency; `amount` is what the broker has beyond our book.
    Adopted: taken into our book as it is, and never approved. Ignored: left out of further comparisons.
    """

    Kind, Cause = DriftKind, DriftCause

    class Status(models.TextChoices):
        OPEN = "open"
        ADOPTED = "adopted"
        IGNORED = "ignored"
        RESOLVED = "resolved", "resolved by a later fact"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, null=True, related_name="drifts")
    order = models.ForeignKey("orders.Order", models.PROTECT, null=True, related_name="drifts")
    execution = models.ForeignKey("orders.Execution", models.PROTECT, null=True, related_name="drifts")
    kind = models.CharField(max_length=24, choices=DriftKind)
    subject = models.CharField(max_length=64)
    status = models.CharField(max_length=8, choices=Status, default=Status.OPEN, db_default=Status.OPEN)
    cause = models.CharField(
        max_length=16, choices=DriftCause, default=DriftCause.UNKNOWN, db_default=DriftCause.UNKNOWN
    )
    about = models.CharField(max_length=32, blank=True, default="", db_default="")
    amount = models.DecimalField(**MONEY, null=True)
    evidence = models.JSONField(default=dict)
    seen_at = models.DateTimeField(db_default=Now(), editable=False)
    # When it let the account do no more than reduce; a person puts that back, and it is not done twice.
    restrained_at = models.DateTimeField(null=True)
    # What the first person wants on a live account, and another decides on.
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="drift")
    settled_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    settled_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = "drift"
        constraints = [models.UniqueConstraint(fields=["kind", "subject"], name="drift_once_a_subject")]
        indexes = [models.Index(fields=["seen_at"], condition=Q(status="open"), name="drift_open")]
        permissions = [("settle_drift", "Can adopt and ignore drift")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject}"


class Book(models.Model):
    """What we believe that an account has beside its executions: the broker's first word.

    Expected is always this, and the executions that we know, and what people adopted or ignored; so nothing
    here is ever corrected in silence. Numbers are decimals as text, by the broker's id or by currency.
    """

    account = models.OneToOneField(Account, models.CASCADE, primary_key=True, related_name="book")
    positions = models.JSONField(default=dict)
    cash = models.JSONField(default=dict)
    opened_at = models.DateTimeField(null=True)
    # The second round agreed; until then the first word is taken anew.
    confirmed_at = models.DateTimeField(null=True)
    # Differences that one round has seen: a fill between two reads is none.
    suspects = models.JSONField(default=dict)
    not_compared = models.JSONField(default=list)
    # The broker's cash when the two were last compared.
    balances = models.JSONField(default=dict)
    # When the broker was last asked for everything; compared with our book; asked by id; and in which session.
    asked_at = models.DateTimeField(null=True)
    books_at = models.DateTimeField(null=True)
    missing_at = models.DateTimeField(null=True)
    session_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"book of {self.account}"


class DayReport(models.Model):
    """One account's reconciliation at the end of one trading day, as it stood then."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="day_reports")
    day = models.DateField(help_text="the account's trading day that ended")
    is_clean = models.BooleanField()
    body = models.JSONField()
    made_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="day_report_once_a_day")]

    def __str__(self) -> str:
        return f"{self.account} on {self.day}"
