"""Orders and fills as the broker has them, whoever placed them; Cerbero's own are `get_order` and `list_orders`."""

import datetime as dt
from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

from brokers.answers import EXECUTIONS, ORDERS, Known, Memory
from brokers.asking import ask
from brokers.base import BrokerOrderState, OrderReport, Side
from brokers.tools.accounts import AccountOut, CashOut, get_account, get_ledger
from brokers.tools.portfolio import PositionOut, get_positions
from brokers.tools.shapes import FRESH_SECONDS, OfAccount
from cerbero.access import Actor
from cerbero.errors import NotFound
from cerbero.tool import READ, Out, tool

# What a broker gives at most (ibkr-web-api.md §6.10).
ACTIVITY_DAYS_MAX = 7
DONE = frozenset(
    {
        BrokerOrderState.FILLED,
        BrokerOrderState.CANCELED,
        BrokerOrderState.EXPIRED,
        BrokerOrderState.REJECTED,
    }
)
ORDER = Memory("order", list[OrderReport], seconds=FRESH_SECONDS)


class BrokerOrderOut(Out):
    """`state` is null where the broker's word proves nothing yet."""

    broker_order_id: str
    client_order_id: str | None
    parent_order_id: str | None
    broker_instrument_id: str | None
    state: BrokerOrderState | None
    side: Side | None
    order_type: str | None
    time_in_force: str | None
    total_quantity: Decimal | None
    filled_quantity: Decimal | None
    average_price: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    text: str


class BrokerOrdersOut(Out):
    account: str
    orders: list[BrokerOrderOut]
    as_of: dt.datetime


class OfBrokerOrder(OfAccount):
    broker_order_id: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,17}$")]


class OrderStatusOut(Out):
    account: str
    order: BrokerOrderOut
    as_of: dt.datetime


class OfActivities(OfAccount):
    """More days than the broker gives are clamped; `days` of the answer says to how many."""

    days: int = Field(default=1, ge=1, le=365)


class ExecutionOut(Out):
    """One fill. `commission` comes later than the fill itself; null until then."""

    execution_id: str
    broker_order_id: str | None
    client_order_id: str | None
    broker_instrument_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    commission: Decimal | None
    is_liquidation: bool
    executed_at: dt.datetime


class ActivitiesOut(Out):
    account: str
    days: int
    executions: list[ExecutionOut]
    as_of: dt.datetime


class PortfolioOut(Out):
    """An account at one look; `as_of` is the oldest part's."""

    account: AccountOut
    currencies: list[CashOut]
    positions: list[PositionOut]
    open_orders: list[BrokerOrderOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_open_orders(actor: Actor, params: OfAccount) -> BrokerOrdersOut:
    """What works at the broker in an account now, whoever placed it; orders of uncertain state are among them."""
    known = _orders_of(actor, params)
    return _orders_out(params, known, [each for each in known.value if each.state not in DONE])


@tool(scope="market:read", effect=READ)
def get_order_history(actor: Actor, params: OfAccount) -> BrokerOrdersOut:
    """Today's orders of an account at the broker, done ones too; it lists no older ones."""
    known = _orders_of(actor, params)
    return _orders_out(params, known, known.value)


@tool(scope="market:read", effect=READ)
def get_order_status(actor: Actor, params: OfBrokerOrder) -> OrderStatusOut:
    """One order as the broker has it, by the broker's own id."""
    order_id = params.broker_order_id
    known = ask(
        params.login(actor),
        ORDER,
        order_id,
        lambda broker: [each for each in (broker.order(order_id),) if each],
    )
    found = [each for each in known.value if each.broker_account_id == params.account]
    if not found:
        raise NotFound("The broker knows no such order in this account.", broker_order_id=order_id)
    order = BrokerOrderOut.model_validate(found[0])
    return OrderStatusOut(account=params.account, order=order, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_activities(actor: Actor, params: OfActivities) -> ActivitiesOut:
    """An account's fills of the last trading days, as many as the broker gives: seven."""
    account, days = params.account, min(params.days, ACTIVITY_DAYS_MAX)
    known = ask(
        params.login(actor), EXECUTIONS, f"{account}:{days}", lambda broker: broker.executions(days, account)
    )
    own = [each for each in known.value if each.broker_account_id == account]
    found = [ExecutionOut.model_validate(each) for each in own]
    return ActivitiesOut(account=account, days=days, executions=found, as_of=known.as_of)


@tool(scope="market:read", effect=READ)
def get_portfolio_snapshot(actor: Actor, params: OfAccount) -> PortfolioOut:
    """An account at one look: its money, its cash by currency, its positions and its open orders."""
    account, ledger = get_account(actor, params), get_ledger(actor, params)
    held, working = get_positions(actor, params), get_open_orders(actor, params)
    return PortfolioOut(
        account=account,
        currencies=ledger.currencies,
        positions=held.positions,
        open_orders=working.orders,
        as_of=min(each.as_of for each in (account, ledger, held, working)),
    )


def _orders_of(actor: Actor, params: OfAccount) -> Known[list[OrderReport]]:
    account = params.account
    known = ask(params.login(actor), ORDERS, account, lambda broker: broker.open_orders(account))
    own = [each for each in known.value if each.broker_account_id == account]
    return Known(own, known.as_of)


def _orders_out(
    params: OfAccount, known: Known[list[OrderReport]], shown: list[OrderReport]
) -> BrokerOrdersOut:
    found = [BrokerOrderOut.model_validate(each) for each in shown]
    return BrokerOrdersOut(account=params.account, orders=found, as_of=known.as_of)
