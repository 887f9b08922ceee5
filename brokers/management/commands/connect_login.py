"""`manage.py connect_login`: enter a broker login and its keys."""

import json
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.entering import enter_login
from brokers.models import Region
from cerbero import access
from cerbero.errors import CerberoError
from cerbero.models import Environment

FORM = """
The file is JSON:
  consumer_key           nine letters, as the broker's portal shows them
  access_token           twenty hex digits
  access_token_secret    base64, as the portal shows it
  dh_prime               hex
  signature_key_path, encryption_key_path    your private keys, PEM, unencrypted
  base_url, ws_url       only for another broker than IBKR itself, such as the simulator
"""
SECRETS = ("consumer_key", "access_token", "access_token_secret", "dh_prime")


class Command(BaseCommand):
    """Make a login, or give an existing one new keys: the old set is retired and its session forgotten.

    From a whole file and without a look at the broker; `ibkr_setup` makes the keys and tries them first.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = FORM
        parser.add_argument("name", help="a short name of your own, such as desk-paper")
        parser.add_argument("--environment", choices=Environment.values, required=True)
        parser.add_argument(
            "--region", choices=Region.values, help="whose nights it has; America's by default"
        )
        parser.add_argument("--credentials", type=Path, required=True, metavar="FILE")

    def handle(self, *, name: str, environment: str, credentials: Path, **options: Any) -> None:
        try:
            stored = json.loads(credentials.read_text())
            keys: dict[str, Any] = {each: str(stored[each]) for each in SECRETS}
            keys |= {
                f"{kind}_key_pem": Path(stored[f"{kind}_key_path"]).read_bytes()
                for kind in ("signature", "encryption")
            }
        except (OSError, ValueError, KeyError) as problem:
            raise CommandError(f"{credentials} cannot be used: {type(problem).__name__} {problem}") from None
        places = {place: stored[place] for place in ("base_url", "ws_url") if place in stored}
        places |= {"region_zone": options["region"]} if options["region"] else {}
        actor = access.system("connect_login")
        try:
            _, is_new = enter_login(actor=actor, name=name, environment=environment, places=places, **keys)
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(
            f"{name}: {'entered' if is_new else 'given new keys'}; its session is brought up next."
        )
