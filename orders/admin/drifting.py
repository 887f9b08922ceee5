"""Where the broker and we differ: each case with its evidence, adopted or ignored in one click with a reason."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from cerbero import decisions
from cerbero.people.passkeys import answered
from orders import adopting, rounds
from orders.admin.acting import attempt, demand, page
from orders.models import DayReport, Drift, Order
from orders.presentation import decimal, number, sentence

SETTLED_SHOWN, REPORTS_SHOWN = 30, 14
_QUIET = {"record", "others"}


@require_safe
def show_drift(request: HttpRequest) -> HttpResponse:
    """Open cases first, then GTC orders that nobody spoke for in a week, then what was settled."""
    demand(request, "orders.view_drift")
    rows = Drift.objects.select_related(
        "account", "order__instrument", "order__ticket", "execution__instrument", "request", "settled_by"
    )
    settled = rows.exclude(status=Drift.Status.OPEN).order_by("-settled_at")[:SETTLED_SHOWN]
    return page(
        request,
        "console/drift.html",
        title="Drift",
        cards=[
            _card(case, request.user) for case in rows.filter(status=Drift.Status.OPEN).order_by("seen_at")
        ],
        aged=[(order, str(sentence(order))) for order in rounds.aged(Order.objects.all(), timezone.now())],
        settled=settled,
        reports=DayReport.objects.select_related("account").order_by("-day", "account")[:REPORTS_SHOWN],
    )


@require_POST
def settle(request: HttpRequest, drift_id: UUID) -> HttpResponse:
    """Adopt or ignore one case."""
    demand(request, adopting.PERMISSION)
    wanted = request.POST.get("do", "")
    case = Drift.objects.select_related("account").filter(pk=drift_id).first()
    takes_two = case is not None and adopting.takes_two(case)
    attempt(
        request,
        "Asked: another person decides." if takes_two else f"The case is {wanted}.",
        adopting.settle_drift,
        drift_id=drift_id,
        wanted=wanted,
        reason=request.POST.get("reason", ""),
    )
    return redirect("console:drift")


@require_POST
def decide(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """The second person's yes or no."""
    demand(request, adopting.PERMISSION)
    is_yes = request.POST.get("answer") == "yes"
    attempt(
        request,
        "Decided.",
        adopting.decide_drift,
        request_id=request_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason=request.POST.get("reason", ""),
        assertion=answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("console:drift")


@require_POST
def reaffirm(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """A resting GTC order shall go on."""
    demand(request, adopting.PERMISSION)
    attempt(
        request,
        "The order goes on.",
        adopting.reaffirm_order,
        order_id=order_id,
        reason=request.POST.get("reason", ""),
    )
    return redirect("console:drift")


def _card(case: Drift, person: Any) -> dict[str, Any]:
    """One case as one person may act on it."""
    open_request = (
        decisions.waiting(adopting.KIND).filter(pk=case.request_id).first() if case.request_id else None
    )
    return {
        "case": case,
        "amount": number(case.amount) if case.amount is not None else "",
        "evidence": [(name, _shown(name, value)) for name, value in _facts(case).items()],
        "request": open_request,
        "why_not": decisions.why_not(open_request, person) if open_request else "",
        "takes_two": adopting.takes_two(case),
    }


def _facts(case: Drift) -> dict[str, Any]:
    """What people need of the evidence; a record's empty fields are left out."""
    facts = {name: value for name, value in case.evidence.items() if name not in _QUIET and value}
    record = case.evidence.get("record") or {}
    facts |= {name: value for name, value in record.items() if value not in (None, "", False)}
    for name, each in facts.pop("differs", {}).items():
        facts[name] = f"approved {each['ours']}, at the broker {each['theirs']}"
    return facts | (case.evidence.get("others") or {})


def _shown(name: str, value: Any) -> str:
    """Numbers separated; what only looks like one, an id, as it is."""
    found = decimal(value) if isinstance(value, str) and not name.endswith("_id") else None
    return number(found) if found is not None and len(str(value)) < 20 else str(value)
