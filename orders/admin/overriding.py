"""Letting one refused ticket pass a limit, from its own page."""

from collections.abc import Iterable
from decimal import ROUND_UP, Decimal
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods

from cerbero.errors import CerberoError
from orders import overrides, overriding, queue
from orders.admin.acting import actor_of, attempt, demand, page, told
from orders.canonical import plain
from orders.models import Ticket
from orders.risk import Check

CENT = Decimal("0.01")


class OverrideForm(forms.Form):
    """A ceiling for each limit that may be passed, and why."""

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: object, checks: Iterable[Check], **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        for check in checks:
            self.fields[check.code] = forms.DecimalField(
                max_digits=30,
                decimal_places=8,
                initial=plain((check.over or Decimal(0)).quantize(CENT, ROUND_UP)),
                label=f"{check.name}, at most",
                help_text=f"{check.value} now, of {check.limit}; a quarter more at the most",
            )
        self.fields["reason"] = forms.CharField(max_length=500, help_text="everybody reads it")

    def ceilings(self) -> dict[str, Decimal]:
        return {code: most for code, most in self.cleaned_data.items() if isinstance(most, Decimal)}


@require_http_methods(["GET", "POST"])
def override(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    """Propose a refused ticket again with a limit overridden. Bound to the digest that stood on this page."""
    demand(request, overrides.PERMISSION)
    rows = Ticket.objects.select_related("account__login", "bot__owner", "person", "request")
    ticket = get_object_or_404(rows, pk=ticket_id)
    why_not, checks = overriding.why_not(ticket), []
    try:
        checks = [] if why_not else overriding.refused_by(actor_of(request), ticket)
    except CerberoError as refusal:
        why_not = told(refusal)
    may = overriding.worst(checks)
    stays = [check for check in checks if check.code not in may]
    form = OverrideForm(request.POST or None, checks=may.values(), initial={"digest": ticket.digest})
    if request.method == "POST" and form.is_valid():
        made = attempt(
            request,
            f"Proposed again: {queue.said(ticket)}. Approve it yourself first, then somebody else.",
            overriding.override_limits,
            ticket_id=ticket.pk,
            digest=form.cleaned_data["digest"],
            ceilings=form.ceilings(),
            reason=form.cleaned_data["reason"],
        )
        if made:
            return redirect("console:queue")
    return page(
        request,
        "admin/orders/override.html",
        title="Override a limit",
        form=form,
        ticket=ticket,
        said=queue.said(ticket),
        why_not=why_not,
        stays=stays,
        may=may,
    )
