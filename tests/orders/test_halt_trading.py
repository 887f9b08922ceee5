"""The halt: who may, what it stops, and that it waits for nobody for long."""

import threading
from datetime import timedelta

import pytest
from django.db import transaction

from brokers.models import Account
from cerbero.errors import NotFound, PermissionMissing, TradingHalted
from cerbero.models import Bot
from orders import halting, proving, trading
from orders.models import Attempt, Halt, Limits, Order, TradingState
from tests.orders import world as worlds
from tests.rig import run_together

BOT = TradingState.Scope.BOT


def test_a_bot_halts_itself_and_nobody_else(desk):
    halting.halt_trading(
        mode="stop_new", actor=desk.scanner, scope=BOT, scope_id=str(desk.bot.pk), reason="confused"
    )
    with pytest.raises(TradingHalted):
        desk.place()
    for scope, scope_id in ((TradingState.Scope.EVERYTHING, ""), (BOT, "another")):
        with pytest.raises(PermissionMissing):
            halting.halt_trading(
                mode="stop_new", actor=desk.scanner, scope=scope, scope_id=scope_id, reason="x"
            )


def test_a_bot_cannot_resume(desk):
    halting.halt_trading(
        mode="stop_new", actor=desk.scanner, scope=BOT, scope_id=str(desk.bot.pk), reason="confused"
    )
    with pytest.raises(PermissionMissing):
        trading.resume_trading(actor=desk.scanner, scope=BOT, scope_id=str(desk.bot.pk), reason="fine")
    trading.resume_trading(actor=desk.person("bob"), scope=BOT, scope_id=str(desk.bot.pk), reason="looked")
    assert desk.place().status == "proposed"


def test_who_when_and_why_are_kept(desk):
    halting.halt_trading(mode="stop_new", actor=desk.person("bob"), reason="fat finger")
    row = TradingState.objects.get(scope=TradingState.Scope.EVERYTHING)
    assert (row.state, row.changed_by, row.reason) == ("halted", "bob", "fat finger")


def test_a_scope_that_does_not_exist_is_not_found(desk):
    with pytest.raises(NotFound):
        halting.halt_trading(
            mode="stop_new", actor=desk.person("bob"), scope=BOT, scope_id="nobody", reason="x"
        )


def test_accounts_and_bots_that_came_since_get_their_rows(desk):
    words = {"login": desk.login, "environment": "paper", "listed_at": desk.account.listed_at}
    account = Account.objects.create(broker_account_id="DU7654321", **words)
    bot = Bot.objects.create(name="scanner-beta", owner=desk.people["alice"], environment="paper")
    trading.ensure_all()
    assert Limits.objects.filter(account=account).exists()
    assert trading.worst_state(account, bot.pk) == "active"
    halting.halt_trading(mode="stop_new", actor=desk.person("bob"), reason="x")
    trading.ensure_all()
    assert TradingState.objects.filter(state="halted").count() == 1, "a halt outlives it"


def test_a_halt_waits_for_the_submission_that_holds_the_rows(fresh_database):
    desk = worlds.build()
    locked, done = threading.Event(), []

    def submission():
        with transaction.atomic():
            trading.worst_state(desk.account, desk.bot.pk, lock=True)
            locked.set()
            threading.Event().wait(0.3)
            done.append("submission")

    def halt():
        locked.wait(60)
        halting.halt_trading(mode="stop_new", actor=desk.person("bob"), reason="now")
        done.append("halt")

    assert run_together(submission, halt) == [None, None]
    assert done == ["submission", "halt"]


def test_nothing_is_proven_while_an_answer_is_not_in_the_ledger_yet(desk):
    """The broker's list may lag behind its own answer, and the inbox behind both."""
    order = worlds.put_order(desk, status="submitted", sent_ago=timedelta(seconds=1))
    halting.halt_trading(mode="stop_new", actor=desk.person("bob"), reason="x")
    for status, waits in (("prepared", False), ("sent", True), ("answered", True)):
        Attempt.objects.update(status=status)
        assert proving.is_disturbed(Halt.objects.get()) is waits, status
    Order.objects.filter(pk=order.pk).update(status="rejected")
    assert not proving.is_disturbed(Halt.objects.get())
