"""The Celery application: periodic work only; no task ever carries an order."""

import os
import warnings
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import beat_init

from cerbero.checks import refuse_half_set_flags

refuse_half_set_flags()
# It warns root of pickles that run code; this application accepts JSON alone.
warnings.filterwarnings("ignore", category=SecurityWarning)
app = Celery("cerbero")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@beat_init.connect
def ask_for_all_once(**_: Any) -> None:
    """Nothing waits for its first interval to pass: sessions come up, and health knows, at once."""
    for entry in app.conf.beat_schedule.values():
        app.send_task(entry["task"], expires=60)
