"""Limits as rows: an account's own, complete; narrower sets that only tighten; and the rates that convert money."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from brokers.models import MONEY, Account
from cerbero.models import Bot
from orders.limit_table import LIMITS, Kind, Limit
from orders.proven import Proven


def _field(limit: Limit, *, is_complete: bool) -> models.Field:
    """The column of a limit: with its default in an account's row, empty where a narrower set says nothing."""
    may_lack = not is_complete or limit.default is None
    options: dict[str, Any] = {"help_text": limit.says, "null": may_lack, "blank": may_lack}
    if is_complete and limit.default is not None:
        options["default"] = limit.default
    if limit.kind == Kind.AMOUNT:
        return models.DecimalField(**MONEY, validators=[MinValueValidator(0)], **options)
    if limit.kind == Kind.PERCENT:
        return models.DecimalField(
            max_digits=9, decimal_places=4, validators=[MinValueValidator(0)], **options
        )
    if limit.kind == Kind.COUNT:
        return models.PositiveIntegerField(**options)
    if limit.kind == Kind.FLAG:
        return models.BooleanField(**options)
    if limit.kind == Kind.TIME:
        return models.TimeField(**options)
    return ArrayField(models.CharField(max_length=32), **options)


def _words(says: str) -> ArrayField:
    return ArrayField(models.CharField(max_length=32), default=list, blank=True, help_text=says)


class Limits(Proven):
    """An account's limits. Every one has a value: nothing is unlimited by accident."""

    account = models.OneToOneField(Account, models.CASCADE, primary_key=True, related_name="limits")
    cash_tolerance = models.DecimalField(
        **MONEY,
        default=1,
        db_default=1,
        help_text="cash beyond our book that opens no drift case, per currency",
    )

    class Meta:
        verbose_name_plural = "limits"

    def __str__(self) -> str:
        return f"limits of {self.account}"


class LimitSet(Proven):
    """Limits of a narrower scope: every column that is named must fit. What is left empty is not narrowed.

    A set never loosens: of all that apply the strictest wins, the account's own among them.
    """

    broker = models.CharField(max_length=16, blank=True)
    account = models.ForeignKey(Account, models.CASCADE, null=True, blank=True, related_name="limit_sets")
    bot = models.ForeignKey(Bot, models.CASCADE, null=True, blank=True, related_name="limit_sets")
    asset_class = models.CharField(max_length=8, blank=True)
    symbols = _words("symbols that may be ordered; empty: every allowed instrument")
    accounts = _words("accounts that may be used, by the broker's ids; empty: every account")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["broker", "account", "bot", "asset_class"],
                name="limit_set_once_a_scope",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=~Q(broker="") | Q(account__isnull=False) | Q(bot__isnull=False),
                name="limit_set_has_a_scope",
            ),
        ]

    def __str__(self) -> str:
        words = (self.broker, self.account, self.bot, self.asset_class)
        return " · ".join(str(word) for word in words if word)


class CurrencyRate(models.Model):
    """What one unit of `source` is worth in `target`, by a broker's word as of a moment."""

    broker = models.CharField(max_length=16)
    source = models.CharField(max_length=3)
    target = models.CharField(max_length=3)
    rate = models.DecimalField(**MONEY)
    as_of = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["broker", "source", "target"], name="currency_rate_once"),
            models.CheckConstraint(condition=Q(rate__gt=0), name="currency_rate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.source} in {self.target}: {self.rate.normalize():f}"


for _limit in LIMITS:
    Limits.add_to_class(_limit.name, _field(_limit, is_complete=True))
    LimitSet.add_to_class(_limit.name, _field(_limit, is_complete=False))
