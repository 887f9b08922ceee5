"""`manage.py import_credentials`: take over the keys of an older installation, from PEM files and its environment."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.entering import import_login
from brokers.key_folder import read_private
from cerbero import access
from cerbero.errors import BadInput, CerberoError
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


class Command(BaseCommand):
    """Reads a file of NAME=value lines (the older installation's .env) and the two PEM files that it names.

    Refuses files that others may read, that belong to somebody else, or that are links, and keys that do not fit each
    other. Remove the files afterwards: what was in them is stored encrypted. The login's former set is retired; to
    replace keys in use without darkness, rotate.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("login", help="a short name of your own, such as desk-paper")
        parser.add_argument("--environment", choices=Environment.values, required=True)
        parser.add_argument("--env-file", type=Path, required=True, metavar="FILE")

    def handle(self, *, login: str, environment: str, env_file: Path, **options: Any) -> None:
        actor = access.system("import_credentials")
        try:
            keys = _read(env_file)
            _, is_new = import_login(actor=actor, name=login, environment=environment, **keys)
        except BadInput as wrong:
            problems = [f"  {each['field']}: {each['problem']}" for each in wrong.details.get("fields", [])]
            raise CommandError("\n".join([wrong.message, *problems])) from None
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None
        then = (
            "It is switched off: switch it on in admin, Logins."
            if is_new
            else "Its session is brought up next."
        )
        self.stdout.write(f"{login}: imported. {then} Now remove {env_file} and the two key files.")


def _read(env_file: Path) -> dict[str, Any]:
    """A whole set, with the PEM files' content. Raises BadInput."""
    found: dict[str, Any] = dict(_named(env_file))
    for kind in ("signature", "encryption"):
        found[f"{kind}_key_pem"] = read_private(Path(found.pop(f"{kind}_key")))
    return found


def _named(env_file: Path) -> dict[str, str]:
    try:
        lines = read_private(env_file).decode().splitlines()
    except UnicodeDecodeError:
        raise BadInput(f"{env_file} is not text.") from None
    pairs = (line.strip().removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    values = {name.strip(): value.strip().strip("\"'") for name, value in pairs}
    found = {}
    for wanted, names in NAMES.items():
        value = next((values[name] for name in names if values.get(name)), None)
        if value is None:
            raise BadInput(f"{env_file} lacks {' or '.join(names)}.")
        found[wanted] = value
    return found
