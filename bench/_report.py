"""What every measurement shares: a stack of its own, medians, a table, and one last line of JSON."""

import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cerbero.management.commands.demo import Walk, bring_up, receive_quotes, wait_for_session


@contextlib.contextmanager
def running_walk() -> Iterator[Walk]:
    """A stack on free ports with its session up, bob signed in and a live price seen; nothing is left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    walk = Walk(Path(tempfile.mkdtemp(prefix="cerbero-bench-")))
    try:
        for step in (bring_up, wait_for_session, receive_quotes):
            note(step(walk))
        yield walk
    finally:
        walk.stack.close()
        shutil.rmtree(walk.var, ignore_errors=True)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def median_of(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each figure's median over the runs, which are told too."""
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}


def report(name: str, rows: list[dict[str, Any]], **others: Any) -> None:
    """Print the table, and last the line of JSON."""
    columns = list(rows[0])
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, (column, *(line[at] for line in cells)))) for at, column in enumerate(columns)]
    for line in (columns, *cells):
        print(
            "  ".join(
                _aligned(text, width, at) for at, (text, width) in enumerate(zip(line, widths, strict=True))
            )
        )
    load = round(os.getloadavg()[0], 2)
    print(json.dumps({"bench": name, "cores": os.cpu_count(), "load": load, **others, "rows": rows}))


def _cell(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _aligned(text: str, width: int, at: int) -> str:
    return text.ljust(width) if at == 0 else text.rjust(width)
