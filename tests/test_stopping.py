"""A signal must end a process whatever it interrupts, and however often it comes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cerbero import stopping
from tests.rig import BASE_DIR

# It asks at every moment, also after it was told: that is when a lock would be held.
LOOP = """
import time
from cerbero.stopping import StopSignal
stop = StopSignal()
print("ready", flush=True)
until = time.monotonic() + 0.5
while time.monotonic() < until:
    stop.wait(0)
print("stopped", stop.wait(5), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_many_times_at_once_ends(number: signal.Signals) -> None:
    words = [sys.executable, "-c", LOOP]
    with subprocess.Popen(words, cwd=BASE_DIR, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        tellers = [threading.Thread(target=_tell, args=(process.pid, number)) for _ in range(4)]
        for each in tellers:
            each.start()
        for each in tellers:
            each.join()
        try:
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert said == "stopped True\n"


def _tell(pid: int, number: signal.Signals) -> None:
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def test_a_task_that_swallows_the_telling_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "END_SECONDS", 0.01)

    async def deaf() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def walk() -> None:
        tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(60))]
        await asyncio.sleep(0)
        await stopping.end(tasks)
        assert all(task.done() for task in tasks)

    asyncio.run(walk())
