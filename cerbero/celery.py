"""The Celery application: periodic work only; no task ever carries an order."""

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.sparing import Sparing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")

from celery import Celery
from celery import Task as CeleryTask
from celery.exceptions import SecurityWarning
from celery.signals import beat_init

from cerbero.checks import refuse_half_set_flags

refuse_half_set_flags()
# It warns root of pickles that run code; this application accepts JSON alone.
warnings.filterwarnings("ignore", category=SecurityWarning)
app = Celery("cerbero", task_cls="cerbero.celery:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Task(CeleryTask):
    """None of our tasks takes an argument: a message that brings some was written by somebody else."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            refuse_message(self.name, len(args) + len(kwargs))
        return super().__call__(*args, **kwargs)


def refuse_message(name: str, arguments: int) -> None:
    """Enter what such a message was, and raise TypeError, so that the worker does nothing of it."""
    from cerbero.access import system

    _trail().record(
        "task.refused",
        actor=system("worker"),
        subject_kind="task",
        subject_id=name,
        details={"arguments": arguments},
    )
    raise TypeError(f"{name} takes no argument")


@cache
def _trail() -> "Sparing":
    # Models may not be imported before Django is set up, which this module is a part of.
    from audit.sparing import Sparing

    return Sparing(most_a_minute=60)


@beat_init.connect
def ask_for_all_once(**_: Any) -> None:
    """Nothing waits for its first interval to pass: sessions come up, and health knows, at once."""
    for entry in app.conf.beat_schedule.values():
        app.send_task(entry["task"], expires=60)
