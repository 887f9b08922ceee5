"""What bots send and get about drift and the days' reports."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from brokers.models import Account
from cerbero.errors import NotFound
from cerbero.tool import Out, Params
from orders.models import Drift

AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,32}$")]


class OnAccount(Params):
    account: AccountId | None = None
    is_open: bool = True
    limit: int = Field(default=50, ge=1, le=200)


class DayOfAccount(Params):
    account: AccountId
    day: date | None = None


class DriftOut(Out):
    """One difference. `amount` is what the broker has beyond our book; `cause` is a guess."""

    drift_id: UUID
    account: str
    kind: str
    status: str
    cause: str
    about: str
    amount: Decimal | None
    order_id: UUID | None
    evidence: dict[str, Any]
    seen_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, case: Drift) -> "DriftOut":
        same = ("kind", "status", "cause", "about", "amount", "order_id", "evidence", "seen_at", "settled_at")
        account = case.account.broker_account_id if case.account else ""
        return cls(drift_id=case.pk, account=account, **{name: getattr(case, name) for name in same})


class DriftsOut(Out):
    drift: list[DriftOut]

    @classmethod
    def of(cls, environment: str | None, params: OnAccount) -> "DriftsOut":
        """The newest cases on the accounts of one environment."""
        cases = Drift.objects.select_related("account").filter(account__environment=environment)
        if params.account:
            cases = cases.filter(account__broker_account_id=params.account)
        if params.is_open:
            cases = cases.filter(status=Drift.Status.OPEN)
        return cls(drift=[DriftOut.of(case) for case in cases.order_by("-seen_at")[: params.limit]])


class DayReportOut(Out):
    account: str
    day: date
    is_clean: bool
    body: dict[str, Any]
    made_at: datetime

    @classmethod
    def of(cls, account: Account, params: DayOfAccount) -> "DayReportOut":
        """The newest report, or one day's. Raises NotFound."""
        reports = account.day_reports.order_by("-day")
        report = (reports.filter(day=params.day) if params.day else reports).first()
        if report is None:
            raise NotFound(account=params.account, day=str(params.day or "any"))
        named = {name: getattr(report, name) for name in ("day", "is_clean", "body", "made_at")}
        return cls(account=params.account, **named)
