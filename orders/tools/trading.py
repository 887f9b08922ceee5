"""Limits, halts and drift, as bots may ask of them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import StringConstraints

from cerbero.access import Actor
from cerbero.tool import DESTRUCTIVE, READ, Out, Params, tool
from orders import halting, limit_report, overrides
from orders.drift_shapes import AccountId, DayOfAccount, DayReportOut, DriftsOut, OnAccount
from orders.facts import find_account
from orders.models import TradingState
from orders.tools.orders import OverrideOut, Symbol, override_out


class GetLimits(Params):
    account: AccountId | None = None
    symbol: Symbol | None = None


class HaltTrading(Params):
    """`mode` says what becomes of your orders that rest at the broker; the default keeps exits."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    mode: Literal["stop_new", "stop_and_cancel_opening", "cancel_all"] = "stop_and_cancel_opening"


class HaltedOrderOut(Out):
    """One order that the halt met: its effect on the position, what was done, and its fate so far."""

    order_id: UUID | None
    broker_order_id: str
    what: str
    effect: str
    action: str
    outcome: str
    fate: str


class LimitOut(Out):
    """One limit. `value` is what is used of it now, `left` what is left; null where each order is held alone."""

    name: str
    scope: str
    says: str
    limit: str
    value: Decimal | None
    left: Decimal | None


class OpenOverrideOut(OverrideOut):
    """One of your tickets that waits, or is about to be sent, with limits that a person lets it pass."""

    ticket_id: UUID
    ticket_status: str


class AccountLimitsOut(Out):
    """`as_of` is when the account's money was last read; without it nothing passes.

    `overrides` are for the tickets that they name and for nothing else.
    """

    account: str
    currency: str
    symbol: str
    as_of: datetime | None
    limits: list[LimitOut]
    overrides: list[OpenOverrideOut]


class LimitsOut(Out):
    accounts: list[AccountLimitsOut]


class HaltOut(Out):
    """A halt so far. `no_working_orders` is true only when the broker proved it; Cerbero goes on until then.

    `in_flight` are client order ids of sendings whose outcome was not known, `amendments_in_flight` the same of amendments.
    """

    halt_id: UUID
    state: str
    mode: str
    in_flight: list[str]
    amendments_in_flight: list[str]
    orders: list[HaltedOrderOut]
    still_open: int
    kept: int
    no_working_orders: bool
    finished_at: datetime | None
    seconds_to_halt: Decimal | None
    seconds_to_last_cancel: Decimal | None
    problems: list[dict[str, Any]]


@tool(scope="orders:read", effect=READ)
def get_limits(actor: Actor, params: GetLimits) -> LimitsOut:
    """Every limit of your accounts with what is used and what is left; with a symbol also its position's."""
    found = []
    for account in limit_report.accounts_of(actor, params.account):
        told = limit_report.report(actor, account, params.symbol)
        limits = [LimitOut.model_validate(row) for row in told.rows]
        found.append(
            AccountLimitsOut(
                account=told.account,
                currency=told.currency,
                symbol=told.symbol,
                as_of=told.as_of,
                limits=limits,
                overrides=_open_overrides(actor, told.account),
            )
        )
    return LimitsOut(accounts=found)


def _open_overrides(actor: Actor, broker_account_id: str) -> list[OpenOverrideOut]:
    tickets = overrides.open_tickets().filter(account__broker_account_id=broker_account_id, bot=actor.id)
    return [
        OpenOverrideOut(**dict(said), ticket_id=ticket.pk, ticket_status=ticket.status)
        for ticket in tickets
        if (said := override_out(ticket.request))
    ]


@tool(scope="trading:halt", effect=DESTRUCTIVE)
def halt_trading(actor: Actor, params: HaltTrading) -> HaltOut:
    """Halt yourself: nothing of yours leaves after this returns, and what opens is canceled. Only a person resumes."""
    done = halting.halt_trading(
        actor=actor,
        scope=TradingState.Scope.BOT,
        scope_id=str(actor.id),
        mode=params.mode,
        reason=params.reason,
    )
    orders = [HaltedOrderOut(**_named(HaltedOrderOut, row)) for row in done["orders"]]
    return HaltOut(**_named(HaltOut, done) | {"orders": orders})


@tool(scope="orders:read", effect=READ)
def get_drift(actor: Actor, params: OnAccount) -> DriftsOut:
    """Where the broker and Cerbero differ on your environment's accounts; people adopt or ignore each case."""
    return DriftsOut.of(actor.environment, params)


@tool(scope="orders:read", effect=READ)
def get_day_report(actor: Actor, params: DayOfAccount) -> DayReportOut:
    """One account's reconciliation with the broker at the end of a trading day; the newest unless you name one."""
    account = find_account(actor, params.account)
    return DayReportOut.of(account, params)


def _named(out: type[Out], found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in out.model_fields}
