"""`manage.py import_credentials`: take over the keys of an older installation, from PEM files and its environment."""

import os
import stat
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.credentials import store_credential
from brokers.models import Login
from cerbero import access
from cerbero.errors import CerberoError
from cerbero.models import Environment

# What other clients call the same things, in the order in which they are looked for.
NAMES = {
    "consumer_key": ("IBKR_CONSUMER_KEY", "IBIND_OAUTH1A_CONSUMER_KEY"),
    "access_token": ("IBKR_ACCESS_TOKEN", "IBIND_OAUTH1A_ACCESS_TOKEN"),
    "access_token_secret": ("IBKR_ACCESS_TOKEN_SECRET", "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET"),
    "dh_prime": ("IBKR_DH_PRIME", "IBIND_OAUTH1A_DH_PRIME"),
    "signature_key": ("IBKR_SIGNATURE_KEY_PATH", "IBIND_OAUTH1A_SIGNATURE_KEY_FP"),
    "encryption_key": ("IBKR_ENCRYPTION_KEY_PATH", "IBIND_OAUTH1A_ENCRYPTION_KEY_FP"),
}
FILE_BYTES_MAX = 64 * 1024


class Command(BaseCommand):
    """Reads a file of NAME=value lines (the older installation's .env) and the two PEM files that it names.

    Refuses files that others than their owner may read, and symbolic links. Remove the files afterwards: what was in
    them is stored encrypted. The login's former set is retired; to replace keys in use without darkness, rotate.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("login", help="a short name of your own, such as desk-paper")
        parser.add_argument("--environment", choices=Environment.values, required=True)
        parser.add_argument("--env-file", type=Path, required=True, metavar="FILE")

    def handle(self, *, login: str, environment: str, env_file: Path, **options: Any) -> None:
        found: dict[str, Any] = dict(self._read(env_file))
        keys: dict[str, Any] = {
            f"{kind}_key_pem": read_private(Path(found.pop(f"{kind}_key")))
            for kind in ("signature", "encryption")
        }
        row, is_new = Login.objects.get_or_create(
            name=login, defaults={"environment": environment, "is_enabled": False}
        )
        if row.environment != environment:
            raise CommandError(f"{login} is entered as {row.environment}; a login never changes that.")
        try:
            store_credential(actor=access.system("import_credentials"), login=row, **found, **keys)
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None
        then = (
            "It is switched off: switch it on in admin, Logins."
            if is_new
            else "Its session is brought up next."
        )
        self.stdout.write(f"{login}: imported. {then} Now remove {env_file} and the two key files.")

    def _read(self, path: Path) -> dict[str, str]:
        lines = read_private(path).decode().splitlines()
        pairs = (
            line.removeprefix("export ").split("=", 1)
            for line in lines
            if "=" in line and not line.startswith("#")
        )
        values = {name.strip(): value.strip().strip("\"'") for name, value in pairs}
        found = {}
        for wanted, names in NAMES.items():
            value = next((values[name] for name in names if values.get(name)), None)
            if value is None:
                raise CommandError(f"{path} lacks {' or '.join(names)}.")
            found[wanted] = value
        return found


def read_private(path: Path) -> bytes:
    """A file that only its owner may read. Raises CommandError for any other, and for a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as problem:
        raise CommandError(f"{path} cannot be read: {problem.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077:
            mode = stat.S_IMODE(about.st_mode)
            raise CommandError(
                f"{path} may be read by others (mode {mode:04o}): chmod 600 it, and consider it known."
            )
        return file.read(FILE_BYTES_MAX)
