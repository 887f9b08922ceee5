"""The approval queue: where people decide. Each POST carries the digest that stood on the screen."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from cerbero.errors import CerberoError
from cerbero.refusals import refuse
from orders import queue, services
from orders.admin.acting import actor_of, attempt, demand, page
from orders.models import Ticket
from orders.presentation import MISSING, number, price, sentence
from people.passkeys import answered


@require_GET
def show_queue(request: HttpRequest) -> HttpResponse:
    """The cards of everything that waits, and what became of the newest decisions."""
    demand(request, "orders.view_ticket")
    cards = queue.waiting_cards(request.user)  # type: ignore[arg-type]
    return page(
        request,
        "console/queue.html",
        title=f"Approvals ({len(cards)})",
        cards=cards,
        total=queue.waiting_tickets().count(),
        oldest=min((card.ticket.created_at for card in cards), default=None),
        decided=[_outcome(ticket) for ticket in queue.decided_tickets()],
        last=queue.last_decision(),
        now=timezone.now(),
    )


@require_GET
def show_state(request: HttpRequest) -> JsonResponse:
    """What waits by id, and the newest outcomes, for the open page to compare itself with."""
    demand(request, "orders.view_ticket")
    waiting = queue.waiting_tickets()[: queue.CARDS_MAX]
    return JsonResponse(
        {
            "waiting": {str(ticket.pk): queue.who_decided(ticket) for ticket in waiting},
            "decided": [_outcome(ticket) for ticket in queue.decided_tickets()],
        }
    )


@require_POST
def challenge(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    """What a passkey is to sign for this ticket, bound to what stood on the screen."""
    demand(request, "orders.decide_ticket")
    ticket = get_object_or_404(Ticket, pk=ticket_id, request__isnull=False)
    try:
        options = services.ask_signature(
            actor=actor_of(request), ticket_id=ticket.pk, digest=request.POST.get("digest", "")
        )
    except CerberoError as refusal:
        return refuse(request, refusal)
    return JsonResponse(options)


@require_POST
def approve(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    return _decide(request, ticket_id, is_yes=True)


@require_POST
def reject(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    """A reason is required; the service refuses without one."""
    return _decide(request, ticket_id, is_yes=False)


def _decide(request: HttpRequest, ticket_id: UUID, *, is_yes: bool) -> HttpResponse:
    demand(request, "orders.decide_ticket")
    ticket = get_object_or_404(Ticket.objects.select_related("request"), pk=ticket_id, request__isnull=False)
    attempt(
        request,
        f"{'Approved' if is_yes else 'Rejected'}: {_said(ticket)}",
        services.decide_ticket,
        ticket_id=ticket_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason="" if is_yes else request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:queue")


def _outcome(ticket: Ticket) -> dict[str, Any]:
    """One decided ticket: who, what, and how far its first order has come."""
    first = min(ticket.orders.all(), key=lambda order: order.number)
    decision = queue.asked(ticket).status
    filled = f"{number(first.filled_quantity)} of {number(first.quantity)}"
    average = price(first.average_price, first.instrument.price_increment)
    return {
        "id": str(ticket.pk),
        "url": reverse("admin:orders_order_change", args=[first.pk]),
        "sentence": _said(ticket),
        "environment": ticket.account.environment,
        "account": str(ticket.account),
        "by": ", ".join(str(each.person) for each in _decisions(ticket)) or MISSING,
        "decision": "approved" if decision == "consumed" else decision,
        "why": _why(ticket),
        "status": first.status if first.status != "pending" else ticket.status,
        "filled": f"{filled} at {average}" if first.filled_quantity else "",
    }


def _said(ticket: Ticket) -> str:
    orders = sorted(ticket.orders.all(), key=lambda order: order.number)
    return "; ".join(str(sentence(order)) for order in orders)


def _why(ticket: Ticket) -> str:
    reasons = [each.reason for each in _decisions(ticket) if each.reason]
    return reasons[0] if reasons else ticket.refusal_code.replace("_", " ")


def _decisions(ticket: Ticket) -> list[Any]:
    return list(queue.asked(ticket).decisions.all())
