"""Planted defects, each in the harness's own sweeper: the judge of `make rotation-faults` must see every one."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A defect: how it is planted, which count must tell of it, and in which case."""

    breaks: Callable[[], None]
    sees: str
    case: str


def _prove_nothing_after_the_swap() -> None:
    from keyrotation import swapping

    swapping.prove_in_use = lambda turn, deadline: None


def _swap_what_was_never_proven() -> None:
    from brokers.base import SessionToken
    from cerbero import leases
    from keyrotation import proving, swapping

    proving.try_keys = swapping.try_keys = lambda staged: SessionToken(b"0" * 20, leases.database_now())
    swapping._undo = lambda turn, rotation, why: None


def _never_release() -> None:
    from keyrotation import swapping

    swapping.HOLD_SECONDS = 3600
    swapping.release_sending = lambda login, *, actor: None


MUTANTS = {
    "nothing is proven after the swap": Mutant(
        _prove_nothing_after_the_swap,
        "wrong_end_state",
        "fails after the proof | sweeper | rotation.activated",
    ),
    "what the broker does not take yet is swapped in and stays": Mutant(
        _swap_what_was_never_proven, "locked_out", "waiting for the broker | sweeper | rotation.not_proven"
    ),
    "orders are held and never released": Mutant(
        _never_release, "orders_lost", "token only | sweeper | rotation.proven"
    ),
}
