"""A group on the wire: which leg goes how, and which leg a row of the broker's speaks of. Never by its place in a list.

The entry and the alternatives carry an id of ours; exits that wait for their entry name it and carry none
(ibkr-web-api.md §6.2). So a row without our id is known by its parent, side, type and price, or not at all.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from django.db.models import Q, QuerySet

from brokers.base import Broker, BrokerOrderState, ExecutionReport, OrderReport, OrderTerms
from brokers.models import Account, Report
from cerbero.errors import BrokerError
from orders.canonical import client_order_id
from orders.groups.relations import EXITS, is_exit, role
from orders.lifecycle import AttemptStatus, Group, OrderStatus
from orders.models import Attempt, AttemptLeg, Order, Ticket


def enter_legs(attempt: Attempt, orders: Sequence[Order]) -> None:
    """Write down which orders a sending carries, each with its own derived id. In the caller's transaction."""
    for place, order in enumerate(orders):
        own = (
            client_order_id(attempt.ticket, attempt.number, order.number)
            if place
            else attempt.client_order_id
        )
        AttemptLeg.objects.create(attempt=attempt, order=order, client_order_id=own)


def as_sent(attempt: Attempt, legs: Sequence[OrderTerms]) -> list[OrderTerms]:
    """The legs with our ids and what they are to each other; one leg alone is an order like any other."""
    ticket, ours = attempt.ticket, attempt.client_order_id
    first, *rest = legs
    is_oco = ticket.group == Group.OCO and bool(rest)
    found = [replace(first, client_order_id=ours, one_cancels_other=is_oco)]
    for number, leg in enumerate(rest, 2):
        if is_oco:
            own = client_order_id(ticket, attempt.number, number)
            found.append(replace(leg, client_order_id=own, one_cancels_other=True))
        else:
            found.append(replace(leg, client_order_id=None, parent_client_order_id=ours))
    return found


def named(attempt: Attempt, rows: Sequence[OrderReport], broker: Broker) -> tuple[list[OrderReport], bool]:
    """The rows of an answer under our ids, and whether every leg has its own; whatever cannot be named is left as it is.

    A row says little more than the broker's number: what it is of is asked for by that.
    """
    if not attempt.ticket.group:
        # A reply's row may lack our id; it answers our request, so it is ours.
        return [
            replace(row, client_order_id=row.client_order_id or attempt.client_order_id) for row in rows
        ], True
    ids = dict(attempt.legs.order_by("order__number").values_list("client_order_id", "order_id"))
    orders = {order.pk: order for order in attempt.carried}
    left = {own: orders[pk] for own, pk in ids.items()}
    found: list[OrderReport] = []
    unnamed: list[OrderReport] = []
    for row in rows:
        if left.pop(row.client_order_id or "", None) is not None:
            found.append(row)
        else:
            unnamed.append(replace(row, client_order_id=None))
    for row in sorted(unnamed, key=_is_refused):
        own = _own_id(row, left, attempt.ticket.group, broker)
        if own:
            del left[own]
        found.append(replace(row, client_order_id=own))
    return [row for row in found if row.client_order_id or row.broker_order_id], not left


def leg_of(row: OrderReport, legs: Sequence[Order]) -> Order | None:
    """The one leg of these that has the row's terms; None where none has, or more than one."""
    found = [leg for leg in legs if (leg.side, leg.order_type) == (row.side, row.order_type)]
    if len(found) > 1:
        found = [
            leg for leg in found if (leg.limit_price, leg.stop_price) == (row.limit_price, row.stop_price)
        ]
    return found[0] if len(found) == 1 else None


def missing(attempt: Attempt) -> QuerySet[Order]:
    """What an attempt carries and the broker has neither named nor refused."""
    return attempt.carried.filter(status=OrderStatus.SUBMITTED, broker_order_id="")


def is_told_of(attempt: Attempt) -> bool:
    """Whether the broker's word of an order of this sending is in the inbox, and not in the ledger yet."""
    ours = attempt.legs.values_list("client_order_id", flat=True)
    theirs = attempt.carried.exclude(broker_order_id="").values_list("broker_order_id", flat=True)
    names = Q(record__client_order_id__in=list(ours)) | Q(record__parent_order_id__in=list(theirs))
    return (
        Report.objects.filter(names, login=attempt.ticket.account.login, kind=Report.Kind.ORDER)
        .waiting()
        .exists()
    )


def is_any_in_doubt(login_id: UUID) -> bool:
    """Then an exit's row may be ahead of its entry's."""
    rows = Attempt.objects.filter(ticket__account__login=login_id, status=AttemptStatus.IN_DOUBT)
    return rows.exclude(ticket__group="").exists()


def may_be_an_exits(account: Account, fact: ExecutionReport) -> bool:
    """Then a fill may be ahead of the row that names its entry: it is nobody else's until its group is known."""
    sought = Order.objects.filter(
        ticket__account=account,
        ticket__attempts__status=AttemptStatus.IN_DOUBT,
        status=OrderStatus.SUBMITTED,
        broker_order_id="",
        side=fact.side,
        instrument__broker_ids__broker_instrument_id=fact.broker_instrument_id,
    )
    return not fact.client_order_id and sought.exclude(ticket__group="").exists()


def may_shrink(order: Order) -> bool:
    """Whether the broker takes of it what another order of its group filled: it ends with less than was approved."""
    group = order.ticket.group
    return group == Group.OCO or is_exit(group, order.number) or order.completes_id is not None


def role_of(order: Order, ticket: Ticket) -> str:
    """What an order is in its group; what was sent again is what it stands for. Empty for an order alone."""
    number = order.completes.number if order.completes else order.number
    return role(ticket.group, number)


def closes(order: Order) -> bool:
    """Whether it only takes back what its entry opened."""
    return role_of(order, order.ticket) in EXITS


def linked(order: Order, terms: OrderTerms) -> OrderTerms:
    """New terms as the broker wants them: the whole ticket again, with what ties it to its group (ibkr-web-api.md §6.6)."""
    group = order.ticket.group
    sending = order.sendings.select_related("attempt").order_by("-pk").first()
    if sending is None or order.completes_id is not None:
        return terms
    if group == Group.OCO:
        return replace(terms, one_cancels_other=True)
    if is_exit(group, order.number):
        return replace(terms, parent_client_order_id=sending.attempt.client_order_id)
    return terms


def exits_of(entry: Order) -> list[Order]:
    """The legs that wait for this entry and that the broker has not named yet."""
    legs = entry.ticket.orders.filter(completes=None, broker_order_id="").exclude(pk=entry.pk)
    return [leg for leg in legs.select_related("instrument") if is_exit(entry.ticket.group, leg.number)]


def _own_id(row: OrderReport, left: dict[str, Order], group: str, broker: Broker) -> str | None:
    fitting = {
        own: leg
        for own, leg in left.items()
        if _is_refused(row)
        or group == Group.OCO
        or is_exit(group, leg.number) == (row.parent_order_id is not None)
    }
    if len(fitting) == 1:
        return next(iter(fitting))
    told = _told(row, broker)
    leg = leg_of(told, list(fitting.values())) if told is not None else None
    return next((own for own, each in fitting.items() if leg is not None and each.pk == leg.pk), None)


def _is_refused(row: OrderReport) -> bool:
    """Refused before it had a number: which one it was is known when all others are."""
    return row.state == BrokerOrderState.REJECTED and not row.broker_order_id


def _told(row: OrderReport, broker: Broker) -> OrderReport | None:
    if row.side is not None or not row.broker_order_id:
        return row
    try:
        return broker.order(row.broker_order_id)
    except BrokerError:
        return None
