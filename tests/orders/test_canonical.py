"""The canonical form is a promise: these vectors never change."""

from decimal import Decimal
from hashlib import sha256
from uuid import UUID

from brokers.models import Account, Login
from orders.canonical import client_order_id, decision_digest, plain, ticket_digest
from orders.models import Order, Ticket

ACCOUNT = UUID("01900000-0000-7000-8000-000000000001")
INSTRUMENT = UUID("01900000-0000-7000-8000-000000000002")
VECTOR = "62ca903bbf36b4d1eb432d8006993177886b379c411f1f5f58923c0f7325df0c"
BOT = UUID("01900000-0000-7000-8000-000000000003")


def _rows(**changes):
    account = Account(pk=ACCOUNT, broker_account_id="DU1234567", environment="paper", login=Login(name="x"))
    ticket = Ticket(
        account=account, bot_id=BOT, idempotency_key="k-1", reduce_only=changes.pop("reduce_only", False)
    )
    fields = {
        "side": "buy",
        "quantity": Decimal("10.000"),
        "order_type": "limit",
        "limit_price": Decimal("190.50"),
        "time_in_force": "day",
    }
    return ticket, account, [Order(**{"number": 1, "instrument_id": INSTRUMENT} | fields | changes)]


def test_a_ticket_has_this_digest():
    words = (
        '{"account":"01900000-0000-7000-8000-000000000001","broker_account_id":"DU1234567","environment":"paper",'
        '"orders":[{"instrument":"01900000-0000-7000-8000-000000000002","limit_price":"190.5","number":1,'
        '"order_type":"limit","quantity":"10","side":"buy","stop_price":null,"time_in_force":"day"}],'
        '"reduce_only":false}'
    )
    assert sha256(words.encode()).hexdigest() == VECTOR
    assert ticket_digest(*_rows()) == VECTOR


def test_trailing_zeros_and_exponents_change_nothing():
    same = _rows(quantity=Decimal("1E+1"), limit_price=Decimal("190.5"))
    assert ticket_digest(*same) == ticket_digest(*_rows())


def test_every_term_is_in_the_digest():
    plain_digest = ticket_digest(*_rows())
    others = [
        _rows(side="sell"),
        _rows(quantity=Decimal("10.001")),
        _rows(order_type="stop_limit"),
        _rows(limit_price=Decimal("190.51")),
        _rows(stop_price=Decimal("190.50")),
        _rows(time_in_force="gtc"),
        _rows(instrument_id=ACCOUNT),
        _rows(reduce_only=True),
    ]
    account_changed = _rows()
    account_changed[1].broker_account_id = "DU7654321"
    environment_changed = _rows()
    environment_changed[1].environment = "live"
    digests = {ticket_digest(*row) for row in [*others, account_changed, environment_changed]}
    assert len(digests) == 10
    assert plain_digest not in digests


def test_the_brokers_questions_are_in_what_a_decision_binds():
    bare = decision_digest("d", {})
    asked = decision_digest("d", {"questions": [{"id": "o163", "text": "x"}]})
    assert bare == "d"
    assert asked not in {bare, decision_digest("d", {"questions": [{"id": "o354", "text": "x"}]})}


def test_a_client_order_id_is_the_same_after_any_restore():
    ticket, _, _ = _rows()
    assert client_order_id(ticket, 1) == "4cfe241724d2deefee762cf04264cfdf"
    assert client_order_id(ticket, 2) != client_order_id(ticket, 1)
    second_leg = client_order_id(ticket, 1, 2)
    ticket.idempotency_key += "/1"
    assert client_order_id(ticket, 2) != second_leg


def test_decimals_are_plain():
    assert [plain(Decimal(text)) for text in ("1E+3", "0.10", "-0", "5")] == ["1000", "0.1", "0", "5"]
    assert plain(None) is None
