"""What changes between the approval and the wire: before the turn, while the market is read, after preparing."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from brokers.models import Account, Instrument, Login
from brokers.services import broker_for
from cerbero import access, leases
from cerbero.access import issue_token
from cerbero.errors import LeaseLost
from cerbero.models import AccessToken, Bot, Lease, User
from cerbero.tokens import revoke
from orders import halting, recheck, services, submission, trading
from orders.models import Attempt, Limits, Order, Ticket, TradingState
from orders.tickets import terms_of

ME = access.system("orders")
NO_LIMITS = "DELETE FROM orders_limits"


def _halt(siege: Any, scope: str, scope_id: str = "") -> None:
    halting.halt_trading(mode="stop_new", actor=ME, scope=scope, scope_id=scope_id, reason="attack")


def _revoke(siege: Any) -> None:
    token = AccessToken.objects.filter(bot=siege.desk.bot).latest("created_at")
    revoke(actor=siege.desk.person("bob"), token=token)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "halted everywhere": (lambda s: _halt(s, "1-everything"), "waits"),
    "halted at the broker": (lambda s: _halt(s, "2-broker", s.desk.login.broker), "waits"),
    "halted on the account": (lambda s: _halt(s, "3-account", str(s.desk.account.pk)), "waits"),
    "halted for the bot": (lambda s: _halt(s, "4-bot", str(s.desk.bot.pk)), "waits"),
    "reducing": (lambda s: TradingState.objects.filter(scope="3-account").update(state="reducing"), "waits"),
    "bot disabled": (lambda s: Bot.objects.update(is_active=False), "bot_disabled"),
    "owner disabled": (
        lambda s: User.objects.filter(username="alice").update(is_active=False),
        "bot_disabled",
    ),
    "token revoked": (_revoke, "bot_token_revoked"),
    "login disabled": (lambda s: Login.objects.update(is_enabled=False), "waits"),
    "login mismatched": (lambda s: Login.objects.update(state="mismatched"), "waits"),
    "account says live": (lambda s: _environment(s, "live"), "terms_changed"),
    "account not listed": (lambda s: _environment(s, ""), "terms_changed"),
    "instrument disallowed": (lambda s: Instrument.objects.update(is_allowed=False), "risk_refused"),
    "quantity limit": (lambda s: Limits.objects.update(quantity_max=1), "risk_refused"),
    "notional limit": (lambda s: Limits.objects.update(notional_max=1), "risk_refused"),
    "collar": (lambda s: Limits.objects.update(collar_percent=0), "risk_refused"),
}


# What a ticket says that it waits for, where it is not denied.
WAITS = ("trading_halted", "login_disabled", "session_mismatched", "environment_mismatch")


def _environment(siege: Any, word: str) -> None:
    Account.objects.filter(pk=siege.desk.account.pk).update(environment=word)


def _approved(siege: Any) -> Ticket:
    issue_token(siege.desk.bot)
    return siege.approved()


def _judge(attempt: Any, ticket: Ticket, code: str) -> None:
    if code == "waits":
        attempt.held(ticket, *WAITS)
    else:
        attempt.denied(ticket, code)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_before_it_is_looked_at(siege, attempt, change):
    act, code = CHANGES[change]
    ticket = attempt.on(_approved(siege))
    act(siege)
    siege.turn()
    _judge(attempt, ticket, code)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_while_the_broker_is_asked_for_a_price(siege, attempt, change, monkeypatch):
    """The rows that were read before the question to the broker are old when it answers."""
    act, code = CHANGES[change]
    ticket = attempt.on(_approved(siege))

    def read_then_change(*words: Any) -> Any:
        moment = recheck.read_moment(*words)
        act(siege)
        return moment

    monkeypatch.setattr(submission, "read_moment", read_then_change)
    siege.turn()
    _judge(attempt, ticket, code)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_after_preparing_by_a_process_that_then_died(siege, attempt, change):
    act, code = CHANGES[change]
    ticket = attempt.on(_approved(siege))
    *_, hold = siege.prepared(ticket)
    act(siege)
    Lease.objects.filter(name=hold.name).update(expires_at=timezone.now() - timedelta(seconds=1))
    siege.turn()
    _judge(attempt, ticket, code)


ARMING = [name for name, (_, code) in CHANGES.items() if name.startswith(("halted", "reducing"))]


@pytest.mark.parametrize("change", [*ARMING, "canceled", "lease lost", "lease stolen"])
def test_changed_between_preparing_and_arming(siege, attempt, change):
    ticket = attempt.on(_approved(siege))
    sending, order, moment, hold = siege.prepared(ticket)
    if change in CHANGES:
        CHANGES[change][0](siege)
    elif change == "canceled":
        services.cancel_order(actor=siege.desk.scanner, order_id=order.pk)
    else:
        Lease.objects.filter(name=hold.name).update(expires_at=timezone.now() - timedelta(seconds=1))
        if change == "lease stolen":
            siege.hold()
    terms = terms_of(order, moment.facts.broker_instrument_id)
    with broker_for(siege.desk.login) as broker:
        submission.send(ME, sending, [terms], broker, hold)
    attempt.held(ticket, "not_armed")
    if change == "canceled":
        siege.turn()
        Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        siege.turn()
        attempt.denied(ticket, "canceled_before_sending")
    if change.startswith("lease"):
        with pytest.raises(LeaseLost):
            submission.prepare(ME, ticket, order, moment, hold)


def test_a_halt_waits_for_whoever_is_arming_and_lists_it(siege, attempt, monkeypatch):
    """A process that is paused between its last look and its commit cannot slip out behind a halt."""
    ticket = siege.approved()
    sending, _, _, hold = siege.prepared(ticket)
    paused, go_on, listed = threading.Event(), threading.Event(), {}
    entered = submission.record_change

    def pause(*words: Any, **named: Any) -> bool:
        is_armed = entered(*words, **named)
        paused.set()
        go_on.wait(60)
        return is_armed

    def arm() -> None:
        submission.arm(ME, sending, hold)
        connections.close_all()

    def halt() -> None:
        listed.update(halting.halt_trading(mode="stop_new", actor=ME, reason="attack"))
        connections.close_all()

    monkeypatch.setattr(submission, "record_change", pause)
    arms, halts = threading.Thread(target=arm), threading.Thread(target=halt)
    arms.start()
    assert paused.wait(60)
    halts.start()
    halts.join(0.5)
    assert halts.is_alive(), "the halt returned while somebody was on their way out"
    go_on.set()
    arms.join(60)
    halts.join(60)
    assert sending.client_order_id in listed["in_flight"]
    monkeypatch.undo()
    attempt.told("trading.halted")


@pytest.mark.parametrize("change", ["halted", "canceled"])
def test_nobody_says_yes_to_the_broker_after_a_halt_or_a_cancel(siege, attempt, monkeypatch, change):
    """The placement was under way; the answer to the broker's question would make it live."""
    from brokers.ibkr.client import IbkrClient

    attempt.expects = 1
    siege.sim.config(questions=["o354"])
    Account.objects.filter(pk=siege.desk.account.pk).update(allowed_question_ids=["o354"])
    ticket = siege.approved()
    place = IbkrClient.place

    def place_then_change(self: IbkrClient, *words: Any, **named: Any) -> Any:
        answer = place(self, *words, **named)
        if change == "halted":
            halting.halt_trading(mode="stop_new", actor=ME, reason="attack")
        else:
            services.cancel_order(actor=siege.desk.scanner, order_id=siege.desk.order(ticket).pk)
        return answer

    monkeypatch.setattr(IbkrClient, "place", place_then_change)
    siege.turn()
    sending = Attempt.objects.get(ticket=ticket)
    assert (sending.status, sending.outcome["refused"]) == ("in_doubt", True)
    live = [row for row in siege.desk.at_broker() if row["cOID"] == sending.client_order_id]
    assert not [row for row in live if row["status"] in {"Submitted", "PreSubmitted", "Filled"}]
    attempt.told("attempt.doubted")


@pytest.mark.parametrize("stage", ["approved", "prepared"])
@pytest.mark.parametrize("wrong", [timedelta(hours=-2), timedelta(hours=2)])
def test_our_clock_is_wrong_and_the_approval_is_over(siege, attempt, monkeypatch, stage, wrong):
    real, told_by_database = timezone.now, leases.database_now
    ticket = attempt.on(siege.approved())
    if stage == "prepared":
        *_, hold = siege.prepared(ticket)
        Lease.objects.filter(name=hold.name).update(expires_at=real() - timedelta(days=1))
        # What was consumed is bound to its expiry, which no row can move: it is the database's time that passed.
        monkeypatch.setattr(leases, "database_now", lambda: told_by_database() + timedelta(days=1))
    else:
        siege.time_passes(ticket)
    monkeypatch.setattr(timezone, "now", lambda: real() + wrong)
    siege.turn()
    attempt.denied(ticket, "approval_expired")


def test_a_missing_trading_state_counts_as_halted(siege, attempt):
    ticket = attempt.on(siege.approved())
    siege.as_owner(("DELETE FROM orders_tradingstate WHERE scope = '4-bot'", []))
    siege.turn()
    trading.ensure_states(bot=siege.desk.bot)
    attempt.held(ticket, "trading_halted")


def test_the_limits_are_gone(siege, attempt):
    ticket = attempt.on(siege.approved())
    siege.as_owner((NO_LIMITS, []))
    siege.turn()
    attempt.held(ticket, "not_found")


def test_a_waiting_ticket_that_nothing_let_through_is_told_of_when_it_expires(siege, attempt):
    ticket = attempt.on(siege.approved())
    Login.objects.update(is_enabled=False)
    siege.turn()
    siege.time_passes(ticket)
    siege.turn()
    attempt.denied(ticket, "approval_expired")


# People who reduce risk are let through by all of this.


@pytest.mark.parametrize("obstacle", ["halted", "login disabled", "bot disabled", "limits gone"])
def test_a_cancel_passes(siege, attempt, obstacle):
    attempt.expects = 1
    ticket = siege.approved()
    siege.turn()
    order = siege.desk.order(ticket)
    assert order.status == "accepted"
    {
        "halted": lambda: _halt(siege, "1-everything"),
        "login disabled": lambda: Login.objects.update(is_enabled=False),
        "bot disabled": lambda: Bot.objects.update(is_active=False),
        "limits gone": lambda: siege.as_owner((NO_LIMITS, [])),
    }[obstacle]()
    services.cancel_order(actor=siege.desk.person("bob"), order_id=order.pk)
    attempt.told("cancel.sent", outcome="accepted")
    assert Order.objects.get(pk=order.pk).status == "pending_cancel"


def test_one_login_that_cannot_be_served_does_not_stop_the_others(siege, attempt, monkeypatch):
    from cerbero.errors import CredentialMissing
    from orders import loop

    attempt.expects = 1
    ticket = siege.approved()
    broken = Login.objects.create(name="a-broken-one", environment="paper", state="up")
    serve = loop._serve

    def fails(actor: Any, login: Login, hold: Any) -> None:
        if login.pk == broken.pk:
            raise CredentialMissing(login=login.name)
        serve(actor, login, hold)

    monkeypatch.setattr(loop, "_serve", fails)
    siege.turn()
    Login.objects.filter(pk=broken.pk).delete()
    assert Ticket.objects.get(pk=ticket.pk).status == "sent"
    attempt.told("attempt.sent")
