"""`manage.py simulate`: the IBKR simulator alone, without a database."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from brokers.simulator.server import add_arguments, run


class Command(BaseCommand):
    """Run a server that speaks IBKR's wire and write STATE_DIR/credentials.json for its client."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def handle(self, *, port: int, host: str, state_dir: Path, live: bool, seed: int, **options: Any) -> None:
        by_gateway = options["gateway_port"]
        sys.exit(
            run(port=port, host=host, state_dir=state_dir, live=live, seed=seed, gateway_port=by_gateway)
        )
