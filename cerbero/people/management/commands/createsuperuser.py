"""`manage.py createsuperuser`: refused, with what to do instead."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Instead of Django's own: a superuser would be somebody whom nobody confirmed."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        for name in ("--username", "--email", "--database"):
            parser.add_argument(name)
        parser.add_argument("--noinput", "--no-input", action="store_true")

    def handle(self, **options: Any) -> None:
        raise CommandError(
            "Cerbero has no superusers: what a person may do comes from groups. The first Administrators are "
            "made by `manage.py bootstrap_people`; they add everybody else, two for each change."
        )
