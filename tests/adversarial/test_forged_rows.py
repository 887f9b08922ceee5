"""Limits loosened and halts lifted by whoever has the application's password at the database, and past signatures."""

from decimal import Decimal

import pytest

from cerbero import access
from cerbero.errors import RiskRefused, StateConflict, TradingHalted
from orders import forged, halting, services, trading
from orders.models import Limits, LimitSet, TradingState
from orders.notices.models import ALERT, Delivery, Webhook

ME = access.system("orders")
EVERYTHING = TradingState.Scope.EVERYTHING
LIFT = "UPDATE orders_tradingstate SET state = 'active', changed_by = 'bob', changed_at = now() WHERE state <> 'active'"


@pytest.fixture
def told_people(siege):
    """What went out to a channel that is told of breaks."""
    words = {"host": "hooks.slack.com", "sealed_url": b"", "sealed_secret": b"", "events": [ALERT]}
    channel = Webhook.objects.create(name=f"desk-{Webhook.objects.count()}", **words)
    yield lambda: list(Delivery.objects.filter(webhook=channel).values_list("subject", flat=True))
    Webhook.objects.filter(pk=channel.pk).update(is_active=False)


@pytest.mark.parametrize(
    "words",
    [
        "UPDATE orders_limits SET quantity_max = 1000000",
        "UPDATE orders_limits SET cash_tolerance = 1000000",
        "UPDATE orders_limitset SET quantity_max = NULL",
        "UPDATE orders_limitset SET symbols = '{}', quantity_max = 1000000",
    ],
)
def test_a_limit_loosened_by_sql_stops_what_it_was_to_let_through(siege, attempt, told_people, words):
    siege.approved()
    siege.turn()
    resting = siege.approved()
    siege.turn()
    attempt.expects = 2
    LimitSet.objects.create(bot=siege.desk.bot, quantity_max=Decimal(100))
    waiting = attempt.on(siege.approved())
    siege.sql(words)
    with pytest.raises(RiskRefused) as refusal:
        siege.place(quantity=200)
    assert "limits_not_proven" in {check["code"] for check in refusal.value.details["checks"]}
    siege.turn()
    attempt.held(waiting, "trading_halted")
    attempt.told("trading.halted")
    assert any("is halted" in subject for subject in told_people())
    services.cancel_order(actor=siege.desk.scanner, order_id=siege.desk.order(resting).pk)
    attempt.told("cancel.sent", outcome="accepted")


def test_a_limit_loosened_while_the_order_is_being_sent_denies_it(siege, attempt):
    """Before the loop has looked: the sending transaction itself sees that the row proves nothing."""
    ticket = attempt.on(siege.approved())
    siege.sql("UPDATE orders_limits SET notional_max = 1000000000")
    sending, *_ = siege.prepares(ticket)
    assert sending is None
    attempt.denied(ticket, "risk_refused")


def test_a_limit_row_put_back_with_its_old_proof_proves_nothing(siege, attempt):
    """Copied while it was loose, tightened by people, and written back as it was, its signature with it."""
    ticket = attempt.on(siege.approved())
    row = Limits.objects.get()
    (old,) = siege.sql("SELECT revision, proof, quantity_max FROM orders_limits")
    row.quantity_max = Decimal(5)
    row.save()
    words = "UPDATE orders_limits SET revision = %s, proof = %s, quantity_max = %s"
    siege.sql(words, *old)
    assert not Limits.objects.get().is_proven
    siege.turn()
    attempt.held(ticket, "trading_halted")


@pytest.mark.parametrize("proof", ["", "its own, from before the halt", "another scope's"])
def test_a_halt_lifted_by_sql_holds(siege, attempt, told_people, proof):
    ticket = attempt.on(siege.approved())
    mine = TradingState.objects.get(scope=EVERYTHING)
    words = {"": "", "its own, from before the halt": mine.proof}
    words["another scope's"] = TradingState.objects.get(scope="2-broker").proof
    halting.halt_trading(mode="stop_new", actor=siege.desk.person("bob"), reason="attack")
    siege.sql("UPDATE orders_tradingstate SET proof = %s WHERE scope = '1-everything'", words[proof])
    siege.sql(LIFT)
    siege.sql("UPDATE orders_tradingstate SET revision = %s WHERE scope = '1-everything'", mine.revision)
    with pytest.raises(TradingHalted):
        siege.place()
    siege.turn()
    attempt.held(ticket, "trading_halted")
    row = TradingState.objects.get(scope=EVERYTHING)
    assert (row.state, row.changed_by, row.is_proven) == ("halted", "orders", True)
    assert any("is halted" in subject for subject in told_people())
    with pytest.raises(StateConflict, match="two people"):
        trading.resume_trading(actor=siege.desk.person("bob"), reason="all is well")
    attempt.told("trading.halted", scope=EVERYTHING)


def test_what_this_program_does_next_makes_no_forged_row_its_own(siege, attempt):
    """Somebody reduces, drills or halts a scope whose halt was lifted by SQL: it stays held, and takes two."""
    ticket = attempt.on(siege.approved())
    bob = siege.desk.person("bob")
    halting.halt_trading(mode="stop_new", actor=bob, reason="attack")
    siege.sql(LIFT)
    with pytest.raises(StateConflict):
        trading.reduce_trading(actor=bob, reason="less")
    halting.halt_trading(mode="stop_new", actor=bob, reason="drill", is_drill=True)
    TradingState.objects.filter(scope=EVERYTHING).update(reason="looked at")
    assert trading.worst_state(siege.desk.account, siege.desk.bot.pk) == "halted"
    assert trading.takes_two(EVERYTHING, "")
    siege.turn()
    attempt.held(ticket, "trading_halted")


@pytest.mark.parametrize("table", ["orders_tradingstate", "orders_limits", "orders_limitset"])
def test_what_holds_is_not_removed_by_sql_to_be_made_anew(siege, attempt, table):
    LimitSet.objects.create(bot=siege.desk.bot, quantity_max=Decimal(100))
    attempt.on(siege.place())
    attempt.refused_by_database(f"DELETE FROM {table}", says="never deleted")


@pytest.mark.parametrize(
    "words",
    [
        "UPDATE orders_tradingstate SET scope_id = 'elsewhere'",
        "UPDATE orders_limits SET account_id = gen_random_uuid()",
        "UPDATE orders_limitset SET asset_class = 'OPT'",
        "UPDATE orders_limitset SET bot_id = NULL, broker = 'another'",
    ],
)
def test_what_holds_is_not_moved_aside_by_sql(siege, attempt, words):
    LimitSet.objects.create(bot=siege.desk.bot, quantity_max=Decimal(100))
    attempt.on(siege.place())
    attempt.refused_by_database(words, says="keeps its")


def test_the_database_draws_revisions_that_nobody_puts_back(siege, attempt):
    attempt.on(siege.place())
    attempt.refused_by_database("SELECT setval('orders_revision', 1)", says="permission denied for sequence")


def test_each_forged_row_is_told_of_once_and_no_true_one_is(siege, attempt):
    ticket = attempt.on(siege.approved())
    assert forged.halt_forged(ME) == []
    siege.sql("UPDATE orders_tradingstate SET needs_two = true WHERE scope = '4-bot'")
    assert len(forged.halt_forged(ME)) == 1
    assert forged.halt_forged(ME) == []
    siege.turn()
    attempt.held(ticket, "trading_halted")
    attempt.told("trading.halted", scope="4-bot")
