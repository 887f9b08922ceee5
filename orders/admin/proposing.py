"""Orders by hand: a person's ticket through the same gate, and an approver's counter to one."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods
from uuid_utils.compat import uuid7

from brokers.base import OrderType, Side, TimeInForce
from brokers.models import Account, Instrument
from cerbero.errors import CerberoError
from cerbero.refusals import told_on_page
from orders import countering, services, tickets
from orders.admin.acting import actor_of, attempt, demand, page, told
from orders.canonical import plain
from orders.groups import proposing as groups
from orders.groups import relations
from orders.groups.relations import RESTS
from orders.lifecycle import Group
from orders.limits import applying
from orders.models import Ticket
from orders.order_types import FIELDS, problems
from orders.presentation import sentence
from orders.risk import DRIFT_PERCENT_MAX
from orders.tickets import Proposal, Wanted
from orders.trading import must_be_signed


def choices(kind: Any) -> list[tuple[str, str]]:
    return [(word.value, word.value.replace("_", " ")) for word in kind]


def amount(**options: Any) -> forms.DecimalField:
    """A quantity or a price in the instrument's own units."""
    return forms.DecimalField(max_digits=20, decimal_places=8, **options)


# What few orders have; it is folded away until it is used, as are the exits that hang on an order.
RARE = {"trailing_amount", "trailing_percent", "offset", "cash_quantity", "outside_hours"}

# What is more than one order lacks its sense without.
NEEDED: dict[str, tuple[str, ...]] = {
    Group.BRACKET: ("exit_limit_price", "exit_stop_price"),
    Group.OCO: ("exit_stop_price",),
}
TRAILS = ("exit_trailing_amount", "exit_trailing_percent")


class TicketForm(forms.Form):
    """One order, or a group of which it is the first. The key travels with the form, so that pressing twice places one."""

    key = forms.CharField(max_length=64, widget=forms.HiddenInput)
    account = forms.ModelChoiceField(
        Account.objects.exclude(environment="").select_related("login"), empty_label="Choose…"
    )
    symbol = forms.ModelChoiceField(
        Instrument.objects.filter(is_allowed=True).order_by("symbol"), empty_label="Choose…"
    )
    side = forms.ChoiceField(choices=choices(Side))
    quantity = amount(required=False, help_text="or an amount of money, further down")
    order_type = forms.ChoiceField(choices=choices(OrderType), initial=OrderType.LIMIT)
    limit_price = amount(required=False)
    stop_price = amount(required=False, help_text="what triggers: stop, touch, or where a trail begins")
    trailing_amount = amount(required=False)
    trailing_percent = amount(required=False)
    offset = amount(required=False, help_text="of a relative order: how far inside the market")
    cash_quantity = amount(
        required=False, help_text="money in the instrument's currency, instead of a quantity"
    )
    time_in_force = forms.ChoiceField(choices=choices(TimeInForce), initial=TimeInForce.DAY)
    outside_hours = forms.BooleanField(required=False, help_text="trade outside regular hours, too")
    group = forms.ChoiceField(
        label="Exits",
        required=False,
        choices=[
            ("", "none: one order"),
            (Group.BRACKET, "a take profit and a stop loss (bracket)"),
            (Group.OTO, "one exit (OTO)"),
            (Group.OCO, "a stop instead, for the same quantity (OCO)"),
        ],
        help_text="decided on as one with the order",
    )
    exit_limit_price = amount(required=False, help_text="the take profit's, or of an OTO its exit's limit")
    exit_stop_price = amount(
        required=False, help_text="the stop loss's, of an OTO its exit's, of an OCO the stop's"
    )
    exit_stop_limit_price = amount(
        required=False, help_text="of a bracket or OCO: makes that stop a stop-limit"
    )
    exit_trailing_amount = amount(
        required=False, help_text="of a bracket or OTO: that stop follows the market, so far behind"
    )
    exit_trailing_percent = amount(required=False)
    exit_time_in_force = forms.ChoiceField(
        required=False,
        choices=[("", "as long as the entry"), *((each, each) for each in sorted(RESTS))],
        help_text="how long exits rest",
    )
    reason = forms.CharField(max_length=500, help_text="whoever decides reads it")

    def parts(self) -> list[dict[str, Any]]:
        """The fields as the page shows them: every one stands somewhere, and the reason last."""
        found: dict[str, list[forms.BoundField]] = {
            "": [],
            "Trails, offsets, amounts of money, other hours": [],
            "Exits with it: bracket, OTO, OCO": [],
        }
        plainly, rarely, exits = found.values()
        for each in self.visible_fields():
            is_exit = each.name == "group" or each.name.startswith("exit_")
            (exits if is_exit else rarely if each.name in RARE else plainly).append(each)
        last = [plainly.pop()]
        return [
            {
                "title": title,
                "fields": fields,
                "is_used": self.is_bound and any(each.errors or each.value() for each in fields),
            }
            for title, fields in (*found.items(), ("", last))
        ]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if not self.errors:
            for problem in problems(self.first_order()):
                self.add_error(problem.field, problem.says)
        group, trails = said.get("group", ""), [name for name in TRAILS if said.get(name) is not None]
        for name in (each for each in NEEDED.get(group, ()) if said.get(each) is None):
            # A trail may begin where the entry fills.
            if not (trails and group == Group.BRACKET and name == "exit_stop_price"):
                self.add_error(name, "This group needs it.")
        for name in trails if group not in (Group.BRACKET, Group.OTO) else ():
            self.add_error(name, "Only the stop of a bracket or an OTO trails.")
        if not self.errors and said["group"]:
            self._look_at_group(self.proposal())
        return said

    def _look_at_group(self, group: Wanted) -> None:
        for says in relations.problems(group.group, group.legs):
            self.add_error(None, says)
        if group.legs[0].cash_quantity is not None:
            self.add_error("cash_quantity", "The orders of a group have quantities.")

    def proposal(self) -> Wanted:
        said, first = self.cleaned_data, self.first_order()
        limit, stop, stop_limit = (
            said[f"exit_{name}"] for name in ("limit_price", "stop_price", "stop_limit_price")
        )
        rests = TimeInForce(said["exit_time_in_force"]) if said["exit_time_in_force"] else None
        exits: dict[str, Any] = {"trail": groups.Trail(*(said[name] for name in TRAILS)), "rests": rests}
        if said["group"] == Group.BRACKET:
            return groups.bracket(first, profit=limit, stop=stop, stop_limit=stop_limit, **exits)
        if said["group"] == Group.OTO:
            return groups.oto(first, limit=limit, stop=stop, **exits)
        return groups.oco(first, stop=stop, stop_limit=stop_limit) if said["group"] else first

    def first_order(self) -> Proposal:
        said = self.cleaned_data
        return Proposal(
            account=said["account"].broker_account_id,
            symbol=said["symbol"].symbol,
            side=Side(said["side"]),
            order_type=OrderType(said["order_type"]),
            time_in_force=TimeInForce(said["time_in_force"]),
            idempotency_key=said["key"],
            reason=said["reason"],
            **{name: said[name] for name in ("quantity", "cash_quantity", "outside_hours", *FIELDS)},
        )


class CounterForm(forms.Form):
    """A smaller size or a better price; what is left as it is stays."""

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    quantity = amount(required=False)
    limit_price = amount(required=False)
    reason = forms.CharField(max_length=500, help_text="the bot reads it")


@require_http_methods(["GET", "POST"])
def new_ticket(request: HttpRequest) -> HttpResponse:
    """Propose an order by hand; another person decides, or the policy does."""
    demand(request, "orders.propose_ticket")
    form = TicketForm(request.POST or None, initial={"key": f"hand-{uuid7()}"})
    if request.method == "POST" and form.is_valid():
        try:
            ticket = services.place_order(actor=actor_of(request), proposal=form.proposal())
        except CerberoError as refusal:
            told_on_page(request, refusal)
            messages.error(request, told(refusal))
            return page(
                request, "admin/orders/ticket.html", title="New ticket", form=form, refused=refusal.details
            )
        ticket.refresh_from_db()
        messages.success(request, f"Proposed: {tickets.told(ticket)}. It is {ticket.status} now.")
        return redirect("console:queue")
    return page(request, "admin/orders/ticket.html", title="New ticket", form=form)


@require_http_methods(["GET", "POST"])
def counter(request: HttpRequest, ticket_id: UUID) -> HttpResponse:
    """Answer a ticket with other terms. Bound to the digest that stood on this page."""
    demand(request, "orders.decide_ticket")
    rows = Ticket.objects.select_related("request", "account__login", "bot", "person")
    ticket = get_object_or_404(rows, pk=ticket_id, request__isnull=False)
    order = ticket.first_order
    shown: dict[str, Any] = {
        "quantity": plain(order.quantity),
        "digest": ticket.request.digest if ticket.request else "",
    }
    if order.limit_price is not None:
        shown["limit_price"] = plain(order.limit_price)
    form = CounterForm(request.POST or None, initial=shown)
    if order.limit_price is None:
        del form.fields["limit_price"]
    if request.method == "POST" and form.is_valid():
        said = form.cleaned_data
        made = attempt(
            request,
            f"Countered: {sentence(order)}. Somebody else decides on the new terms.",
            countering.counter_ticket,
            ticket_id=ticket.pk,
            digest=said["digest"],
            reason=said["reason"],
            quantity=said["quantity"],
            limit_price=said.get("limit_price"),
        )
        if made:
            return redirect("console:queue")
    return page(
        request,
        "admin/orders/counter.html",
        title="Other terms",
        form=form,
        ticket=ticket,
        said=sentence(order),
        must_be_signed=must_be_signed(ticket.account),
        drift_max=DRIFT_PERCENT_MAX,
        drift_limit=plain(applying(ticket.account, ticket.bot_id).bounds.drift_percent),
    )
