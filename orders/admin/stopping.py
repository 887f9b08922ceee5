"""Reducing risk by hand: halt, resume, cancel one order, close one position. Each asks once, by a page."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST

from orders import services, trading
from orders.admin.acting import attempt, demand, page
from orders.lifecycle import WORKING, OrderStatus
from orders.models import Order, TradingState
from orders.presentation import sentence

both = require_http_methods(["GET", "POST"])


@both
def halt(request: HttpRequest) -> HttpResponse:
    """Stop everything new. Cancels still pass, and closes by a person."""
    demand(request, "orders.halt_trading")
    if request.method == "POST":
        reason = request.POST.get("reason", "").strip() or "halted from the console"
        result = attempt(
            request, "Trading is halted everywhere. Nothing new leaves.", trading.halt_trading, reason=reason
        )
        return redirect("console:resume" if result else "console:halt")
    return page(request, "console/halt.html", title="Halt trading", **_state())


@both
def resume(request: HttpRequest) -> HttpResponse:
    """What is halted, what is still in flight, and the way back for those who may take it."""
    demand(request, "orders.view_tradingstate")
    if request.method == "POST":
        demand(request, "orders.resume_trading")
        attempt(
            request,
            "Trading is active again.",
            trading.resume_trading,
            scope=request.POST.get("scope", TradingState.Scope.EVERYTHING),
            scope_id=request.POST.get("scope_id", ""),
            reason=request.POST.get("reason", "").strip() or "resumed from the console",
        )
        return redirect("console:resume")
    return page(request, "console/resume.html", title="Trading state", **_state())


@require_POST
def cancel(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Cancel one order; allowed in every trading state."""
    demand(request, "orders.cancel_order")
    order = get_object_or_404(Order.objects.select_related("instrument"), pk=order_id)
    attempt(request, f"Cancel asked: {sentence(order)}.", services.cancel_order, order_id=order.pk)
    return redirect("admin:orders_order_change", order.pk)


def can_cancel(order: Order) -> bool:
    """Whether a cancel could still do something."""
    return order.status in (WORKING - {OrderStatus.PENDING_CANCEL}) | {
        OrderStatus.PENDING,
        OrderStatus.SUBMITTED,
    }


def _state() -> dict[str, object]:
    return {
        "states": TradingState.objects.order_by("scope", "scope_id"),
        "in_flight": trading.in_flight(TradingState.Scope.EVERYTHING, ""),
        "working": Order.objects.filter(status__in=WORKING).count(),
    }
