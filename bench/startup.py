"""`make up` to its banner: cold in a fresh clone without a venv, first with one but no data, warm with both.

Cold installs from the package index, so its figure holds the network. A clone has what is committed, no more.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._report import note, report
from cerbero.supervisor import BASE_DIR

WARM_RUNS = 3
BANNER, TIMEOUT_SECONDS = "Cerbero is up", 900
PORTS = ["--port=0", "--tools-port=0", "--simulator-port=0"]


def main() -> None:
    words = argparse.ArgumentParser(prog="bench.startup", description=__doc__)
    words.add_argument("--warm", action="store_true", help="leave the cold one out")
    given = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cerbero-bench-"))
    folder.chmod(0o711)
    try:
        rows = [] if given.warm else [row("cold: clone, venv, install, first data", [cold(folder)])]
        up = [sys.executable, "manage.py", "up", *PORTS, f"--var={folder / 'var'}"]
        rows.append(row("first: no data yet", [banner_after(up, BASE_DIR)]))
        rows.append(row("warm", [banner_after(up, BASE_DIR) for _ in range(WARM_RUNS)]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report("startup", rows)


def cold(folder: Path) -> float:
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(BASE_DIR), str(clone)], check=True)
    return banner_after(["make", "up", f"ARGS={' '.join(PORTS)}"], clone)


def banner_after(command: list[str], cwd: Path) -> float:
    """Seconds until the banner; then it is stopped as Ctrl-C would."""
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | _pip(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stdout is not None
        said: list[str] = []
        try:
            for line in up.stdout:
                said.append(line)
                if BANNER in line:
                    seconds = time.monotonic() - began
                    note(f"{seconds:.1f} s: {' '.join(command)}")
                    return seconds
                if time.monotonic() - began > TIMEOUT_SECONDS:
                    break
            raise SystemExit("it did not come up:\n" + "".join(said[-30:]))
        finally:
            os.killpg(up.pid, signal.SIGINT)
            up.stdout.read()


def _pip() -> dict[str, str]:
    """Where pip looks, if this machine names another place than the public index."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def row(what: str, seconds: list[float]) -> dict[str, Any]:
    median = round(statistics.median(seconds), 2)
    return {"what": what, "seconds": median, "runs": " ".join(f"{each:.1f}" for each in seconds)}


if __name__ == "__main__":
    main()
