"""`manage.py bootstrap_people erin frank`: the first two Administrators; once, and never again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cerbero.errors import StateConflict
from cerbero.people.bootstrapping import bootstrap


class Command(BaseCommand):
    """Prints each one's password this once. Refused as soon as there is an Administrator."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("first", help="the sign-in name of the first Administrator")
        parser.add_argument("second", help="the sign-in name of the second, another person")

    def handle(self, *, first: str, second: str, **options: Any) -> None:
        try:
            passwords = bootstrap(first, second)
        except StateConflict as refusal:
            raise CommandError(refusal.message) from None
        for name, password in passwords.items():
            self.stdout.write(f"{name:<20}{password}")
        self.stdout.write("Shown this once. Each of them changes it at the first sign-in.")
