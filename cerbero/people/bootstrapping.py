"""The first Administrators, whom nobody could confirm; from then on every change needs two.

Or, where there is nobody else, one: the profile is chosen here and stands in the trail (people/profile.py).
"""

import secrets

from django.contrib.auth.models import Group
from django.db import transaction

from audit.services import record
from cerbero.access import BOOTSTRAP
from cerbero.errors import StateConflict
from cerbero.models import User
from cerbero.people import profile
from cerbero.people.announcing import announce
from cerbero.people.changes import ADMINISTRATOR

SOLE_GROUPS = (ADMINISTRATOR, "Approver", "Operator")


def bootstrap(first: str, second: str) -> dict[str, str]:
    """Make two Administrators; returns each name's password, which is stored nowhere.

    Raises StateConflict when there is an Administrator already, or the names are not two new ones.
    """
    with transaction.atomic(durable=True):
        _require_first({first, second}, count=2)
        passwords = {name: _made(name, (ADMINISTRATOR,)) for name in (first, second)}
        announce(f"The first two Administrators were made on the server: {first} and {second}.")
    return passwords


def bootstrap_sole(name: str, *, order_delay_seconds: int, change_delay_seconds: int) -> dict[str, str]:
    """Make one Administrator who decides alone; returns the password. Raises StateConflict or BadInput."""
    with transaction.atomic(durable=True):
        _require_first({name}, count=1)
        password = _made(name, SOLE_GROUPS)
        profile.enter(
            actor=BOOTSTRAP,
            operator=User.objects.get(username=name),
            order_delay_seconds=order_delay_seconds,
            change_delay_seconds=change_delay_seconds,
        )
    return {name: password}


def _require_first(names: set[str], *, count: int) -> None:
    group = Group.objects.select_for_update().filter(name=ADMINISTRATOR).first()
    if group is None:
        raise StateConflict("The groups are missing; run `manage.py prepare_database` first.")
    if User.objects.filter(groups=group).exists():
        raise StateConflict("There are Administrators already; they add people, two for each change.")
    if len(names) != count or User.objects.filter(username__in=names).exists():
        raise StateConflict("Give names that nobody has yet.")


def _made(name: str, groups: tuple[str, ...]) -> str:
    password = secrets.token_urlsafe(15)
    user = User.objects.create_user(name, password=password, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    details = {"username": name, "groups": list(groups)}
    record("user.created", actor=BOOTSTRAP, subject_kind="user", subject_id=user.pk, details=details)
    return password
