"""Tickets and their legs, attempts, executions, and what the broker says that we hold."""

from datetime import timedelta
from enum import StrEnum

from django.db import models
from django.db.models import Func, Q
from django.db.models.functions import Now
from django.utils.functional import cached_property
from uuid_utils.compat import uuid7

from brokers.base import OrderType, Side, TimeInForce
from brokers.models import MONEY, Account, Instrument
from cerbero.database.compiled import Compiled, Given
from cerbero.models import Bot, DecisionRequest, DecisionStatus, User
from orders.attempt_models import Amendment as Amendment
from orders.attempt_models import Attempt as Attempt
from orders.attempt_models import AttemptLeg as AttemptLeg
from orders.attempt_models import ChangeAttempt as ChangeAttempt
from orders.attempt_models import Inquiry as Inquiry
from orders.drift_models import Book as Book
from orders.drift_models import DayReport as DayReport
from orders.drift_models import Drift as Drift
from orders.halt_models import Halt as Halt
from orders.halt_models import HaltedOrder as HaltedOrder
from orders.halt_models import HaltMode as HaltMode
from orders.lifecycle import OPEN, WORKING, Group, GroupState, OrderStatus, TicketStatus
from orders.limit_models import CurrencyRate as CurrencyRate
from orders.limit_models import Limits as Limits
from orders.limit_models import LimitSet as LimitSet
from orders.proven import Proven
from orders.standing import Allowance as Allowance
from orders.standing import Mandate as Mandate
from orders.standing import PolicyVersion as PolicyVersion


def _choices(kind: type[StrEnum]) -> list[tuple[str, str]]:
    return [(word.value, word.value.replace("_", " ")) for word in kind]


class TradingState(Proven):
    """Active, reducing or halted, in one scope. Rows exist before they are needed; a missing one refuses."""

    class Scope(models.TextChoices):
        # In the order in which a submission locks them.
        EVERYTHING = "1-everything", "everything"
        BROKER = "2-broker", "broker"
        ACCOUNT = "3-account", "account"
        BOT = "4-bot", "bot"

    class State(models.TextChoices):
        ACTIVE = "active"
        REDUCING = "reducing"
        HALTED = "halted"

    scope = models.CharField(max_length=12, choices=Scope)
    scope_id = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    changed_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)
    # Resumed by two people even where no money is live: after a restore.
    needs_two = models.BooleanField(default=False, db_default=False, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "scope_id"], name="trading_state_once")]

    def __str__(self) -> str:
        return f"{self.label}: {self.state}"

    @property
    def label(self) -> str:
        return f"{self.get_scope_display()} {self.scope_id}".strip()

    @property
    def effective(self) -> str:
        """What counts: a row that this program did not write is as good as halted."""
        return self.state if self.is_proven else self.State.HALTED


# What a submission looks at beside the ticket, for select_related.
TICKET_ROWS = (
    "account__login",
    "account__limits",
    "account__balance",
    "account__clearance",
    "bot__owner",
    "person",
    "request",
)


class TicketQuerySet(models.QuerySet["Ticket"]):
    def sendable(self) -> "TicketQuerySet":
        return self.filter(status=TicketStatus.ALLOWED).order_by("allowed_at", "id")

    def waiting(self) -> "TicketQuerySet":
        """On which people are asked now, by the database's clock; the most urgent first."""
        return self.filter(
            status=TicketStatus.PROPOSED,
            request__status=DecisionStatus.PENDING,
            request__expires_at__gt=Now(),
        ).order_by("request__expires_at", "id")


class Ticket(models.Model):
    """What is proposed and decided as one. Its digest covers every term; nothing else is ever sent."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="tickets")
    bot = models.ForeignKey(Bot, models.PROTECT, null=True, related_name="tickets")
    person = models.ForeignKey(User, models.PROTECT, null=True, related_name="tickets")
    idempotency_key = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)
    # How its orders hang together, and what became of that; empty for one order.
    group = models.CharField(max_length=8, choices=Group, blank=True, default="", db_default="")
    group_state = models.CharField(max_length=10, choices=GroupState, blank=True, default="", db_default="")
    # True for a close sized from the broker's own position: it needs no approval (gates.md G6).
    reduce_only = models.BooleanField(default=False)
    status = models.CharField(max_length=9, choices=TicketStatus, default=TicketStatus.PROPOSED)
    refusal_code = models.CharField(max_length=48, blank=True)
    refusal = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True, help_text="the bot's own words, untrusted")
    tag = models.CharField(max_length=64, blank=True)
    notional = models.DecimalField(**MONEY, null=True)
    notional_currency = models.CharField(max_length=3, blank=True)
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="ticket")
    # Which rule of which version judged it last.
    policy_version = models.ForeignKey(PolicyVersion, models.PROTECT, null=True, related_name="tickets")
    policy_rule = models.CharField(max_length=48, blank=True, default="", db_default="")
    # The ticket that an approver answered with other terms.
    counter_of = models.ForeignKey("self", models.PROTECT, null=True, related_name="counters")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    allowed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # What keeps it from leaving although it is allowed; empty once it has left.
    held_for = models.CharField(max_length=48, blank=True, default="", db_default="")
    # That a close was made by this program, which has no approval to show (orders.closing).
    proof = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)

    objects = TicketQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["bot", "account", "idempotency_key"],
                condition=Q(bot__isnull=False),
                name="ticket_once_a_bot_key",
            ),
            models.UniqueConstraint(
                fields=["person", "account", "idempotency_key"],
                condition=Q(person__isnull=False),
                name="ticket_once_a_person_key",
            ),
            models.CheckConstraint(
                condition=Q(bot=None, person__isnull=False) | Q(bot__isnull=False, person=None),
                name="ticket_has_one_proposer",
            ),
        ]
        indexes = [
            models.Index(fields=["allowed_at"], condition=Q(status="allowed"), name="ticket_sendable"),
            models.Index(
                fields=["account"],
                condition=~Q(group="") & ~Q(group_state="settled"),
                name="ticket_group_watched",
            ),
            models.Index(fields=["status", "created_at"]),
        ]
        permissions = [
            ("propose_ticket", "Can propose orders by hand"),
            ("decide_ticket", "Can approve and reject tickets"),
            ("override_limit", "Can let one ticket pass a limit"),
            ("cancel_order", "Can cancel orders"),
            ("close_position", "Can close positions"),
            ("halt_trading", "Can halt trading"),
            ("resume_trading", "Can resume trading"),
        ]

    def __str__(self) -> str:
        return f"ticket {self.pk}"

    @cached_property
    def legs(self) -> "list[Order]":
        """The orders that were proposed and decided, the first one first."""
        return self._own(LEGS.rows(ticket=self.pk))

    def take_legs(self, rows: "list[Order]") -> None:
        """These are its legs, read a moment ago."""
        self.legs = self._own(rows)

    def _own(self, rows: "list[Order]") -> "list[Order]":
        for row in rows:
            row.ticket = self
        return rows

    @property
    def first_order(self) -> "Order":
        return self.legs[0]

    @property
    def proposer(self) -> str:
        return self.bot.name if self.bot else str(self.person)


# A cancel that was not carried out is asked for again.
CANCEL_AGAIN = timedelta(seconds=5)


class OrderQuerySet(models.QuerySet["Order"]):
    def to_cancel(self) -> "OrderQuerySet":
        """Asked to be canceled, known to the broker, still working, and not asked of it in the last CANCEL_AGAIN."""
        return (
            self.filter(status__in=WORKING, cancel_requested_at__lt=Now() - CANCEL_AGAIN)
            .exclude(broker_order_id="")
            .select_related("ticket__account__login")
        )


class Order(models.Model):
    """One leg of a ticket. Prices and quantity are in the instrument's own units and are never rounded."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    ticket = models.ForeignKey(Ticket, models.PROTECT, related_name="orders")
    number = models.PositiveSmallIntegerField(default=1)
    instrument = models.ForeignKey(Instrument, models.PROTECT, related_name="orders")
    side = models.CharField(max_length=4, choices=_choices(Side))
    quantity = models.DecimalField(**MONEY)
    order_type = models.CharField(max_length=20, choices=_choices(OrderType))
    limit_price = models.DecimalField(**MONEY, null=True)
    # What triggers: the stop, the touch, or where a trail begins.
    stop_price = models.DecimalField(**MONEY, null=True)
    trailing_amount = models.DecimalField(**MONEY, null=True)
    trailing_percent = models.DecimalField(**MONEY, null=True)
    offset = models.DecimalField(**MONEY, null=True)
    # The money, in the instrument's currency, out of which the quantity was made when it was proposed.
    cash_quantity = models.DecimalField(**MONEY, null=True)
    outside_hours = models.BooleanField(default=False, db_default=False)
    time_in_force = models.CharField(max_length=9, choices=_choices(TimeInForce))
    status = models.CharField(max_length=16, choices=OrderStatus, default=OrderStatus.PENDING)
    broker_order_id = models.CharField(max_length=32, blank=True, db_index=True)
    filled_quantity = models.DecimalField(**MONEY, default=0)
    average_price = models.DecimalField(**MONEY, null=True)
    text = models.CharField(max_length=300, blank=True, help_text="the broker's own words")
    # The mid by which the proposal was judged.
    reference_price = models.DecimalField(**MONEY, null=True)
    # When we last learned of a fill: until positions are read again, it counts beside them.
    filled_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    reported_at = models.DateTimeField(null=True)
    # When a person last said that a resting GTC order shall go on.
    reaffirmed_at = models.DateTimeField(null=True)
    # The approved exit that the broker did not take, and for which this one was sent again.
    completes = models.OneToOneField("self", models.PROTECT, null=True, related_name="completion")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OrderQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["ticket", "number"], name="order_number_once_a_ticket"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="order_quantity_positive"),
            models.CheckConstraint(condition=Q(filled_quantity__gte=0), name="order_filled_not_negative"),
        ]
        indexes = [
            models.Index(fields=["instrument", "created_at"], name="order_alike"),
            models.Index(fields=["instrument"], condition=Q(status__in=sorted(OPEN)), name="order_open"),
            models.Index(fields=["filled_at"], name="order_filled"),
            models.Index(fields=["cancel_requested_at"], name="order_canceling"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} {self.instrument}"


LEGS = Compiled(
    lambda: (
        Order.objects.select_related("instrument")
        .filter(ticket=Given("ticket"), completes=None)
        .order_by("number")
    )
)


class WhatIf(models.Model):
    """What the broker says that a waiting ticket would do (ibkr-web-api.md §6.5), with the time of its word."""

    ticket = models.OneToOneField(Ticket, models.PROTECT, primary_key=True, related_name="what_if")
    asked_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True)
    # Decimals as text, as in a request's facts.
    answer = models.JSONField(default=dict)
    problem = models.CharField(max_length=300, blank=True, help_text="why the last question had no answer")

    def __str__(self) -> str:
        return f"what-if of {self.ticket_id}"


class Execution(models.Model):
    """One fill, once. `order` is empty for a fill that no order of ours explains (drift)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="executions")
    execution_id = models.CharField(max_length=64)
    order = models.ForeignKey(Order, models.PROTECT, null=True, related_name="executions")
    instrument = models.ForeignKey(Instrument, models.PROTECT, null=True, related_name="executions")
    broker_instrument_id = models.CharField(max_length=32)
    side = models.CharField(max_length=4, choices=_choices(Side))
    quantity = models.DecimalField(**MONEY)
    price = models.DecimalField(**MONEY)
    commission = models.DecimalField(**MONEY, null=True)
    executed_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Func(function="clock_timestamp"), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "execution_id"], name="execution_once_an_account")
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity.normalize():f} at {self.price.normalize():f}"


class Position(models.Model):
    """What the broker says that an account holds, as of its last answer. Negative is short."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="positions")
    broker_instrument_id = models.CharField(max_length=32)
    symbol = models.CharField(max_length=64)
    instrument = models.ForeignKey(Instrument, models.PROTECT, null=True, related_name="positions")
    quantity = models.DecimalField(**MONEY)
    average_price = models.DecimalField(**MONEY, null=True)
    market_price = models.DecimalField(**MONEY, null=True)
    market_value = models.DecimalField(**MONEY, null=True)
    asset_class = models.CharField(max_length=8, blank=True)
    currency = models.CharField(max_length=3)
    as_of = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "broker_instrument_id"], name="position_once_an_account"
            )
        ]

    def __str__(self) -> str:
        return f"{self.quantity.normalize():f} {self.symbol}"


class Balance(models.Model):
    """An account's money as of the broker's last answer, in the account's currency."""

    account = models.OneToOneField(Account, models.CASCADE, primary_key=True, related_name="balance")
    net_liquidation = models.DecimalField(**MONEY, null=True)
    available_funds = models.DecimalField(**MONEY, null=True)
    initial_margin = models.DecimalField(**MONEY, null=True)
    # Where the broker gives them: a share, money, and a number of trades (-1 is any number).
    cushion = models.DecimalField(max_digits=12, decimal_places=6, null=True)
    look_ahead_excess = models.DecimalField(**MONEY, null=True)
    day_trades_left = models.IntegerField(null=True)
    # Net liquidation when the account's trading day began, and which day that is.
    day_start = models.DecimalField(**MONEY, null=True)
    trading_day = models.DateField(null=True)
    as_of = models.DateTimeField()

    def __str__(self) -> str:
        return f"balance of {self.account}"
