"""Reducing, and the way back: one person for paper, two where money is live, never a bot."""

import pytest
from django.contrib.auth.models import Group

from cerbero.errors import (
    AlreadyDecided,
    DigestMismatch,
    NotFound,
    PermissionMissing,
    SelfApproval,
    StateConflict,
    TradingHalted,
)
from orders import halting, resuming, trading
from orders.models import Halt, TradingState

EVERYTHING = TradingState.Scope.EVERYTHING


@pytest.fixture
def live(desk):
    """A halted desk with a live account, where bob and carol are Administrators."""
    desk.account.environment = "live"
    desk.account.save()
    administrators, _ = Group.objects.get_or_create(name="Administrator")
    for name in ("bob", "carol"):
        desk.people[name].groups.add(administrators)
    halt(desk)
    return desk


def halt(desk):
    halting.halt_trading(actor=desk.person("alice"), mode="stop_new", reason="odd fills")


def state():
    return TradingState.objects.get(scope=EVERYTHING).state


def ask(desk, who="bob"):
    return resuming.request_resume(actor=desk.person(who), scope=EVERYTHING, reason="found it")


def decide(desk, who, request, *, is_yes=True, **changes):
    fields = {"request_id": request.pk, "digest": request.digest, "is_yes": is_yes, "reason": "looked"}
    return resuming.decide_resume(actor=desk.person(who), **fields | changes)


def test_a_live_scope_is_not_resumed_by_one_person(live):
    with pytest.raises(StateConflict):
        trading.resume_trading(actor=live.person("bob"), reason="fine")
    assert state() == "halted"


def test_another_persons_yes_resumes_and_disarms(live):
    decide(live, "carol", ask(live))
    assert state() == "active"
    assert not Halt.objects.armed().exists()


def test_who_asked_does_not_decide(live):
    request = ask(live)
    with pytest.raises(SelfApproval):
        decide(live, "bob", request)
    with pytest.raises(PermissionMissing):
        decide(live, "alice", request)
    assert state() == "halted"


def test_a_no_keeps_it_halted_and_is_final(live):
    request = ask(live)
    decide(live, "carol", request, is_yes=False)
    with pytest.raises(AlreadyDecided):
        decide(live, "carol", request)
    assert state() == "halted"


def test_a_halt_in_between_makes_the_question_void(live):
    request = ask(live)
    halt(live)
    with pytest.raises(DigestMismatch):
        decide(live, "carol", request)
    assert state() == "halted"
    assert ask(live).pk != request.pk


def test_asking_again_is_the_same_question(live):
    assert ask(live).pk == ask(live).pk


def test_nothing_to_resume_is_said(live):
    decide(live, "carol", ask(live))
    with pytest.raises(StateConflict):
        ask(live)
    with pytest.raises(NotFound):
        decide(live, "carol", type("Gone", (), {"pk": live.bot.pk, "digest": ""})())


def test_reducing_lets_closes_alone_pass_and_never_loosens_a_halt(desk):
    with pytest.raises(PermissionMissing):
        trading.reduce_trading(actor=desk.scanner, reason="x")
    trading.reduce_trading(actor=desk.person("bob"), reason="thin market")
    with pytest.raises(TradingHalted):
        desk.place()
    halt(desk)
    with pytest.raises(StateConflict):
        trading.reduce_trading(actor=desk.person("bob"), reason="thin market")
    trading.resume_trading(actor=desk.person("bob"), reason="fine")
    assert desk.place().status == "proposed"
