"""`manage.py bootstrap_people erin frank`: the first two Administrators; once, and never again.

`bootstrap_people erin --sole-operator` makes one instead, who decides alone, by passkey and after a delay.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cerbero.errors import CerberoError
from cerbero.people.bootstrapping import bootstrap, bootstrap_sole
from cerbero.people.management.commands.sole_operator import add_delays, delays


class Command(BaseCommand):
    """Prints each one's password this once. Refused as soon as there is an Administrator."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("first", help="the sign-in name of the first Administrator")
        parser.add_argument("second", nargs="?", help="the sign-in name of the second, another person")
        parser.add_argument(
            "--sole-operator", action="store_true", help="there is nobody else: one person decides"
        )
        add_delays(parser)

    def handle(self, *, first: str, second: str | None, sole_operator: bool, **options: Any) -> None:
        if sole_operator == (second is not None):
            raise CommandError("Name two people, or one and --sole-operator.")
        try:
            passwords = bootstrap(first, second) if second else bootstrap_sole(first, **delays(options))
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None
        for name, password in passwords.items():
            self.stdout.write(f"{name:<20}{password}")
        self.stdout.write("Shown this once. Each of them changes it at the first sign-in.")
