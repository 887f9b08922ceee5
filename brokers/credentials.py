"""A login's keys: stored encrypted and bound to their row, read afresh each time, held by nobody."""

from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.ibkr.entered import Entered
from brokers.ibkr.entered import mistakes as entered_mistakes
from brokers.ibkr.oauth import IbkrCredentials, private_key
from brokers.models import Credential, Login
from brokers.ways import WayIn
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given
from cerbero.encryption import decrypt, encrypt, identity
from cerbero.errors import BadInput, CredentialMissing, KeysNotOurs
from cerbero.lifecycle import transition

Status = Credential.Status
SECRET_COLUMNS = ("access_token_secret", "signature_key", "encryption_key", "dh_prime")

MOVES: dict[str, frozenset[str]] = {
    Status.STAGED: frozenset({Status.ACTIVE, Status.RETIRED, Status.DESTROYED}),
    # A swap that did not prove itself is swapped back while the broker still honours the old set.
    Status.ACTIVE: frozenset({Status.RETIRED}),
    Status.RETIRED: frozenset({Status.ACTIVE, Status.DESTROYED}),
}


def store_credential(
    *,
    actor: Actor,
    login: Login,
    signature_key_pem: bytes,
    encryption_key_pem: bytes,
    dh_prime: str,
    consumer_key: str = "",
    access_token: str = "",
    access_token_secret: str = "",
    status: str = Status.ACTIVE,
) -> Credential:
    """Keep one set of keys; `dh_prime` is hex. A new active set retires the one before it.

    Raises BadInput for keys, a prime or a token that cannot be used, KeysNotOurs for a gateway's login.
    """
    if login.way_in == WayIn.GATEWAY:
        raise KeysNotOurs(login=login.name)
    prime = _hex(dh_prime)
    row = Credential(
        login=login,
        status=status,
        consumer_key=consumer_key.strip(),
        access_token=access_token.strip(),
        signature_fingerprint=fingerprint(signature_key_pem),
        encryption_fingerprint=fingerprint(encryption_key_pem),
    )
    if status == Status.ACTIVE and not (row.consumer_key and row.access_token and access_token_secret):
        raise BadInput("An active credential needs its consumer key, access token and secret.")
    plain = (access_token_secret.strip().encode(), signature_key_pem, encryption_key_pem, prime.encode())
    _seal(row, dict(zip(SECRET_COLUMNS, plain, strict=True)))
    with transaction.atomic():
        if status == Status.ACTIVE:
            _retire_active(login, actor)
            row.activated_at = Now()
        row.save(force_insert=True)
        record(
            "credential.stored",
            actor=actor,
            subject_kind="credential",
            subject_id=row.pk,
            details=_described(row),
        )
    return row


_ACTIVE = Compiled(
    lambda: Credential.objects.select_related("login").filter(login=Given("login"), status=Status.ACTIVE)
)


def load_credentials(login: Login) -> IbkrCredentials:
    """The active set, decrypted. Raises CredentialMissing (KeysNotOurs at a gateway) or CannotDecrypt."""
    if login.way_in == WayIn.GATEWAY:
        raise KeysNotOurs(login=login.name)
    row = _ACTIVE.first(login=login.pk)
    if row is None:
        raise CredentialMissing(login=login.name)
    return open_credential(row)


def open_credential(row: Credential) -> IbkrCredentials:
    """One set, whatever its status: a staged one is tried before it is used. Raises CannotDecrypt."""
    secret, signature_key, encryption_key, prime = (
        decrypt(getattr(row, column), bound_to(row, column)) for column in SECRET_COLUMNS
    )
    return IbkrCredentials(
        consumer_key=row.consumer_key,
        access_token=row.access_token,
        access_token_secret=secret.decode(),
        dh_prime=int(prime, 16),
        signature_key_pem=signature_key,
        encryption_key_pem=encryption_key,
        credential_id=row.pk,
    )


def complete_credential(
    row: Credential, *, actor: Actor, consumer_key: str, access_token: str, access_token_secret: str
) -> None:
    """Give a staged set what the broker issued for it; its ciphertexts are bound anew."""
    if row.status != Status.STAGED:
        raise BadInput("Only a staged credential can be completed.", status=row.status)
    plain = {column: decrypt(getattr(row, column), bound_to(row, column)) for column in SECRET_COLUMNS}
    plain["access_token_secret"] = access_token_secret.strip().encode()
    row.consumer_key, row.access_token = consumer_key.strip(), access_token.strip()
    _seal(row, plain)
    with transaction.atomic():
        row.save(update_fields=["consumer_key", "access_token", *SECRET_COLUMNS])
        record(
            "credential.completed",
            actor=actor,
            subject_kind="credential",
            subject_id=row.pk,
            details=_described(row),
        )


def use_credential(
    row: Credential, *, actor: Actor, session_token: bytes = b"", expires_at: datetime | None = None
) -> Credential | None:
    """Put a set in use and return the one that it replaces; inside the caller's transaction.

    The login's row is locked until that ends, as everybody does who sends by its keys. `session_token` is sealed,
    and was minted by this very set; without one the next look mints. Raises StateConflict.
    """
    login = Login.objects.select_for_update().get(pk=row.login_id)
    before = Credential.objects.select_for_update().filter(login=login, status=Status.ACTIVE).first()
    if before is not None:
        transition(before, Status.RETIRED, moves=MOVES, actor=actor, event="credential.retired")
    changes: dict[str, Any] = {"activated_at": Now()}
    transition(row, Status.ACTIVE, moves=MOVES, actor=actor, event="credential.activated", **changes)
    Login.objects.filter(pk=login.pk).update(
        session_token=session_token,
        session_token_expires_at=expires_at,
        socket_session=b"",
        tickled_at=None,
        failures=0,
        retry_at=Now(),
    )
    return before


def destroy_credential(row: Credential, *, actor: Actor) -> None:
    """Overwrite a set's secrets, within the caller's transaction; its fingerprints stay. Raises StateConflict.

    What Postgres keeps of the row until its vacuum, and in its log, is ciphertext.
    """
    empty: dict[str, Any] = dict.fromkeys(SECRET_COLUMNS, b"")
    transition(row, Status.DESTROYED, moves=MOVES, actor=actor, event="credential.destroyed", **empty)


def fingerprint(private_pem: bytes) -> str:
    """SHA-256 over the DER of the public half, in hex. Raises BadInput for anything but an RSA key."""
    try:
        public = private_key(private_pem).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput("A key is not an unencrypted RSA private key in PEM form.") from None
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_pem(private_pem: bytes) -> str:
    """The public half as the portal takes it. Raises ValueError for anything but an RSA key."""
    public = private_key(private_pem).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def mistakes_in(row: Credential, entered: Entered) -> list[dict[str, str]]:
    """What looks wrong in what a person copied from the portal for a staged set; empty when nothing does."""
    return entered_mistakes(entered, open_credential(row), load_credentials(row.login))


def bound_to(row: Credential, column: str) -> str:
    """What a credential's ciphertext is bound to: no other row, login, environment or column opens it."""
    return identity("credential", row.pk, row.login_id, row.login.environment, row.consumer_key, column)


def _seal(row: Credential, plain: dict[str, bytes]) -> None:
    for column, value in plain.items():
        setattr(row, column, encrypt(value, bound_to(row, column)))


def _retire_active(login: Login, actor: Actor) -> None:
    for old in Credential.objects.select_for_update().filter(login=login, status=Status.ACTIVE):
        transition(old, Status.RETIRED, moves=MOVES, actor=actor, event="credential.retired")
    # The old set's session is not the new one's.
    Login.objects.filter(pk=login.pk).update(
        session_token=b"", session_token_expires_at=None, socket_session=b"", failures=0, retry_at=Now()
    )


def _hex(text: str) -> str:
    compact = "".join(text.replace(":", " ").split()).lower()
    try:
        prime = int(compact, 16)
    except ValueError:
        prime = 0
    if prime.bit_length() < 256 or prime % 2 == 0:
        raise BadInput("The Diffie-Hellman prime is not a large odd number in hex.")
    return f"{prime:x}"


def _described(row: Credential) -> dict[str, str]:
    return {
        "login": row.login.name,
        "status": row.status,
        "consumer_key": row.consumer_key,
        "signature_fingerprint": row.signature_fingerprint,
        "encryption_fingerprint": row.encryption_fingerprint,
    }
