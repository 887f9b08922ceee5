"""Where people are signed in, and ending it."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_POST

from cerbero.models import User
from cerbero.people import sessions
from cerbero.people.admin.acting import attempt, page, user_of
from cerbero.people.models import PersonSession


@require_POST
def end_one(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Sign one device out: one's own, or as an Administrator anybody's."""
    row = get_object_or_404(PersonSession.objects.select_related("person"), pk=session_id)
    attempt(request, "Signed out there.", sessions.end, person=row.person, only=row.pk)
    return redirect("people:own") if row.person == user_of(request) else redirect("people:sessions")


@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """Sign out everywhere but here."""
    keep = request.session.session_key or ""
    attempt(request, "Signed out everywhere else.", sessions.end, person=user_of(request), keep=keep)
    return redirect("people:own")


@require_GET
def show_sessions(request: HttpRequest) -> HttpResponse:
    """Everybody who is signed in, for Administrators."""
    if not request.user.has_perm("cerbero.change_user"):
        raise PermissionDenied
    people = User.objects.filter(is_active=True).order_by("username")
    rows = [row for person in people for row in sessions.of_person(person)]
    here = request.session.session_key
    return page(request, "people/sessions.html", title="Who is signed in", sessions=rows, here=here)
