"""`manage.py tools`: the table of tools, as README.md shows it."""

from typing import Any

from django.core.management.base import BaseCommand

from cerbero.tool import TOOLS


class Command(BaseCommand):
    help = "Print the table of tools in Markdown."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        self.stdout.write("| Tool | Effect | Scope | What it does |")
        self.stdout.write("|---|---|---|---|")
        for tool in sorted(TOOLS.values(), key=lambda tool: tool.name):
            self.stdout.write(f"| `{tool.name}` | {tool.effect} | `{tool.scope}` | {tool.summary} |")
