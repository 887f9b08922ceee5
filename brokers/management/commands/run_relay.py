"""The relay process."""

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from brokers.relay import run
from cerbero.checks import refuse_half_set_flags
from cerbero.errors import CannotStart
from orders.market import decided_on
from orders.reconciliation import is_conversing


class Command(BaseCommand):
    help = "Hold the brokers' websockets: quotes to Postgres and the pages, reports to the inbox."
    # They would load every page first, and none is served here.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            refuse_half_set_flags()
        except CannotStart as refusal:
            raise CommandError(str(refusal)) from None
        asyncio.run(_until_told_to_stop())


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(stop, is_conversing, decided_on)
