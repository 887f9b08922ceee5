"""Fail points: nothing until they are asked for, and then exactly there."""

import os
import signal

import pytest
from django.db import transaction

from cerbero import failpoints


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that this process would have sent itself."""
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    failpoints._times.clear()
    return signals


def test_without_a_name_nothing_is_reached_and_a_body_stays_whole(settings, sent: list[int]) -> None:
    assert settings.FAIL_POINT == ""
    failpoints.reach("place.before_send")
    assert failpoints.body("place", b"terms") == b"terms"
    assert failpoints.body("cancel", None) is None
    assert sent == []


def test_the_named_place_ends_the_process_at_the_named_time_only(settings, sent: list[int]) -> None:
    settings.FAIL_POINT = "SIGKILL place.before_send 2"
    for _ in range(3):
        failpoints.reach("place.before_send")
        failpoints.reach("place.after_answer")
    assert sent == [signal.SIGKILL]


def test_a_body_leaves_in_two_halves_with_a_place_after_each(settings, sent: list[int]) -> None:
    settings.FAIL_POINT = "SIGSTOP place.half_sent 1"
    halves = []
    for half in failpoints.body("place", b"terms!"):
        halves.append(half)
        assert len(sent) == len(halves) - 1
    assert halves == [b"ter", b"ms!"]
    assert sent == [signal.SIGSTOP]


def test_committed_is_reached_after_the_commit_and_not_after_a_rollback(
    fresh_database, settings, sent: list[int]
) -> None:
    settings.FAIL_POINT = "SIGKILL order.sent.committed 1"
    with transaction.atomic():
        failpoints.around_commit("order.sent")
        transaction.set_rollback(True)
    assert sent == []
    with transaction.atomic():
        failpoints.around_commit("order.sent")
        assert sent == []
    assert sent == [signal.SIGKILL]
