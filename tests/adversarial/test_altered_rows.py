"""Rows written or altered past the program: as the application's role, and as the owner with triggers switched off."""

import hashlib
import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from cerbero.embedded import APP, OWNER
from orders import services
from orders.models import Attempt, Order, Ticket
from tests.orders import world

DECISION = (
    "INSERT INTO cerbero_decision (id, request_id, person_id, is_yes, reason, digest_shown, proof) "
    "VALUES (%s, %s, %s, true, '', %s, %s)"
)


def _forge_yes(siege: Any, ticket: Ticket, who: str = "bob", role: str = APP, proof: str = "") -> None:
    """A decision, the approval and the ticket's move, each as the triggers want it."""
    person, request = siege.desk.people[who].pk, ticket.request
    siege.sql(DECISION, uuid4(), request.pk, person, request.digest, proof, role=role)
    siege.sql("UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s", request.pk, role=role)
    siege.sql(
        "UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", ticket.pk, role=role
    )


@pytest.mark.parametrize("proof", ["", "0" * 64, "as of another ticket"])
@pytest.mark.parametrize("role", [APP, OWNER])
def test_a_decision_inserted_by_sql_opens_nothing(siege, attempt, role, proof):
    ticket = siege.place()
    if proof.startswith("as"):
        other = siege.approved()
        proof = other.request.decisions.get().proof
        siege.desk.order(other)
        siege.sql("UPDATE orders_ticket SET status = 'withdrawn' WHERE id = %s", other.pk)
    _forge_yes(siege, ticket, role=role, proof=proof)
    attempt.watch(ticket.pk, "allowed")
    siege.turn()
    attempt.denied(ticket, "approval_not_proven")


def test_the_second_of_two_decisions_forged_by_sql_opens_nothing(siege, attempt, monkeypatch):
    from cerbero import decisions

    asked = decisions.ask
    monkeypatch.setattr("cerbero.decisions.ask", lambda **words: asked(**words | {"quorum": 2}))
    ticket = attempt.on(siege.place())
    siege.desk.decide(ticket, "bob")
    siege.sql(DECISION, uuid4(), ticket.request_id, siege.desk.people["carol"].pk, ticket.request.digest, "")
    siege.sql("UPDATE cerbero_decisionrequest SET status = 'approved' WHERE id = %s", ticket.request_id)
    siege.sql("UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s", ticket.pk)
    attempt.watch(ticket.pk, "allowed")
    siege.turn()
    attempt.denied(ticket, "approval_not_proven")


def test_a_question_with_a_lower_quorum_put_in_the_place_of_the_asked_one(siege, attempt):
    ticket = attempt.on(siege.place())
    old, new = ticket.request, uuid4()
    siege.sql(
        "INSERT INTO cerbero_decisionrequest (id, subject_kind, subject_id, summary, digest, facts, quorum, "
        '"group", excluded_user_ids, requested_by, status, expires_at, proof) SELECT %s, subject_kind, subject_id, '
        "summary, digest, facts, 1, 'Approver', '{}', requested_by, 'pending', expires_at, proof "
        "FROM cerbero_decisionrequest WHERE id = %s",
        new,
        old.pk,
    )
    siege.sql("UPDATE orders_ticket SET request_id = %s WHERE id = %s", new, ticket.pk)
    ticket = Ticket.objects.get(pk=ticket.pk)
    from cerbero.errors import NotProven

    with pytest.raises(NotProven):
        siege.desk.decide(ticket, "alice")
    attempt.told("decision.refused", code="not_proven")
    siege.turn()


@pytest.mark.parametrize("status", ["approved", "consumed"])
def test_a_decision_request_cannot_begin_decided(siege, attempt, status):
    ticket = attempt.on(siege.place())
    attempt.refused_by_database(
        "INSERT INTO cerbero_decisionrequest (id, subject_kind, subject_id, summary, digest, facts, quorum, "
        '"group", excluded_user_ids, requested_by, status, expires_at, consumed_at, proof) SELECT %s, subject_kind, '
        "subject_id, summary, digest, facts, quorum, \"group\", '{}', requested_by, %s, expires_at, "
        "CASE WHEN %s = 'consumed' THEN now() END, '' FROM cerbero_decisionrequest WHERE id = %s",
        uuid4(),
        status,
        status,
        ticket.request_id,
        says="begins as pending",
    )


def test_a_ticket_cannot_begin_allowed(siege, attempt):
    ticket = attempt.on(siege.place())
    attempt.refused_by_database(
        "INSERT INTO orders_ticket (id, account_id, bot_id, idempotency_key, digest, reduce_only, status, "
        "refusal_code, refusal, reason, tag, notional_currency) SELECT %s, account_id, bot_id, 'forged', digest, "
        "false, 'allowed', '', '{}', '', '', 'USD' FROM orders_ticket WHERE id = %s",
        uuid4(),
        ticket.pk,
        says="begins as proposed or denied",
    )


@pytest.mark.parametrize("whose", ["bot", "person, while halted", "with the proof of another"])
def test_a_close_inserted_by_sql_closes_nothing(siege, attempt, whose):
    """The one kind of row that begins allowed: it would not even need to fit a position that we hold."""
    siege.sim.config(fills="immediate")
    siege.approved(quantity=5, limit_price=siege.ask + 1)
    siege.turn()
    siege.desk.reconcile()
    attempt.expects = 1
    above = (siege.ask * Decimal("1.02")).quantize(Decimal("0.01"))
    ticket = siege.place(side="sell", quantity=1, limit_price=above)
    forged, proof = uuid4(), "0" * 64
    if whose.startswith("with"):
        named = {"account": siege.desk.account.broker_account_id, "symbol": "AAPL"}
        key = f"close-{forged}"
        close = services.close_position(actor=siege.desk.scanner, idempotency_key=key, quantity=1, **named)
        services.cancel_order(actor=siege.desk.scanner, order_id=siege.desk.order(close).pk)
        proof = close.proof
    person = siege.desk.people["bob"].pk if whose.startswith("person") else None
    if person is not None:
        siege.sql("UPDATE orders_tradingstate SET state = 'halted' WHERE scope = '1-everything'")
    siege.sql(
        "INSERT INTO orders_ticket (id, account_id, bot_id, person_id, idempotency_key, digest, reduce_only, "
        "status, refusal_code, refusal, reason, tag, notional_currency, allowed_at, proof) SELECT %s, account_id, "
        "CASE WHEN %s::uuid IS NULL THEN bot_id END, %s, %s, %s, true, 'allowed', '', '{}', '', '', 'USD', now(), "
        "%s FROM orders_ticket WHERE id = %s",
        forged,
        person,
        person,
        f"forged-{forged}"[:64],
        _digest_of_close(ticket),
        proof,
        ticket.pk,
    )
    siege.sql(
        "INSERT INTO orders_order (id, ticket_id, number, instrument_id, side, quantity, order_type, limit_price, "
        "time_in_force, status, broker_order_id, filled_quantity, text) SELECT %s, %s, 1, instrument_id, side, "
        "quantity, order_type, limit_price, time_in_force, 'pending', '', 0, '' FROM orders_order "
        "WHERE ticket_id = %s",
        uuid4(),
        forged,
        ticket.pk,
    )
    attempt.watch(forged, "allowed")
    siege.turn()
    attempt.denied(Ticket.objects.get(pk=forged), "approval_not_proven")


def test_a_close_of_one_contract_closes_no_other(siege, attempt):
    """The instrument's contract is exchanged between the close and its sending."""
    siege.sim.config(fills="immediate")
    siege.approved(quantity=5, limit_price=siege.ask + 1)
    siege.turn()
    siege.desk.reconcile()
    attempt.expects = 1
    named = {"account": siege.desk.account.broker_account_id, "symbol": "AAPL"}
    close = services.close_position(actor=siege.desk.scanner, idempotency_key=uuid4().hex, **named)
    siege.sql(
        "UPDATE brokers_brokerinstrument SET broker_instrument_id = %s WHERE instrument_id = %s",
        world.SPY,
        siege.desk.aapl.pk,
    )
    attempt.watch(close.pk, "allowed")
    siege.turn()
    attempt.denied(close, "approval_not_proven")


def _digest_of_close(ticket: Ticket) -> str:
    from orders.canonical import ticket_digest

    ticket.reduce_only = True
    return ticket_digest(ticket, ticket.account, list(ticket.orders.all()))


TICKET_FIELDS = [
    "account_id",
    "bot_id",
    "person_id",
    "idempotency_key",
    "digest",
    "reduce_only",
    "created_at",
]
ORDER_FIELDS = [
    "ticket_id",
    "number",
    "instrument_id",
    "side",
    "quantity",
    "order_type",
    "limit_price",
    "stop_price",
    "time_in_force",
]
REQUEST_FIELDS = [
    "subject_kind",
    "subject_id",
    "digest",
    "facts",
    "quorum",
    '"group"',
    "excluded_user_ids",
    "requested_by",
    "created_at",
    "expires_at",
]
OTHER = {
    "account_id": "gen_random_uuid()",
    "bot_id": "gen_random_uuid()",
    "person_id": "gen_random_uuid()",
    "idempotency_key": "'another'",
    "digest": "repeat('0', 64)",
    "reduce_only": "NOT reduce_only",
    "created_at": "created_at + interval '1 hour'",
    "ticket_id": "gen_random_uuid()",
    "number": "number + 1",
    "instrument_id": "gen_random_uuid()",
    "side": "'sell'",
    "quantity": "quantity + 1",
    "order_type": "'market'",
    "limit_price": "limit_price + 1",
    "stop_price": "1",
    "time_in_force": "'gtc'",
    "subject_kind": "'another'",
    "subject_id": "gen_random_uuid()",
    "facts": "'{}'::jsonb",
    "quorum": "2",
    '"group"': "'Operator'",
    "excluded_user_ids": "'{}'",
    "requested_by": "'another'",
    "expires_at": "expires_at + interval '1 day'",
}


@pytest.mark.parametrize("name", TICKET_FIELDS)
def test_no_field_of_an_approved_ticket_changes_by_sql(siege, attempt, name):
    ticket = attempt.on(siege.approved())
    words = f"UPDATE orders_ticket SET {name} = {OTHER[name]} WHERE id = %s"
    attempt.refused_by_database(words, ticket.pk, says="never change")


@pytest.mark.parametrize("name", ORDER_FIELDS)
def test_no_field_of_an_approved_order_changes_by_sql(siege, attempt, name):
    ticket = attempt.on(siege.approved())
    words = f"UPDATE orders_order SET {name} = {OTHER[name]} WHERE ticket_id = %s"
    attempt.refused_by_database(words, ticket.pk, says="never change")


@pytest.mark.parametrize("name", REQUEST_FIELDS)
def test_no_field_of_a_question_changes_by_sql(siege, attempt, name):
    ticket = attempt.on(siege.approved())
    words = f"UPDATE cerbero_decisionrequest SET {name} = {OTHER[name]} WHERE id = %s"
    attempt.refused_by_database(words, ticket.request_id, says="never change")


@pytest.mark.parametrize(
    "name", ["side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force"]
)
def test_a_term_that_the_owner_changed_after_the_approval_is_not_sent(siege, attempt, name):
    ticket = attempt.on(siege.approved())
    siege.as_owner((f"UPDATE orders_order SET {name} = {OTHER[name]} WHERE ticket_id = %s", [ticket.pk]))
    siege.turn()
    attempt.denied(ticket, "terms_changed")


def test_an_instrument_that_the_owner_changed_after_the_approval_is_not_sent(siege, attempt):
    from brokers.models import BrokerInstrument, Instrument
    from tests.orders.world import SPY

    ticket = attempt.on(siege.approved())
    spy, _ = Instrument.objects.get_or_create(
        symbol="SPY", defaults={"price_increment": "0.01", "multiplier": 1}
    )
    BrokerInstrument.objects.get_or_create(instrument=spy, broker="ibkr", broker_instrument_id=SPY)
    siege.as_owner(("UPDATE orders_order SET instrument_id = %s WHERE ticket_id = %s", [spy.pk, ticket.pk]))
    siege.turn()
    attempt.denied(ticket, "terms_changed")


def test_terms_and_digest_changed_together_by_the_owner_are_not_what_was_approved(siege, attempt):
    from orders.canonical import ticket_digest

    ticket = attempt.on(siege.approved())
    order = Order.objects.get(ticket=ticket)
    order.quantity += 1
    digest = ticket_digest(ticket, ticket.account, [order])
    siege.as_owner(
        ("UPDATE orders_order SET quantity = %s WHERE ticket_id = %s", [order.quantity, ticket.pk]),
        ("UPDATE orders_ticket SET digest = %s WHERE id = %s", [digest, ticket.pk]),
    )
    siege.turn()
    attempt.denied(ticket, "approval_not_proven")


def test_terms_digest_question_and_decision_changed_together_by_the_owner_lack_the_proof(siege, attempt):
    from orders.canonical import ticket_digest

    ticket = attempt.on(siege.approved())
    order = Order.objects.get(ticket=ticket)
    order.quantity += 1
    digest = ticket_digest(ticket, ticket.account, [order])
    siege.as_owner(
        ("UPDATE orders_order SET quantity = %s WHERE ticket_id = %s", [order.quantity, ticket.pk]),
        ("UPDATE orders_ticket SET digest = %s WHERE id = %s", [digest, ticket.pk]),
        ("UPDATE cerbero_decisionrequest SET digest = %s WHERE id = %s", [digest, ticket.request_id]),
        ("UPDATE cerbero_decision SET digest_shown = %s WHERE request_id = %s", [digest, ticket.request_id]),
    )
    siege.turn()
    attempt.denied(ticket, "approval_not_proven")


REQUEST_BY_OWNER = [
    "facts",
    "quorum",
    '"group"',
    "excluded_user_ids",
    "requested_by",
    "expires_at",
    "subject_kind",
]


@pytest.mark.parametrize("name", REQUEST_BY_OWNER)
def test_a_question_that_the_owner_changed_after_the_approval_is_worth_nothing(siege, attempt, name):
    ticket = attempt.on(siege.approved())
    words = f"UPDATE cerbero_decisionrequest SET {name} = {OTHER[name]} WHERE id = %s"
    siege.as_owner((words, [ticket.request_id]))
    siege.turn()
    ticket.refresh_from_db()
    code = "contract_changed" if name == "facts" else "approval_not_proven"
    attempt.denied(ticket, code)


@pytest.mark.parametrize("change", ["person_id = %s", "is_yes = %s", "digest_shown = %s"])
def test_a_decision_that_the_owner_changed_is_worth_nothing(siege, attempt, change):
    ticket = attempt.on(siege.approved())
    value = {"p": siege.desk.people["carol"].pk, "i": False, "d": hashlib.sha256(b"x").hexdigest()}[change[0]]
    words = f"UPDATE cerbero_decision SET {change}, reason = 'x' WHERE request_id = %s"
    siege.as_owner((words, [value, ticket.request_id]))
    siege.turn()
    ticket.refresh_from_db()
    if ticket.status == "allowed":
        # The triggers, which are back, refuse the use of an approval without its quorum.
        attempt.told_by_server("an approval needs its quorum")
    else:
        attempt.denied(ticket, "approval_not_proven")


def test_a_used_approval_begins_no_second_attempt_by_sql(siege, attempt):
    attempt.expects = 1
    ticket = siege.approved()
    siege.turn()
    attempt.refused_by_database(
        "INSERT INTO orders_attempt (id, ticket_id, number, client_order_id, digest, status, fence, outcome, "
        "absent_count) VALUES (%s, %s, 2, 'forged', %s, 'prepared', 1, '{}', 0)",
        uuid4(),
        ticket.pk,
        ticket.digest,
        says="needs a consumed approval",
    )
    siege.turn()


def test_a_second_attempt_that_the_owner_writes_is_settled_and_not_sent(siege, attempt):
    attempt.expects = 1
    ticket = siege.approved()
    siege.turn()
    words = (
        "INSERT INTO orders_attempt (id, ticket_id, number, client_order_id, digest, status, fence, outcome, "
        "absent_count) VALUES (gen_random_uuid(), %s, 2, %s, %s, 'prepared', 1, '{}', 0)"
    )
    siege.as_owner((words, [ticket.pk, f"forged-{ticket.pk}"[:32], ticket.digest]))
    siege.turn()
    forged = Attempt.objects.get(ticket=ticket, number=2)
    assert (forged.status, forged.outcome["why"]) == ("settled", "not_on_its_way")
    attempt.told("attempt.settled")


@pytest.mark.parametrize("to", ["prepared", "in_doubt", "sent"])
def test_an_answered_attempt_goes_nowhere_by_sql(siege, attempt, to):
    attempt.expects = 1
    ticket = siege.approved()
    siege.turn()
    words = "UPDATE orders_attempt SET status = %s WHERE ticket_id = %s"
    attempt.refused_by_database(words, to, ticket.pk, says="not a legal move")


@pytest.mark.parametrize(
    "table", ["orders_ticket", "orders_order", "cerbero_decisionrequest", "orders_attempt"]
)
def test_no_row_of_the_gate_is_deleted_by_sql(siege, attempt, table):
    attempt.expects = 1
    siege.approved()
    siege.turn()
    attempt.refused_by_database(f"DELETE FROM {table}", says="never deleted")


def test_the_trail_is_not_changed_by_the_application(siege, attempt):
    attempt.refused_by_database("UPDATE audit_entry SET actor_name = 'bob'", says="permission denied")
    attempt.refused_by_database("DELETE FROM audit_entry", says="permission denied")


def test_triggers_are_not_switched_off_by_the_application(siege, attempt):
    attempt.refused_by_database("ALTER TABLE orders_ticket DISABLE TRIGGER USER", says="must be owner")
    attempt.refused_by_database("SET session_replication_role = replica", says="permission denied")


def test_a_contract_that_was_exchanged_behind_the_instrument_is_not_sent(siege, attempt):
    ticket = attempt.on(siege.approved())
    siege.sql(
        "UPDATE brokers_brokerinstrument SET broker_instrument_id = '9' WHERE instrument_id = %s",
        siege.desk.aapl.pk,
    )
    siege.turn()
    ticket.refresh_from_db()
    if ticket.status == "proposed":
        # The broker quotes no such contract, so people are asked again with what stands there now.
        attempt.told("ticket.proposed_again")
    else:
        attempt.denied(ticket, "contract_changed")


def test_a_multiplier_that_was_raised_after_the_approval_is_not_sent(siege, attempt):
    ticket = attempt.on(siege.approved())
    siege.sql("UPDATE brokers_instrument SET multiplier = 100 WHERE id = %s", siege.desk.aapl.pk)
    siege.turn()
    attempt.denied(ticket, "contract_changed")


@pytest.mark.parametrize("forged", ["filled", "canceled", "accepted", "execution", "nonsense"])
def test_a_forged_report_makes_nothing_leave(siege, attempt, forged):
    """The inbox is writable by the application's role: it may lie to the ledger, and never send."""
    waiting, approved = siege.place(), siege.approved()
    attempt.on(waiting)
    siege.sql("UPDATE orders_tradingstate SET state = 'halted' WHERE scope = '1-everything'")
    told = {"broker_order_id": f"77{forged}", "state": forged, "total_quantity": "1", "client_order_id": "x"}
    record = {"execution": {"broker_account_id": "DU0", "execution_id": "e"}, "nonsense": {"A": [1]}}
    siege.sql(
        "INSERT INTO brokers_report (login_id, kind, source, subject, record, digest, problem) "
        "VALUES (%s, %s, 'stream', %s, %s::jsonb, %s, '')",
        siege.desk.login.pk,
        "execution" if forged == "execution" else "order",
        f"forged-{forged}",
        json.dumps(record.get(forged, told)),
        uuid4().hex,
    )
    siege.turn()
    approved.refresh_from_db()
    assert approved.status == "allowed"
    attempt.told("drift.found")
    attempt.held(approved, "trading_halted")
