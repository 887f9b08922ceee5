"""`manage.py ibkr_coverage`: endpoint or topic → who uses it → simulator → test; the last line is one JSON object."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from brokers.management.coverage import (
    Code,
    Node,
    Row,
    endpoints,
    files_naming,
    simulated_topics,
    template,
    topics,
)
from brokers.simulator.front import API
from brokers.simulator.server import MODULES
from cerbero.tool import TOOLS

# What runs without a tool: the row is the queue, and these empty it.
PROCESSES = {
    "orders process": ("orders.loop", "run"),
    "relay": ("brokers.relay", "run"),
    "session task": ("brokers.tasks", "keep_sessions"),
    "token task": ("brokers.tasks", "refresh_tokens"),
    "reconciliation": ("orders.tasks", "reconcile_accounts"),
    "connect_login": ("brokers.management.commands.connect_login", "handle"),
    "ibkr_setup": ("brokers.management.commands.ibkr_setup", "handle"),
    "break_glass": ("brokers.management.commands.break_glass", "handle"),
}
TESTS_SHOWN = 2


class Command(BaseCommand):
    help = "Print what of IBKR's interface is used, simulated and tested."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        asked, streamed = coverage(settings.BASE_DIR)
        self.stdout.write("| Endpoint or topic | Used by | Simulator | Tests |")
        self.stdout.write("|---|---|---|---|")
        for row in (*asked, *streamed):
            users, simulated = ", ".join(row.users), "yes" if row.is_simulated else "no"
            self.stdout.write(
                f"| `{row.name}` | {users} | {simulated} | {', '.join(row.tests[:TESTS_SHOWN])} |"
            )
        self.stdout.write(json.dumps(summary(asked, streamed)))


def coverage(root: Path) -> tuple[list[Row], list[Row]]:
    """The rows of the endpoints, and those of the topics."""
    code = Code(root)
    tests = {
        str(path.relative_to(root)): path.read_text() for path in sorted((root / "tests").rglob("test_*.py"))
    }
    tools = {
        name: code.reached_from((each.function.__module__, each.function.__name__))
        for name, each in sorted(TOOLS.items())
    }
    processes = {name: code.reached_from(start) for name, start in PROCESSES.items()}

    def rows(used: dict[str, set[Node]], simulated: set[str]) -> list[Row]:
        return [
            _row(name, nodes, name in simulated, tools, processes, tests)
            for name, nodes in sorted(used.items())
        ]

    routes = {
        f"{route.method} {template(route.path.removeprefix(API))}"
        for module in MODULES
        for route in module.ROUTES
    }
    connection = (root / "brokers" / "simulator" / "connection.py").read_text()
    return rows(endpoints(code), routes), rows(topics(code), simulated_topics(connection))


def summary(asked: list[Row], streamed: list[Row]) -> dict[str, Any]:
    rows = [*asked, *streamed]
    return {
        "endpoints": len(asked),
        "topics": len(streamed),
        "tools": len({user for row in rows for user in row.users if user in TOOLS}),
        "simulated": sum(row.is_simulated for row in rows),
        "tested": sum(bool(row.tests) for row in rows),
        "missing": [row.name for row in rows if not row.is_whole],
    }


def _row(
    name: str,
    nodes: set[Node],
    is_simulated: bool,
    tools: dict[str, set[Node]],
    processes: dict[str, set[Node]],
    tests: dict[str, str],
) -> Row:
    users = [user for user, reached in tools.items() if reached & nodes]
    users = users or [user for user, reached in processes.items() if reached & nodes]
    named = {rf'"{user}"' for user in users if user in tools}
    # An adapter's function may be called like anything; where brokers are tested it means the adapter's.
    asked = {rf"\.{function}\(" for _, function in nodes if not function.startswith("_")}
    if name.isalpha():
        asked = {rf"\b{name}\+", rf'"{name}"'}
    close = {path: text for path, text in tests.items() if path.startswith("tests/brokers/")}
    found = {*files_naming(tests, named), *files_naming(close, asked)}
    return Row(name, tuple(users), is_simulated, tuple(sorted(found)))
