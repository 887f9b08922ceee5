"""What people settle in advance: versions of the policy with their simulator, and mandates."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from brokers.base import OrderType, Side
from brokers.models import Account, Instrument
from cerbero import decisions
from cerbero.errors import CerberoError, MalformedRequest
from cerbero.models import Bot
from cerbero.people.passkeys import answered
from cerbero.plain import loads
from cerbero.refusals import refuse, told_on_page
from orders import mandates, policies, policy
from orders.admin.acting import actor_of, attempt, demand, page, told
from orders.admin.proposing import amount, choices
from orders.models import Mandate, PolicyVersion
from orders.settled import as_json, as_text, used

both = require_http_methods(["GET", "POST"])


class RulesField(forms.CharField):
    """JSON text whose numbers keep every digit."""

    widget = forms.Textarea(attrs={"rows": 24, "spellcheck": "false"})

    def to_python(self, value: Any) -> Any:
        words = super().to_python(value)
        try:
            return loads(words.encode()) if words else None
        except MalformedRequest as no:
            raise forms.ValidationError(f"This is not JSON as Cerbero reads it. {no.message}") from None


class PolicyForm(forms.Form):
    rules = RulesField()
    reason = forms.CharField(
        max_length=500, help_text="what changes and why; whoever activates it reads this"
    )


class CaseForm(forms.Form):
    """A hypothetical ticket."""

    account = forms.ModelChoiceField(Account.objects.select_related("login"), empty_label="Choose…")
    bot = forms.ModelChoiceField(Bot.objects.order_by("name"), required=False, empty_label="a person")
    instrument = forms.ModelChoiceField(Instrument.objects.order_by("symbol"), empty_label="Choose…")
    order_type = forms.ChoiceField(choices=choices(OrderType), initial=OrderType.LIMIT)
    effect = forms.ChoiceField(
        choices=[(word, word) for word in ("opening", "reducing", "flipping", "short")]
    )
    notional = amount(min_value=0, help_text="in the account's currency")
    at = forms.DateTimeField(required=False, help_text="UTC; empty is now")

    def case(self) -> policy.Case:
        said = self.cleaned_data
        return policy.Case(
            environment=said["account"].environment,
            account=said["account"].broker_account_id,
            bot=said["bot"].name if said["bot"] else "",
            asset_class=said["instrument"].asset_class,
            order_type=said["order_type"],
            effect=said["effect"],
            symbol=said["instrument"].symbol,
            notional=said["notional"],
            at=said["at"] or timezone.now(),
        )


class MandateForm(forms.Form):
    account = forms.ModelChoiceField(
        Account.objects.exclude(environment="").select_related("login"), empty_label="Choose…"
    )
    bot = forms.ModelChoiceField(Bot.objects.filter(is_active=True).order_by("name"), empty_label="Choose…")
    instruments = forms.ModelMultipleChoiceField(
        Instrument.objects.filter(is_allowed=True).order_by("symbol"), help_text="Ctrl adds one to the choice"
    )
    sides = forms.MultipleChoiceField(choices=choices(Side), widget=forms.CheckboxSelectMultiple)
    order_types = forms.MultipleChoiceField(choices=choices(OrderType), widget=forms.CheckboxSelectMultiple)
    order_notional_max = amount(label="Most per order", help_text="in the account's currency")
    notional_max = amount(label="Most in total", help_text="in the account's currency")
    count_max = forms.IntegerField(label="Number of orders", min_value=1, max_value=10_000)
    expires_at = forms.DateTimeField(help_text="UTC, such as 2026-12-01 21:00")
    zone = forms.CharField(
        label="Time zone of its hours",
        required=False,
        help_text="such as America/New_York; empty is any hour",
    )
    begin = forms.TimeField(required=False, help_text="such as 09:30")
    end = forms.TimeField(required=False, help_text="such as 16:00")
    reason = forms.CharField(max_length=500, help_text="whoever signs reads it")

    def terms(self) -> mandates.Terms:
        said = self.cleaned_data
        hours: dict[str, Any] = {}
        if said["zone"] and said["begin"] and said["end"]:
            hours = {"zone": said["zone"], "days": [1, 2, 3, 4, 5]}
            hours |= {name: f"{said[name]:%H:%M}" for name in ("begin", "end")}
        return mandates.Terms(
            account=said["account"],
            bot=said["bot"],
            instruments=tuple(said["instruments"]),
            sides=tuple(map(Side, said["sides"])),
            order_types=tuple(map(OrderType, said["order_types"])),
            order_notional_max=said["order_notional_max"],
            notional_max=said["notional_max"],
            count_max=said["count_max"],
            expires_at=said["expires_at"],
            hours=hours,
            reason=said["reason"],
        )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        given = [bool(said.get(name)) for name in ("zone", "begin", "end")]
        if any(given) and not all(given):
            self.add_error("zone", "Hours need a zone, a begin and an end.")
        return said


@require_GET
def show_policies(request: HttpRequest) -> HttpResponse:
    """Every version, the newest first, and the rules of the one in force."""
    demand(request, "orders.view_policyversion")
    versions = PolicyVersion.objects.select_related("proposed_by", "activated_by", "request")
    problem, rules = "", []
    try:
        rules = as_text(policies.active()[1])
    except CerberoError as refusal:
        problem = told(refusal)
    return page(
        request,
        "admin/orders/policies.html",
        title="Policy",
        versions=versions.order_by("-number"),
        rules=rules,
        problem=problem,
    )


@require_GET
def show_policy(request: HttpRequest, number: int) -> HttpResponse:
    """One version's rules as people read them, and what may be done with it."""
    demand(request, "orders.view_policyversion")
    rows = PolicyVersion.objects.select_related("proposed_by", "activated_by", "request")
    version = get_object_or_404(rows, number=number)
    is_open = version.status == PolicyVersion.Status.PROPOSED and version.request is not None
    why_not = ""
    if is_open and version.request is not None:
        why_not = decisions.why_not(version.request, request.user)  # type: ignore[arg-type]
    return page(
        request,
        "admin/orders/policy.html",
        title=f"Policy version {number}",
        version=version,
        rules=as_text(policy.read_rules(version.rules)),
        is_open=is_open,
        why_not=why_not,
    )


@both
def new_policy(request: HttpRequest) -> HttpResponse:
    """Propose a version, beginning with the rules in force; each problem is named with its place."""
    demand(request, "orders.propose_policy")
    current = PolicyVersion.objects.filter(status=PolicyVersion.Status.ACTIVE).first()
    text = as_json(current.rules if current else policy.SHIPPED)
    form = PolicyForm(request.POST or None, initial={"rules": text})
    problems: list[str] = []
    if request.method == "POST" and form.is_valid():
        try:
            version = policies.propose_policy(actor=actor_of(request), **form.cleaned_data)
        except CerberoError as refusal:
            told_on_page(request, refusal)
            problems = list(refusal.details.get("problems", []))
            if not problems:
                messages.error(request, told(refusal))
        else:
            messages.success(request, "Proposed. Another Administrator activates it.")
            return redirect("console:policy", version.number)
    return page(
        request, "admin/orders/policy_new.html", title="Propose a policy", form=form, problems=problems
    )


@require_POST
def decide_policy(request: HttpRequest, number: int) -> HttpResponse:
    demand(request, "orders.activate_policy")
    version = get_object_or_404(PolicyVersion, number=number)
    is_yes = request.POST.get("do") == "activate"
    attempt(
        request,
        f"Version {number} is in force." if is_yes else f"Version {number} was refused.",
        policies.decide_policy,
        version_id=version.pk,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:policy", number)


@require_GET
def simulate(request: HttpRequest) -> HttpResponse:
    """Which rules a hypothetical ticket would meet, in order. Nothing is kept."""
    demand(request, "orders.view_policyversion")
    form = CaseForm(request.GET or None)
    version = PolicyVersion.objects.filter(number=request.GET.get("version") or 0).first()
    met: list[policy.Requirement] = []
    try:
        version, rules = (version, policy.read_rules(version.rules)) if version else policies.active()
        if form.is_bound and form.is_valid():
            met = list(policy.requirements(rules, form.case()))
    except CerberoError as refusal:
        messages.error(request, told(refusal))
        rules = []
    return page(
        request,
        "admin/orders/simulate.html",
        title="Policy simulator",
        form=form,
        version=version,
        rules=as_text(rules),
        met=until_decided(met),
        names=[each.rule for each in until_decided(met)],
    )


@require_GET
def show_mandates(request: HttpRequest) -> HttpResponse:
    """Every mandate as it burns down, the open ones first."""
    demand(request, "orders.view_mandate")
    rows = Mandate.objects.select_related("account__login", "bot", "request", "proposed_by", "revoked_by")
    cards = [used(row, request.user) for row in rows.order_by("-proposed_at")[:100]]
    return page(request, "admin/orders/mandates.html", title="Mandates", cards=cards)


@both
def new_mandate(request: HttpRequest) -> HttpResponse:
    """Propose a budget; as many people sign it as the approvals that it replaces would need."""
    demand(request, "orders.propose_mandate")
    form = MandateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            mandate = mandates.propose_mandate(actor=actor_of(request), terms=form.terms())
        except CerberoError as refusal:
            told_on_page(request, refusal)
            for problem in refusal.details.get("problems", [refusal.message]):
                form.add_error(None, problem)
        else:
            needed = mandate.request.quorum if mandate.request else 0
            messages.success(request, f"Proposed. {needed} other people must sign it.")
            return redirect("console:mandates")
    return page(request, "admin/orders/mandate_new.html", title="Propose a mandate", form=form)


@require_POST
def challenge_mandate(request: HttpRequest, mandate_id: UUID) -> HttpResponse:
    """What a passkey is to sign for a mandate on a live account."""
    demand(request, "orders.decide_ticket")
    try:
        options = mandates.ask_signature(
            actor=actor_of(request), mandate_id=mandate_id, digest=request.POST.get("digest", "")
        )
    except CerberoError as refusal:
        return refuse(request, refusal)
    return JsonResponse(options)


@require_POST
def decide_mandate(request: HttpRequest, mandate_id: UUID) -> HttpResponse:
    demand(request, "orders.decide_ticket")
    is_yes = request.POST.get("do") == "sign"
    attempt(
        request,
        "Signed." if is_yes else "Declined.",
        mandates.decide_mandate,
        mandate_id=mandate_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:mandates")


@require_POST
def revoke_mandate(request: HttpRequest, mandate_id: UUID) -> HttpResponse:
    demand(request, "orders.revoke_mandate")
    reason = request.POST.get("reason", "").strip() or "revoked from the console"
    attempt(
        request,
        "Revoked. Nothing more passes under it.",
        mandates.revoke_mandate,
        mandate_id=mandate_id,
        reason=reason,
    )
    return redirect("console:mandates")


def until_decided(met: list[policy.Requirement]) -> list[policy.Requirement]:
    """The mandate rules that are tried first, and the rule that then decides."""
    shown = []
    for each in met:
        shown.append(each)
        if each.outcome != policy.MANDATE:
            break
    return shown
