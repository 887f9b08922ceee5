"""Who is on duty, and going on and off it."""

from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from cerbero.errors import BadInput
from orders.admin.acting import actor_of, attempt, demand, page
from orders.notices import duty
from orders.notices.models import Duty

PERMISSION = "notices.take_duty"


@require_http_methods(["GET", "POST"])
def show_duty(request: HttpRequest) -> HttpResponse:
    """Shifts that run and come; a POST takes one or ends one's own."""
    demand(request, "notices.view_duty")
    if request.method == "POST":
        demand(request, PERMISSION)
        if request.POST.get("do") == "end":
            attempt(request, "You are off duty.", duty.go_off_duty)
        else:
            attempt(request, "Your shift is entered.", _take, **request.POST.dict())
        return redirect("console:duty")
    return page(
        request,
        "console/duty.html",
        title="Duty",
        shifts=duty.coming(),
        on_duty=duty.on_duty(),
        hours_max=duty.HOURS_MAX,
        mine=[each for each in duty.coming() if each.person_id == actor_of(request).id],
    )


def _take(*, actor: object, hours: str = "", starts_at: str = "", **_: str) -> Duty:
    """The form's words as a shift; times without a zone are UTC. Raises BadInput for what cannot be read."""
    try:
        begins = datetime.fromisoformat(starts_at).replace(tzinfo=UTC) if starts_at else None
        return duty.go_on_duty(actor=actor, hours=int(hours), starts_at=begins)  # type: ignore[arg-type]
    except ValueError:
        raise BadInput("Give whole hours, and a beginning such as 2026-03-05T08:00.") from None
