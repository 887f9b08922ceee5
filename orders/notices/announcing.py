"""Waiting decisions become deliveries: one row for each receiver, however often this is asked.

On duty: told first. Nobody on duty: everybody who may decide, at once. Half of the time gone: everybody who may
decide and the next group. That group is told so that it can reach somebody; time alone never widens who may decide.
"""

from collections.abc import Iterable
from uuid import UUID

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now

from cerbero.models import DecisionRequest, User
from orders.notices.duty import on_duty
from orders.notices.models import ESCALATED, WAITING, Delivery, Seen, Webhook
from orders.notices.words import line, paragraph

REQUESTS_MAX = 200
_SPAN = DurationField()


def announce_waiting() -> int:
    """Write what is still to be told of every open request; returns how many deliveries were new."""
    waiting = list(_waiting())
    if not waiting:
        return 0
    before = Delivery.objects.filter(request__in=waiting).count()
    shift, webhooks = on_duty(), list(Webhook.objects.filter(is_active=True))
    rows = [row for request in waiting for row in _deliveries(request, shift, webhooks)]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)
    return Delivery.objects.filter(request__in=waiting).count() - before


def deciders(request: DecisionRequest) -> QuerySet[User]:
    """Whose yes or no would still count: of the group, not excluded, not decided yet."""
    return (
        User.objects.filter(is_active=True, groups__name=request.group)
        .exclude(pk__in=request.excluded_user_ids)
        .exclude(decisions__request=request)
        .order_by("username")
    )


def mark_seen(person: User, request_ids: Iterable[UUID | str]) -> None:
    """These stood on this person's screen; the first time counts. Ended and unknown ones are passed over."""
    rows = DecisionRequest.objects.open().filter(pk__in=list(request_ids)[:REQUESTS_MAX])
    Seen.objects.bulk_create(
        [Seen(request=request, person=person) for request in rows], ignore_conflicts=True
    )


def path_of(request: DecisionRequest) -> str:
    """Where people decide on it."""
    if request.subject_kind == "ticket":
        return f"/admin/queue/#t-{request.subject_id}"
    if request.subject_kind == "rotation":
        return f"/admin/keyrotation/rotation/{request.subject_id}/change/"
    if request.subject_kind == "amendment":
        return f"/admin/queue/#a-{request.subject_id}"
    if request.subject_kind == "settle":
        return f"/admin/doubts/#r-{request.pk}"
    if request.subject_kind == "drift":
        return f"/admin/drift/#d-{request.subject_id}"
    return f"/admin/cerbero/decisionrequest/{request.pk}/change/"


def _waiting() -> QuerySet[DecisionRequest]:
    gone = ExpressionWrapper(Now() - F("created_at"), output_field=_SPAN)
    left = ExpressionWrapper(F("expires_at") - Now(), output_field=_SPAN)
    return DecisionRequest.objects.open().annotate(gone=gone, left=left).order_by("expires_at")[:REQUESTS_MAX]


def _deliveries(request: DecisionRequest, shift: list[User], webhooks: list[Webhook]) -> list[Delivery]:
    may = list(deciders(request))
    first = [person for person in may if person in shift]
    names, is_reached = ", ".join(map(str, first)), any(person.email for person in first)
    whom = f"On duty: {names}." if first else "Nobody is on duty: all who may decide are told."
    if first and not is_reached:
        whom = f"On duty: {names}, without an address: all who may decide are told."
    rows = _news(request, WAITING, "Decision waiting", whom, first if is_reached else may, webhooks)
    if request.gone >= request.left:  # type: ignore[attr-defined]
        others = User.objects.filter(is_active=True, groups__name=settings.ESCALATION_GROUP)
        everybody = {person.pk: person for person in [*may, *others]}
        whom = (
            f"Half of its time is gone. Told now: everybody who may decide, and {settings.ESCALATION_GROUP}s."
        )
        rows += _news(request, ESCALATED, "Still undecided", whom, everybody.values(), webhooks)
    return rows


def _news(
    request: DecisionRequest,
    event: str,
    word: str,
    whom: str,
    people: Iterable[User],
    webhooks: list[Webhook],
) -> list[Delivery]:
    environment = str(request.facts.get("environment") or "").upper()
    label = f"[{environment}] " if environment else ""
    text = {
        "event": event,
        "key": f"{event}:{request.pk}",
        "request": request,
        "subject": line(f"{label}{word}: {request.summary}"),
        "body": paragraph(
            f"Asked by {request.requested_by}; refused at {request.expires_at:%H:%M:%S} UTC unless decided.\n{whom}"
        ),
        "path": path_of(request),
    }
    mailed = [person for person in people if person.email] if settings.EMAIL_IS_ON else []
    return [
        *(Delivery(webhook=each, **text) for each in webhooks if event in each.events),
        *(Delivery(person=each, **text) for each in mailed),
    ]
