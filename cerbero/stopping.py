"""Being told to stop: a signal as a flag that a loop looks at and waits for, and telling tasks until they end."""

import asyncio
import os
import select
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress

# Long enough to close a connection in order.
END_SECONDS = 10.0


async def end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel them and wait until all have ended; who swallows the telling, as a driver may, is told again."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=END_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


def is_told_to_end() -> bool:
    """Whether the running task was, though something beneath it swallowed the telling (asyncio.wait_for before 3.12)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class StopSignal:
    """Set by SIGTERM, SIGINT or what else is named, for good; waited for by one thread or many.

    Not threading.Event: its lock may be held by the very thread that the signal interrupts, which then waits for
    itself. Writing to a pipe takes no lock.
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        for number in signals:
            signal.signal(number, self._tell)

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Until it is set, at most so long; whether it is."""
        waiting = select.poll()
        waiting.register(self._reader, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _tell(self, *_: object) -> None:
        # Full is as good as told.
        with suppress(BlockingIOError):
            os.write(self._writer, b".")
