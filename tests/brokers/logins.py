"""Logins at a simulator, as rows: what the tests of the brokers' services begin with."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.models import Entry
from brokers.credentials import store_credential
from brokers.models import Instrument, Login, Subscription
from brokers.sessions import keep_session
from cerbero import access
from cerbero.models import User
from tests.simulator_process import SimulatorProcess

SYSTEM = access.system("test")


def make_login(sim: SimulatorProcess, environment: str = "paper", **columns: Any) -> Login:
    """A login with the simulator's credentials in force; nothing was asked of the broker yet."""
    login = Login.objects.create(
        **{"name": "desk", "environment": environment, "base_url": sim.base_url, "ws_url": sim.ws_url}
        | columns
    )
    store_credential(actor=SYSTEM, login=login, **key_material(sim.credentials))
    return login


def key_material(stored: dict[str, Any]) -> dict[str, Any]:
    return {
        "consumer_key": stored["consumer_key"],
        "access_token": stored["access_token"],
        "access_token_secret": stored["access_token_secret"],
        "dh_prime": stored["dh_prime"],
        "signature_key_pem": Path(stored["signature_key_path"]).read_bytes(),
        "encryption_key_pem": Path(stored["encryption_key_path"]).read_bytes(),
    }


def brought_up(sim: SimulatorProcess) -> Login:
    login = make_login(sim)
    assert keep_session(login, SYSTEM) == "up"
    return fresh(login)


def fresh(login: Login) -> Login:
    return Login.objects.get(pk=login.pk)


def ready_again(login: Login) -> Login:
    """Do not wait for the back-off."""
    Login.objects.filter(pk=login.pk).update(retry_at=login.state_changed_at, tickled_at=None)
    return fresh(login)


def watched(login: Login, symbol: str = "AAPL") -> Instrument:
    instrument = Instrument.objects.create(symbol=symbol, is_allowed=True)
    Subscription.objects.create(login=login, instrument=instrument)
    return instrument


def somebody(name: str, *groups: str) -> User:
    from django.contrib.auth.models import Group

    user = User.objects.create_user(username=name)
    user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
    return user


def events(*prefixes: str) -> list[str]:
    """The audit events so far whose names begin so, oldest first."""
    names = Entry.objects.order_by("id").values_list("event", flat=True)
    return [name for name in names if name.startswith(prefixes)]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
