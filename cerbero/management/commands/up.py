"""`manage.py up`: everything on one machine, from servers to demo people, until Ctrl-C."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from cerbero.errors import CannotStart
from cerbero.stack import Options, Running, Stack
from cerbero.stopping import StopSignal
from cerbero.supervisor import BASE_DIR

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command(BaseCommand):
    """Runs before settings can be loaded: the servers that they name are started here."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []
    has_printed = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="people's pages; 0 picks a free port")
        parser.add_argument("--tools-port", type=int, default=8001, help="bots' tools")
        parser.add_argument("--simulator-port", type=int, default=5055, help="the broker simulator")
        parser.add_argument("--var", type=Path, default=BASE_DIR / "var", help="the folder of all data")

    def handle(self, *, var: Path, port: int, tools_port: int, simulator_port: int, **_: Any) -> None:
        began = time.monotonic()
        options = Options(var.resolve(), dict(os.environ), port, tools_port, simulator_port)
        # A signal becomes KeyboardInterrupt, wherever the start has got to.
        for how in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(how, signal.default_int_handler)
        stack, refusal = Stack(options, sys.stdout), None
        try:
            running = stack.start()
            # From here on a signal is a flag: an exception could be swallowed by whatever it interrupts.
            told_to_stop = StopSignal(SIGNALS)
            self._print(banner(running, time.monotonic() - began))
            while stack.supervisor.gave_up is None and not told_to_stop.wait(0.2):
                stack.mend_servers()
            refusal = stack.supervisor.gave_up
            if told_to_stop.is_set():
                stack.supervisor.say("stopping; the databases go last")
        except CannotStart as error:
            refusal = error.message
        except KeyboardInterrupt:
            stack.supervisor.say("stopping; the databases go last")
        finally:
            # A second Ctrl-C must not leave servers behind.
            for how in SIGNALS:
                signal.signal(how, signal.SIG_IGN)
            stack.stop()
        if stack.demo and not self.has_printed:
            self._print(stack.demo["text"])
        if refusal is not None:
            self.stderr.write(f"\nCerbero stopped: {refusal}")
            sys.exit(1)

    def _print(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
        self.has_printed = True


def banner(running: Running, seconds: float) -> str:
    """What a newcomer needs: where to look, who to be, and what to try."""
    return f"""
Cerbero is up after {seconds:.1f} s. Ctrl-C stops everything; the data stays in {running.options.var}
    {running.web_url}/admin/queue/     approve orders
    {running.web_url}/live/            quotes and orders, live
    {running.tools_url}/apidocs          the tools of bots

{running.demo["text"]}
"""
