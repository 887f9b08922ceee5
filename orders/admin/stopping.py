"""Reducing risk by hand: halt, resume, cancel one order, close one position. Each asks once, by a page."""

from collections import Counter
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cerbero import decisions
from cerbero.people.passkeys import answered
from orders import halting, resuming, services, trading
from orders.admin.acting import attempt, demand, page
from orders.lifecycle import WORKING, OrderStatus
from orders.models import Halt, HaltMode, Order, TradingState
from orders.presentation import MISSING, duration, sentence

# A page waits for as long as a person watches; its own refresh and the orders loop do the rest.
PAGE_SECONDS, DRILL_SECONDS, REFRESH_SECONDS = 1.5, 10.0, 2
HALTS_A_PAGE = 25

both = require_http_methods(["GET", "POST"])


@both
def halt(request: HttpRequest) -> HttpResponse:
    """Stop everything new, and by mode what rests. Cancels still pass, and closes by a person."""
    demand(request, "orders.halt_trading")
    if request.method == "POST":
        scope, _, scope_id = request.POST.get("scope", "").partition(":")
        is_drill = request.POST.get("drill") == "yes"
        done = "The drill is filed." if is_drill else "Trading is halted. Nothing new leaves."
        result = attempt(
            request,
            done,
            halting.halt_trading,
            scope=scope or TradingState.Scope.EVERYTHING,
            scope_id=scope_id,
            mode=request.POST.get("mode", HaltMode.STOP_AND_CANCEL_OPENING),
            reason=request.POST.get("reason", "").strip() or "halted from the console",
            is_drill=is_drill,
            wait_seconds=DRILL_SECONDS if is_drill else PAGE_SECONDS,
        )
        return redirect("console:show_halt", result["halt_id"]) if result else redirect("console:halt")
    scopes = TradingState.objects.order_by("scope", "scope_id")
    modes = HaltMode.choices
    return page(request, "console/halt.html", title="Halt trading", scopes=scopes, modes=modes, **_state())


@require_safe
def show_halt(request: HttpRequest, halt_id: UUID) -> HttpResponse:
    """What became of each order, and what is proven; the page asks again by itself until all is."""
    demand(request, "orders.view_tradingstate")
    row = get_object_or_404(Halt, pk=halt_id)
    report = halting.report_of(row)
    state = TradingState.objects.filter(scope=row.scope, scope_id=row.scope_id).first()
    seconds = None if row.finished_at or row.released_at else REFRESH_SECONDS
    return page(
        request, "console/halted.html", title="Halt", halt=row, report=report, state=state, refresh=seconds
    )


@require_safe
def show_halts(request: HttpRequest) -> HttpResponse:
    """Every halt and drill, the newest first, with what became of it."""
    demand(request, "orders.view_tradingstate")
    rows = Paginator(Halt.objects.prefetch_related("orders").order_by("-started_at"), HALTS_A_PAGE)
    found = rows.get_page(request.GET.get("page"))
    states = {(each.scope, each.scope_id): each for each in TradingState.objects.all()}
    told = [_summary(halt, states.get((halt.scope, halt.scope_id))) for halt in found]
    return page(request, "console/halts.html", title="Halts and drills", rows=told, found=found)


@both
def resume(request: HttpRequest) -> HttpResponse:
    """What is halted, what is still in flight, and the way back for those who may take it."""
    demand(request, "orders.view_tradingstate")
    if request.method == "POST":
        demand(request, "orders.resume_trading")
        scope = request.POST.get("scope", TradingState.Scope.EVERYTHING)
        scope_id = request.POST.get("scope_id", "")
        takes_two = scope in TradingState.Scope.values and trading.takes_two(scope, scope_id)
        attempt(
            request,
            "Asked: another person decides." if takes_two else "Trading is active again.",
            resuming.request_resume if takes_two else trading.resume_trading,
            scope=scope,
            scope_id=scope_id,
            reason=request.POST.get("reason", "").strip() or "resumed from the console",
        )
        return redirect("console:resume")
    return page(request, "console/resume.html", title="Trading state", **_state())


@require_POST
def reduce(request: HttpRequest) -> HttpResponse:
    """Let only cancels and closes pass in a scope."""
    demand(request, "orders.halt_trading")
    attempt(
        request,
        "Only cancels and closes pass there now.",
        trading.reduce_trading,
        scope=request.POST.get("scope", TradingState.Scope.EVERYTHING),
        scope_id=request.POST.get("scope_id", ""),
        reason=request.POST.get("reason", "").strip() or "reduced from the console",
    )
    return redirect("console:resume")


@require_POST
def decide_resume(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The second person's yes or no to a resume, or a sole operator's signed one."""
    is_yes = request.POST.get("answer") == "yes"
    demand(request, "orders.resume_trading")
    attempt(
        request,
        "Decided.",
        resuming.decide_resume,
        request_id=request_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:resume")


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


def _summary(halt: Halt, state: TradingState | None) -> dict[str, object]:
    """One line of the list: where, what became of the orders, how long it took, and what is proven."""
    orders = list(halt.orders.all())
    told = Counter(
        "would go" if halt.is_drill else order.fate.replace("_", " ") or "going on"
        for order in orders
        if order.action == "cancel"
    )
    kept = sum(order.action == "keep" for order in orders)
    words = [f"{count} {fate}" for fate, count in told.most_common()] + ([f"{kept} kept"] if kept else [])
    status = "ended" if halt.released_at else "proven" if halt.finished_at else "going_on"
    stopped = (halt.halted_at - halt.started_at).total_seconds()
    proven = (halt.finished_at - halt.started_at).total_seconds() if halt.finished_at else None
    return {
        "halt": halt,
        "state": state,
        "orders": ", ".join(words) or "none rested",
        "stopped": f"{stopped:.3f} s",
        "proven": duration(proven) if proven is not None else MISSING,
        "status": status,
    }


def _state() -> dict[str, object]:
    return {
        "states": TradingState.objects.order_by("scope", "scope_id"),
        "in_flight": trading.in_flight(TradingState.Scope.EVERYTHING, ""),
        "amendments": trading.amendments_in_flight(TradingState.Scope.EVERYTHING, ""),
        "requests": decisions.waiting(resuming.KIND),
        "halts": Halt.objects.order_by("-started_at")[:6],
        "working": Order.objects.filter(status__in=WORKING).count(),
    }
