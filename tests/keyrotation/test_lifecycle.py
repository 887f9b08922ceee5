"""The table in Python, the trigger in the database and the constraint are one thing."""

import itertools
import re

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Q, UniqueConstraint

from keyrotation.lifecycle import MOVES, OPEN, RotationStatus
from keyrotation.models import Rotation

LEGAL = {(before, after) for before, afters in MOVES.items() for after in afters}
WAYS = {
    "requested": [],
    "generated": ["generated"],
    "registered": ["generated", "registered"],
    "proven": ["generated", "registered", "proven"],
    "active": ["generated", "registered", "proven", "active"],
    "retired": ["generated", "registered", "proven", "active", "retired"],
    "rolled_back": ["generated", "registered", "proven", "active", "rolled_back"],
    "aborted": ["aborted"],
}


def test_the_database_allows_exactly_the_moves_of_the_table(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'keyrotation_rotation_moves'")
        source = cursor.fetchone()[0]
    assert set(re.findall(r"'(\w+>\w+)'", source)) == {f"{before}>{after}" for before, after in LEGAL}


def test_every_status_has_its_line_in_the_table():
    assert set(MOVES) == set(RotationStatus)


def test_a_move_passes_the_database_when_it_stands_in_the_table(desk):
    rotation = Rotation.objects.create(login=desk.login, requested_by="carol")
    row = Rotation.objects.filter(pk=rotation.pk)
    for before, after in itertools.permutations(RotationStatus, 2):
        with transaction.atomic():
            for status in WAYS[before]:
                row.update(status=status)
            if (before, after) in LEGAL:
                assert row.update(status=after) == 1
            else:
                with pytest.raises(IntegrityError, match="not a legal move"), transaction.atomic():
                    row.update(status=after)
            transaction.set_rollback(True)


def test_the_constraint_counts_exactly_the_open_ones():
    constraint = Rotation._meta.constraints[0]
    assert isinstance(constraint, UniqueConstraint)
    assert constraint.condition == Q(status__in=[status for status in RotationStatus if status in OPEN])


def test_a_rotation_begins_as_requested_and_is_never_deleted_or_changed(desk):
    rotation = desk.start().rotation
    row = Rotation.objects.filter(pk=rotation.pk)
    attempts = [
        lambda: Rotation.objects.create(login=desk.login, requested_by="eve", status="proven"),
        lambda: row.update(requested_by="eve"),
        lambda: row.update(reason="another"),
        lambda: row.update(credential=None),
        lambda: row.update(credential=desk.active),
        lambda: row.delete(),
    ]
    for attempt in attempts:
        with pytest.raises(IntegrityError), transaction.atomic():
            attempt()
