"""Which limits apply, and what is counted against them: read from our own rows in two statements.

Under the locks of a submission (orders/submission.py) these counts are exact, since every submission takes
the same rows: of many that race, as many pass as the limit says. At the proposal they are the moment's: a
proposal that two others overtake may pass here, and is refused when it is to be sent.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from brokers.base import Side
from brokers.models import Account
from cerbero.database.compiled import Asked, Compiled, Given, together
from cerbero.errors import FiguresMissing, NotFound
from orders.canonical import plain
from orders.limit_statements import BOOK, COUNTED, LOOK_ALIKES, MARKS
from orders.limit_table import COUNTED as COUNTED_LIMITS
from orders.limit_table import strictest
from orders.models import Balance, Limits, LimitSet
from orders.risk import Book, Bounds, Counted
from orders.trading_day import local_time, start_of

NOBODY = UUID(int=0)
MINUTE = timedelta(seconds=60)
LOOK_ALIKE_WINDOW = timedelta(hours=1)
LOOK_ALIKES_MAX = 5
_SETS = Compiled(
    lambda: LimitSet.objects.filter(
        Q(account=None) | Q(account=Given("account")),
        Q(bot=None) | Q(bot=Given("bot")),
        Q(broker="") | Q(broker=Given("broker")),
    )
)


@dataclass(frozen=True)
class Applying:
    """The account's limits and every narrower set that applies, and the strictest of them all.

    Unless every row proves that this program wrote it, no order passes, whatever the values say.
    """

    account_limits: Limits
    sets: tuple[LimitSet, ...]
    bounds: Bounds
    is_proven: bool


@dataclass(frozen=True)
class Subject:
    """What is counted for. Without an instrument only the account; with `ticket_id` it is about to be sent."""

    account: Account
    bot_id: UUID | None
    instrument_id: UUID | None = None
    side: str = ""
    quantity: Decimal = Decimal(0)
    ticket_id: UUID | None = None


def sets_asked(account: Account, bot_id: UUID | None) -> Asked[LimitSet]:
    """The narrower sets of an account and bot, of every asset class."""
    return _SETS.asked(account=account.pk, bot=bot_id or NOBODY, broker=account.login.broker)


def applying(
    account: Account, bot_id: UUID | None, asset_class: str = "", found: Sequence[LimitSet] | None = None
) -> Applying:
    """Every limit that applies; `found` are the sets, where they have been asked for already.

    Raises NotFound when the account has none: then nothing may be ordered.
    """
    if not hasattr(account, "limits"):
        raise NotFound("This account has no limits; an Administrator must set them.", account=str(account))
    (rows,) = together(sets_asked(account, bot_id)) if found is None else (found,)
    sets = tuple(row for row in rows if row.asset_class in {"", asset_class})
    words: dict[str, Any] = strictest([account.limits, *sets])
    bounds = Bounds(
        currency=account.currency,
        **words,
        symbols=tuple(tuple(row.symbols) for row in sets if row.symbols),
        accounts=tuple(tuple(row.accounts) for row in sets if row.accounts),
    )
    return Applying(account.limits, sets, bounds, all(row.is_proven for row in (account.limits, *sets)))


def reread(account: Account) -> Account:
    """The account with its limits and its money as they stand now."""
    rows = Account.objects.select_related("login", "limits", "balance", "clearance")
    return rows.get(pk=account.pk)


def read_book(subject: Subject, rules: Applying, now: datetime | None = None) -> Book:
    """Everything that is counted against the limits, without the order itself."""
    account, now = subject.account, now or timezone.now()
    balance: Balance | None = getattr(account, "balance", None)
    words = _words(subject, rules, balance, now)
    held, marks, counts = together(
        Asked(BOOK, words), Asked(MARKS, words), Asked(COUNTED, words | _scopes(rules))
    )
    holdings = _holdings(held)
    mine = holdings.pop(subject.instrument_id, _Holding())
    others, unknown = _exposures(holdings)
    return Book(
        account=account.broker_account_id,
        is_live=account.environment == "live",
        local_time=local_time(now, account.trading_zone),
        **{each.name: getattr(mine, each.name) for each in fields(mine) if each.name not in _LABELS},
        others=others,
        unknown=unknown,
        **_figures(balance, now),
        **(_marks(marks[0], words) if subject.instrument_id else {}),
        counted=_counted(rules, counts),
    )


def met(subject: Subject, rules: Applying) -> Decimal:
    """What is held of the instrument, with all of the subject's side that works, is in doubt or was filled since."""
    balance: Balance | None = getattr(subject.account, "balance", None)
    (rows,) = together(Asked(BOOK, _words(subject, rules, balance, timezone.now())))
    mine = _holdings(rows).get(subject.instrument_id, _Holding())
    return mine.held + mine.buys if subject.side == Side.BUY else mine.held - mine.sells


def look_alikes(account: Account, instrument_id: UUID, side: str, but: UUID | None) -> list[dict[str, str]]:
    """Orders of the same instrument and side within the last hour, the newest first."""
    words = {
        "account": account.pk,
        "instrument": instrument_id,
        "side": side,
        "ticket": but or NOBODY,
        "since": timezone.now() - LOOK_ALIKE_WINDOW,
        "at_most": LOOK_ALIKES_MAX,
    }
    (((text,),),) = together(Asked(LOOK_ALIKES, words))
    found: list[dict[str, Any]] = json.loads(text)
    for row in found:
        row["quantity"], row["limit_price"] = _plain(row["quantity"]), _plain(row["limit_price"])
    return found


@dataclass(frozen=True)
class _Holding:
    """One instrument of the account: held, and what moves."""

    symbol: str = ""
    asset_class: str = ""
    held: Decimal = Decimal(0)
    held_value: Decimal | None = Decimal(0)
    buys: Decimal = Decimal(0)
    sells: Decimal = Decimal(0)
    buys_value: Decimal | None = Decimal(0)
    sells_value: Decimal | None = Decimal(0)
    buy_orders: int = 0
    sell_orders: int = 0

    @property
    def exposure(self) -> Decimal | None:
        if self.held_value is None or self.buys_value is None or self.sells_value is None:
            return None
        after = (self.held_value, self.held_value + self.buys_value, self.held_value - self.sells_value)
        return max(abs(value) for value in after)


_LABELS = {"symbol", "asset_class"}


def _words(subject: Subject, rules: Applying, balance: Balance | None, now: datetime) -> dict[str, Any]:
    account, bounds = subject.account, rules.bounds
    return {
        "account": account.pk,
        "bot": subject.bot_id or NOBODY,
        "broker": account.login.broker,
        "base": account.currency,
        "instrument": subject.instrument_id,
        "side": subject.side,
        "opposite": Side.SELL if subject.side == Side.BUY else Side.BUY,
        "quantity": subject.quantity,
        "ticket": subject.ticket_id or NOBODY,
        "is_sending": subject.ticket_id is not None,
        "as_of": balance.as_of if balance else now,
        "rates_since": now - timedelta(seconds=bounds.rate_age_max_seconds),
        "quotes_since": now - timedelta(seconds=bounds.quote_age_max_seconds),
        "minute": now - MINUTE,
        "day": min(start_of(now, account.trading_zone, account.roll_over_time), now - MINUTE),
        "day_start": start_of(now, account.trading_zone, account.roll_over_time),
        "period": now - timedelta(seconds=bounds.collar_period_seconds),
        "window": now - timedelta(seconds=bounds.repeats_window_seconds),
        "repeats": bounds.repeats_max,
    }


def _holdings(rows: Sequence[Sequence[Any]]) -> dict[Any, _Holding]:
    """By instrument; what the broker holds and we do not know by its symbol."""
    return {row[0] or row[1]: _Holding(*row[1:]) for row in rows}


def _exposures(holdings: dict[Any, _Holding]) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    found: dict[str, Decimal] = {}
    unknown: list[str] = []
    for row in holdings.values():
        value = row.exposure
        if value is None:
            unknown.append(row.symbol)
        else:
            found[row.asset_class] = found.get(row.asset_class, Decimal(0)) + value
    return found, tuple(unknown)


def _figures(balance: Balance | None, now: datetime) -> dict[str, Any]:
    if balance is None:
        return {}
    names = ("net_liquidation", "day_start", "cushion", "look_ahead_excess", "day_trades_left")
    age = Decimal(max(int((now - balance.as_of).total_seconds()), 0))
    return {name: getattr(balance, name) for name in names} | {"figures_age_seconds": age}


def _marks(row: Sequence[Any], words: dict[str, Any]) -> dict[str, Any]:
    lowest, highest, at_market, period, repeats = row
    return {
        # A buy meets the cheapest of our sales, a sale the dearest of our buys.
        "opposing_price": lowest if words["side"] == Side.BUY else highest,
        "opposing_at_market": at_market,
        "period_price": period,
        "repeats": repeats,
    }


def _counting(rules: Applying) -> list[tuple[Limits | LimitSet, dict[str, Any]]]:
    """The rows that limit what is counted, with those limits."""
    rows: list[Limits | LimitSet] = [rules.account_limits, *rules.sets]
    return [(row, limits) for row in rows if (limits := _counts(row))]


def _scopes(rules: Applying) -> dict[str, list[Any]]:
    scopes = [_scope(row) for row, _ in _counting(rules)]
    return dict(
        zip(("brokers", "accounts", "bots", "classes"), map(list, zip(*scopes, strict=True)), strict=True)
    )


def _counted(rules: Applying, rows: Sequence[Sequence[Any]]) -> tuple[Counted, ...]:
    found = {row[0]: row[1:] for row in rows}
    return tuple(
        Counted(_named(row), limits, _scope(row)[3] or "", *found[number])
        for number, (row, limits) in enumerate(_counting(rules), 1)
    )


def _counts(row: Limits | LimitSet) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in COUNTED_LIMITS}
    return {name: value for name, value in values.items() if value is not None}


def _scope(row: Limits | LimitSet) -> tuple[str | None, UUID | None, UUID | None, str | None]:
    if isinstance(row, Limits):
        return None, row.account_id, None, None
    return row.broker or None, row.account_id, row.bot_id, row.asset_class or None


def _named(row: Limits | LimitSet) -> str:
    """Whose counts these are, without asking for names that an order's path has no need of."""
    if isinstance(row, Limits):
        return "the account"
    words = (
        row.broker and f"broker {row.broker}",
        row.account_id and "the account",
        row.bot_id and "the bot",
        row.asset_class,
    )
    return ", ".join(str(word) for word in words if word)


def _plain(value: str | None) -> str | None:
    return None if value is None else plain(Decimal(value))


def require_figures(account: Account, bounds: Bounds, now: datetime | None = None) -> None:
    """Raises FiguresMissing, which may be asked again, until the account's money has been read lately."""
    balance: Balance | None = getattr(account, "balance", None)
    age = (now or timezone.now()) - balance.as_of if balance else None
    if age is None or age > timedelta(seconds=bounds.figures_age_max_seconds):
        raise FiguresMissing(account=str(account), age_seconds=int(age.total_seconds()) if age else None)
