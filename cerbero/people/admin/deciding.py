"""Changes of people that wait for a second Administrator."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from cerbero import decisions
from cerbero.errors import CerberoError
from cerbero.models import DecisionStatus, User
from cerbero.people import changes, passkeys, profile, signing
from cerbero.people.admin.acting import actor_of, attempt, page, user_of
from cerbero.people.models import PersonChange
from cerbero.refusals import refuse


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
        sole=profile.sole(),
        administrators=User.objects.filter(is_active=True, groups__name=changes.ADMINISTRATOR).count(),
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
        assertion=passkeys.answered(request.POST.get("assertion", "")) if is_yes else None,
    )
    return redirect("people:changes")


@require_POST
def challenge(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """What a sole operator's passkey is to sign; tickets and mandates have addresses of their own."""
    digest = request.POST.get("digest", "")
    try:
        with transaction.atomic():
            options = signing.ask(
                actor=actor_of(request), request_id=request_id, digest=digest, is_live=False
            )
    except CerberoError as refusal:
        return refuse(request, refusal)
    return JsonResponse(options)


@require_POST
def leave_profile(request: HttpRequest) -> HttpResponse:
    """Two people decide from now on."""
    attempt(request, "Two people decide from now on, and everybody is told.", profile.leave)
    return redirect("people:changes")
