"""How old every secret is, when it is due, and who is told: the console's page, the reminders, the yearly rotation.

Keys that live in files leave only a fingerprint here, under a MAC (the seal key its id): since when this one was seen.
"""

import logging
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Min, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.crypto import salted_hmac

from audit.models import Checkpoint
from brokers.models import Credential
from cerbero import leases
from cerbero.access import Actor
from cerbero.errors import CerberoError
from cerbero.models import AccessToken, Bot, PersonToken, User
from keyrotation.lifecycle import OPEN
from keyrotation.models import Rotation, SystemKey
from keyrotation.services import PROPOSER, start_rotation
from orders.notices.alerting import alert
from orders.notices.models import Webhook
from orders.notices.services import forget_former_secrets

log = logging.getLogger(__name__)

YEAR = timedelta(days=365)
REMIND_DAYS = (30, 14, 7, 1)
PROPOSE_AGAIN = timedelta(days=7)
# A dark login pages when the broker's next night has passed and it is dark still.
DARK_MAX = timedelta(hours=26)
SYSTEM_KEYS = ("SECRET_KEY", "ENCRYPTION_KEY", "QUOTE_FRAME_KEY")
# Of a seal key's id, with which each of its signatures begins (audit/sealing.py).
KEY_ID_BYTES = 4


@dataclass(frozen=True)
class Age:
    """One secret: since when it is in use, when it is due, and the page on which it is replaced."""

    kind: str
    name: str
    key: str
    since: datetime
    due_at: datetime
    path: str
    now: datetime

    @property
    def days_left(self) -> int:
        return (self.due_at - self.now).days

    @property
    def is_late(self) -> bool:
        return self.due_at <= self.now

    @property
    def is_soon(self) -> bool:
        return not self.is_late and self.days_left < REMIND_DAYS[0]


def ages() -> list[Age]:
    """Every secret that is in use, the next due first."""
    now = leases.database_now()
    found = [*_broker_keys(now), *_tokens(now), *_webhooks(now), *_system_keys(now)]
    return sorted(found, key=lambda each: each.due_at)


def watch(actor: Actor) -> None:
    """One look: note new system keys, remind of what comes due, propose what is due, page what is dark or stopped.

    A webhook's former secret is destroyed once nothing is signed by it.
    """
    forget_former_secrets()
    _note_system_keys()
    for age in ages():
        _remind(age)
    _page_stopped_and_dark()
    _propose_yearly()


def _in_use() -> list[tuple[Credential, datetime]]:
    """The sets in use, and when the keys of each were made: another token, or the way back, makes them no younger."""
    of_keys = Credential.objects.values_list("login_id", "signature_fingerprint")
    made_at = {(login, keys): at for login, keys, at in of_keys.annotate(Min("created_at"))}
    rows = Credential.objects.filter(status=Credential.Status.ACTIVE).select_related("login")
    return [(row, made_at[row.login_id, row.signature_fingerprint]) for row in rows]


def _broker_keys(now: datetime) -> list[Age]:
    return [
        Age("broker keys", row.login.name, _key_of(row), since, since + YEAR, _start_path(row), now)
        for row, since in _in_use()
    ]


def _key_of(row: Credential) -> str:
    return f"credential:{row.login_id}:{row.signature_fingerprint[:16]}"


def _start_path(row: Credential) -> str:
    return f"{reverse('admin:rotation_start')}?login={row.login_id}"


def _tokens(now: datetime) -> list[Age]:
    bots, people = AccessToken.objects.usable(), PersonToken.objects.usable()
    return [
        *(_token(now, "bot token", "token", row.bot, row) for row in bots.select_related("bot")),
        *(_token(now, "person token", "own", row.person, row) for row in people.select_related("person")),
    ]


def _token(now: datetime, kind: str, key: str, whose: Bot | User, row: AccessToken | PersonToken) -> Age:
    page = reverse(f"admin:cerbero_{row._meta.model_name}_changelist")
    return Age(kind, f"{whose} {row}", f"{key}:{row.pk}", row.created_at, row.expires_at, page, now)


def _webhooks(now: datetime) -> list[Age]:
    page = reverse("admin:notices_webhook_changelist")
    return [
        Age("webhook secret", row.name, f"webhook:{row.pk}:{since:%Y%m%d}", since, since + YEAR, page, now)
        for row in Webhook.objects.filter(is_active=True)
        for since in (row.secret_at or row.created_at,)
    ]


def _system_keys(now: datetime) -> list[Age]:
    newest = SystemKey.objects.order_by("name", "-first_seen_at").distinct("name")
    return [
        Age(
            "system key",
            row.name,
            f"system:{row.name}:{row.fingerprint}",
            row.first_seen_at,
            row.first_seen_at + YEAR,
            "",
            now,
        )
        for row in newest
    ]


def _note_system_keys() -> None:
    for name in SYSTEM_KEYS:
        value = str(getattr(settings, name, "")).split()
        if value:
            mark = salted_hmac("keyrotation.calendar", name, secret=value[0], algorithm="sha256").hexdigest()
            SystemKey.objects.get_or_create(name=name, fingerprint=mark[:32])
    # Only the sealer has its key; everybody sees by which one the newest head was signed.
    if newest := Checkpoint.objects.order_by("-position").first():
        key_id = b64decode(newest.signature)[:KEY_ID_BYTES].hex()
        SystemKey.objects.get_or_create(name="SEAL_KEY", fingerprint=key_id)


def _remind(age: Age) -> None:
    """Once at each of the days, and once when it is late; what was due while nothing ran is told late, and once."""
    passed = [days for days in REMIND_DAYS if age.days_left < days]
    if not passed:
        return
    within = min(passed)
    words = "overdue" if age.is_late else f"due within {within} {'day' if within == 1 else 'days'}"
    alert(
        f"secret:{age.key}:{'late' if age.is_late else within}",
        f"{words.capitalize()}: the {age.kind} of {age.name}",
        f"In use since {age.since:%Y-%m-%d}, due at {age.due_at:%Y-%m-%d %H:%M} UTC.",
        path=age.path or reverse("admin:keyrotation_calendar"),
    )


def _page_stopped_and_dark() -> None:
    now = leases.database_now()
    for rotation in Rotation.objects.unfinished().select_related("login"):
        path = reverse("admin:keyrotation_rotation_change", args=[rotation.pk])
        about = f"The rotation of {rotation.login}"
        if rotation.stopped_at:
            key = f"rotation:{rotation.pk}:{rotation.stopped_at.timestamp():.0f}"
            alert(key, f"{about} asks for a person", rotation.problem, path=path, is_urgent=True)
        if rotation.dark_since and not rotation.dark_until and now - rotation.dark_since > DARK_MAX:
            words = f"The broker takes neither set since {rotation.dark_since:%Y-%m-%d %H:%M} UTC."
            subject = f"{rotation.login} is dark for longer than planned"
            alert(f"rotation:{rotation.pk}:dark", subject, words, path=path, is_urgent=True)


def _propose_yearly() -> None:
    """A set that comes due within the month gets its successor made, staged, and announced; people do the rest.

    What they have ended is not proposed again for a while.
    """
    soon = leases.database_now() + timedelta(days=REMIND_DAYS[0]) - YEAR
    lately = Rotation.objects.filter(Q(status__in=OPEN) | Q(ended_at__gt=Now() - PROPOSE_AGAIN))
    waiting = set(lately.values_list("login_id", flat=True))
    for row, made_at in _in_use():
        if made_at > soon or not row.login.is_enabled or row.login_id in waiting:
            continue
        try:
            start_rotation(
                actor=PROPOSER, login_id=row.login_id, reason="Yearly: these keys are nearly a year old."
            )
        except CerberoError as problem:
            log.warning("no rotation proposed for %s: %s", row.login.name, problem.code)
