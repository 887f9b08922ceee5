"""The orders process; a thread of it watches what is silent, and tells people while beat or Redis is away."""

import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cerbero import access
from cerbero.checks import refuse_half_set_flags
from cerbero.errors import CannotStart
from cerbero.stopping import StopSignal
from orders import restoring
from orders.loop import run
from orders.notices import watching

# What is being delivered when it is told to stop may end.
LAST_WORDS_SECONDS = 5.0


class Command(BaseCommand):
    help = "Send what is allowed, apply what the broker reports, expire what ran out of time."
    # They would load every page first, and none is served here.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            refuse_half_set_flags()
            restoring.hold_if_behind(access.system("restore"), settings.ANCHOR_PATH)
        except CannotStart as refusal:
            raise CommandError(str(refusal)) from None
        except OSError as problem:
            raise CommandError(f"The anchor cannot be read: {type(problem).__name__}") from None
        stop = StopSignal()
        # A daemon: what crashes the loop must end the process, which is started again.
        watcher = threading.Thread(target=watching.run, args=(stop,), name="watch", daemon=True)
        watcher.start()
        run(stop)
        watcher.join(LAST_WORDS_SECONDS)
