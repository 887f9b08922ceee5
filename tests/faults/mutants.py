"""Planted defects, each in the harness's own child processes: the judge must see every one."""

from collections.abc import Callable

MUTANTS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {}


def plant(name: str) -> None:
    """Break this process in that way."""
    MUTANTS[name][0]()


def mutant(name: str, *cases: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A defect, and the cases of which at least one must show it."""

    def keep(breaks: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[name] = (breaks, cases)
        return breaks

    return keep


@mutant("resend after a timeout", "place | timeout, taken", "place | reset after")
def resend() -> None:
    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import OutcomeUnknown

    place = IbkrClient.place

    def again(self, account, legs, **named):  # type: ignore[no-untyped-def]
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown:
            return place(self, account, legs, **named)

    IbkrClient.place = again  # type: ignore[method-assign]


@mutant("a new client order id on a retry", "place | timeout, taken")
def new_id() -> None:
    from dataclasses import replace
    from uuid import uuid4

    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import OutcomeUnknown

    place = IbkrClient.place

    def again(self, account, legs, **named):  # type: ignore[no-untyped-def]
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown:
            return place(self, account, [replace(legs[0], client_order_id=uuid4().hex), *legs[1:]], **named)

    IbkrClient.place = again  # type: ignore[method-assign]


@mutant("timeout means rejected", "place | timeout, taken")
def timeout_rejected() -> None:
    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import BrokerRejected, OutcomeUnknown

    place = IbkrClient.place

    def hasty(self, account, legs, **named):  # type: ignore[no-untyped-def]
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown as problem:
            raise BrokerRejected(**problem.details) from None

    IbkrClient.place = hasty  # type: ignore[method-assign]
