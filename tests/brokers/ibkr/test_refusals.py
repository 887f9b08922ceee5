"""Every error of ibkr-web-api.md §6.3 and §8 has a stable reason and says what to do: one table, told in one page."""

import json

import pytest

from brokers.ibkr.refusals import REFUSALS, refusal_of
from cerbero.errors import BrokerRejected, BrokerUnavailable, OutcomeUnknown, SessionExpired
from tests.rig import BASE_DIR

PAGE = (BASE_DIR / "docs" / "ibkr.md").read_text()
ORDERS, PORTFOLIO = "/iserver/account/DU1/orders", "/portfolio/DU1/summary"
WORKING = "Your account has a minimum of 15 orders working on either the buy or sell side for this contract"

# Status, the broker's words, the path; what a read learns and what a write does; the reason.
SEEN = [
    (200, "no bridge", ORDERS, SessionExpired, BrokerRejected, "no_bridge"),
    (400, "Bad Request: no bridge", ORDERS, SessionExpired, SessionExpired, "no_bridge"),
    (
        400,
        "Bad Request: Please query /accounts first",
        ORDERS,
        SessionExpired,
        SessionExpired,
        "accounts_not_asked",
    ),
    (
        400,
        "Bad Request: accountId is not valid: DU2",
        ORDERS,
        BrokerRejected,
        BrokerRejected,
        "unknown_account",
    ),
    (400, "reply id not found: 'x'", "/iserver/reply/x", BrokerRejected, OutcomeUnknown, "question_gone"),
    (400, "OrderID 1 doesn't exist", ORDERS, BrokerRejected, BrokerRejected, "nothing_to_cancel"),
    (400, "Order is inactive", ORDERS, BrokerRejected, BrokerRejected, "nothing_to_cancel"),
    (400, "Bad Request", ORDERS, BrokerRejected, OutcomeUnknown, "bad_request"),
    (400, "Bad Request: no bridge\n", ORDERS, BrokerRejected, OutcomeUnknown, "bad_request"),
    (401, "", ORDERS, SessionExpired, OutcomeUnknown, "not_signed_in"),
    (401, "", PORTFOLIO, BrokerRejected, OutcomeUnknown, "unknown_account"),
    (401, "", "/portfolio/accounts", SessionExpired, OutcomeUnknown, "not_signed_in"),
    (403, "", ORDERS, BrokerUnavailable, OutcomeUnknown, "barred"),
    (404, "", "/hmds/history", BrokerRejected, OutcomeUnknown, "not_found"),
    (410, "", ORDERS, SessionExpired, OutcomeUnknown, "host_moved"),
    (429, "", ORDERS, BrokerUnavailable, OutcomeUnknown, "rate_limited"),
    (500, "unknown", ORDERS, BrokerUnavailable, OutcomeUnknown, "broker_failed"),
    (502, "", ORDERS, BrokerUnavailable, OutcomeUnknown, "broker_failed"),
    (503, "Service Unavailable", ORDERS, BrokerUnavailable, OutcomeUnknown, "broker_away"),
    (200, "No trading permissions.", ORDERS, BrokerRejected, BrokerRejected, "no_permission"),
    (
        200,
        "We cannot accept an order at the limit price you selected. …",
        ORDERS,
        BrokerRejected,
        BrokerRejected,
        "price_refused",
    ),
    (200, "invalid order price fields", ORDERS, BrokerRejected, BrokerRejected, "price_refused"),
    (
        200,
        "invalid order attribute : Outside Regular Trading Hours",
        ORDERS,
        BrokerRejected,
        BrokerRejected,
        "hours_refused",
    ),
    (200, WORKING, ORDERS, BrokerRejected, BrokerRejected, "too_many_working"),
    (200, "Order not confirmed ", ORDERS, BrokerRejected, BrokerRejected, "not_confirmed"),
]


@pytest.mark.parametrize(("status", "words", "path", "of_read", "of_write", "reason"), SEEN)
def test_each_error_of_the_facts_proves_what_it_proves_and_names_its_reason(
    status, words, path, of_read, of_write, reason
) -> None:
    read, write = (refusal_of(each, path, status, words, is_empty=not words) for each in (False, True))
    assert (type(read), type(write)) == (of_read, of_write)
    assert read.details["reason"] == reason
    for each in (read, write):
        assert each.details["what_to_do"].endswith(".")
        json.dumps(each.as_json())


def test_a_duplicate_id_is_looked_up_with_any_status() -> None:
    for status in (200, 400, 500):
        words = "Order couldn't be submitted: Local order ID=abc is already registered."
        error = refusal_of(True, ORDERS, status, words)
        assert (type(error), error.details["duplicate"]) == (OutcomeUnknown, True)


def test_a_reply_learns_nothing_from_a_closed_gate() -> None:
    error = refusal_of(True, "/iserver/reply/x", 400, "Bad Request: no bridge", is_gated=False)
    assert type(error) is OutcomeUnknown
    assert "do not send it again" in error.details["what_to_do"]


@pytest.mark.parametrize("is_write", [False, True])
def test_no_answer_is_left_without_a_meaning(is_write: bool) -> None:
    for status in range(200, 600):
        assert refusal_of(is_write, ORDERS, status, "whatever it says").details["reason"]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda row: row.reason)
def test_each_reason_stands_on_the_page_with_what_to_do(refusal) -> None:
    assert f"| `{refusal.reason}` | {refusal.advice} |" in PAGE, "docs/ibkr.md needs this row"
