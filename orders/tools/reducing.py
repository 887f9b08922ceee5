"""Less risk, all of it at once."""

from decimal import Decimal
from typing import Annotated

from pydantic import StringConstraints

from cerbero.access import Actor
from cerbero.errors import CerberoError
from cerbero.tool import DESTRUCTIVE, Out, Params, tool
from orders import reducing
from orders.drift_shapes import AccountId
from orders.facts import find_account
from orders.tools.orders import OrderOut, Words, one_order

# Each close's own key is this one, a dot, and the broker's id of what it closes: 64 characters at most.
KeyOfMany = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,48}$")]


class CancelAll(Params):
    """One account, or without it all of them."""

    account: AccountId | None = None


class CloseAll(Params):
    account: AccountId
    idempotency_key: KeyOfMany
    reason: Words = ""


class CanceledOut(Out):
    """One order; `refusal_code` and `message` say why no cancel could be asked for, else both are empty."""

    order: OrderOut
    refusal_code: str
    message: str


class AllCanceledOut(Out):
    orders: list[CanceledOut]


class ClosedOut(Out):
    """One position and its closing order, or why there is none: `nothing_to_close` where exits already work for all of it."""

    broker_instrument_id: str
    held: Decimal
    order: OrderOut | None
    refusal_code: str
    message: str


class AllClosedOut(Out):
    positions: list[ClosedOut]


@tool(scope="orders:write", effect=DESTRUCTIVE)
def cancel_all_orders(actor: Actor, params: CancelAll) -> AllCanceledOut:
    """Cancel all of your orders that wait or work, exits too; what they opened stays open, without its stop."""
    account = find_account(actor, params.account) if params.account else None
    done = reducing.cancel_all_orders(actor=actor, account=account)
    return AllCanceledOut(
        orders=[CanceledOut(order=one_order(each.order), **_why(each.refusal)) for each in done]
    )


@tool(scope="orders:write", effect=DESTRUCTIVE)
def close_all_positions(actor: Actor, params: CloseAll) -> AllClosedOut:
    """Close every position of an account at market, each sized by the broker at this moment; no approval is needed."""
    done = reducing.close_all_positions(actor=actor, **dict(params))
    return AllClosedOut(
        positions=[
            ClosedOut(
                broker_instrument_id=each.broker_instrument_id,
                held=each.held,
                order=one_order(each.ticket.first_order) if each.ticket else None,
                **_why(each.refusal),
            )
            for each in done
        ]
    )


def _why(refusal: CerberoError | None) -> dict[str, str]:
    return {
        "refusal_code": refusal.code if refusal else "",
        "message": refusal.message if refusal else "",
    }
