"""Lanes side by side: each is a process that takes the next run when it is free."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.faults.mutants import MUTANTS
from tests.rig import BASE_DIR, Servers

# A lane that cannot be opened, on a machine that is too busy for it, is opened again.
TRIES = 3
LOOKS, LOOK_SECONDS = 10, 0.1


class LaneLost(Exception):
    """The lane's process ended before it answered."""


def run(
    servers: Servers, plan: Iterable[dict[str, Any]], lanes: int, module: str = "tests.faults.lane"
) -> list[dict[str, Any]]:
    """Play the plan in so many lanes, each a process of that module; each takes the next run when it is free.

    Raises RuntimeError where runs were not played, however often their lane was opened anew.
    """
    queue: Queue[dict[str, Any]] = Queue()
    for each in plan:
        queue.put(each)
    planned, pace = queue.qsize(), patience()
    rows: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=_drive, args=(servers, module, queue, rows, pace))
        for _ in range(min(lanes, queue.qsize()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(rows) < planned:
        raise RuntimeError(f"{planned - len(rows)} runs were not played")
    return rows


def _drive(
    servers: Servers, module: str, queue: "Queue[dict[str, Any]]", rows: list[dict[str, Any]], pace: float
) -> None:
    """One lane after the other, until nothing is left: a run that got stuck leaves its lane behind."""
    while not queue.empty():
        database = servers.create_database()
        # The broker's book is on a disk that waits for nothing, and goes with the servers.
        kept = os.environ.get("KEEP")
        folder = Path(tempfile.mkdtemp(prefix="cerbero-lane-", dir=None if kept else servers.root))
        try:
            environment = {"LANE_FOLDER": str(folder), "FAULTS_PATIENCE": f"{pace:.1f}"}
            _drive_lane(module, database.environment(LOG_LEVEL="WARNING", **environment), folder, queue, rows)
        except (LaneLost, BrokenPipeError) as lost:
            sys.stderr.write(f"a lane was lost, its run is played by another: {lost}\n")
        finally:
            if kept:
                sys.stderr.write(f"kept {folder}\n")
            else:
                shutil.rmtree(folder, ignore_errors=True)
            servers.drop_database(database.name)


def _drive_lane(
    module: str,
    environment: dict[str, str],
    folder: Path,
    queue: "Queue[dict[str, Any]]",
    rows: list[dict[str, Any]],
) -> None:
    command = [sys.executable, "-m", module]
    pipe = subprocess.PIPE
    with (
        (folder / "lane.log").open("w") as log,
        subprocess.Popen(
            command, cwd=BASE_DIR, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True
        ) as lane,
        contextlib.suppress(Empty),
    ):
        while True:
            wanted = queue.get_nowait()
            try:
                row = _ask(lane, wanted)
            except (OSError, ValueError):
                tries = wanted.get("tries", 0) + 1
                if tries < TRIES:
                    queue.put(wanted | {"tries": tries})
                raise LaneLost((folder / "lane.log").read_text()[-3000:]) from None
            rows.append(row)
            note(row)
            if len(rows) % 50 == 0:
                sys.stderr.write(f"{len(rows)} runs played\n")
            if row["stuck"]:
                break


def patience() -> float:
    """How much longer everything may take here: by what else this machine has to do at this moment, before our lanes
    add to it; four times at most. Our lanes themselves make it half as long again.
    """
    running = []
    for _ in range(LOOKS):
        running.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1)
        time.sleep(LOOK_SECONDS)
    return min(4.0, 1.5 + statistics.mean(running) / (os.cpu_count() or 1))


def _ask(lane: "subprocess.Popen[str]", wanted: dict[str, Any]) -> dict[str, Any]:
    assert lane.stdin is not None
    assert lane.stdout is not None
    lane.stdin.write(json.dumps(wanted) + "\n")
    lane.stdin.flush()
    return json.loads(lane.stdout.readline())


def note(row: dict[str, Any]) -> None:
    """Tell of a run that broke something, and how to repeat it."""
    if not row["mutant"]:
        for why in row["why"]:
            again = row.get("again") or f"make faults CASE='{row['case']}' SEED={row['seed']}"
            sys.stderr.write(f"FAILED {row['case']}: {why}; again: {again}\n")
    if os.environ.get("VERBOSE"):
        sys.stderr.write(
            f"{row['case']} {row['mutant']} {row['ends']} {row['seconds']} {row['took']}{' UNREACHED' * row['missed']}\n"
        )
    sys.stderr.flush()


def caught(rows: Iterable[dict[str, Any]]) -> dict[str, bool]:
    """Which planted defects the judge saw as what they are."""
    planted = [row for row in rows if row["mutant"]]
    return {row["mutant"]: row[MUTANTS[row["mutant"]].sees] > 0 for row in planted}
