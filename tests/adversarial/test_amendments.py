"""Other terms for an order that works: what people approved is what the broker hears, once, or nothing."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from psycopg.types.json import Jsonb

from cerbero import access
from cerbero.errors import AlreadyDecided, CerberoError, DigestMismatch, PermissionMissing, SelfApproval
from cerbero.models import Bot, DecisionRequest
from orders import amending, halting, services
from orders.canonical import decision_digest
from orders.models import Amendment, ChangeAttempt, Limits, Order, TradingState
from tests.adversarial.hands import signed_in
from tests.adversarial.siege import turn_once
from tests.orders.world import until
from tests.rig import run_together

ME = access.system("orders")
ONE = {"name": "one", "then": {"do": "people", "quorum": 1}}


@pytest.fixture
def order(siege: Any, attempt: Any) -> Order:
    """Ten, working at the broker."""
    return _working(siege, attempt)


def _working(siege: Any, attempt: Any) -> Order:
    attempt.expects += 1
    ticket = siege.approved()
    siege.turn()
    order = siege.desk.order(ticket)
    assert order.status == "accepted"
    return order


def _ask(siege: Any, order: Order, total: int = 12, actor: Any = None, **more: Any) -> Amendment:
    siege.quote()
    words = {"quantity": Decimal(total), "quantity_is": "total"} | more
    return amending.amend_order(actor=actor or siege.desk.scanner, order_id=order.pk, **words)


def _say(siege: Any, amendment: Amendment, actor: Any = None, **more: Any) -> Amendment:
    amendment.refresh_from_db()
    assert amendment.request is not None
    said = {"digest": amendment.request.digest, "is_yes": True} | more
    return amending.decide_amendment(
        actor=actor or siege.desk.person("bob"), amendment_id=amendment.pk, **said
    )


def _approved(siege: Any, order: Order, total: int = 12) -> Amendment:
    return _say(siege, _ask(siege, order, total))


def _denied(attempt: Any, amendment: Amendment, *codes: str) -> None:
    amendment.refresh_from_db()
    assert (amendment.status, amendment.refusal_code) == ("denied", *codes)
    attempt.told("amendment.denied", code=amendment.refusal_code)


# Rows altered after the yes

FIELDS = {
    "order_id": "gen_random_uuid()",
    "bot_id": "NULL",
    "person_id": "gen_random_uuid()",
    "was_quantity": "was_quantity + 1",
    "was_limit_price": "was_limit_price + 1",
    "was_stop_price": "1",
    "filled_quantity": "filled_quantity + 1",
    "quantity": "quantity + 1",
    "limit_price": "limit_price + 1",
    "stop_price": "1",
    "tightens": "NOT tightens",
    "digest": "repeat('0', 64)",
    "created_at": "created_at + interval '1 hour'",
}


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_of_an_approved_amendment_changes_by_sql(siege, attempt, order, name):
    amendment = _approved(siege, order)
    words = f"UPDATE orders_amendment SET {name} = {FIELDS[name]} WHERE id = %s"
    attempt.refused_by_database(words, amendment.pk, says="never change")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bot_id", "approval_not_proven"),
        ("was_quantity", "terms_changed"),
        ("was_limit_price", "terms_changed"),
        ("filled_quantity", "terms_changed"),
        ("quantity", "terms_changed"),
        ("limit_price", "terms_changed"),
        ("stop_price", "terms_changed"),
        ("tightens", "terms_changed"),
        ("digest", "terms_changed"),
    ],
)
def test_what_the_owner_changed_in_an_approved_amendment_is_not_sent(siege, attempt, order, name, code):
    amendment = _approved(siege, order)
    words = f"UPDATE orders_amendment SET {name} = {FIELDS[name]} WHERE id = %s"
    siege.as_owner((words, [amendment.pk]))
    siege.turn()
    _denied(attempt, amendment, code)


@pytest.mark.parametrize("also", ["", "the question", "the question and the answer"])
def test_terms_and_digest_changed_together_by_the_owner_are_not_sent(siege, attempt, order, also):
    amendment = _approved(siege, order)
    amendment.quantity = Decimal(500)
    digest = amending.digest_for(amendment, order)
    words = "UPDATE orders_amendment SET quantity = 500, digest = %s WHERE id = %s"
    statements: list[tuple[str, list[Any]]] = [(words, [digest, amendment.pk])]
    request = DecisionRequest.objects.get(pk=amendment.request_id)
    asked = decision_digest(digest, request.facts)
    if also:
        words = "UPDATE cerbero_decisionrequest SET digest = %s WHERE id = %s"
        statements.append((words, [asked, request.pk]))
    if also.endswith("answer"):
        words = "UPDATE cerbero_decision SET digest_shown = %s WHERE request_id = %s"
        statements.append((words, [asked, request.pk]))
    siege.as_owner(*statements)
    siege.turn()
    _denied(attempt, amendment, "approval_not_proven")


INSERT = (
    "INSERT INTO orders_amendment (id, order_id, bot_id, was_quantity, was_limit_price, was_stop_price, "
    "filled_quantity, quantity, limit_price, stop_price, tightens, digest, status, refusal_code, refusal, reason, "
    "allowed_at) SELECT %s, id, NULL, quantity, limit_price, stop_price, 0, %s, limit_price, stop_price, %s, %s, %s, "
    "'', %s, '', now() FROM orders_order WHERE id = %s"
)


def _forged(siege: Any, order: Order, total: int, tightens: bool) -> tuple[Any, ...]:
    """As this program would have written it, but for what only it can make."""
    row = Amendment(
        id=uuid4(),
        order=order,
        filled_quantity=Decimal(0),
        quantity=Decimal(total),
        limit_price=order.limit_price,
        tightens=tightens,
        was_quantity=order.quantity,
        was_limit_price=order.limit_price,
    )
    return row.pk, total, tightens, amending.digest_for(row, order)


def test_a_smaller_size_written_by_sql_is_not_sent(siege, attempt, order):
    """What only tightens asks nobody: made small enough, the stop of a position would protect nothing any more."""
    pk, *words = _forged(siege, order, 1, True)
    siege.sql(INSERT, pk, *words, "allowed", Jsonb({}), order.pk)
    siege.turn()
    _denied(attempt, Amendment.objects.get(pk=pk), "approval_not_proven")


@pytest.mark.parametrize(("tightens", "says"), [(False, "begins as proposed"), (True, "does not tighten")])
def test_a_larger_size_cannot_begin_allowed(siege, attempt, order, tightens, says):
    words = _forged(siege, order, 500, tightens)
    attempt.refused_by_database(INSERT, *words, "allowed", Jsonb({}), order.pk, says=says)


def test_the_yes_to_one_amendment_serves_no_other(siege, attempt, order):
    other, small = _working(siege, attempt), _approved(siege, order)
    large = _ask(siege, other, 50)
    request = small.request_id
    siege.as_owner(("UPDATE orders_amendment SET request_id = NULL WHERE id = %s", [small.pk]))
    words = (
        "UPDATE orders_amendment SET request_id = %s, status = 'allowed', allowed_at = now() WHERE id = %s"
    )
    siege.sql(words, request, large.pk)
    siege.turn()
    _denied(attempt, large, "approval_not_proven")
    _denied(attempt, small, "approval_expired")


@pytest.mark.parametrize("to", ["allowed", "proposed", "sent"])
def test_a_sent_amendment_goes_nowhere_by_sql(siege, attempt, order, to):
    amendment = _approved(siege, order)
    siege.turn()
    attempt.expects += 1
    words = "UPDATE orders_amendment SET status = %s WHERE id = %s"
    attempt.refused_by_database(words, to, amendment.pk, says="not a legal move")
    siege.turn()


def test_a_second_sending_of_an_amendment_written_by_sql_is_settled_and_holds_up_nobody(
    siege, attempt, order
):
    amendment = _approved(siege, order)
    siege.turn()
    attempt.expects += 1
    siege.sql(
        "INSERT INTO orders_changeattempt (id, kind, account_id, order_id, broker_order_id, amendment_id, asked_by, "
        "digest, status, fence, outcome, absent_count) SELECT %s, kind, account_id, order_id, broker_order_id, "
        "amendment_id, asked_by, digest, 'prepared', fence, '{}', 0 FROM orders_changeattempt WHERE amendment_id = %s",
        uuid4(),
        amendment.pk,
    )
    siege.turn()
    assert not ChangeAttempt.objects.filter(amendment=amendment, status="prepared").exists()
    _working(siege, attempt)
    attempt.told("amend.settled")


@pytest.mark.parametrize("name", ["quantity", "limit_price"])
def test_the_size_and_price_of_a_working_order_change_by_no_other_way(siege, attempt, order, name):
    words = f"UPDATE orders_order SET {name} = {name} + 1 WHERE id = %s"
    attempt.refused_by_database(words, order.pk, says="but by an amendment that was sent")


# People who may not


def test_the_bots_owner_approves_an_amendment(siege, attempt, order):
    amendment = _ask(siege, order)
    with pytest.raises(SelfApproval):
        _say(siege, amendment, siege.desk.person("alice"))
    attempt.told("decision.refused", code="self_approval")


def test_who_asked_for_an_amendment_approves_it(siege, attempt, order):
    carol = siege.desk.people["carol"]
    carol.user_permissions.add(Permission.objects.get(codename="propose_ticket"))
    amendment = _ask(siege, order, actor=access.person(type(carol).objects.get(pk=carol.pk)))
    carol.user_permissions.clear()
    with pytest.raises(SelfApproval):
        _say(siege, amendment, siege.desk.person("carol"))
    attempt.told("decision.refused", code="self_approval")


@pytest.mark.parametrize("who", ["bot", "process", "without the group"])
def test_nobody_else_approves_an_amendment(siege, attempt, order, who):
    amendment = _ask(siege, order)
    if who.startswith("without"):
        siege.desk.people["bob"].groups.clear()
    actors = {"bot": siege.desk.scanner, "process": ME}
    with pytest.raises(PermissionMissing):
        _say(siege, amendment, actors.get(who))
    attempt.told("decision.refused", code="permission_missing")


def test_the_same_person_says_yes_twice_where_two_are_needed(siege, attempt, order):
    siege.desk.activate([{"name": "two", "then": {"do": "people", "quorum": 2}}])
    amendment = _approved(siege, order)
    with pytest.raises(AlreadyDecided):
        _say(siege, amendment)
    siege.turn()
    siege.desk.activate([ONE])
    attempt.told("decision.refused", code="already_decided")


@pytest.mark.parametrize("digest", ["", "0" * 64, "of the ticket"])
def test_another_digest_than_the_one_of_the_amendment(siege, attempt, order, digest):
    amendment = _ask(siege, order)
    shown = order.ticket.request.digest if digest.startswith("of") else digest
    with pytest.raises(DigestMismatch):
        _say(siege, amendment, digest=shown)
    attempt.told("decision.refused", code="digest_mismatch")


@pytest.mark.parametrize("answer", ["yes", "no"])
@pytest.mark.parametrize("status", ["rejected", "expired", "canceled", "allowed", "done"])
def test_a_button_of_an_old_page_of_amendments_is_pressed_again(siege, attempt, order, status, answer):
    amendment = _ask(siege, order)
    if status == "rejected":
        _say(siege, amendment, is_yes=False, reason="no")
    elif status == "canceled":
        services.cancel_order(actor=siege.desk.scanner, order_id=order.pk)
        siege.turn()
    elif status == "expired":
        words = "UPDATE cerbero_decisionrequest SET expires_at = now() - interval '1 second' WHERE id = %s"
        siege.as_owner((words, [amendment.request_id]))
        siege.turn()
    else:
        _say(siege, amendment)
    if status == "done":
        siege.turn()
        attempt.expects += 1
    before = Amendment.objects.get(pk=amendment.pk).status
    said = {"digest": DecisionRequest.objects.get(pk=amendment.request_id).digest, "reason": "again"}
    path = reverse("console:decide_amendment", args=[amendment.pk])
    signed_in(siege, "carol").post(path, said | {"answer": answer})
    assert Amendment.objects.get(pk=amendment.pk).status == before
    attempt.told("decision.refused", code="already_decided")
    if status != "allowed":
        siege.turn()


# What changes between the yes and the wire


def _halt(siege: Any) -> None:
    halting.halt_trading(mode="stop_new", actor=ME, reason="attack")


def _fill(siege: Any, order: Order) -> None:
    words = {"order_id": int(order.broker_order_id), "quantity": 4}
    siege.sim.control("POST", "/_sim/fill", words)


CHANGES: dict[str, tuple[Callable[[Any, Order], Any], str]] = {
    "halted": (lambda s, _: _halt(s), ""),
    "reducing": (lambda *_: TradingState.objects.filter(scope="3-account").update(state="reducing"), ""),
    "bot disabled": (lambda *_: Bot.objects.update(is_active=False), "bot_disabled"),
    "limit": (lambda *_: Limits.objects.update(quantity_max=11), "risk_refused"),
    "filled in part": (_fill, "order_moved"),
    "canceled": (
        lambda s, order: services.cancel_order(actor=s.desk.scanner, order_id=order.pk),
        "order_moved",
    ),
    "policy refuses": (lambda s, _: s.desk.activate([]), "policy_refused"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_between_the_yes_and_the_sending_of_an_amendment(siege, attempt, order, change):
    act, code = CHANGES[change]
    amendment = _approved(siege, order)
    act(siege, order)
    siege.turn()
    if change == "policy refuses":
        siege.desk.activate([ONE])
    if code:
        _denied(attempt, amendment, code)
    else:
        amendment.refresh_from_db()
        assert amendment.status == "allowed"
        attempt.told("amendment.allowed")
    assert not ChangeAttempt.objects.filter(amendment=amendment).exists()


def test_two_who_say_yes_and_four_processes_at_once_amend_once(siege, attempt, order):
    amendment = _ask(siege, order)
    said = run_together(
        *(partial(_say, siege, amendment, siege.desk.person(who)) for who in ("bob", "carol"))
    )
    assert [type(each) for each in said if isinstance(each, CerberoError)] == [AlreadyDecided]
    run_together(*(partial(turn_once, siege.desk, f"orders-{number}") for number in range(4)))
    until(lambda: siege.turn() or Amendment.objects.get(pk=amendment.pk).status == "done")
    attempt.expects += 1
    order.refresh_from_db()
    assert order.quantity == 12
    attempt.told("decision.refused", code="already_decided")
