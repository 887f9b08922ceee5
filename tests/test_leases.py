"""Leases: one holder at a time by the database's clock, and a fence against whoever slept."""

import threading
import time

import pytest
from django.db import transaction

from cerbero import leases
from cerbero.errors import LeaseLost
from cerbero.models import Lease
from tests.rig import Database, run_together


def test_a_held_lease_is_nobody_elses(fresh_database: Database) -> None:
    leases.hold("job", "alice")
    with pytest.raises(LeaseLost):
        leases.hold("job", "bob")
    with pytest.raises(LeaseLost):
        leases.hold("job", "alice")


@pytest.mark.parametrize("is_expired", [False, True])
def test_of_six_who_try_at_once_exactly_one_holds(fresh_database: Database, is_expired: bool) -> None:
    if is_expired:
        leases.release("job", leases.hold("job", "earlier"))
    results = run_together(*[lambda who=who: leases.hold("job", f"holder-{who}") for who in range(6)])
    assert sum(isinstance(each, int) for each in results) == 1
    assert sum(isinstance(each, LeaseLost) for each in results) == 5
    assert Lease.objects.get(name="job").fence == (2 if is_expired else 1)


def test_whoever_comes_after_an_expiry_has_a_higher_fence_and_the_sleeper_is_stopped(
    fresh_database: Database,
) -> None:
    old = leases.hold("job", "alice", 0.05)
    time.sleep(0.1)
    new = leases.hold("job", "bob", 10)
    assert new > old
    for act in (leases.check, leases.renew):
        with transaction.atomic(), pytest.raises(LeaseLost):
            act("job", old)
    leases.release("job", old)
    with transaction.atomic():
        leases.check("job", new)


def test_an_expired_lease_cannot_be_renewed_even_when_nobody_took_it(fresh_database: Database) -> None:
    fence = leases.hold("job", "alice", 0.05)
    time.sleep(0.1)
    with pytest.raises(LeaseLost):
        leases.renew("job", fence)


def test_a_checked_lease_cannot_be_taken_until_the_transaction_ends(fresh_database: Database) -> None:
    fence, checked = leases.hold("job", "alice", 1.5), threading.Event()
    order: list[str] = []

    def write_slowly() -> None:
        with transaction.atomic():
            leases.check("job", fence)
            checked.set()
            time.sleep(1.8)
            order.append("written")

    def take() -> None:
        checked.wait(60)
        # Not before it has run out.
        time.sleep(1.5)
        leases.hold("job", "bob")
        order.append("taken")

    run_together(write_slowly, take)
    assert order == ["written", "taken"]


def test_the_block_frees_its_lease_also_when_it_fails(fresh_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), leases.lease("job"):
        1 / 0  # noqa: B018
    with leases.lease("job") as held:
        assert held.fence == 2


def test_a_lease_is_never_taken_inside_a_transaction_that_could_be_undone(fresh_database: Database) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError):
        leases.hold("job", "alice")


def test_marks_keep_the_last_success_beside_the_last_failure(fresh_database: Database) -> None:
    leases.succeeded("beat:x")
    leases.failed("beat:x", "the broker is away")
    row = Lease.objects.get(name="beat:x")
    assert row.succeeded_at is not None
    assert row.failed_at > row.succeeded_at
    assert row.failure == "the broker is away"
    leases.succeeded("beat:x")
    assert Lease.objects.get(name="beat:x").failure == ""
    with leases.lease("beat:x") as held:
        assert held.fence == 1
