"""Who must decide: a ticket's environment in, a requirement out. Pure."""

from dataclasses import dataclass

from cerbero.models import Environment


@dataclass(frozen=True)
class Requirement:
    """*n* decisions by people of a group."""

    quorum: int
    group: str


def requirement(environment: str) -> Requirement:
    """Every order that adds risk needs a person; on a live account it needs two."""
    return Requirement(quorum=2 if environment == Environment.LIVE else 1, group="Approver")
