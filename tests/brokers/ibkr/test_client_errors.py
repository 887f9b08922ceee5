"""Each fault, and the one error that it must be (ibkr-web-api.md §6.3, §8; gates.md §3)."""

import json
from decimal import Decimal

import httpx
import pytest

from brokers.base import OrderTerms, OrderType, Question, Side, TimeInForce
from brokers.ibkr.auth import IbkrCredentials
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.wire import ANSWER_BYTES_MAX
from cerbero.errors import BrokerRejected, BrokerUnavailable, OutcomeUnknown, SessionExpired

CREDENTIALS = IbkrCredentials("CONSUMERK", "e84c11dc149cb96ee5bb", "", 23, b"", b"")
ACCOUNT, OUR_ID = "DU1234567", "a" * 32
TERMS = OrderTerms(
    "265598",
    Side.BUY,
    Decimal(5),
    OrderType.LIMIT,
    TimeInForce.DAY,
    Decimal("187.10"),
    client_order_id=OUR_ID,
)
QUESTION = Question("07a13a5a-4a48-44a5-bb25-5ab37b79186c", ("o163",), ("sure?",))

WRITES = {
    "place": lambda client: client.place(ACCOUNT, [TERMS]),
    "answer": lambda client: client.answer(QUESTION, confirmed=True),
    "cancel": lambda client: client.cancel(ACCOUNT, "987654"),
}
READS = {
    "tickle": lambda client: client.tickle(),
    "open_orders": lambda client: client.open_orders(),
    "order": lambda client: client.order("987654"),
    "executions": lambda client: client.executions(),
    "positions": lambda client: client.positions(ACCOUNT),
    "summary": lambda client: client.summary(ACCOUNT),
    "snapshot": lambda client: client.snapshot(["265598"]),
    "listed_accounts": lambda client: client.listed_accounts(),
    "session_status": lambda client: client.session_status(),
    "preview": lambda client: client.preview(ACCOUNT, [TERMS]),
}

NO_BRIDGE = '{"error":"Bad Request: no bridge","statusCode":400}'
ACCOUNTS_FIRST = '{"error":"Bad Request: Please query /accounts first","statusCode":400}'
BAD_ACCOUNT = '{"error":"Bad Request: accountId is not valid: DU1234567","statusCode":400}'
ONE_ACCOUNT = {"/iserver/accounts": b'{"accounts":["DU1234567"],"isPaper":true}'}
TWO_ACCOUNTS = {"/iserver/accounts": b'{"accounts":["DU1","DU2"],"isPaper":true}'}
DUPLICATE = f'{{"error":"Order couldn\'t be submitted: Local order ID={OUR_ID} is already registered."}}'


class Server:
    """Answers every request alike but those in `others`, and remembers them."""

    def __init__(self, answer, others):
        self.answer, self.others, self.requests = answer, others, []

    def __call__(self, request):
        for end, body in self.others.items():
            if request.url.path.endswith(end):
                return httpx.Response(200, content=body)
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        status, body = self.answer
        return httpx.Response(status, content=body)


def talk(call, answer, others=None, **options):
    server = Server(answer, others or {})
    options.setdefault("session_token", b"x" * 20)
    client = IbkrClient(
        "https://broker.test/v1/api",
        CREDENTIALS,
        transport=httpx.MockTransport(server),
        wait=lambda seconds: None,
        **options,
    )
    with client:
        try:
            return call(client), server
        except Exception as error:
            return error, server


NEVER_LEFT = [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), httpx.PoolTimeout("busy")]
PERHAPS_SENT = [
    httpx.ReadTimeout("slow"),
    httpx.WriteTimeout("slow"),
    httpx.ReadError("reset"),
    httpx.WriteError("reset"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    (401, b""),
    (403, b"<html>"),
    (404, b""),
    (410, b""),
    (429, b'{"error":"slow down"}'),
    (500, b""),
    (502, b"<html>"),
    (503, b'{"error":"Service Unavailable","statusCode":503}'),
    (302, b""),
    (200, b""),
    (200, b'[{"order_id":"98'),
    (200, b'"a word"'),
    (200, b"[]"),
    (200, b"[1]"),
    (200, b"{}"),
    (200, b"[NaN]"),
    (400, b""),
    (400, b'{"error":"Bad Request: something new","statusCode":400}'),
    (400, b'{"error":"Bad Request: no bridge today","statusCode":400}'),
]


@pytest.mark.parametrize("fault", NEVER_LEFT, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_never_left_is_unavailable(write, fault):
    error, server = talk(WRITES[write], fault)
    assert type(error) is BrokerUnavailable
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", PERHAPS_SENT, ids=str)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_a_clear_answer_is_in_doubt_and_sent_once(write, fault):
    error, server = talk(WRITES[write], fault)
    assert type(error) is OutcomeUnknown
    assert len(server.requests) == 1


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_our_pacing_refuses_is_not_sent(write):
    def refuse(method, path):
        raise BrokerUnavailable("paced")

    error, server = talk(WRITES[write], (200, b"{}"), pace=refuse)
    assert type(error) is BrokerUnavailable
    assert server.requests == []


@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_a_session_token_is_not_sent(write):
    error, server = talk(WRITES[write], (200, b"{}"), session_token=None)
    assert type(error) is SessionExpired
    assert server.requests == []


@pytest.mark.parametrize("body", [NO_BRIDGE, ACCOUNTS_FIRST])
@pytest.mark.parametrize("write", ["place", "cancel"])
def test_a_write_stopped_at_the_gate_was_certainly_not_processed(write, body):
    error, _ = talk(WRITES[write], (400, body.encode()))
    assert type(error) is SessionExpired


@pytest.mark.parametrize("body", [NO_BRIDGE, ACCOUNTS_FIRST, '{"error":"reply id not found: \'x\'"}'])
def test_a_reply_stopped_at_the_gate_leaves_the_placement_in_doubt(body):
    error, _ = talk(WRITES["answer"], (400, body.encode()))
    assert type(error) is OutcomeUnknown


def test_a_placement_for_an_unknown_account_is_rejected():
    error, _ = talk(WRITES["place"], (400, BAD_ACCOUNT.encode()))
    assert type(error) is BrokerRejected


@pytest.mark.parametrize("write", WRITES)
def test_an_error_in_a_good_answer_is_a_rejection_in_the_brokers_words(write):
    error, _ = talk(WRITES[write], (200, b'{"error":"No trading permissions."}'))
    assert type(error) is BrokerRejected
    assert error.details["broker_says"] == "No trading permissions."


@pytest.mark.parametrize("status", [200, 400])
def test_a_duplicate_client_order_id_is_in_doubt_and_never_a_rejection(status):
    error, _ = talk(WRITES["place"], (status, DUPLICATE.encode()))
    assert type(error) is OutcomeUnknown
    assert error.details["duplicate"] is True


def test_a_rate_limit_on_a_write_says_so():
    error, _ = talk(WRITES["place"], (429, b""))
    assert error.details["rate_limited"] is True


@pytest.mark.parametrize("words", ["OrderID 987654 doesn't exist", "Order is inactive"])
def test_cancelling_what_does_not_work_at_the_broker_is_rejected(words):
    error, _ = talk(WRITES["cancel"], (400, json.dumps({"error": words}).encode()))
    assert type(error) is BrokerRejected


def test_a_no_that_the_broker_takes_is_an_empty_answer():
    answer, server = talk(
        lambda c: c.answer(QUESTION, confirmed=False), (200, b'{"error":"Order not confirmed "}')
    )
    assert (answer.question, answer.orders) == (None, ())
    assert json.loads(server.requests[0].content) == {"confirmed": False}


def test_an_advanced_reject_is_in_doubt():
    body = b'{"orderId":987654,"reqId":"12","text":"Sure?","options":["Yes"],"type":"x","prompt":true}'
    error, _ = talk(WRITES["place"], (200, body))
    assert type(error) is OutcomeUnknown


READ_FAULTS = [
    *((fault, BrokerUnavailable) for fault in NEVER_LEFT),
    (httpx.ReadTimeout("slow"), BrokerUnavailable),
    (httpx.ReadError("reset"), BrokerUnavailable),
    ((401, b'{"error":"x"}'), SessionExpired),
    ((410, b""), SessionExpired),
    ((400, NO_BRIDGE.encode()), SessionExpired),
    ((400, ACCOUNTS_FIRST.encode()), SessionExpired),
    ((200, b'{"error":"no bridge"}'), SessionExpired),
    ((403, b"<html>"), BrokerUnavailable),
    ((404, b""), BrokerRejected),
    ((429, b""), BrokerUnavailable),
    ((500, b""), BrokerUnavailable),
    ((503, b""), BrokerUnavailable),
    ((302, b""), BrokerUnavailable),
    ((200, b""), BrokerUnavailable),
    ((200, b'{"half":'), BrokerUnavailable),
    ((200, b'{"error":"unknown"}'), BrokerRejected),
]


@pytest.mark.parametrize(("fault", "expected"), READ_FAULTS, ids=str)
@pytest.mark.parametrize("read", READS)
def test_a_read_that_fails_says_why(read, fault, expected):
    error, server = talk(READS[read], fault)
    assert type(error) is expected
    assert len(server.requests) == 1


def test_a_rate_limit_on_a_read_says_so():
    error, _ = talk(READS["summary"], (429, b""))
    assert error.details["rate_limited"] is True


@pytest.mark.parametrize("read", ["positions", "summary"])
def test_an_empty_401_on_a_portfolio_is_an_unknown_account(read):
    error, _ = talk(READS[read], (401, b""))
    assert type(error) is BrokerRejected


def test_an_empty_401_elsewhere_is_an_expired_session():
    error, _ = talk(READS["open_orders"], (401, b""))
    assert type(error) is SessionExpired


def test_an_order_that_the_broker_does_not_know_is_none():
    found, _ = talk(READS["order"], (400, b'{"error":"Bad Request","statusCode":400}'))
    assert found is None


def test_orders_that_are_not_loaded_yet_are_never_an_empty_list():
    error, server = talk(READS["open_orders"], (200, b'{"orders":[],"snapshot":false}'), ONE_ACCOUNT)
    assert type(error) is BrokerUnavailable
    assert len(server.requests) == 3
    assert all("force" not in str(request.url) for request in server.requests)


def test_no_orders_in_a_loaded_answer_is_an_empty_list():
    found, _ = talk(READS["open_orders"], (200, b'{"orders":[],"snapshot":true}'), ONE_ACCOUNT)
    assert found == []


def test_each_account_of_a_login_is_asked_for_its_orders():
    _, server = talk(READS["open_orders"], (200, b'{"orders":[],"snapshot":true}'), TWO_ACCOUNTS)
    assert [request.url.params["accountId"] for request in server.requests] == ["DU1", "DU2"]


def test_fills_of_an_account_that_another_reader_switched_away_from_are_not_believed():
    others = {**TWO_ACCOUNTS, "/iserver/account": b'{"set":true,"acctId":"DU1"}'}
    error, _ = talk(READS["executions"], (200, b"[]"), others)
    assert type(error) is BrokerUnavailable
    others["/iserver/account"] = b'{"success":"Account already set"}'
    found, server = talk(READS["executions"], (200, b"[]"), others)
    assert found == []
    assert len(server.requests) == 2


def test_a_login_without_accounts_has_no_orders_to_tell():
    error, _ = talk(READS["open_orders"], (200, b'{"orders":[],"snapshot":true}'))
    assert type(error) is BrokerUnavailable


def test_an_unreadable_position_is_not_taken_for_none():
    error, _ = talk(READS["positions"], (200, b'[{"conid":265598,"position":"?"}]'))
    assert type(error) is BrokerUnavailable


@pytest.mark.parametrize("order_id", ["-1", "", "0", "1/../2", "987654?x"])
def test_only_one_orders_id_can_be_cancelled(order_id):
    error, server = talk(lambda c: c.cancel(ACCOUNT, order_id), (200, b'{"msg":"Request was submitted"}'))
    assert type(error) is ValueError
    assert server.requests == []


@pytest.mark.parametrize("account", ["", "DU1/../DU2", "DU1?x=1"])
def test_an_account_id_cannot_leave_its_place_in_the_path(account):
    error, server = talk(lambda c: c.place(account, [TERMS]), (200, b"[]"))
    assert type(error) is ValueError
    assert server.requests == []


@pytest.mark.parametrize("token", [CREDENTIALS.access_token, CREDENTIALS.consumer_key])
def test_what_identifies_us_does_not_stand_in_an_error(token):
    body = json.dumps({"error": f"id: 1, error: LST failed, error: No access secret key found for <{token}>"})
    error, _ = talk(READS["tickle"], (401, body.encode()))
    assert "No access secret key found" in error.details["broker_says"]
    assert token not in str(error.as_json())


def test_an_answer_without_end_is_no_answer():
    body = b" " * (ANSWER_BYTES_MAX + 1)
    assert type(talk(READS["tickle"], (200, body))[0]) is BrokerUnavailable
    assert type(talk(WRITES["place"], (200, body))[0]) is OutcomeUnknown


def test_pacing_is_asked_before_each_request():
    asked = []
    talk(READS["positions"], (200, b"[]"), pace=lambda method, path: asked.append((method, path)))
    assert asked == [
        ("POST", f"/portfolio/{ACCOUNT}/positions/invalidate"),
        ("GET", f"/portfolio/{ACCOUNT}/positions/0"),
    ]


def test_a_placement_is_signed_and_its_numbers_are_exact():
    _, server = talk(WRITES["place"], (200, b'[{"order_id":"1","order_status":"Submitted"}]'))
    request = server.requests[0]
    assert request.headers["Authorization"].startswith('OAuth realm="limited_poa", oauth_consumer_key=')
    assert request.headers["User-Agent"]
    assert b'"quantity":5,' in request.content
    assert b'"price":187.10' in request.content
    assert json.loads(request.content)["orders"][0]["cOID"] == OUR_ID


def test_mint_needs_usable_keys():
    error, server = talk(lambda c: c.mint(), (200, b"{}"))
    assert type(error) is SessionExpired
    assert error.details["reason"] == "unusable_keys"
    assert server.requests == []
