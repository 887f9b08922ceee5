"""A file that opens with a passphrase and nothing else: the logins' keys for the day when the database is gone.

scrypt makes the key, AES-GCM seals, and the header is bound to what it seals. No Django, no settings.
"""

import json
import os
import secrets
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from cerbero.errors import BadInput, CannotDecrypt

FORMAT = "cerbero-break-glass-1"
PASSPHRASE_MIN = 12
# 64 MiB and about a fifth of a second for each guess.
COST = {"n": 2**16, "r": 8, "p": 1}


def seal(path: Path, passphrase: str, content: dict[str, Any]) -> None:
    """Write the bundle, mode 0600, in place of an older one. Raises BadInput for a short passphrase."""
    if len(passphrase) < PASSPHRASE_MIN:
        raise BadInput(f"The passphrase needs at least {PASSPHRASE_MIN} characters.")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scrypt": {**COST, "salt": b64encode(salt).decode()},
        "nonce": b64encode(nonce).decode(),
    }
    sealed = AESGCM(_key(passphrase, salt, COST)).encrypt(nonce, json.dumps(content).encode(), _bound(header))
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({**header, "sealed": b64encode(sealed).decode()}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def unseal(path: Path, passphrase: str) -> tuple[dict[str, Any], datetime]:
    """What was sealed, and when. Raises CannotDecrypt for another passphrase, a changed file or none."""
    try:
        stored = json.loads(path.read_text())
        sealed, cost = b64decode(stored.pop("sealed")), stored["scrypt"]
        if stored["format"] != FORMAT or cost["n"] > COST["n"]:
            raise ValueError
        key = _key(passphrase, b64decode(cost["salt"]), cost)
        plain = AESGCM(key).decrypt(b64decode(stored["nonce"]), sealed, _bound(stored))
        return json.loads(plain), datetime.fromisoformat(stored["made_at"])
    except (OSError, ValueError, KeyError, TypeError, InvalidTag):
        words = (
            "The bundle cannot be opened: the passphrase is another, or the file was changed or is missing."
        )
        raise CannotDecrypt(words) from None


def _key(passphrase: str, salt: bytes, cost: dict[str, Any]) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost["n"], r=cost["r"], p=cost["p"]).derive(passphrase.encode())


def _bound(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True).encode()
