"""What beat asks for. A task carries no order and no amount: only whose turn it is."""

import logging
from functools import partial

from celery import shared_task

from brokers.models import Login, SessionState
from brokers.services import broker_for
from brokers.sessions import session_lost
from cerbero import access, leases
from cerbero.errors import CerberoError, LeaseLost, SessionExpired
from orders import rounds, trading, what_if

log = logging.getLogger(__name__)

JOB, ASK = "beat:reconcile_accounts", "beat:ask_what_ifs"
# Longer than one account can take, after which it is renewed; a worker that died frees it by the clock.
LEASE_SECONDS = 60


@shared_task(name="orders.tasks.reconcile_accounts")
def reconcile_accounts() -> None:
    """One round for every login whose session is up; one login's trouble keeps no other waiting."""
    actor, problems = access.system("reconciliation"), []
    trading.ensure_all()
    for login in Login.objects.filter(is_enabled=True, state=SessionState.UP):
        name = f"reconcile:{login.pk}"
        try:
            with leases.lease(name, LEASE_SECONDS) as held, broker_for(login) as broker:
                rounds.serve(actor, login, broker, partial(leases.renew, *held, LEASE_SECONDS))
        except LeaseLost:
            continue
        except SessionExpired:
            session_lost(login, actor)
        except CerberoError as problem:
            log.warning("not reconciled", extra={"login": login.name, "code": problem.code})
            problems.append(f"{login.name}: {problem.code}")
    if problems:
        leases.failed(JOB, "; ".join(problems))
    else:
        leases.succeeded(JOB)


@shared_task(name="orders.tasks.ask_what_ifs")
def ask_what_ifs() -> None:
    """What each waiting ticket would do, by the broker's word, so that no page waits for it."""
    actor = access.system("what-if")
    for login in Login.objects.filter(is_enabled=True, state=SessionState.UP):
        try:
            with leases.lease(f"what-if:{login.pk}", LEASE_SECONDS):
                what_if.ask_due(login)
        except LeaseLost:
            continue
        except SessionExpired:
            session_lost(login, actor)
        except CerberoError as problem:
            log.warning("no what-if", extra={"login": login.name, "code": problem.code})
    leases.succeeded(ASK)
