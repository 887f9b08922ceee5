"""An override: one ticket may pass a limit that refused it, up to a value that people signed (docs/limits.md).

It stands in the facts of the ticket's own question and nowhere else. So whatever holds a decision holds it too: the
question's proof, each decision's proof, and on a live account what each passkey signed. What passes without people
carries none.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from cerbero import decisions
from cerbero.errors import OverrideUnsigned
from cerbero.models import DecisionRequest, User
from cerbero.people import profile, signing
from cerbero.people.announcing import announce
from orders import risk
from orders.lifecycle import TicketStatus
from orders.models import Allowance, Ticket, TicketQuerySet
from orders.risk import Check
from orders.risk.values import shown

MARK = "override"
PERMISSION = "orders.override_limit"
# Whoever overrides is one of those who decide, and so many more than the policy asks for must.
MORE_DECISIONS = 1


def of(granted: DecisionRequest | Allowance | None) -> dict[str, Any]:
    """What is overridden, by whom and why; empty where nothing is."""
    facts = granted.facts if isinstance(granted, DecisionRequest) else {}
    return dict(facts.get(MARK) or {})


def open_tickets() -> TicketQuerySet:
    """The tickets that wait or are about to be sent with a limit overridden, the oldest first."""
    rows = Ticket.objects.filter(status__in=[TicketStatus.PROPOSED, TicketStatus.ALLOWED])
    return rows.filter(request__facts__has_key=MARK).select_related("request").order_by("created_at")


def kept(request: DecisionRequest | None) -> dict[str, Any]:
    """For the facts of the next question about the same ticket: everybody signs it anew."""
    said = of(request)
    return {MARK: said} if said else {}


def more(granted: DecisionRequest | Allowance) -> int:
    """How many more decisions than the policy's it takes."""
    return MORE_DECISIONS if of(granted) else 0


def lifted(checks: Iterable[Check], granted: DecisionRequest | Allowance | None) -> list[Check]:
    """The checks, with those that hold by the override."""
    rows = of(granted).get("limits", [])
    ceilings = {row["code"]: risk.Ceiling(row["limit"], Decimal(row["ceiling"])) for row in rows}
    return risk.lift(checks, ceilings)


def overrider(request: DecisionRequest) -> UUID | None:
    said = of(request)
    return UUID(said["by_id"]) if said else None


def why_not_yet(request: DecisionRequest, person_id: UUID | None) -> str:
    """Whoever overrides says so first: until then nobody else's yes counts. A sentence; empty where it does."""
    by = overrider(request)
    if by is None or by == person_id or request.decisions.filter(person=by, is_yes=True).exists():
        return ""
    return f"{of(request)['by']} approves first. Rejecting works."


def require_first(request: DecisionRequest, person_id: UUID | None) -> None:
    """Raises OverrideUnsigned while whoever overrides has not said yes."""
    if why_not_yet(request, person_id):
        raise OverrideUnsigned(by=of(request)["by"])


def tell_approved(request: DecisionRequest) -> None:
    """Everybody learns of a limit that is about to be passed, as of one that is loosened."""
    if said := of(request):
        announce(f"Approved past a limit ({passes(said)}) by {said['by']}: {request.summary}."[:300])


def told(request: DecisionRequest | None) -> dict[str, str]:
    """An override as people read it: what it passes in words, by whom, why, and the ticket that was refused."""
    said = of(request)
    return (
        {"passes": passes(said), **{name: said[name] for name in ("by", "reason", "ticket")}} if said else {}
    )


def passes(said: dict[str, Any]) -> str:
    return "; ".join(
        f"{row['name'].lower()} {row['value']} of {row['limit']}, at most {shown(Decimal(row['ceiling']))}"
        for row in said["limits"]
    )


def why_not_counted(request: DecisionRequest, *, is_live: bool) -> str:
    """Why an override does not count at the moment of sending; empty when it does, or where there is none."""
    by = overrider(request)
    if by is None:
        return ""
    person = User.objects.filter(pk=by, is_active=True).first()
    if person is None or not person.has_perm(PERMISSION):
        return "may not override any more"
    if profile.is_sole(request):
        return "one person does not override"
    if by not in decisions.proven_people(request):
        return "not signed by whoever overrides"
    return signing.why_unsigned(request, by) if is_live else ""
