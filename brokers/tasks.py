"""What beat asks for: sessions kept, tokens fresh. A task carries no argument that could be forged."""

import logging
from collections.abc import Callable

from celery import shared_task

from brokers.models import Login, SessionState
from brokers.sessions import keep_session, refresh_token
from cerbero import access, leases
from cerbero.errors import CerberoError, LeaseLost

log = logging.getLogger(__name__)

KEEP, REFRESH = "beat:keep_sessions", "beat:refresh_tokens"


@shared_task(name="brokers.tasks.keep_sessions")
def keep_sessions() -> None:
    """Bring up or keep every enabled login's session; each is held by its own lease."""
    actor = access.system("session")
    _for_each_login(KEEP, lambda login: keep_session(login, actor))


@shared_task(name="brokers.tasks.refresh_tokens")
def refresh_tokens() -> None:
    """Mint anew what ends within the hour, for sessions that are up; the others mint at their bring-up."""
    actor = access.system("session")
    _for_each_login(REFRESH, lambda login: refresh_token(login, actor), state=SessionState.UP)


def _for_each_login(job: str, work: Callable[[Login], object], **only: str) -> None:
    """One login's trouble keeps no other waiting; the job has succeeded when none has failed."""
    problems = []
    for login in Login.objects.filter(is_enabled=True, **only).order_by("name"):
        try:
            work(login)
        except LeaseLost:
            continue
        except CerberoError as error:
            log.warning("%s: %s: %s", job, login.name, error.message)
            problems.append(f"{login.name}: {error.code}")
    if problems:
        leases.failed(job, "; ".join(problems))
    else:
        leases.succeeded(job)
