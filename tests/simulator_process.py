"""The IBKR simulator as a subprocess, for any test that needs a broker. Plain Python, no pytest, no Django."""

import json
import multiprocessing
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0

# Simulators are forked from one process that has imported it already: the imports cost more than the start.
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(["pytest", "tests.warm_simulator", "tests.simulator_process"])


@dataclass
class SimulatorProcess:
    """A running simulator; `stop()` or `kill()` it, then `start_simulator` again on the same directory."""

    process: BaseProcess
    state_dir: Path
    base_url: str
    ws_url: str
    credentials: dict[str, Any]

    @property
    def origin(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def control(self, method: str, path: str, json_body: Any = None) -> Any:
        """Call a control endpoint: `control("POST", "/_sim/faults", {"kind": "drop_after", "times": 1})`."""
        data = None if json_body is None else json.dumps(json_body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.origin + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode()
            raise AssertionError(f"{method} {path} answered {error.code}: {detail}") from None

    def book(self) -> dict[str, Any]:
        """What the broker truly holds: {"orders", "executions", "arrivals", "accounts"}."""
        return self.control("GET", "/_sim/book")

    def config(self, **changes: Any) -> Any:
        return self.control("POST", "/_sim/config", changes)

    def fault(self, kind: str, **details: Any) -> Any:
        return self.control("POST", "/_sim/faults", {"kind": kind, **details})

    def stop(self) -> None:
        """End it in order (SIGTERM)."""
        self.process.terminate()
        self._reap()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.process.kill()
        self._reap()

    def _reap(self) -> None:
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(timeout=10)


def start_simulator(state_dir: Path | str, *args: str, port: int | None = None) -> SimulatorProcess:
    """Start on a free port, or on the port that the state directory had before, and wait until it answers.

    `args` are further options, as `"--live"`. Raises RuntimeError with its output when it does not start.
    """
    directory = Path(state_dir)
    chosen = port or _previous_port(directory) or free_port()
    options = ["--port", str(chosen), "--state-dir", str(directory), *args]
    directory.mkdir(parents=True, exist_ok=True)
    process = _WARM.Process(target=_run, args=(options, str(directory / "simulator.log")), daemon=True)
    process.start()
    _wait_until_ready(process, f"http://127.0.0.1:{chosen}/_sim/health", directory)
    credentials = json.loads((directory / "credentials.json").read_text())
    return SimulatorProcess(process, directory, credentials["base_url"], credentials["ws_url"], credentials)


def _run(options: list[str], log: str) -> None:
    # Here and not above: only the process that is forked from makes the keys.
    from tests.warm_simulator import serve

    serve(options, log)


def _wait_until_ready(process: BaseProcess, url: str, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.is_alive():
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.03)
    process.kill()
    process.join()
    log = (directory / "simulator.log").read_text()[-2000:]
    raise RuntimeError(f"the simulator did not start:\n{log}")


def _previous_port(directory: Path) -> int | None:
    path = directory / "credentials.json"
    return urlsplit(json.loads(path.read_text())["base_url"]).port if path.exists() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
