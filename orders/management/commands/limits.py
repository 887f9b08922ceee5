"""`manage.py limits`: the table of limits, as docs/limits.md shows it."""

from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand

from cerbero.plain import text
from orders.limit_table import LIMITS, Limit


class Command(BaseCommand):
    help = "Print every limit with its default as a table."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("| Limit | Default | Counted | Override | What it holds |\n|---|---|---|---|---|")
        for limit in LIMITS:
            counted = "by each set" if limit.is_counted else ""
            lifted = "one ticket" if limit.is_lifted else ""
            self.stdout.write(f"| `{limit.name}` | {_words(limit)} | {counted} | {lifted} | {limit.says} |")


def _words(limit: Limit) -> str:
    default = limit.default() if callable(limit.default) else limit.default
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, list):
        return ", ".join(default)
    if default is None:
        return "any"
    return f"{default:,}" if isinstance(default, int) else text(Decimal(default))
