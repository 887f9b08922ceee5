"""In which order a run's tests go to its workers."""

from typing import Any

# Whole installations, browsers and halts at a broker: each kind begins a worker's share, so that none ends the run.
LONGEST = (
    "tests/test_up.py",
    "tests/browser/",
    "tests/test_demo.py",
    "tests/orders/test_halt_",
    "tests/walks/",
    "tests/test_restarts.py",
    "tests/faults/",
)


def in_shares(items: list[Any], workers: int) -> list[Any]:
    """The same tests, the longest at the front of the shares that pytest-xdist (worksteal) cuts for so many workers."""
    fronts: list[list[Any]] = [[] for _ in range(workers)]
    for number, name in enumerate(LONGEST):
        fronts[number % workers] += [item for item in items if item.nodeid.startswith(name)]
    rest = [item for item in items if not item.nodeid.startswith(LONGEST)]
    ordered: list[Any] = []
    for number, front in enumerate(fronts):
        size = (len(items) - len(ordered)) // (workers - number)
        room = max(size - len(front), 0)
        ordered += front + rest[:room]
        rest = rest[room:]
    return ordered + rest
