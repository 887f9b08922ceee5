"""The broker's own preview of what waits: asked beside the order path, kept with its time, never in the way."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from brokers.base import OrderType
from brokers.models import Login
from orders import what_if
from orders.models import Attempt, Ticket, WhatIf
from orders.tasks import ask_what_ifs


def asked(ticket: Ticket) -> WhatIf:
    return WhatIf.objects.get(ticket=ticket)


def aged(ticket: Ticket, **seconds: int) -> None:
    """The row as if its times were so many seconds ago."""
    now = timezone.now()
    WhatIf.objects.filter(ticket=ticket).update(
        **{name: now - timedelta(seconds=ago) for name, ago in seconds.items()}
    )


def test_a_waiting_tickets_preview_is_kept_with_its_time(floor: Any) -> None:
    ticket = floor.place(limit_price=floor.near())
    ask_what_ifs()
    row = asked(ticket)
    assert row.answered_at >= row.asked_at
    ticket.refresh_from_db()
    said = what_if.broker_says(ticket)
    words = dict(said.rows)
    assert set(words) == {"Margin after", "Equity after", "Commission"}
    assert words["Commission"].endswith(" USD")
    assert "(+" in words["Margin after"]
    assert (said.notes, said.at) == ([], row.answered_at)
    assert floor.at_broker() == []


def test_the_brokers_warning_stands_on_the_card_in_its_own_words(floor: Any) -> None:
    price = floor.near() + 1
    ticket = floor.place(order_type=OrderType.STOP, limit_price=None, stop_price=price)
    ask_what_ifs()
    ticket.refresh_from_db()
    ((is_bad, words),) = what_if.broker_says(ticket).notes
    assert not is_bad
    assert words.startswith("The broker warns: “You are about to submit a stop order.")


def test_nothing_is_asked_twice_while_the_answer_is_good(floor: Any) -> None:
    ticket = floor.place(limit_price=floor.near())
    ask_what_ifs()
    assert not what_if.due(floor.login).exists()
    aged(ticket, asked_at=121, answered_at=120)
    assert what_if.due(floor.login).get() == ticket
    floor.decide(ticket, is_yes=False, reason="no")
    assert not what_if.due(floor.login).exists()


def test_a_broker_that_does_not_answer_is_said_and_asked_again_later(floor: Any) -> None:
    ticket = floor.place(limit_price=floor.near())
    ask_what_ifs()
    before = asked(ticket)
    aged(ticket, asked_at=301, answered_at=300)
    floor.sim.fault("status", path="whatif", status=500, times=4)
    ask_what_ifs()
    row = asked(ticket)
    assert row.problem
    assert row.answer == before.answer
    assert not what_if.due(floor.login).exists()
    ticket.refresh_from_db()
    assert what_if.broker_says(ticket).notes[0][1].startswith("The broker's preview is missing or old")
    aged(ticket, asked_at=31, answered_at=330)
    assert what_if.due(floor.login).get() == ticket


def test_a_conversation_with_the_broker_is_not_interrupted(floor: Any, monkeypatch: Any) -> None:
    ticket = floor.place(limit_price=floor.near())
    monkeypatch.setattr(what_if, "is_conversing", lambda login: True)
    ask_what_ifs()
    assert not WhatIf.objects.filter(ticket=ticket).exists()


def test_a_lost_session_is_told_to_who_brings_it_up(floor: Any) -> None:
    floor.place(limit_price=floor.near())
    floor.sim.control("POST", "/_sim/session", {"drop": "outer"})
    ask_what_ifs()
    assert Login.objects.get().state != "up"
    assert not Attempt.objects.exists()


def test_what_the_broker_would_refuse_is_said_first() -> None:
    said = what_if.BrokerSays(warnings=("mind the gap",), refusal="no funds")
    assert said.notes == [
        (True, "The broker says that it would refuse this order: “no funds”"),
        (False, "The broker warns: “mind the gap”"),
    ]
