"""The random secrets of one machine, under `var/secrets`, for whoever starts Cerbero without giving any.

Imports nothing that needs Django, since it runs before the settings can be loaded.
"""

import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from cerbero.errors import CannotStart

ADMIN, OWNER, APP, SEALER = "postgres", "cerbero_owner", "cerbero_app", "cerbero_sealer"
DATABASE = "cerbero"


def _urlsafe_key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


# Name → how a new one is made. Data that exists cannot be read without its old keys, so those are never remade.
SECRETS: dict[str, Callable[[], str]] = {
    "secret_key": lambda: secrets.token_urlsafe(50),
    "encryption_key": _urlsafe_key,
    "quote_frame_key": _urlsafe_key,
    "seal_key": lambda: secrets.token_hex(32),
    "redis_password": lambda: secrets.token_urlsafe(24),
} | {f"{role}_password": lambda: secrets.token_urlsafe(24) for role in (ADMIN, OWNER, APP, SEALER)}
IRREPLACEABLE = {"encryption_key", "seal_key"} | {f"{role}_password" for role in (ADMIN, OWNER, APP, SEALER)}


def ensure_secrets(root: Path) -> None:
    """Write the secrets that are missing (mode 0600). Raises CannotStart when data exists that needs the old ones."""
    folder = root / "secrets"
    make_folder(root, 0o711)
    make_folder(folder, 0o700)
    for name, make in SECRETS.items():
        if (folder / name).exists():
            continue
        if name in IRREPLACEABLE and (root / "pg" / "PG_VERSION").exists():
            raise CannotStart(
                f"{root / 'pg'} holds data, but {folder / name} is missing. Bring the file back from a copy, "
                f"or move {root} away to begin with nothing."
            )
        write_secret(root, name, make())


def write_secret(root: Path, name: str, value: str) -> None:
    """Put one secret in place at once, readable by its owner alone."""
    part = root / "secrets" / f".{name}.part"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    part.rename(root / "secrets" / name)


def read_secret(root: Path, name: str) -> str:
    """One secret's text; the file is there once `ensure_secrets` has run."""
    return (root / "secrets" / name).read_text().strip()


def make_folder(path: Path, mode: int) -> None:
    """Make sure that a folder is there, with this mode. Raises CannotStart where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    except OSError as error:
        raise CannotStart(
            f"Cannot write to {path}: {error.strerror}. Make it writable, or choose another with --var."
        ) from None
