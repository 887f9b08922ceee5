"""The first two Administrators, whom nobody could confirm; from then on every change needs two."""

import secrets

from django.contrib.auth.models import Group
from django.db import transaction

from audit.services import record
from cerbero.access import system
from cerbero.errors import StateConflict
from cerbero.models import User
from cerbero.people.announcing import announce
from cerbero.people.changes import ADMINISTRATOR


def bootstrap(first: str, second: str) -> dict[str, str]:
    """Make two Administrators; returns each name's password, which is stored nowhere.

    Raises StateConflict when there is an Administrator already, or the names are not two new ones.
    """
    with transaction.atomic(durable=True):
        group = Group.objects.select_for_update().filter(name=ADMINISTRATOR).first()
        if group is None:
            raise StateConflict("The groups are missing; run `manage.py prepare_database` first.")
        if User.objects.filter(groups=group).exists():
            raise StateConflict("There are Administrators already; they add people, two for each change.")
        if first == second or User.objects.filter(username__in=[first, second]).exists():
            raise StateConflict("Give two names that nobody has yet.")
        passwords = {name: secrets.token_urlsafe(15) for name in (first, second)}
        for name, password in passwords.items():
            user = User.objects.create_user(name, password=password, is_staff=True)
            user.groups.add(group)
            details = {"username": name, "groups": [ADMINISTRATOR]}
            record(
                "user.created",
                actor=system("bootstrap"),
                subject_kind="user",
                subject_id=user.pk,
                details=details,
            )
        announce(f"The first two Administrators were made on the server: {first} and {second}.")
    return passwords
