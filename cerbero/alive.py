"""A door's own mark of life: a page cannot say of itself that it is gone, so the other processes do (cerbero/health.py)."""

import logging
import sys
import threading
import time
from pathlib import Path

import psycopg
from django.db import Error as DatabaseError
from django.db import connections

from cerbero import leases

log = logging.getLogger(__name__)

MARK_SECONDS = 5.0


def keep_marking(name: str, server: str) -> None:
    """Mark `name` every few seconds for as long as this process lives. Only where `server` runs it: whoever merely
    imports the application, such as a test or a shell, is no door.
    """
    if server in Path(sys.argv[0]).parts:
        threading.Thread(target=_mark, args=(name,), name=f"mark:{name}", daemon=True).start()


def _mark(name: str) -> None:
    while True:
        try:
            leases.succeeded(name)
        except (DatabaseError, psycopg.Error) as problem:
            log.warning("no mark: database away", extra={"problem": type(problem).__name__})
        finally:
            connections.close_all()
        time.sleep(MARK_SECONDS)
