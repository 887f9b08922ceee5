"""Codes of an authenticator app (RFC 6238: SHA-1, six digits, 30 s), and recovery codes beside them."""

import hashlib
import hmac
import secrets
import time

import pyotp
from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from cerbero.access import Actor, user_of
from cerbero.encryption import decrypt, encrypt, identity
from cerbero.errors import CodeRefused, PermissionMissing, StateConflict
from cerbero.models import User
from cerbero.people.announcing import announce
from cerbero.people.models import CodeApp, RecoveryCode

STEP_SECONDS = 30
# A clock may be off by this many steps.
DRIFT_STEPS = 1
RECOVERY_CODES = 10


def begin(*, actor: Actor) -> str:
    """A new secret for the person's app, in base32; of no use until its first code. Raises StateConflict."""
    person = _person(actor)
    secret = pyotp.random_base32()
    with transaction.atomic():
        if CodeApp.objects.filter(person=person).exclude(confirmed_at=None).exists():
            raise StateConflict("You have a code app; two Administrators can reset it.")
        sealed = encrypt(secret.encode(), bound_to(person))
        CodeApp.objects.update_or_create(person=person, defaults={"secret": sealed, "last_step": 0})
    return secret


def pending_secret(person: User) -> str:
    """The secret that waits for its first code; empty when there is none."""
    row = CodeApp.objects.filter(person=person, confirmed_at=None).first()
    return _secret(row) if row else ""


def address_for_app(person: User, secret: str) -> str:
    """The otpauth address that the QR code shows."""
    return pyotp.TOTP(secret).provisioning_uri(name=person.get_username(), issuer_name="Cerbero")


def confirm(*, actor: Actor, code: str) -> list[str]:
    """The first code proves the app; returns the recovery codes, this once. Raises CodeRefused."""
    person = _person(actor)
    with transaction.atomic():
        row = CodeApp.objects.select_for_update().filter(person=person, confirmed_at=None).first()
        if row is None or not _take_code(row, code):
            raise CodeRefused
        CodeApp.objects.filter(pk=row.pk).update(confirmed_at=Now())
        RecoveryCode.objects.filter(person=person).delete()
        made = [secrets.token_hex(5) for _ in range(RECOVERY_CODES)]
        rows = [RecoveryCode(digest=_digest(person, each), person=person) for each in made]
        RecoveryCode.objects.bulk_create(rows)
        record("code_app.confirmed", actor=actor, subject_kind="user", subject_id=person.pk)
        announce(f"{person} set up a code app.")
    return made


def check(*, actor: Actor, code: str) -> None:
    """Take one code, of the app or for recovery, that was never taken before. Raises CodeRefused."""
    person = _person(actor)
    row = CodeApp.objects.filter(person=person).exclude(confirmed_at=None).first()
    if row is not None and _take_code(row, code):
        return
    unused = RecoveryCode.objects.filter(digest=_digest(person, code), person=person, used_at=None)
    if row is None or unused.update(used_at=Now()) != 1:
        raise CodeRefused
    record("recovery_code.used", actor=actor, subject_kind="user", subject_id=person.pk)
    announce(f"{person} used a recovery code.")


def reset(person: User) -> None:
    """Forget the app and its recovery codes, in the caller's transaction (people.changes)."""
    CodeApp.objects.filter(person=person).delete()
    RecoveryCode.objects.filter(person=person).delete()


def _take_code(row: CodeApp, code: str) -> bool:
    """Whether a code is right and newer than the last; the conditional UPDATE lets it pass once."""
    totp, now = pyotp.TOTP(_secret(row)), int(time.time()) // STEP_SECONDS
    given = "".join(code.split())
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        if given.isascii() and hmac.compare_digest(totp.generate_otp(step), given):
            return CodeApp.objects.filter(pk=row.pk, last_step__lt=step).update(last_step=step) == 1
    return False


def _secret(row: CodeApp) -> str:
    return decrypt(row.secret, bound_to(row.person)).decode()


def bound_to(person: User) -> str:
    return identity("code_app", person.pk)


def _digest(person: User, code: str) -> str:
    return hashlib.sha256(f"{person.pk}:{code.strip().lower()}".encode()).hexdigest()


def _person(actor: Actor) -> User:
    person = user_of(actor)
    if person is None:
        raise PermissionMissing("Only a signed-in person has codes.")
    return person
