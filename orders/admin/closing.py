"""Reducing risk on one account: close a position or all of them, cancel everything that works. Each asks once, by a page."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_http_methods

from brokers.models import Account
from cerbero.access import Actor
from cerbero.errors import BadInput
from orders import services
from orders.admin.acting import actor_of, attempt, demand, page, told
from orders.lifecycle import ENDED
from orders.models import Order, Position, Ticket
from orders.presentation import MISSING, number, price, sentence
from orders.reducing import cancel_all_orders, close_all_positions

# As the tools and the API have it: beyond this no arithmetic of ours could be exact.
SIZE_MAX = Decimal(10) ** 12
both = require_http_methods(["GET", "POST"])


@both
def close(request: HttpRequest, account_id: UUID, broker_instrument_id: str) -> HttpResponse:
    """Close one position at market. The service sizes it from what the broker holds at that moment."""
    demand(request, "orders.close_position")
    rows = Position.objects.select_related("account__login", "instrument")
    row = get_object_or_404(rows, account=account_id, broker_instrument_id=broker_instrument_id)
    if request.method == "POST":
        ticket = attempt(
            request,
            f"The close of {row.symbol} is on its way.",
            _close,
            account=row.account.broker_account_id,
            symbol=row.instrument.symbol if row.instrument else row.symbol,
            idempotency_key=request.POST.get("key", "")[:64],
            quantity=request.POST.get("quantity", "").strip(),
            reason=request.POST.get("reason", "").strip()[:500],
        )
        if ticket:
            return redirect("admin:orders_order_change", ticket.orders.get(number=1).pk)
        return redirect("console:close", account_id, broker_instrument_id)
    increment = row.instrument.price_increment if row.instrument else None
    return page(
        request,
        "console/close.html",
        title=f"Close {row.symbol}",
        row=row,
        held=number(row.quantity),
        market=price(row.market_price, increment),
        side="Sell" if row.quantity > 0 else "Buy",
        # One page is one close, however often its button is pressed.
        key=f"console-{uuid4().hex}",
    )


@require_GET
def choose_account(request: HttpRequest) -> HttpResponse:
    """The accounts, with how many orders each has that a cancel would reach, and how many positions."""
    demand(request, "orders.cancel_order")
    reached = Count("tickets__orders", filter=~Q(tickets__orders__status__in=ENDED), distinct=True)
    held = Count("positions", filter=~Q(positions__quantity=0), distinct=True)
    accounts = Account.objects.select_related("login").annotate(reached=reached, held=held)
    rows = accounts.order_by("broker_account_id")
    return page(request, "console/choose_account.html", title="Cancel all of an account", accounts=rows)


@both
def cancel_all(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Cancel each order of an account by itself, waiting or working; exits too. What fails is said by itself."""
    demand(request, "orders.cancel_order")
    account = get_object_or_404(Account.objects.select_related("login"), pk=account_id)
    orders = list(
        Order.objects.filter(ticket__account=account)
        .exclude(status__in=ENDED)
        .select_related("instrument", "ticket")
        .order_by("created_at")
    )
    if request.method == "POST":
        done = cancel_all_orders(actor=actor_of(request), account=account)
        for each in done:
            if each.refusal:
                messages.error(request, f"{sentence(each.order)}: {told(each.refusal)}")
        asked = sum(each.refusal is None for each in done)
        messages.success(request, f"Cancel asked for {asked} of {len(done)} orders of {account}.")
        return redirect("console:cancel_all", account.pk)
    rows = [(order, str(sentence(order)), order.broker_order_id or MISSING) for order in orders]
    return page(
        request, "console/cancel_all.html", title=f"Cancel all of {account}", account=account, rows=rows
    )


@both
def close_all(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Close every position of an account at market, each sized by the broker at that moment. What fails is said by itself."""
    demand(request, "orders.close_position")
    account = get_object_or_404(Account.objects.select_related("login"), pk=account_id)
    held = Position.objects.filter(account=account).exclude(quantity=0).order_by("symbol")
    if request.method == "POST":
        done = attempt(
            request,
            f"Closing what {account} holds.",
            close_all_positions,
            account=account.broker_account_id,
            idempotency_key=request.POST.get("key", "")[:48] or f"console-{uuid4().hex}",
            reason=request.POST.get("reason", "").strip()[:500],
        )
        symbols = dict(held.values_list("broker_instrument_id", "symbol"))
        for each in done or []:
            if each.refusal:
                name = symbols.get(each.broker_instrument_id, each.broker_instrument_id)
                messages.error(request, f"{name}: {told(each.refusal)}")
        return redirect("console:close_all", account.pk)
    rows = [
        (row.symbol, number(row.quantity), "Sell" if row.quantity > 0 else "Buy", row.as_of) for row in held
    ]
    title = f"Close all of {account}"
    key = f"console-{uuid4().hex}"
    return page(request, "console/close_all.html", title=title, account=account, rows=rows, key=key)


def _close(*, actor: Actor, quantity: str, **terms: Any) -> Ticket:
    """The form's quantity as a number; empty is all of it. Raises BadInput for what is none."""
    try:
        size = Decimal(quantity) if quantity else None
    except InvalidOperation:
        raise BadInput("The quantity is no number.", quantity=quantity[:32]) from None
    if size is not None and not (size.is_finite() and 0 < size < SIZE_MAX and size == round(size, 8)):
        raise BadInput("The quantity is above nought, with at most eight decimals.", quantity=quantity[:32])
    if not re.fullmatch(r"[\x21-\x7e]{1,64}", terms["idempotency_key"]):
        raise BadInput("The form was not whole; load the page again.")
    return services.close_position(actor=actor, quantity=size, **terms)
