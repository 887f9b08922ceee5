"""What is left of each limit, as `get_limits` and the console say it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone

from brokers.base import Side
from brokers.models import Account
from cerbero.access import Actor
from cerbero.plain import text
from orders.facts import gather
from orders.limit_table import BY_NAME, LIMITS, Kind
from orders.limits import Applying, Subject, applying, read_book
from orders.risk import Book, Counted
from orders.risk.time import loss_today


@dataclass(frozen=True)
class Row:
    """One limit. `value` is what is used of it now, `left` what is left; None where it holds each order alone."""

    name: str
    scope: str
    says: str
    limit: str
    value: Decimal | None
    left: Decimal | None


@dataclass(frozen=True)
class Report:
    """An account's limits for one bot. `as_of` is when its money was read; None is never: then nothing passes."""

    account: str
    currency: str
    symbol: str
    as_of: datetime | None
    rows: tuple[Row, ...]


def accounts_of(actor: Actor, broker_account_id: str | None) -> list[Account]:
    """The accounts that a bot's token reaches: of its environment, and on its lists."""
    rows = Account.objects.select_related("login", "limits", "balance").filter(limits__isnull=False)
    rows = rows.filter(environment=actor.environment).order_by("broker_account_id")
    if broker_account_id:
        rows = rows.filter(broker_account_id=broker_account_id)
    bot_id = actor.id if actor.is_bot else None
    return [row for row in rows if _is_listed(row, applying(row, bot_id))]


def report(actor: Actor, account: Account, symbol: str | None) -> Report:
    """Every limit with what is left of it; with a symbol also those of its position. Raises NotFound."""
    bot_id = actor.id if actor.is_bot else None
    if symbol:
        facts = gather(account, symbol, bot_id)
        rules, instrument_id = facts.rules, facts.instrument.pk
    else:
        rules, instrument_id = applying(account, bot_id), None
    subject = Subject(account, bot_id, instrument_id, Side.BUY)
    book = read_book(subject, rules, timezone.now())
    balance = getattr(account, "balance", None)
    return Report(
        account=account.broker_account_id,
        currency=account.currency,
        symbol=(symbol or "").upper(),
        as_of=balance.as_of if balance else None,
        rows=tuple(_rows(rules, book, has_symbol=bool(symbol))),
    )


def _is_listed(account: Account, rules: Applying) -> bool:
    return all(account.broker_account_id in accounts for accounts in rules.bounds.accounts)


def _rows(rules: Applying, book: Book, *, has_symbol: bool) -> list[Row]:
    used = _used(book, has_symbol=has_symbol)
    found = []
    for limit in LIMITS:
        if limit.is_counted:
            found += [_row(limit.name, row.limits[limit.name], _counted(row, book)[limit.name], row.scope)
                      for row in book.counted if limit.name in row.limits]  # fmt: skip
        else:
            found.append(
                _row(limit.name, getattr(rules.bounds, limit.name), used.get(limit.name), "strictest")
            )
    return found


def _row(name: str, limit: Any, value: Decimal | None, scope: str) -> Row:
    kind = BY_NAME[name].kind
    left = None
    if value is not None and kind in {Kind.AMOUNT, Kind.PERCENT, Kind.COUNT}:
        left = value - limit if name.endswith("_min") else Decimal(limit) - value
    return Row(name, scope, BY_NAME[name].says, _words(limit), value, left)


def _words(limit: Any) -> str:
    if isinstance(limit, Decimal):
        return text(limit)
    if isinstance(limit, list):
        return ", ".join(limit)
    return "any" if limit is None else str(limit).lower()


def _exposure(book: Book, asset_class: str = "") -> Decimal | None:
    """Of what is held and moves, without another order."""
    if book.unknown or book.held_value is None or book.buys_value is None or book.sells_value is None:
        return None
    held = book.held_value
    mine = max(abs(held), abs(held + book.buys_value), abs(held - book.sells_value))
    others = [book.others.get(asset_class, Decimal(0))] if asset_class else book.others.values()
    return mine + sum(others, Decimal(0))


def _counted(row: Counted, book: Book) -> dict[str, Decimal | None]:
    return {
        "gross_exposure_max": _exposure(book, row.asset_class),
        "daily_turnover_max": row.turnover,
        "daily_orders_max": Decimal(row.orders_day),
        "orders_per_minute_max": Decimal(row.orders_minute),
        "messages_per_minute_max": Decimal(row.messages_minute),
    }


def _used(book: Book, *, has_symbol: bool) -> dict[str, Decimal | None]:
    gross, net = _exposure(book), book.net_liquidation
    days = book.day_trades_left
    used = {
        "figures_age_max_seconds": book.figures_age_seconds,
        "leverage_max": gross / net if gross is not None and net else None,
        "cushion_min": book.cushion,
        "look_ahead_excess_min": book.look_ahead_excess,
        "day_trades_left_min": None if days is None or days < 0 else Decimal(days),
        "daily_loss_max": loss_today(net, book.day_start),
    }
    if has_symbol:
        worst = max(abs(book.held), abs(book.held + book.buys), abs(book.held - book.sells))
        working = max(book.buy_orders, book.sell_orders)
        used |= {"position_max": worst, "working_orders_per_side_max": Decimal(working)}
    return used
