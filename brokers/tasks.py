"""What beat asks for: sessions kept, tokens fresh. A task carries no argument that could be forged."""

import logging
from collections.abc import Callable

from celery import shared_task
from django.db.models import QuerySet

from brokers.calendars import keep_calendars
from brokers.models import Login, SessionState
from brokers.sessions import keep_session, refresh_token
from cerbero import access, leases
from cerbero.errors import CerberoError, LeaseLost

log = logging.getLogger(__name__)

KEEP, REFRESH = "beat:keep_sessions", "beat:refresh_tokens"


@shared_task(name="brokers.tasks.keep_sessions")
def keep_sessions() -> None:
    """Bring up or keep every enabled login's session, and let a disabled one's go; each under its own lease."""
    actor = access.system("session")
    logins = Login.objects.exclude(is_enabled=False, state=SessionState.DOWN)

    def keep(login: Login) -> None:
        keep_session(login, actor)
        keep_calendars(login)

    _for_each_login(KEEP, logins, keep)


@shared_task(name="brokers.tasks.refresh_tokens")
def refresh_tokens() -> None:
    """Mint anew what ends within the hour, for sessions that are up; the others mint at their bring-up."""
    actor = access.system("session")
    logins = Login.objects.filter(is_enabled=True, state=SessionState.UP)
    _for_each_login(REFRESH, logins, lambda login: refresh_token(login, actor))


def _for_each_login(job: str, logins: QuerySet[Login], work: Callable[[Login], object]) -> None:
    """One login's trouble keeps no other waiting; the job has succeeded when none has failed."""
    problems = []
    for login in logins.order_by("name"):
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
