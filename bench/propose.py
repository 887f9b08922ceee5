"""Propose → pending over HTTP: every proposal is kept, checked, put to people and recorded.

The throttles of repetition and rate are lifted: the load is one order again and again.

Beside it two floors on the same servers: an answer without work (`/health`), and one row with its commit. Each
figure is the median of three runs; the load comes from a process of its own on the same machine. All eighteen runs take
more than two minutes beside the start; `--runs 1` takes one.
"""

import argparse
import json
import os
import subprocess
import sys
from decimal import ROUND_UP, Decimal
from typing import Any

import psycopg

from bench._report import median_of, note, report, running_walk
from cerbero.embedded import APP, OWNER
from cerbero.management.commands.demo import MARK_UP, SYMBOL, Walk
from cerbero.secret_files import read_secret

RUNS, SECONDS, CONNECTIONS = 3, 5.0, (1, 8)
# measured.md: what comparable consoles did on a machine of this kind.
PEERS = (
    {
        "what": "peer: broker console that queues (SQLite)",
        "connections": 8,
        "per_second": 151.0,
        "p50_ms": 6.5,
    },
    {"what": "peer: gateway in simulation, nothing kept", "connections": 8, "per_second": 1250.0},
)


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.propose", description=__doc__)
    words.add_argument("--runs", type=int, default=RUNS)
    words.add_argument("--seconds", type=float, default=SECONDS)
    given = words.parse_args()
    with running_walk() as walk:
        lift_throttles(walk)
        plans = {
            "propose": proposal(walk),
            "floor: /health": health(walk),
            "floor: INSERT + commit": insert(walk),
        }
        rows = []
        for what, plan in plans.items():
            for connections in CONNECTIONS:
                runs = [load(plan, connections, given.seconds) for _ in range(given.runs)]
                row = {"what": what, "connections": connections, **median_of(runs)}
                rows.append(row | {"runs": " ".join(f"{run['per_second']:.0f}" for run in runs)})
                note(str(rows[-1]))
    report("propose", [*rows, *PEERS])


def load(plan: dict[str, Any], connections: int, seconds: float) -> dict[str, float]:
    """One run by the load process."""
    asked = json.dumps(plan | {"connections": connections, "seconds": seconds})
    command = [sys.executable, "-m", "bench._load"]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def proposal(walk: Walk) -> dict[str, Any]:
    token = walk.running.demo["token"]
    headers = [f"Authorization: Bearer {token}", "X-Bot-Tag: bench", "Content-Type: application/json"]
    return {
        "kind": "http",
        "port": walk.running.options.tools_port,
        "method": "POST",
        "path": "/tools/place_order",
        "headers": headers,
        "body": order(walk),
        "expect": '"ticket_status":"proposed"',
    }


def order(walk: Walk, mark_up: Decimal = MARK_UP) -> dict[str, str]:
    return {
        "account": walk.running.demo["accounts"][0],
        "symbol": SYMBOL,
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": str((walk.ask * mark_up).quantize(Decimal("0.01"), ROUND_UP)),
        "reason": "a measurement",
    }


def health(walk: Walk) -> dict[str, Any]:
    return {
        "kind": "http",
        "port": walk.running.options.tools_port,
        "method": "GET",
        "path": "/health",
        "headers": [],
        "body": None,
        "expect": "alive",
    }


def lift_throttles(walk: Walk) -> None:
    """Any number of one order, counted within a second: the count stays as short as it is for a desk."""
    many = ("repeats_max", "orders_per_minute_max", "messages_per_minute_max", "daily_orders_max")
    raised = ", ".join(f"{name}=1_000_000" for name in many)
    # By the program itself, or the limits prove nothing (orders/proven.py).
    words = f"from orders.models import Limits; Limits.objects.update({raised}, repeats_window_seconds=1)"
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", words]
    subprocess.run(command, env=os.environ | walk.running.environment, check=True)


def owner_url(walk: Walk) -> str:
    password = read_secret(walk.var, f"{APP}_password")
    url = walk.running.environment["DATABASE_URL"]
    return url.replace(f"{APP}:{password}", f"{OWNER}:{read_secret(walk.var, f'{OWNER}_password')}")


def insert(walk: Walk) -> dict[str, Any]:
    """A table like a ticket's own row in size, in the same cluster."""
    owner = owner_url(walk)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_floor (id uuid PRIMARY KEY, row jsonb NOT NULL)")
    return {"kind": "insert", "url": owner, "row": order(walk)}


if __name__ == "__main__":
    main()
