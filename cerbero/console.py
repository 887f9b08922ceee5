"""The console's own pages: the live page with its blotter, and health for people."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from brokers.models import Instrument, Login, Subscription
from cerbero import health
from orders.models import Order
from orders.presentation import number, percent, price, price_places, sentence, symbol

BLOTTER_ROWS = 50
# Who may see the live page, and therefore its socket.
LIVE_PERMISSION = "orders.view_order"


@never_cache
@require_GET
@login_required
@permission_required(LIVE_PERMISSION, raise_exception=True)
def live(request: HttpRequest) -> HttpResponse:
    """Quotes that tick and orders that move; plain figures before its script has loaded."""
    context = {"title": "Watch-list", "quotes": _watched(), "orders": _blotter(), "now": timezone.now()}
    return TemplateResponse(request, "console/live.html", {**admin.site.each_context(request), **context})


@never_cache
@require_GET
@login_required
@permission_required(LIVE_PERMISSION, raise_exception=True)
def blotter(request: HttpRequest) -> JsonResponse:
    """The newest orders, as the live page shows them."""
    return JsonResponse({"orders": _blotter()})


@require_GET
def health_page(request: HttpRequest) -> HttpResponse:
    """What works and what does not, asked at this moment."""
    context = {"title": "Health", "found": health.examine(), "now": timezone.now()}
    return TemplateResponse(request, "console/health.html", {**admin.site.each_context(request), **context})


def _watched() -> list[dict[str, Any]]:
    rows = Subscription.objects.filter(login__is_enabled=True).select_related("login", "instrument__quote")
    rows = rows.order_by("instrument__symbol", "instrument__currency", "instrument_id", "login__name")
    return [
        _watch_row(row.login, row.instrument)
        for row in rows.distinct("instrument__symbol", "instrument__currency", "instrument_id")
    ]


def _watch_row(login: Login, instrument: Instrument) -> dict[str, Any]:
    quote, increment = getattr(instrument, "quote", None), instrument.price_increment
    last, close = (quote.last, quote.prior_close) if quote else (None, None)
    return {
        "id": instrument.pk,
        "login": login,
        "symbol": symbol(instrument),
        "name": instrument.name,
        "places": price_places(increment),
        "quote": quote,
        "bid": price(quote.bid if quote else None, increment),
        "ask": price(quote.ask if quote else None, increment),
        "last": price(last, increment),
        "direction": ("buy" if last > close else "sell" if last < close else "") if last and close else "",
        "change": percent(last - close if last and close else None, close, signed=True),
    }


def _blotter() -> list[dict[str, Any]]:
    rows = Order.objects.select_related("instrument", "ticket__account", "ticket__bot", "ticket__person")
    return [_blotter_row(order) for order in rows.order_by("-created_at", "-id")[:BLOTTER_ROWS]]


def _blotter_row(order: Order) -> dict[str, Any]:
    said, account = sentence(order), order.ticket.account
    is_today = order.created_at.date() == timezone.now().date()
    return {
        "id": str(order.pk),
        "url": reverse("admin:orders_order_change", args=[order.pk]),
        "at": f"{order.created_at:{'%H:%M:%S' if is_today else '%Y-%m-%d %H:%M'}}",
        "at_full": f"{order.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "environment": account.environment,
        "account": str(account),
        "side": order.side,
        "side_word": said.side.capitalize(),
        "rest": str(said).split(" ", 1)[1],
        "status": order.status if order.status != "pending" else order.ticket.status,
        "filled": f"{number(order.filled_quantity)} of {said.quantity}",
        "average": price(order.average_price, order.instrument.price_increment),
        "by": order.ticket.proposer,
        "text": order.text or order.ticket.refusal_code.replace("_", " "),
    }
