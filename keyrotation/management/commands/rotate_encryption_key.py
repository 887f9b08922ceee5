"""`manage.py rotate_encryption_key`: another key for everything that is stored encrypted, without a moment of darkness."""

import os
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit.services import record
from cerbero import access
from cerbero.encryption import KEY_BYTES
from keyrotation.sealed import rewrap_all

AFTER = "Restart every process, so that all of them wrap by the new key; then run this with --finish."


class Command(BaseCommand):
    """First a new key goes before the old one in the key's file, and every ciphertext is put under it.

    Processes that run read by either. After their restart, --finish puts the last ciphertexts under the new key and
    takes the old one out of the file. It can be ended at any moment and begun again. Keep a copy of the new key, and
    of the old one for as long as a backup needs it.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--finish", action="store_true", help="after the restart: drop the old keys")

    def handle(self, *, finish: bool, **options: Any) -> None:
        path: Path | None = settings.ENCRYPTION_KEY_PATH
        keys = settings.ENCRYPTION_KEY.split()
        if finish:
            self._rewrap()
            self._drop(path, keys)
            return
        if len(keys) == 1:
            if path is None:
                raise CommandError(
                    "ENCRYPTION_KEY stands in the environment: put a new key and a space before the old one there, "
                    "restart every process, and run this again."
                )
            keys = [urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode(), *keys]
            write_key(path, "\n".join(keys))
            settings.ENCRYPTION_KEY = "\n".join(keys)
        self._rewrap()
        self.stdout.write(AFTER)

    def _rewrap(self) -> None:
        outcomes = rewrap_all()
        for each in outcomes:
            self.stdout.write(
                f"{each.column}: {each.rewrapped} put under the new key, {each.left} were already"
            )
        unreadable = [f"{each.column} ({each.unreadable})" for each in outcomes if each.unreadable]
        if unreadable:
            raise CommandError(f"No key here opens {', '.join(unreadable)}; nothing was dropped.")
        with transaction.atomic():
            record(
                "encryption.rewrapped",
                actor=access.system("rotate_encryption_key"),
                subject_kind="systemkey",
                subject_id="ENCRYPTION_KEY",
                details={each.column: each.rewrapped for each in outcomes},
            )

    def _drop(self, path: Path | None, keys: list[str]) -> None:
        if len(keys) == 1:
            self.stdout.write("There is one key only, and everything is under it.")
        elif path is None:
            self.stdout.write("Everything is under the first key: take the others out of ENCRYPTION_KEY.")
        else:
            write_key(path, keys[0])
            self.stdout.write(f"{path} holds the new key alone. Keep a copy of it elsewhere.")


def write_key(path: Path, text: str) -> None:
    """Replace a secret's file in one step, with the mode that it had."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
