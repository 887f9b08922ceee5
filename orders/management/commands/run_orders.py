"""The orders process."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from orders.loop import run


class Command(BaseCommand):
    help = "Send what is allowed, apply what the broker reports, expire what ran out of time."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        run(stop)
