"""A doubt settled by hand: nobody settles it alone where money is live, nor by another order, nor twice."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from brokers.models import Account
from cerbero.errors import AlreadyDecided, BadInput, CerberoError, NotProven, PermissionMissing, SelfApproval
from cerbero.models import DecisionRequest
from orders import hand_settling
from orders.models import Attempt, Ticket
from tests.adversarial.hands import bearer, signed_in
from tests.orders import world


@pytest.fixture
def doubt(siege: Any, attempt: Any) -> Attempt:
    """A sending whose request was lost before the broker had it."""
    return _doubt(siege, attempt, "drop_before")


def _doubt(siege: Any, attempt: Any, kind: str) -> Attempt:
    attempt.expects += kind == "drop_after"
    ticket = siege.approved()
    siege.sim.fault(kind, path="/orders", method="POST", times=1)
    siege.turn()
    sending = Attempt.objects.get(ticket=ticket)
    assert sending.status == "in_doubt"
    return sending


@pytest.fixture
def live(siege: Any, doubt: Attempt) -> Callable[[], DecisionRequest]:
    """The same where money is live: bob says that it never arrived, and another must agree."""
    Account.objects.filter(pk=siege.desk.account.pk).update(environment="live")

    def ask() -> DecisionRequest:
        request = _settle(siege, doubt)
        assert request is not None
        return request

    return ask


def _settle(siege: Any, sending: Attempt, actor: Any = None, **more: Any) -> DecisionRequest | None:
    words = {"verdict": "never_arrived", "reason": "the trade desk says so"} | more
    return hand_settling.settle_doubt(actor=actor or siege.desk.person("bob"), attempt_id=sending.pk, **words)


def _agree(siege: Any, request: DecisionRequest, who: Any = "carol", **more: Any) -> Any:
    said = {"request_id": request.pk, "digest": request.digest, "is_yes": True} | more
    actor = siege.desk.person(who) if isinstance(who, str) else who
    return hand_settling.decide_settling(actor=actor, **said)


def _in_doubt(sending: Attempt) -> None:
    sending.refresh_from_db()
    assert sending.status == "in_doubt"


def _pressed(siege: Any, request: DecisionRequest, who: str, digest: str = "") -> Any:
    path = reverse("console:decide_settling", args=[request.pk])
    return signed_in(siege, who).post(path, {"digest": digest or request.digest, "answer": "yes"})


def test_who_said_it_agrees_with_himself(siege, attempt, doubt, live):
    request = live()
    with pytest.raises(SelfApproval):
        _agree(siege, request, "bob")
    _pressed(siege, request, "bob")
    _in_doubt(doubt)
    attempt.told("access.refused", code="self_approval")


@pytest.mark.parametrize("who", ["bot", "without the group"])
def test_nobody_else_agrees(siege, attempt, doubt, live, who):
    request = live()
    siege.desk.people["carol"].groups.clear()
    with pytest.raises(PermissionMissing):
        _agree(siege, request, siege.desk.scanner if who == "bot" else "carol")
    _pressed(siege, request, "carol")
    _in_doubt(doubt)
    attempt.told("access.refused", status=403)


@pytest.mark.parametrize("verdict", ["never_arrived", "arrived"])
def test_a_bots_token_settles(siege, attempt, doubt, verdict):
    path = reverse("console:settle", args=[doubt.pk])
    fields = {"verdict": verdict, "reason": "I know", "broker_order_id": "1"}
    answer = Client().post(path, fields, headers=bearer(siege))
    assert answer.status_code == 302
    with pytest.raises(PermissionMissing):
        _settle(siege, doubt, siege.desk.scanner, verdict=verdict)
    _in_doubt(doubt)
    attempt.told("access.refused", status=302)


def test_another_digest_than_the_one_that_was_asked(siege, attempt, doubt, live):
    _pressed(siege, live(), "carol", "0" * 64)
    _in_doubt(doubt)
    attempt.told("access.refused", code="digest_mismatch")


def test_an_old_page_agrees_when_the_time_is_over(siege, attempt, doubt, live):
    request = live()
    words = "UPDATE cerbero_decisionrequest SET expires_at = now() - interval '1 second' WHERE id = %s"
    siege.as_owner((words, [request.pk]))
    with pytest.raises(AlreadyDecided):
        _agree(siege, request)
    _pressed(siege, request, "carol")
    _in_doubt(doubt)
    attempt.told("access.refused", code="already_decided")


def test_it_is_agreed_to_after_the_broker_has_named_it(siege, attempt):
    """Bob says that it never arrived; meanwhile the asking has found it."""
    sending = _doubt(siege, attempt, "drop_after")
    Account.objects.filter(pk=siege.desk.account.pk).update(environment="live")
    request = _settle(siege, sending)
    Account.objects.filter(pk=siege.desk.account.pk).update(environment="paper")
    assert world.until(lambda: siege.desk.reconcile() or siege.turn() or _is_settled(sending))
    _pressed(siege, request, "carol")
    assert Ticket.objects.get(pk=sending.ticket_id).status == "sent"
    attempt.told("access.refused", code="state_conflict")


def _is_settled(sending: Attempt) -> bool:
    return Attempt.objects.filter(pk=sending.pk).exclude(status="in_doubt").exists()


@pytest.mark.parametrize("other", ["no number", "unknown", "somebody else's", "of another size"])
def test_it_is_said_to_have_arrived_as_another_order(siege, attempt, doubt, other):
    number = "1; DROP" if other == "no number" else "999999999"
    if other == "somebody else's":
        number = str(_manual(siege, 10, "1.00"))
    elif other == "of another size":
        number = str(_manual(siege, 11, str(siege.resting)))
    path = reverse("console:settle", args=[doubt.pk])
    fields = {"verdict": "arrived", "reason": "I saw it", "broker_order_id": number}
    signed_in(siege, "bob").post(path, fields)
    with pytest.raises(BadInput):
        _settle(siege, doubt, verdict="arrived", broker_order_id=number)
    _in_doubt(doubt)
    attempt.told("access.refused", code="bad_input")


def _manual(siege: Any, quantity: int, price: str) -> int:
    """An order that was placed in the broker's own terminal."""
    words = {"account": siege.desk.account.broker_account_id, "conid": int(world.AAPL), "side": "BUY"}
    siege.sim.control("POST", "/_sim/manual_order", words | {"quantity": quantity, "price": float(price)})
    return siege.desk.at_broker()[-1]["order_id"]


def test_an_agreement_written_by_sql(siege, attempt, doubt, live):
    """The decision is there, and approved; the second person's own press finds that nobody can have made it."""
    request = live()
    siege.sql(
        "INSERT INTO cerbero_decision (id, request_id, person_id, is_yes, reason, digest_shown, proof) "
        "VALUES (%s, %s, %s, true, '', %s, '')",
        uuid4(),
        request.pk,
        siege.desk.people["carol"].pk,
        request.digest,
    )
    siege.sql("UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s", request.pk)
    siege.turn()
    _in_doubt(doubt)
    _pressed(siege, request, "carol")
    _in_doubt(doubt)
    attempt.told("access.refused", code="already_decided")


def test_a_question_put_by_sql_in_the_place_of_the_asked_one(siege, attempt, doubt, live):
    """It excludes nobody, so that bob could agree with himself."""
    request, forged = live(), uuid4()
    siege.sql(
        "INSERT INTO cerbero_decisionrequest (id, subject_kind, subject_id, summary, digest, facts, quorum, "
        '"group", excluded_user_ids, requested_by, status, expires_at, proof) SELECT %s, subject_kind, subject_id, '
        "summary, digest, facts, quorum, \"group\", '{}', requested_by, 'pending', expires_at, proof "
        "FROM cerbero_decisionrequest WHERE id = %s",
        forged,
        request.pk,
    )
    with pytest.raises(NotProven):
        _agree(siege, DecisionRequest.objects.get(pk=forged), "bob")
    _pressed(siege, DecisionRequest.objects.get(pk=forged), "bob")
    _in_doubt(doubt)
    attempt.told("access.refused", code="not_proven")


def test_what_was_settled_by_sql_is_not_sent_again(siege, attempt, doubt):
    """The attempt is settled and the ticket allowed again: its approval is used up all the same."""
    siege.sql("UPDATE orders_attempt SET status = 'settled', settled_at = now() WHERE id = %s", doubt.pk)
    words = "UPDATE orders_ticket SET status = 'allowed' WHERE id = %s"
    attempt.refused_by_database(words, doubt.ticket_id, says="not a legal move|approval")
    siege.turn()
    siege.turn("orders-2")


def test_two_settle_it_at_once_as_different_things(siege, attempt):
    """One says that it arrived, which is read at the broker, and one that it never did: one of them counts."""
    from functools import partial

    from tests.rig import run_together

    sending = _doubt(siege, attempt, "drop_after")
    (row,) = [each for each in siege.desk.at_broker() if each["cOID"] == sending.client_order_id]
    named = {"verdict": "arrived", "broker_order_id": str(row["order_id"])}
    said = run_together(
        partial(_settle, siege, sending, siege.desk.person("bob"), **named),
        partial(_settle, siege, sending, siege.desk.person("carol")),
    )
    assert not [each for each in said if isinstance(each, Exception) and not isinstance(each, CerberoError)]
    world.until(lambda: siege.desk.reconcile() or siege.turn() or _is_at_work(siege, sending))
    assert Decimal(row["quantity"]) == siege.desk.order(sending.ticket).quantity
    attempt.told("attempt.settled_by_hand")


def _is_at_work(siege: Any, sending: Attempt) -> bool:
    """The broker's word wins over whoever said that it never arrived."""
    return siege.desk.order(sending.ticket).status == "accepted"
