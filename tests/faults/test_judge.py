"""What the judge must see, of evidence that is written by hand."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.faults.judge import COUNTS, Evidence, Intent, Ledger, is_settled, judge

TICKET = UUID(int=1)
INTENT = Intent(TICKET, "DU1", "buy", Decimal(3), Decimal(190), is_approved=True)
LEDGER = Ledger(
    ticket="sent",
    refusal="",
    order="accepted",
    price=Decimal(190),
    filled=Decimal(0),
    is_cancel_asked=False,
    attempts=[("answered", "c1")],
    changes=[],
    amended=[],
    executed=Decimal(0),
    was_doubted=False,
    was_revived=False,
    waits_for="",
)
ROW: dict[str, Any] = {
    "order_id": 1,
    "account": "DU1",
    "side": "BUY",
    "quantity": "3",
    "order_type": "LMT",
    "limit_price": "190",
    "status": "Submitted",
    "filled": "0",
    "cOID": "c1",
    "modifications": 0,
}
ARRIVAL: dict[str, Any] = {"at_ms": 1000, "cOIDs": ["c1"], "confirmed": []}


def evidence(
    intent: Intent = INTENT, ledger: Ledger = LEDGER, orders: Any = (ROW,), arrivals: Any = (ARRIVAL,)
) -> Evidence:
    return Evidence([intent], {intent.key: ledger}, list(orders), list(arrivals))


def test_what_the_ledger_and_the_book_agree_on_is_clean_and_rests() -> None:
    assert judge(evidence(), settled=True).is_clean
    assert is_settled(evidence())


@pytest.mark.parametrize(
    ("count", "seen"),
    [
        ("duplicates", evidence(orders=(ROW, ROW | {"order_id": 2}))),
        ("duplicates", evidence(arrivals=(ARRIVAL, ARRIVAL))),
        ("lost", evidence(ledger=replace(LEDGER, order="canceled"))),
        ("lost", evidence(orders=())),
        ("unapproved", evidence(replace(INTENT, is_approved=False))),
        ("unapproved", evidence(replace(INTENT, price=Decimal(191)))),
        ("unapproved", evidence(arrivals=(ARRIVAL | {"confirmed": ["o403"]},))),
        ("sent_after_halt", evidence(replace(INTENT, barred_ms=999))),
        ("stuck", evidence(ledger=replace(LEDGER, order="pending", ticket="proposed", waits_for="no rule"), orders=(), arrivals=())),
    ],
)  # fmt: skip
def test_each_broken_promise_is_counted_as_what_it_is(count: str, seen: Evidence) -> None:
    verdict = judge(seen, settled=is_settled(seen))
    assert getattr(verdict, count) > 0, verdict


def test_an_order_that_waits_for_people_by_a_stated_rule_is_parked_and_breaks_nothing() -> None:
    waits = replace(LEDGER, order="pending", ticket="proposed", waits_for="broker_asked")
    seen = evidence(ledger=waits, orders=(), arrivals=())
    verdict = judge(seen, settled=is_settled(seen))
    assert verdict.parked == 1
    assert not any(getattr(verdict, count) for count in COUNTS)
