"""Every process that Cerbero is made of, once: `up` and docker-compose.yml start these and nothing else."""

from dataclasses import dataclass
from typing import Any

from cerbero.embedded import APP, SEALER


@dataclass(frozen=True)
class Process:
    """A long-running process; whoever starts it fills in the `{…}` of its words.

    `words` are what follows `python` or `python -m`. Those of a lower `stage` are stopped first.
    """

    name: str
    words: tuple[str, ...]
    stage: int
    role: str = APP

    def command(self, **values: Any) -> list[str]:
        return [word.format(**values) for word in self.words]


_CELERY = ("celery", "--quiet", "-A", "cerbero")
_WORKER = ("--pool=threads", "--concurrency=4", "--without-gossip", "--without-mingle", "--without-heartbeat")
_GRANIAN = (
    "granian",
    "--interface",
    "wsgi",
    "--workers",
    "1",
    "--blocking-threads",
    "4",
    "--log-level",
    "warning",
)

# Doors first, then whoever writes rows, then the sealer, which must see the last of them.
PROCESSES = (
    Process(
        "simulator", ("brokers.simulator", "--port", "{simulator_port}", "--state-dir", "{var}/simulator"), 3
    ),
    Process("web", ("daphne", "-v", "0", "-b", "{host}", "-p", "{port}", "cerbero.asgi:application"), 0),
    Process(
        "tools",
        (*_GRANIAN, "--host", "{host}", "--port", "{tools_port}", "cerbero.wsgi:tools_application"),
        0,
    ),
    Process("worker", (*_CELERY, "worker", *_WORKER), 1),
    Process("beat", (*_CELERY, "beat", "--schedule", "{var}/beat-schedule", "--pidfile="), 0),
    Process("orders", ("manage.py", "run_orders"), 1),
    Process("relay", ("manage.py", "run_relay"), 1),
    Process("sealer", ("manage.py", "run_sealer"), 2, role=SEALER),
)
PREPARE = ("manage.py", "prepare_database")
BOOTSTRAP = (
    "manage.py",
    "bootstrap_demo",
    "--json",
    "--credentials",
    "{var}/simulator/credentials.json",
    "--tools-url",
    "http://localhost:{tools_port}",
)
