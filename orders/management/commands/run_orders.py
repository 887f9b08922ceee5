"""The orders process."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cerbero import access
from cerbero.stopping import StopSignal
from orders import restoring
from orders.loop import run


class Command(BaseCommand):
    help = "Send what is allowed, apply what the broker reports, expire what ran out of time."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            restoring.hold_if_behind(access.system("restore"), settings.ANCHOR_PATH)
        except OSError as problem:
            raise CommandError(f"The anchor cannot be read: {type(problem).__name__}") from None
        run(StopSignal())
