"""The siege must be able to fall: a breach is planted, and it has to say so."""

from dataclasses import replace
from uuid import uuid4

import pytest

from brokers.base import OrderType
from cerbero import access
from cerbero.errors import SelfApproval
from orders import submission
from orders.models import Ticket
from tests.adversarial.conftest import sums
from tests.adversarial.siege import Attempt

ME = access.system("orders")


def test_an_order_that_nobody_approved_is_seen_as_opened_and_sent(siege, monkeypatch):
    """Every look at the sending is taken away, and a row that says "allowed" is written by the tables' owner."""
    told = Attempt(siege, "planted")
    ticket = told.on(siege.place())
    monkeypatch.setattr(submission, "look_again", lambda *_, **__: None)
    monkeypatch.setattr(submission.judging, "use", lambda *_: None)
    siege.as_owner(
        (
            "UPDATE cerbero_decisionrequest SET status = 'consumed', consumed_at = now() WHERE id = %s",
            [ticket.request_id],
        ),
        ("UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", [ticket.pk]),
    )
    siege.turn()
    row = told.judge()
    assert (row["opened"], row["sent"]) == (1, 1)
    assert sums([row]) == {"attempts": 1, "opened": 1, "sent": 1, "unaudited": 1}


def test_a_decision_that_its_gate_let_through_is_seen(siege, monkeypatch):
    """The owner of the bot approves its order, because nobody is excluded any more."""
    monkeypatch.setattr("cerbero.decisions._hold_against", lambda *_: None)
    monkeypatch.setattr("orders.tickets._excluded", lambda *_: [])
    told = Attempt(siege, "planted")
    ticket = told.on(siege.place())
    siege.desk.decide(ticket, "alice")
    assert told.judge()["opened"] == 1


def test_a_refusal_without_an_entry_is_seen(siege, monkeypatch):
    told = Attempt(siege, "planted")
    ticket = told.on(siege.place())
    monkeypatch.setattr("orders.tickets._enter_refusal", lambda *_: None)
    with pytest.raises(SelfApproval):
        siege.desk.decide(ticket, "alice")
    with pytest.raises(AssertionError, match=r"no entry decision\.refused"):
        told.told("decision.refused", code="self_approval")
    row = told.judge()
    assert (row["opened"], row["sent"], sums([row])["unaudited"]) == (0, 0, 1)


def test_an_order_sent_beside_the_gate_is_seen_in_the_brokers_book(siege):
    """Whoever has the keys and calls the adapter leaves no ticket behind: only the book knows."""
    from brokers.services import broker_for
    from orders.facts import gather
    from orders.tickets import terms_of

    told = Attempt(siege, "planted")
    proposal = siege.desk.proposal(limit_price=siege.resting, order_type=OrderType.LIMIT)
    facts = gather(siege.desk.account, "AAPL", siege.desk.bot.pk)
    order = proposal.order(facts)
    terms = replace(terms_of(order, facts.broker_instrument_id, ME), client_order_id=uuid4().hex)
    with broker_for(siege.desk.login) as broker:
        broker.place(siege.desk.account.broker_account_id, [terms])
    assert told.judge()["sent"] == 1
    assert not Ticket.objects.filter(idempotency_key=proposal.idempotency_key).exists()
