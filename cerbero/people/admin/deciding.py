"""Changes of people that wait for a second Administrator."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from cerbero import decisions
from cerbero.models import DecisionStatus, User
from cerbero.people import changes
from cerbero.people.admin.acting import attempt, page, user_of
from cerbero.people.models import PersonChange


@require_GET
def show_changes(request: HttpRequest) -> HttpResponse:
    """What waits, with what each would do, and what was decided last."""
    if not request.user.has_perm("people.view_personchange"):
        raise PermissionDenied
    rows = PersonChange.objects.select_related("request", "person", "proposed_by").order_by("-created_at")
    waiting = rows.filter(request__status=DecisionStatus.PENDING, request__expires_at__gt=Now())
    cards = [(row, decisions.why_not(row.request, user_of(request))) for row in waiting]
    decided = rows.exclude(pk__in=[row.pk for row, _ in cards])[:10]
    return page(
        request,
        "people/changes.html",
        title="Changes of people",
        cards=cards,
        decided=decided,
        people=User.objects.filter(code_app__isnull=False).order_by("username"),
    )


@require_POST
def decide_change(request: HttpRequest, change_id: UUID) -> HttpResponse:
    """An Administrator's yes or no, bound to what stood on the page."""
    is_yes = request.POST.get("do") == "confirm"
    attempt(
        request,
        "Confirmed, and everybody is told." if is_yes else "Refused.",
        changes.decide,
        change_id=change_id,
        digest=request.POST.get("digest", ""),
        is_yes=is_yes,
        reason="" if is_yes else request.POST.get("reason", ""),
    )
    return redirect("people:changes")
