"""`manage.py changepassword bob`: a new password, which counts once an Administrator has confirmed it.

A sole operator's counts at once: nobody else could confirm it.
"""

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from cerbero.access import SERVER
from cerbero.models import User
from cerbero.people import changes
from cerbero.people.profile import is_operator


class Command(BaseCommand):
    """Instead of Django's own, which changes it at once and tells nobody. Prints the password this once."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "username", help="whose password; an Administrator who is not this person confirms"
        )

    def handle(self, *, username: str, **options: Any) -> None:
        person = User.objects.filter(username=username).first()
        if person is None:
            raise CommandError("There is nobody of that name.")
        password = secrets.token_urlsafe(15)
        counts = "It counts once an Administrator confirms it: Changes of people."
        if is_operator(person):
            changes.set_password_of_operator(operator=person, password=password)
            counts = "It counts now; everybody is told, and live approvals are barred for 24 hours."
        else:
            with transaction.atomic(durable=True):
                changes.propose_password(actor=SERVER, person=person, password=password)
        self.stdout.write(f"{username:<20}{password}")
        self.stdout.write(f"Shown this once. {counts}")
