"""What is not known yet, with everything that was asked and answered; and amendments: asking for one, deciding."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cerbero import decisions
from cerbero.errors import CerberoError
from cerbero.models import User
from cerbero.people.passkeys import answered
from cerbero.refusals import refuse
from orders import amending, doubts, hand_evidence, hand_settling, queue
from orders.admin.acting import actor_of, attempt, demand, page, told
from orders.admin.proposing import amount
from orders.lifecycle import AttemptStatus
from orders.models import Amendment, Attempt, ChangeAttempt, Order
from orders.presentation import MISSING, duration, sentence

both = require_http_methods(["GET", "POST"])


@dataclass(frozen=True)
class Doubt:
    """One sending, cancel or amendment whose outcome is not known, as people read it."""

    row: Attempt | ChangeAttempt
    what: str
    kind: str
    account: Any
    order: Order | None
    inquiries: list[Any]

    @property
    def why(self) -> str:
        return str(self.row.outcome.get("why", MISSING))

    @property
    def questions(self) -> list[dict[str, Any]]:
        return list(self.row.outcome.get("questions", []))

    @property
    def grace_left(self) -> str:
        """How long absence proves nothing yet."""
        waited = (timezone.now() - self.row.sent_at).total_seconds() if self.row.sent_at else 0
        return duration(max(0.0, doubts.GRACE.total_seconds() - waited))

    @property
    def asked(self) -> str:
        return f"{self.row.absent_count} of {doubts.ABSENT_TIMES}"


class AmendForm(forms.Form):
    """What is left empty stays as it is."""

    quantity = amount(required=False, min_value=Decimal(0))
    quantity_is = forms.ChoiceField(
        label="This quantity is",
        choices=[("total", "the total, with what is filled"), ("remaining", "what remains to be filled")],
    )
    limit_price = amount(required=False, min_value=Decimal(0))
    stop_price = amount(required=False, min_value=Decimal(0))
    reason = forms.CharField(max_length=500, help_text="whoever decides reads it")


@require_safe
def show_doubts(request: HttpRequest) -> HttpResponse:
    """The lane of what is in doubt, and the settlings by hand that wait for a second person."""
    demand(request, "orders.view_attempt")
    return page(
        request,
        "admin/orders/doubts.html",
        title="In doubt",
        doubts=[*_sendings(), *_changes()],
        requests=[(each, _why_not(each, request)) for each in decisions.waiting(hand_settling.KIND)],
    )


@require_POST
def settle(request: HttpRequest, attempt_id: UUID) -> HttpResponse:
    """A person says what became of it."""
    demand(request, hand_settling.PERMISSION)
    attempt(
        request,
        "Taken. On a live account another person must agree.",
        hand_settling.settle_doubt,
        attempt_id=attempt_id,
        verdict="arrived" if request.POST.get("verdict") == "arrived" else "never_arrived",
        broker_order_id=request.POST.get("broker_order_id", "").strip(),
        reason=request.POST.get("reason", ""),
    )
    return redirect("console:doubts")


@require_POST
def decide_settling(request: HttpRequest, request_id: UUID) -> HttpResponse:
    demand(request, hand_settling.PERMISSION)
    is_yes = request.POST.get("answer") == "yes"
    attempt(
        request,
        "Decided.",
        hand_settling.decide_settling,
        request_id=request_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:doubts")


@both
def amend(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Ask for other terms of one order."""
    demand(request, "orders.propose_ticket")
    order = get_object_or_404(Order.objects.select_related("instrument", "ticket__account"), pk=order_id)
    form = AmendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        wanted = dict(form.cleaned_data)
        if wanted["quantity"] is None:
            wanted["quantity_is"] = None
        try:
            row = amending.amend_order(actor=actor_of(request), order_id=order.pk, **wanted)
        except CerberoError as refusal:
            form.add_error(None, told(refusal))
        else:
            done = (
                "On its way: it only tightens." if row.request is None else "Asked: another person decides."
            )
            messages.success(request, done)
            return redirect("console:amendments")
    return page(
        request,
        "admin/orders/amend.html",
        title="Amend an order",
        form=form,
        order=order,
        what=sentence(order),
    )


@require_safe
def show_amendments(request: HttpRequest) -> HttpResponse:
    """Amendments, the waiting ones first."""
    demand(request, "orders.view_order")
    rows = Amendment.objects.select_related(
        "order__instrument", "order__ticket__account", "order__ticket__bot", "request", "bot", "person"
    )
    cards = queue.amendment_cards(request.user)  # type: ignore[arg-type]
    waiting = [card.amendment.pk for card in cards]
    ended = rows.exclude(pk__in=waiting).order_by("-created_at")[:50]
    return page(
        request,
        "admin/orders/amendments.html",
        title="Amendments",
        cards=cards,
        ended=[(each, amending.said(each, each.order)) for each in ended],
    )


@require_POST
def challenge_amendment(request: HttpRequest, amendment_id: UUID) -> HttpResponse:
    """What a passkey is to sign for an amendment on a live account."""
    demand(request, "orders.decide_ticket")
    try:
        options = amending.ask_signature(
            actor=actor_of(request), amendment_id=amendment_id, digest=request.POST.get("digest", "")
        )
    except CerberoError as refusal:
        return refuse(request, refusal)
    return JsonResponse(options)


@require_POST
def decide_amendment(request: HttpRequest, amendment_id: UUID) -> HttpResponse:
    demand(request, "orders.decide_ticket")
    is_yes = request.POST.get("answer") == "yes"
    attempt(
        request,
        "Approved." if is_yes else "Rejected.",
        amending.decide_amendment,
        amendment_id=amendment_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:queue")


def _sendings() -> list[Doubt]:
    rows = Attempt.objects.filter(status=AttemptStatus.IN_DOUBT).order_by("sent_at")
    rows = rows.select_related("ticket__account__login").prefetch_related("inquiries")
    return [
        Doubt(
            row=each,
            what=hand_evidence.told(each),
            kind="sending",
            account=each.ticket.account,
            order=each.ticket.first_order,
            inquiries=_newest(each),
        )
        for each in rows
    ]


def _changes() -> list[Doubt]:
    rows = ChangeAttempt.objects.filter(status=AttemptStatus.IN_DOUBT).order_by("sent_at")
    rows = rows.select_related("account__login", "order__instrument", "order__ticket", "amendment")
    return [
        Doubt(
            row=each,
            what=hand_evidence.told(each),
            kind="amendment" if each.amendment else "cancel",
            account=each.account,
            order=each.order,
            inquiries=_newest(each),
        )
        for each in rows.prefetch_related("inquiries")
    ]


def _newest(row: Attempt | ChangeAttempt) -> list[Any]:
    return sorted(row.inquiries.all(), key=lambda each: each.asked_at, reverse=True)[:20]


def _why_not(asked: Any, request: HttpRequest) -> str:
    person = request.user
    if not person.has_perm("orders.decide_ticket") or not isinstance(person, User):
        return "You may look, not decide."
    return decisions.why_not(asked, person)
