"""Holdings and cash: the broker's word is stored as it is, and held against what our own book expects.

Expected is the broker's first word, and every execution that we know, and what people adopted or ignored.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from brokers.base import CashRecord, PositionRecord
from brokers.models import Account, BrokerInstrument, Report
from cerbero.access import Actor
from orders import drift, guessing
from orders.canonical import plain
from orders.flows import Flows, Numbers, flows_of
from orders.guessing import Holding, Moved
from orders.lifecycle import UNSETTLED
from orders.models import Attempt, Book, Drift, Limits, Position

POSITION, CASH = Drift.Kind.POSITION_DIFFERENCE, Drift.Kind.CASH_DIFFERENCE
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Said:
    """What the broker said of one account at one moment."""

    positions: list[PositionRecord]
    cash: list[CashRecord]
    as_of: datetime

    @property
    def held(self) -> Numbers:
        return {row.broker_instrument_id: row.quantity for row in self.positions if row.quantity}

    @property
    def balances(self) -> Numbers:
        return {row.currency: row.balance for row in self.cash}


def compare(actor: Actor, account: Account, said: Said) -> None:
    """Hold the broker's holdings and cash against our book; a difference that two rounds see is a case.

    Nothing is concluded while a report waits or an order is on its way.
    """
    with transaction.atomic():
        Book.objects.get_or_create(account=account)
        book = Book.objects.select_for_update().get(account=account)
        if _is_moving(account, said.as_of):
            return
        flows = flows_of(account)
        if book.opened_at is None:
            _open(book, said, flows)
            return
        differences = _differences(book, said, flows)
        if book.confirmed_at is None and differences:
            _open(book, said, flows)
            return
        book.confirmed_at = book.confirmed_at or said.as_of
        _conclude(actor, book, said, differences)
        book.books_at, book.not_compared = said.as_of, sorted(flows.unknown)
        book.balances = _as_text(said.balances)
        book.save()


def agrees(account: Account, broker_instrument_id: str, held: Decimal) -> bool:
    """Whether the broker's position of this moment is the one that our book explains by fills that the ledger has."""
    book = Book.objects.filter(account=account).first()
    if book is None or book.confirmed_at is None or book.books_at is None:
        return False
    if _is_moving(account, book.books_at) or f"{POSITION}:{broker_instrument_id}" in book.suspects:
        return False
    stored = Position.objects.filter(account=account, broker_instrument_id=broker_instrument_id).first()
    cases = account.drifts.filter(kind=POSITION, about=broker_instrument_id, status=Drift.Status.OPEN)
    return held == (stored.quantity if stored else 0) and not cases.exists()


def _is_moving(account: Account, as_of: datetime) -> bool:
    waiting = Report.objects.filter(login=account.login, applied_at=None)
    sent = Attempt.objects.filter(ticket__account=account, status__in=UNSETTLED)
    later = account.executions.filter(recorded_at__gt=as_of)
    return waiting.exists() or sent.exists() or later.exists()


def _open(book: Book, said: Said, flows: Flows) -> None:
    """Take the broker's word as ours; executions from before it are part of it."""
    book.positions = _as_text(_minus(said.held, flows.positions))
    book.cash = _as_text(_minus(said.balances, flows.cash))
    book.opened_at = book.books_at = said.as_of
    book.confirmed_at, book.suspects, book.balances = None, {}, _as_text(said.balances)
    book.save()


def _differences(book: Book, said: Said, flows: Flows) -> dict[tuple[str, str], Decimal]:
    """Broker less book by kind and name, beyond the tolerance; what people settled is in the book."""
    account = book.account
    settled: dict[str, Numbers] = {POSITION: defaultdict(Decimal), CASH: defaultdict(Decimal)}
    closed = (Drift.Status.ADOPTED, Drift.Status.IGNORED)
    for case in account.drifts.filter(kind__in=(POSITION, CASH), status__in=closed, amount__isnull=False):
        settled[case.kind][case.about] += case.amount or _ZERO
    limits = Limits.objects.filter(account=account).first()
    tolerance = limits.cash_tolerance if limits else _ZERO
    found: dict[tuple[str, str], Decimal] = {}
    for kind, theirs, ours, moved, most in (
        (POSITION, said.held, book.positions, flows.positions, _ZERO),
        (CASH, said.balances, book.cash, flows.cash, tolerance),
    ):
        for name in {*theirs, *ours, *moved}:
            expected = Decimal(ours.get(name, "0")) + moved.get(name, _ZERO) + settled[kind][name]
            amount = theirs.get(name, _ZERO) - expected
            if abs(amount) > most and not (kind == CASH and name in flows.unknown):
                found[kind, name] = amount
    return found


def _conclude(actor: Actor, book: Book, said: Said, differences: Mapping[tuple[str, str], Decimal]) -> None:
    """Open, follow and resolve the cases of one account; `suspects` remembers what one round alone has seen."""
    account = book.account
    opened = {
        (case.kind, case.about): case
        for case in account.drifts.filter(kind__in=(POSITION, CASH), status=Drift.Status.OPEN)
    }
    for key, case in opened.items():
        if key not in differences:
            drift.resolve(actor, case, "the broker and our book agree again")
    suspects = {}
    for (kind, name), amount in differences.items():
        known = opened.get((kind, name))
        if known is not None and _is_same(kind, known.amount, amount):
            continue
        before = book.suspects.get(f"{kind}:{name}")
        suspects[f"{kind}:{name}"] = plain(amount)
        if before is not None and _is_same(kind, Decimal(before), amount):
            _file(actor, book, said, differences, (kind, name), known)
    book.suspects = suspects


def _is_same(kind: str, before: Decimal | None, now: Decimal) -> bool:
    return before is not None and (before == now or (kind == CASH and abs(before - now) < Decimal("0.05")))


def _file(
    actor: Actor,
    book: Book,
    said: Said,
    differences: Mapping[tuple[str, str], Decimal],
    key: tuple[str, str],
    known: Drift | None,
) -> None:
    """A new case, or the open one with the amount that it has now."""
    (kind, name), account = key, book.account
    amount = differences[key]
    cause = _guess(account, said, differences, key)
    theirs = (said.held if kind == POSITION else said.balances).get(name, _ZERO)
    evidence = {
        "expected": plain(theirs - amount),
        "broker": plain(theirs),
        "as_of": said.as_of.isoformat(),
        "agreed_at": book.books_at.isoformat() if book.books_at else None,
        "others": {f"{k} {n}": plain(a) for (k, n), a in differences.items() if (k, n) != key},
    }
    if kind == POSITION:
        symbols = {row.broker_instrument_id: row.symbol for row in said.positions}
        evidence["symbol"] = symbols.get(name) or _symbol(account, name)
    if known is not None:
        Drift.objects.filter(pk=known.pk).update(amount=amount, cause=cause, evidence=evidence)
        return
    count = account.drifts.filter(kind=kind, about=name).count()
    subject = f"{account.pk.hex[-12:]}:{name}:{count + 1}"
    drift.found(
        actor, kind, subject, account=account, about=name, amount=amount, cause=cause, evidence=evidence
    )


def _guess(
    account: Account, said: Said, differences: Mapping[tuple[str, str], Decimal], key: tuple[str, str]
) -> str:
    kind, name = key
    options, futures = (_of_class(account, said, *each) for each in (("option", "OPT"), ("future", "FUT")))
    moved = {
        n: Moved(n, said.held.get(n, _ZERO) - a, said.held.get(n, _ZERO), n in options, n in futures)
        for (k, n), a in differences.items()
        if k == POSITION
    }
    cash = {n: a for (k, n), a in differences.items() if k == CASH}
    if kind == POSITION:
        others = [each for n, each in moved.items() if n != name]
        return guessing.of_position(moved[name], others, bool(cash))
    held = [Holding(row.quantity, row.market_price) for row in said.positions if row.currency == name]
    return guessing.of_cash(
        cash[name],
        today=timezone.now().date(),
        balance=said.balances.get(name, _ZERO),
        holdings=held,
        others={n: a for n, a in cash.items() if n != name},
        positions=moved.values(),
    )


def _of_class(account: Account, said: Said, theirs: str, ours: str) -> set[str]:
    """The broker's ids of what it calls so, and of what we know as such: what has expired it names no more."""
    known = BrokerInstrument.objects.filter(broker=account.login.broker, instrument__asset_class=ours)
    held = {row.broker_instrument_id for row in said.positions if row.asset_class == theirs}
    return held | set(known.values_list("broker_instrument_id", flat=True))


def _symbol(account: Account, broker_instrument_id: str) -> str:
    known = BrokerInstrument.objects.filter(
        broker=account.login.broker, broker_instrument_id=broker_instrument_id
    ).select_related("instrument")
    held = Position.objects.filter(account=account, broker_instrument_id=broker_instrument_id).first()
    return held.symbol if held else next((each.instrument.symbol for each in known), broker_instrument_id)


def _minus(theirs: Numbers, moved: Numbers) -> Numbers:
    return {name: theirs.get(name, _ZERO) - moved.get(name, _ZERO) for name in {*theirs, *moved}}


def _as_text(numbers: Mapping[str, Decimal]) -> dict[str, str | None]:
    return {name: plain(value) for name, value in numbers.items() if value}
