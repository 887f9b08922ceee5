"""Paper or live is the broker's word; a login that it calls otherwise sends nothing and is halted, loudly."""

import pytest

from audit.models import Entry
from brokers.models import Login, SessionState
from cerbero import access
from orders import environment, trading
from orders.models import TradingState
from orders.notices.models import Delivery, Webhook

SYSTEM = access.system("test")
WRONG = {
    "the bring-up found another environment": lambda: Login.objects.update(
        state=SessionState.MISMATCHED, state_detail="The broker says live for DU1234567."
    ),
    "the broker calls the login live": lambda: Login.objects.update(is_paper=False),
}


def states(floor):
    return dict(TradingState.objects.filter(scope="3-account").values_list("scope_id", "state"))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_login_that_the_broker_calls_otherwise_is_halted_and_people_are_told(floor, wrong):
    Webhook.objects.create(name="desk", host="example.com", sealed_url=b"x", sealed_secret=b"y")
    ticket = floor.approved(limit_price=floor.near())
    WRONG[wrong]()
    for _ in range(2):
        floor.turn()
    state = TradingState.objects.get(scope="3-account", scope_id=str(floor.account.pk))
    assert (state.state, state.reason[:20]) == ("halted", "environment_mismatch")
    assert Delivery.objects.get().subject.startswith(f"URGENT {floor.account} is halted")
    assert Entry.objects.filter(event="trading.halted").count() == 1
    ticket.refresh_from_db()
    assert ticket.status == "allowed"
    assert not floor.at_broker()


def test_the_sending_transaction_itself_halts_what_the_loop_has_not_seen_yet(floor, monkeypatch):
    monkeypatch.setattr(environment, "halt_mismatched", lambda actor: [])
    floor.approved(limit_price=floor.near())
    Login.objects.update(is_paper=False)
    floor.turn()
    assert states(floor) == {str(floor.account.pk): "halted"}
    assert not floor.at_broker()


def test_a_login_that_is_right_again_is_resumed_by_a_person(floor):
    Login.objects.update(is_paper=False)
    floor.turn()
    Login.objects.update(is_paper=True)
    trading.resume_trading(
        actor=floor.person("bob"), scope="3-account", scope_id=str(floor.account.pk), reason="entered anew"
    )
    floor.turn()
    assert states(floor) == {str(floor.account.pk): "active"}
