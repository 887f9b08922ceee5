"""The relay process."""

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from brokers.relay import run
from orders.reconciliation import is_conversing


class Command(BaseCommand):
    help = "Hold the brokers' websockets: quotes to Postgres and the pages, reports to the inbox."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(_until_told_to_stop())


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(stop, is_conversing)
