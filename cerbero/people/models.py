"""What makes a person's word theirs: passkeys, signatures, changes that two people made, and what they bar."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from cerbero.models import Decision, DecisionRequest, User


class PasskeyQuerySet(models.QuerySet["Passkey"]):
    def usable(self) -> "PasskeyQuerySet":
        """Confirmed and not revoked, by the database's clock."""
        return self.filter(revoked_at=None, usable_from__lte=Now())


class Passkey(models.Model):
    """A public key of a person's authenticator. It counts from a second Administrator's yes on.

    The seal is a MAC that the database cannot make, so that a key inserted there signs nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(User, models.PROTECT, related_name="passkeys")
    name = models.CharField(max_length=64)
    credential_id = models.BinaryField(max_length=1023, unique=True)
    public_key = models.BinaryField()
    transports = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    sign_count = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    approved_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    usable_from = models.DateTimeField(null=True)
    seal = models.BinaryField(null=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = PasskeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(usable_from=None, seal=None) | Q(usable_from__isnull=False, seal__isnull=False),
                name="passkey_usable_is_sealed",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.person}"


class DecisionChallenge(models.Model):
    """A nonce that one person is to sign for one decision; used once, soon."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(DecisionRequest, models.PROTECT, related_name="challenges")
    person = models.ForeignKey(User, models.PROTECT, related_name="+")
    nonce = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)


class Signature(models.Model):
    """A person's yes as their authenticator signed it; verified again at the moment of sending."""

    decision = models.OneToOneField(Decision, models.PROTECT, primary_key=True, related_name="signature")
    passkey = models.ForeignKey(Passkey, models.PROTECT, related_name="signatures")
    nonce = models.BinaryField(max_length=32)
    assertion = models.JSONField()

    def __str__(self) -> str:
        return f"signed with {self.passkey}"


class PersonChange(models.Model):
    """A change of who may do what: proposed by one person, applied at a second Administrator's yes.

    What the server's own command proposed has no `proposed_by`.
    """

    class Kind(models.TextChoices):
        PASSKEY = "passkey", "new passkey"
        GRANT = "grant", "grant"
        PASSWORD = "password", "password reset"
        OWNER = "owner", "new owner of a bot"
        CODES = "codes", "code app reset"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    person = models.ForeignKey(User, models.PROTECT, related_name="changes")
    terms = models.JSONField()
    request = models.OneToOneField(DecisionRequest, models.PROTECT, related_name="person_change")
    proposed_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    applied_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.request.summary

    @property
    def proposer(self) -> str:
        """Who proposed it, in words."""
        return str(self.proposed_by or "the server's command")


class Profile(models.Model):
    """Who makes a decision whole from this row on (people/profile.py). Rows are only added; the newest counts."""

    class Kind(models.TextChoices):
        FOUR_EYES = "four_eyes", "two people"
        SOLE_OPERATOR = "sole_operator", "sole operator"

    number = models.PositiveIntegerField(primary_key=True)
    kind = models.CharField(max_length=16, choices=Kind)
    operator = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    order_delay_seconds = models.PositiveIntegerField(default=0)
    change_delay_seconds = models.PositiveIntegerField(default=0)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now(), editable=False)
    # cerbero/proofs.py: whoever writes a row past this program changes nothing by it.
    proof = models.CharField(max_length=64, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="four_eyes", operator=None)
                | Q(kind="sole_operator", operator__isnull=False),
                name="profile_names_its_operator",
            )
        ]

    def __str__(self) -> str:
        if self.operator is None:
            return "two people decide"
        return (
            f"{self.operator} decides alone, by passkey, {self.order_delay_seconds} s after an order "
            f"and {self.change_delay_seconds} s after any other change was asked"
        )


class LiveBar(models.Model):
    """Until when a person's yes does not count on live accounts, and why."""

    id = models.BigAutoField(primary_key=True)
    person = models.ForeignKey(User, models.PROTECT, related_name="live_bars")
    why = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    until = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["person", "until"])]


class Announcement(models.Model):
    """A sentence that everybody is shown for a day."""

    id = models.BigAutoField(primary_key=True)
    words = models.CharField(max_length=300)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.words


# By the first mark that stands in a User-Agent header: each browser claims to be those further down, too.
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


class PersonSession(models.Model):
    """One sign-in of a person on one device, beside Django's own row, which holds its content."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    session_key = models.CharField(max_length=40, unique=True)
    person = models.ForeignKey(User, models.PROTECT, related_name="sign_ins")
    device = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=45, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    seen_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["person", "ended_at"])]

    @property
    def device_name(self) -> str:
        """What people call it, such as Chrome on Linux; what the device says of itself where no name fits."""
        browser, system = (
            next((name for mark, name in names if mark in self.device), "") for names in (BROWSERS, SYSTEMS)
        )
        return " on ".join(filter(None, (browser, system))) or self.device or "unknown"


class SignInAttempt(models.Model):
    """A password that was tried; it goes when it was right. Names and cookies stand here as digests."""

    id = models.BigAutoField(primary_key=True)
    name_digest = models.CharField(max_length=64)
    address = models.CharField(max_length=45)
    device = models.ForeignKey("KnownDevice", models.CASCADE, null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["created_at"])]


class KnownDevice(models.Model):
    """A browser that this person signed in with before: others' failures do not lock it out."""

    digest = models.CharField(max_length=64, primary_key=True)
    person = models.ForeignKey(User, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    seen_at = models.DateTimeField(db_default=Now())


class CodeApp(models.Model):
    """The secret that a person's authenticator app counts codes from, encrypted for this person's row."""

    person = models.OneToOneField(User, models.CASCADE, primary_key=True, related_name="code_app")
    secret = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    confirmed_at = models.DateTimeField(null=True)
    # The step of the last code that was taken: none is taken twice.
    last_step = models.BigIntegerField(default=0)


class RecoveryCode(models.Model):
    """One code for the day on which the app is lost; kept as a digest, taken once."""

    digest = models.CharField(max_length=64, primary_key=True)
    person = models.ForeignKey(User, models.CASCADE, related_name="recovery_codes")
    used_at = models.DateTimeField(null=True)
