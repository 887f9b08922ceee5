"""Compiled queries: their words are kept, what they read never is."""

from datetime import timedelta

import pytest
from django.db import DataError, transaction
from django.db.models import F
from django.utils import timezone

from audit.models import Entry
from cerbero.access import system
from cerbero.database.compiled import Asked, Compiled, CompiledUpdate, Given, together
from cerbero.errors import StateConflict
from cerbero.lifecycle import transition
from cerbero.models import DecisionRequest, Lease
from tests.rig import Database

BY_NAME = Compiled(lambda: Lease.objects.filter(name=Given("name")))
FENCES = Compiled(lambda: Lease.objects.filter(name=Given("name")).values_list("fence", flat=True))
LOCKED = Compiled(lambda: Lease.objects.select_for_update().filter(name=Given("name")))
RAISE = CompiledUpdate(
    lambda: Lease.objects.filter(name=Given("name"), fence=Given("fence")), fence=F("fence") + 1
)


def test_each_run_reads_afresh_and_by_its_own_values(fresh_database: Database) -> None:
    Lease.objects.create(name="one", fence=1)
    Lease.objects.create(name="two", fence=2)
    assert [row.fence for row in BY_NAME.rows(name="two")] == [2]
    Lease.objects.filter(name="one").update(fence=7)
    assert [row.fence for row in BY_NAME.rows(name="one")] == [7]
    assert BY_NAME.first(name="none") is None


def test_one_columns_values_are_read_as_they_are(fresh_database: Database) -> None:
    Lease.objects.create(name="one", fence=5)
    assert FENCES.rows(name="one") == [5]


def test_what_is_asked_together_is_answered_in_its_order(fresh_database: Database) -> None:
    Lease.objects.create(name="one", fence=1)
    Lease.objects.create(name="two", fence=2)
    ((two,), nothing, fences, words) = together(
        BY_NAME.asked(name="two"),
        BY_NAME.asked(name="none"),
        FENCES.asked(name="one"),
        Asked("SELECT %(a)s::int, 'b'", {"a": 1}),
    )
    assert (two.fence, nothing, fences, words) == (2, [], [1], [(1, "b")])


def test_of_what_is_asked_together_the_first_failure_is_told(fresh_database: Database) -> None:
    with pytest.raises(DataError):
        together(FENCES.asked(name="one"), Asked("SELECT 1 / %s::int", (0,)), FENCES.asked(name="one"))
    assert FENCES.rows(name="one") == []


def test_a_value_that_is_not_given_stops_the_query(fresh_database: Database) -> None:
    with pytest.raises(KeyError):
        BY_NAME.rows()
    with pytest.raises(KeyError):
        RAISE.run(name="one")


def test_nothing_is_equal_to_none(fresh_database: Database) -> None:
    Lease.objects.create(name="one", fence=1)
    assert BY_NAME.rows(name=None) == []


def test_a_lock_needs_a_transaction(fresh_database: Database) -> None:
    with transaction.atomic():
        assert LOCKED.rows(name="one") == []
    with pytest.raises(transaction.TransactionManagementError):
        LOCKED.rows(name="one")


def test_an_update_says_how_many_rows_it_changed(fresh_database: Database) -> None:
    Lease.objects.create(name="one", fence=1)
    assert [RAISE.run(name="one", fence=1) for _ in range(2)] == [1, 0]
    assert Lease.objects.get(name="one").fence == 2


def test_a_move_that_comes_second_changes_and_enters_nothing(fresh_database: Database) -> None:
    row = DecisionRequest.objects.create(
        subject_kind="test",
        subject_id="00000000-0000-0000-0000-000000000001",
        summary="a question",
        digest="0" * 64,
        quorum=1,
        group="Approver",
        excluded_user_ids=[],
        requested_by="scanner-alpha",
        expires_at=timezone.now() + timedelta(minutes=1),
    )
    late = DecisionRequest.objects.get(pk=row.pk)
    words = {"moves": {"pending": frozenset({"withdrawn"})}, "actor": system("test"), "event": "test.moved"}
    transition(row, "withdrawn", **words)
    with pytest.raises(StateConflict):
        transition(late, "withdrawn", **words)
    assert (row.status, late.status) == ("withdrawn", "pending")
    assert Entry.objects.filter(event="test.moved").count() == 1
