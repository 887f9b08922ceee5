"""What a halt writes down as it goes. Two processes may pursue one halt, so each note locks its row."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from brokers.models import Account, Login
from cerbero.errors import CerberoError
from orders.models import Halt

log = logging.getLogger(__name__)

# Two full lists prove what one cannot: the first of a session may be empty (gates.md §8).
LISTS = 2

Notes = dict[str, Any]


def of_login(report: Notes, login: Login) -> Notes:
    """A login's part of a report: lists, accounts swept, problem."""
    return report.get("logins", {}).get(login.name, {})


def note_swept(halt: Halt, account: Account) -> None:
    """One cancel-all call of this account was taken by the broker."""
    _write(halt, account.login, lambda notes: notes.setdefault("swept", []).append(str(account.pk)))


def was_swept(halt: Halt, account: Account) -> bool:
    return str(account.pk) in of_login(halt.report, account.login).get("swept", [])


def note_list(halt: Halt, login: Login, asked_at: datetime, **counts: int) -> None:
    """One full list of the broker: how many orders must still go, how many work, how many positions stand."""

    def write(notes: Notes) -> None:
        notes["lists"] = [*notes.get("lists", []), {"at": asked_at.isoformat(), **counts}][-LISTS:]
        notes.pop("problem", None)

    _write(halt, login, write)


def forget_lists(halt: Halt, login: Login) -> None:
    """Something turned up: what the lists proved holds no longer."""
    _write(halt, login, lambda notes: notes.pop("lists", None))


def note_problem(halt: Halt, login: Login, problem: CerberoError) -> None:
    """The broker cannot be asked: kept with its beginning and how often, and said loudly."""

    def write(notes: Notes) -> None:
        before = notes.get("problem", {})
        notes["problem"] = {
            "code": problem.code,
            "message": problem.message,
            "since": before.get("since", timezone.now().isoformat()),
            "tries": before.get("tries", 0) + 1,
        }

    _write(halt, login, write)
    tries = of_login(halt.report, login)["problem"]["tries"]
    told = {"halt": str(halt.pk), "login": login.name, "code": problem.code, "tries": tries}
    log.critical("a halt cannot reach the broker; it keeps trying", extra=told)


def note_close(halt: Halt, account: Account, symbol: str, **said: str) -> None:
    """What became of one close of a flatten: its ticket, or why there is none."""
    key = f"{account}/{symbol}"
    _write(halt, account.login, lambda notes: notes.setdefault("closes", {}).update({key: said}))


def _write(halt: Halt, login: Login, change: Callable[[Notes], Any]) -> None:
    with transaction.atomic():
        row = Halt.objects.select_for_update().get(pk=halt.pk)
        change(row.report.setdefault("logins", {}).setdefault(login.name, {}))
        row.save(update_fields=["report"])
    halt.report = row.report
