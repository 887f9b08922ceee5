"""The Celery application: periodic work only; no task ever carries an order."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")

from celery import Celery

from cerbero.checks import refuse_half_set_flags

refuse_half_set_flags()
app = Celery("cerbero")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
