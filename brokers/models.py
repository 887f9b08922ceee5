"""Logins and what hangs below them: credentials, the session, accounts, instruments, quotes, raw reports."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Func, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from brokers.base import Availability
from brokers.ibkr.tls import HERE
from brokers.ways import SessionState, Usability, WayIn, usability_of
from cerbero.models import DecisionRequest, Environment, User
from cerbero.people.profile import is_sole, still_serves

MONEY: dict[str, Any] = {"max_digits": 38, "decimal_places": 18}


class Region(models.TextChoices):
    """Where a login's servers stand (ibkr-web-api.md §2.3)."""

    AMERICA = "America/New_York"
    EUROPE = "Europe/Zurich"
    ASIA = "Asia/Hong_Kong"
    NOWHERE = "none", "none: a simulator, which neither rests nor limits"


# Heartbeats come every ten seconds (ibkr-web-api.md §7.2).
FEED_SILENT_SECONDS = 30


class Login(models.Model):
    """One username at a broker. It owns the session, the turn to place, the pacing budget and the socket."""

    # Of no use to whoever only judges an order.
    OF_ITS_CALLS = ("session_token", "socket_session", "asked_at")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=64, unique=True)
    broker = models.CharField(max_length=16, default="ibkr")
    # What the person who entered the credentials says; the broker's own word is `is_paper`.
    environment = models.CharField(max_length=5, choices=Environment)
    is_paper = models.BooleanField(null=True, editable=False)
    base_url = models.URLField(default="https://api.ibkr.com/v1/api")
    ws_url = models.CharField(max_length=200, default="wss://api.ibkr.com/v1/api/ws")
    way_in = models.CharField(max_length=7, choices=WayIn, default=WayIn.KEYS)
    # Whether its certificate counts; not to verify it is for a gateway on this machine.
    is_verified = models.BooleanField(default=True)
    # Where the broker's nights are counted (brokers/ibkr/limits.py).
    region_zone = models.CharField(max_length=32, choices=Region, default=Region.AMERICA)
    is_enabled = models.BooleanField(default=True)

    state = models.CharField(max_length=16, choices=SessionState, default=SessionState.DOWN, editable=False)
    state_detail = models.CharField(max_length=300, blank=True, editable=False)
    state_changed_at = models.DateTimeField(db_default=Now(), editable=False)
    # Ciphertexts (cerbero.encryption); empty means none.
    session_token = models.BinaryField(default=b"", editable=False)
    session_token_expires_at = models.DateTimeField(null=True, editable=False)
    socket_session = models.BinaryField(default=b"", editable=False)
    tickled_at = models.DateTimeField(null=True, editable=False)
    tickle_asked_at = models.DateTimeField(null=True, editable=False)
    # How often the bring-up failed in a row, and when it may be tried again.
    failures = models.PositiveSmallIntegerField(default=0, editable=False)
    retry_at = models.DateTimeField(db_default=Now(), editable=False)
    feed_alive_at = models.DateTimeField(null=True, editable=False)
    # When the last requests left (brokers/pacing.py).
    asked_at = ArrayField(models.DateTimeField(), default=list, editable=False)
    cooling_until = models.DateTimeField(null=True, editable=False)
    # New orders wait until then, and why (brokers/holding.py); cancels never do.
    held_until = models.DateTimeField(null=True, editable=False)
    held_because = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(is_verified=True) | Q(base_url__regex=HERE, ws_url__regex=HERE),
                name="login_unverified_only_here",
            ),
            models.CheckConstraint(
                condition=~Q(way_in="gateway") | Q(base_url__startswith="https:", ws_url__startswith="wss:"),
                name="login_gateway_is_encrypted",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def usability(self) -> Usability:
        return usability_of(self.state)


class Credential(models.Model):
    """One set of keys of a login. Secret halves are AES-GCM, bound to (login, environment, consumer key)."""

    class Status(models.TextChoices):
        STAGED = "staged"
        ACTIVE = "active"
        RETIRED = "retired"
        DESTROYED = "destroyed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    login = models.ForeignKey(Login, models.PROTECT, related_name="credentials")
    status = models.CharField(max_length=9, choices=Status, default=Status.STAGED)
    consumer_key = models.CharField(max_length=32, blank=True)
    access_token = models.CharField(max_length=64, blank=True)
    access_token_secret = models.BinaryField(default=b"", editable=False)
    signature_key = models.BinaryField(default=b"", editable=False)
    encryption_key = models.BinaryField(default=b"", editable=False)
    dh_prime = models.BinaryField(default=b"", editable=False)
    signature_fingerprint = models.CharField(max_length=64, blank=True)
    encryption_fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    activated_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["login"], condition=Q(status="active"), name="credential_one_active_a_login"
            )
        ]

    def __str__(self) -> str:
        return f"{self.login} {self.consumer_key or 'unregistered'} ({self.status})"


class Account(models.Model):
    """A trading account under a login. `environment` is the broker's word; unknown means no orders."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    login = models.ForeignKey(Login, models.PROTECT, related_name="accounts")
    broker_account_id = models.CharField(max_length=32)
    alias = models.CharField(max_length=64, blank=True)
    currency = models.CharField(max_length=3, default="USD")
    environment = models.CharField(max_length=5, choices=Environment, blank=True, editable=False)
    listed_at = models.DateTimeField(null=True, editable=False)
    # Ids of broker questions that are answered yes unasked (gates.md §4); empty by default.
    allowed_question_ids = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    trading_zone = models.CharField(max_length=64, default="America/New_York")
    roll_over_time = models.TimeField(default="17:00")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["login", "broker_account_id"], name="account_once_a_login")
        ]

    def __str__(self) -> str:
        return self.broker_account_id


class LiveClearance(models.Model):
    """An Administrator makes an account live and goes through the checklist; a second one confirms it."""

    CHECKLIST = (
        "paper_flow_run",
        "approvals_reviewed",
        "limits_reviewed",
        "kill_switch_tested",
        "runbook_read",
    )

    account = models.OneToOneField(Account, models.PROTECT, primary_key=True, related_name="clearance")
    enabled_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    enabled_at = models.DateTimeField(db_default=Now(), editable=False)
    paper_flow_run = models.BooleanField(default=False)
    approvals_reviewed = models.BooleanField(default=False)
    limits_reviewed = models.BooleanField(default=False)
    kill_switch_tested = models.BooleanField(default=False)
    runbook_read = models.BooleanField(default=False)
    confirmed_by = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")
    confirmed_at = models.DateTimeField(null=True, editable=False)
    # What a sole operator signs in place of a second person (cerbero/people/profile.py).
    request = models.OneToOneField(DecisionRequest, models.PROTECT, null=True, related_name="clearance")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(confirmed_by=None)
                | Q(
                    paper_flow_run=True,
                    approvals_reviewed=True,
                    limits_reviewed=True,
                    kill_switch_tested=True,
                    runbook_read=True,
                ),
                name="clearance_confirmed_is_complete",
            ),
        ]

    def __str__(self) -> str:
        return f"live clearance of {self.account}"

    def missing(self) -> list[str]:
        """What stands between this account and live orders, by name."""
        items = [name for name in self.CHECKLIST if not getattr(self, name)]
        return items if self._is_confirmed() else [*items, "confirmed_by"]

    def _is_confirmed(self) -> bool:
        """By another, or by a sole operator as long as they are that. A trigger holds the same at the writing."""
        if self.confirmed_by_id != self.enabled_by_id:
            return self.confirmed_by_id is not None
        return self.request is not None and is_sole(self.request) and still_serves(self.request)


class Instrument(models.Model):
    """One tradable thing, by our own id. Only allow-listed ones may be ordered."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    symbol = models.CharField(max_length=32)
    name = models.CharField(max_length=128, blank=True)
    asset_class = models.CharField(max_length=8, default="STK")
    currency = models.CharField(max_length=3, default="USD")
    exchange = models.CharField(max_length=16, blank=True)
    multiplier = models.DecimalField(**MONEY, null=True, blank=True)
    price_increment = models.DecimalField(**MONEY, null=True, blank=True)
    # How many units of the quoted price make one of the currency: 100 where prices are in pence.
    price_magnifier = models.PositiveIntegerField(null=True, blank=True)
    # [lower edge, step] as text, ascending, where the price step depends on the price.
    price_bands = models.JSONField(default=list, blank=True, editable=False)
    # The step of a quantity; whole units where the broker names none.
    size_increment = models.DecimalField(**MONEY, null=True, blank=True)
    # Of options, which count by what they are written on (gates.md §8).
    underlying = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="derivatives")
    strike = models.DecimalField(**MONEY, null=True, blank=True)
    is_allowed = models.BooleanField(default=False)
    # Why it has no broker's id yet, and when that was last tried.
    problem = models.CharField(max_length=300, blank=True, editable=False)
    resolve_tried_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["symbol", "asset_class", "currency"], name="instrument_once")
        ]

    def __str__(self) -> str:
        return self.symbol


class BrokerInstrument(models.Model):
    """A broker's id for one of our instruments (IBKR: the conid)."""

    instrument = models.ForeignKey(Instrument, models.PROTECT, related_name="broker_ids")
    broker = models.CharField(max_length=16)
    broker_instrument_id = models.CharField(max_length=32)
    resolved_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["broker", "broker_instrument_id"], name="broker_instrument_once"),
            models.UniqueConstraint(fields=["broker", "instrument"], name="broker_instrument_one_each"),
        ]

    def __str__(self) -> str:
        return f"{self.broker}:{self.broker_instrument_id}"


class Subscription(models.Model):
    """An instrument whose quotes a login's relay shall stream."""

    login = models.ForeignKey(Login, models.CASCADE, related_name="subscriptions")
    instrument = models.ForeignKey(Instrument, models.CASCADE, related_name="subscriptions")
    wanted_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["login", "instrument"], name="subscription_once")]

    def __str__(self) -> str:
        return f"{self.login}: {self.instrument}"


class TickWish(models.Model):
    """A bot's wish for an instrument's ticks, or for its book as `account` sees it, until its time (brokers/wishes.py)."""

    login = models.ForeignKey(Login, models.CASCADE, related_name="tick_wishes")
    instrument = models.ForeignKey(Instrument, models.CASCADE, related_name="tick_wishes")
    holder = models.CharField(max_length=64)
    account = models.CharField(max_length=32, blank=True)
    wanted_until = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["login", "instrument", "holder", "account"], name="tick_wish_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.login}: {self.instrument} for {self.holder}"


class Quote(models.Model):
    """The newest prices that the relay stored, at most one write a second for each instrument."""

    instrument = models.OneToOneField(Instrument, models.CASCADE, primary_key=True, related_name="quote")
    bid = models.DecimalField(**MONEY, null=True)
    ask = models.DecimalField(**MONEY, null=True)
    last = models.DecimalField(**MONEY, null=True)
    bid_size = models.DecimalField(**MONEY, null=True)
    ask_size = models.DecimalField(**MONEY, null=True)
    prior_close = models.DecimalField(**MONEY, null=True)
    availability = models.CharField(max_length=7, choices=[(a.value, a.value) for a in Availability])
    is_halted = models.BooleanField(default=False)
    # Three clocks: the feed was heard, the price last changed, and what the broker calls it (availability).
    received_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.instrument} {self.bid} / {self.ask}"


class BrokerAnswer(models.Model):
    """The last answer to one question of a login, kept for every process; `read_at` is its age's beginning."""

    login = models.ForeignKey(Login, models.CASCADE, related_name="answers")
    name = models.CharField(max_length=32)
    key = models.CharField(max_length=200, blank=True)
    body = models.JSONField()
    read_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["login", "name", "key"], name="broker_answer_once"),
        ]

    def __str__(self) -> str:
        return f"{self.login}: {self.name} {self.key}"


class ReportQuerySet(models.QuerySet["Report"]):
    def waiting(self) -> "ReportQuerySet":
        return self.filter(applied_at=None).order_by("id")


class Report(models.Model):
    """The inbox: one fact from the broker, kept as it came (`raw`) and as we read it (`record`)."""

    class Kind(models.TextChoices):
        ORDER = "order"
        EXECUTION = "execution"

    class Source(models.TextChoices):
        REPLY = "reply"
        STREAM = "stream"
        POLL = "poll"

    id = models.BigAutoField(primary_key=True)
    login = models.ForeignKey(Login, models.PROTECT, related_name="reports")
    kind = models.CharField(max_length=9, choices=Kind)
    source = models.CharField(max_length=6, choices=Source)
    # The broker's id of the order or execution that this speaks of.
    subject = models.CharField(max_length=64)
    record = models.JSONField()
    raw = models.JSONField(null=True)
    digest = models.CharField(max_length=64)
    # Until when the fact is surely no older: for a poll the moment that we asked.
    as_of = models.DateTimeField(db_default=Func(function="clock_timestamp"))
    applied_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    objects = ReportQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=Q(applied_at=None), name="report_waiting"),
            models.Index(fields=["login", "kind", "subject", "-id"], name="report_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} by {self.source}"
