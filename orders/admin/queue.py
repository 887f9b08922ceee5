"""The approval queue: where people decide. Each POST carries the digest that stood on the screen."""

from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cerbero.errors import CerberoError
from cerbero.people.passkeys import answered
from cerbero.refusals import refuse
from orders import amending, overrides, overriding, queue, services
from orders.admin.acting import actor_of, attempt, demand, page
from orders.lifecycle import TicketStatus
from orders.models import Amendment, Ticket
from orders.notices import announcing
from orders.notices.duty import on_duty
from orders.presentation import MISSING, decimal, milliseconds, number, price
from orders.trading import must_be_signed
from orders.what_if import broker_says


@require_GET
def show_queue(request: HttpRequest) -> HttpResponse:
    """The cards of everything that waits, and what became of the newest decisions."""
    demand(request, "orders.view_ticket")
    cards = queue.waiting_cards(request.user)  # type: ignore[arg-type]
    return page(
        request,
        "console/queue.html",
        title="Approvals",
        cards=cards,
        amendments=queue.amendment_cards(request.user),  # type: ignore[arg-type]
        total=queue.waiting_tickets().count(),
        oldest=min((card.ticket.created_at for card in cards), default=None),
        decided=[_outcome(ticket) for ticket in queue.decided_tickets()],
        last=queue.last_decision(),
        now=timezone.now(),
        on_duty=on_duty(),
        refused=overriding.refused_lately() if request.user.has_perm(overrides.PERMISSION) else 0,
        can_select=sum(not card.why_not for card in cards) > 1,
    )


@require_GET
def show_state(request: HttpRequest) -> JsonResponse:
    """What waits by id, and the newest outcomes, for the open page to compare itself with."""
    demand(request, "orders.view_ticket")
    waiting = queue.waiting_tickets()[: queue.CARDS_MAX]
    return JsonResponse(
        {
            "waiting": {str(ticket.pk): _waiting(ticket, request.user) for ticket in waiting},
            "amendments": {
                str(each.pk): _waiting_amendment(each, request.user) for each in queue.waiting_amendments()
            },
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
def mark_seen(request: HttpRequest) -> HttpResponse:
    """These cards stood on the person's screen."""
    demand(request, "orders.view_ticket")
    ids = _uuids(request.POST.getlist("ticket"))
    requests = Ticket.objects.filter(pk__in=ids, request__isnull=False).values_list("request_id", flat=True)
    announcing.mark_seen(request.user, requests)  # type: ignore[arg-type]
    return HttpResponse(status=204)


@require_POST
def approve(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    return _decide(request, ticket_id, is_yes=True)


@require_POST
def reject(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    """A reason is required; the service refuses without one."""
    return _decide(request, ticket_id, is_yes=False)


@require_http_methods(["GET", "POST"])
def selected(request: HttpRequest) -> HttpResponse:
    """Several tickets, each with its own facts; a POST decides each by itself, by the digest that stood there."""
    demand(request, "orders.decide_ticket")
    if request.method == "POST":
        for text in request.POST.getlist("ticket"):
            ticket_id, _, digest = text.partition(":")
            _decide_one_of(request, _uuids([ticket_id]), digest)
        return redirect("console:queue")
    cards = queue.waiting_cards(request.user, _uuids(request.GET.getlist("ticket")))  # type: ignore[arg-type]
    may = [card for card in cards if not card.why_not]
    if not may:
        messages.error(request, "None of these waits for you any more. Nothing was changed.")
        return redirect("console:queue")
    return page(request, "console/selected.html", title=f"Decide {len(may)} tickets", cards=may)


def _decide_one_of(request: HttpRequest, ids: list[UUID], digest: str) -> None:
    """One ticket of a batch; what becomes of it is told by itself, and holds up none of the others."""
    is_yes = request.POST.get("do") == "approve"
    for ticket in Ticket.objects.filter(pk__in=ids, request__isnull=False).select_related("account"):
        if is_yes and must_be_signed(ticket.account):
            messages.error(
                request, f"{queue.said(ticket)}: it is signed with a passkey on its own card. It waits."
            )
            continue
        attempt(
            request,
            f"{'Approved' if is_yes else 'Rejected'}: {queue.said(ticket)}",
            services.decide_ticket,
            about=queue.said(ticket),
            ticket_id=ticket.pk,
            digest=digest,
            is_yes=is_yes,
            reason="" if is_yes else request.POST.get("reason", ""),
            is_confirmed=str(ticket.pk) in request.POST.getlist("confirmed"),
        )


def _decide(request: HttpRequest, ticket_id: UUID, *, is_yes: bool) -> HttpResponse:
    demand(request, "orders.decide_ticket")
    ticket = get_object_or_404(Ticket.objects.select_related("request"), pk=ticket_id, request__isnull=False)
    is_confirmed = request.POST.get("confirmed") == "1"
    if is_yes and not is_confirmed and (card := _doubtful(request, ticket)):
        kept = {name: request.POST.get(name, "") for name in ("drift_percent", "reason")}
        return page(
            request, "console/confirm.html", title="Look again", card=card, confirming=True, kept=kept
        )
    attempt(
        request,
        f"{'Approved' if is_yes else 'Rejected'}: {queue.said(ticket)}",
        services.decide_ticket,
        ticket_id=ticket_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
        is_confirmed=is_confirmed,
        drift_percent=_percent(request.POST.get("drift_percent", "")) if is_yes else None,
    )
    return redirect("console:queue")


def _doubtful(request: HttpRequest, ticket: Ticket) -> queue.Card | None:
    """The card, if it waits for this person and its market is a reason to ask once more."""
    cards = queue.waiting_cards(request.user, [ticket.pk])  # type: ignore[arg-type]
    return next((card for card in cards if card.can_approve and card.market.doubt), None)


def _waiting(ticket: Ticket, user: Any) -> dict[str, Any]:
    """One waiting ticket, as an open page compares itself with it and tells of it."""
    says = broker_says(ticket)
    return {
        "broker": {"rows": says.rows, "notes": says.notes, "at": milliseconds(says.at)},
        "who": queue.who_decided(ticket),
        "seen": queue.who_saw(ticket),
        "not_yet": overrides.why_not_yet(queue.asked(ticket), user.pk),
        "sentence": queue.said(ticket),
        "environment": ticket.account.environment,
        "is_mine": queue.may_decide(ticket, user),
    }


def _waiting_amendment(amendment: Amendment, user: Any) -> dict[str, Any]:
    return {
        "sentence": amending.said(amendment, amendment.order),
        "environment": amendment.order.ticket.account.environment,
        "is_mine": not queue.why_not_amend(amendment, user),
    }


def _uuids(texts: Iterable[str]) -> list[UUID]:
    """What is a ticket's id among these; the rest is passed over, and no page is so long."""
    found = []
    for text in list(texts)[: queue.CARDS_MAX]:
        with suppress(ValueError):
            found.append(UUID(text))
    return found


def _percent(text: str) -> Decimal | None:
    """What was asked for; nonsense is not a number, which the service refuses."""
    return (decimal(text) or Decimal("NaN")) if text.strip() else None


def _outcome(ticket: Ticket) -> dict[str, Any]:
    """One decided ticket: who, what, and how far its first order has come."""
    first = min(ticket.orders.all(), key=lambda order: order.number)
    decision = queue.asked(ticket).status
    filled = f"{number(first.filled_quantity)} of {number(first.quantity)}"
    average = price(first.average_price, first.instrument.price_increment)
    return {
        "id": str(ticket.pk),
        "url": reverse("admin:orders_order_change", args=[first.pk]),
        "sentence": queue.said(ticket),
        "environment": ticket.account.environment,
        "account": str(ticket.account),
        "by": ", ".join(str(each.person) for each in _decisions(ticket)) or MISSING,
        "decision": "approved" if decision == "consumed" else decision,
        "why": _why(ticket),
        "status": first.status if first.status != "pending" else ticket.status,
        "filled": f"{filled} at {average}" if first.filled_quantity else "",
    }


def _why(ticket: Ticket) -> str:
    if ticket.status == TicketStatus.ALLOWED and ticket.held_for:
        return f"waits: {ticket.held_for.replace('_', ' ')}"
    reasons = [each.reason for each in _decisions(ticket) if each.reason]
    return reasons[0] if reasons else ticket.refusal_code.replace("_", " ")


def _decisions(ticket: Ticket) -> list[Any]:
    return list(queue.asked(ticket).decisions.all())
