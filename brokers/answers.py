"""The last answers of a broker, in Postgres: a question with a hard limit is asked once for all processes.

Each answer carries its time, so that whoever reads it knows how old it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.utils import timezone
from pydantic import TypeAdapter, ValidationError

from brokers.base import ExecutionReport, OrderReport
from brokers.models import BrokerAnswer, Login
from cerbero.errors import BrokerUnavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Known(Generic[T]):
    """An answer, and when the broker gave it."""

    value: T
    as_of: datetime


@dataclass(frozen=True)
class Memory(Generic[T]):
    """One kind of question: what the answer is, and for how many seconds it is not asked anew.

    For `stands_seconds` it still stands in for an answer that only a rate limit keeps from us.
    """

    name: str
    kind: type[T]
    seconds: float
    stands_seconds: float = 3600

    def ask(self, login: Login, key: str, read: Callable[[], T]) -> Known[T]:
        """The answer of at most `seconds` ago, or a new one.

        Where only our own pacing or the broker's rate limit forbids to ask, the last answer stands with its time.
        Raises what `read` raises otherwise.
        """
        last = self.last(login, key)
        if last is not None and not _is_older(last, self.seconds):
            return last
        try:
            return self.keep(login, key, read())
        except BrokerUnavailable as refusal:
            limited = refusal.details.get("paced") or refusal.details.get("rate_limited")
            if last is None or not limited or _is_older(last, self.stands_seconds):
                raise
            return last

    def last(self, login: Login, key: str) -> Known[T] | None:
        """The last answer, however old; None where there is none that can be read."""
        row = BrokerAnswer.objects.filter(login=login, name=self.name, key=key).first()
        try:
            return Known(self._adapter.validate_python(row.body), row.read_at) if row else None
        except ValidationError:
            return None

    def keep(self, login: Login, key: str, value: T, as_of: datetime | None = None) -> Known[T]:
        """Remember an answer; `as_of` is when it was asked for, where somebody else asked."""
        now = as_of or timezone.now()
        body: dict[str, Any] = {"body": self._adapter.dump_python(value, mode="json"), "read_at": now}
        BrokerAnswer.objects.update_or_create(login=login, name=self.name, key=key, defaults=body)
        return Known(value, now)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.kind)


# What reconciliation reads anyway, and the broker gives once in five seconds at most (ibkr-web-api.md §8): by account,
# and by account and days.
ORDERS = Memory("orders", list[OrderReport], seconds=5)
EXECUTIONS = Memory("executions", list[ExecutionReport], seconds=5)


def _is_older(known: Known[Any], seconds: float) -> bool:
    return timezone.now() - known.as_of >= timedelta(seconds=seconds)
