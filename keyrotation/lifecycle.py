"""A rotation's life: every legal move, and nothing else.

The same table stands in the database as a trigger (keyrotation/migrations/0002_guards.py); a test holds the two equal.
"""

from django.db.models import TextChoices


class RotationStatus(TextChoices):
    REQUESTED = "requested"
    GENERATED = "generated"
    REGISTERED = "registered"
    PROVEN = "proven"
    ACTIVE = "active"
    RETIRED = "retired"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"


class Kind(TextChoices):
    """What is replaced."""

    TOKEN = "token", "access token and secret, under the same keys"
    KEYS = "keys", "signature and encryption keys, with a new token"


class Mode(TextChoices):
    """How the broker lets the two sets live together, as the canary finds it (gates.md §8)."""

    OVERLAP = "overlap", "both sets work"
    TOKEN_ONLY = "token_only", "only the token changes, and both work"
    BLACKOUT = "blackout", "the broker has ended the old set"


MOVES: dict[str, frozenset[str]] = {
    RotationStatus.REQUESTED: frozenset({RotationStatus.GENERATED, RotationStatus.ABORTED}),
    RotationStatus.GENERATED: frozenset({RotationStatus.REGISTERED, RotationStatus.ABORTED}),
    RotationStatus.REGISTERED: frozenset({RotationStatus.PROVEN, RotationStatus.ABORTED}),
    RotationStatus.PROVEN: frozenset({RotationStatus.ACTIVE, RotationStatus.ABORTED}),
    # From here on the new keys are in use: it ends with the old set destroyed, or in use again.
    RotationStatus.ACTIVE: frozenset({RotationStatus.RETIRED, RotationStatus.ROLLED_BACK}),
    RotationStatus.RETIRED: frozenset(),
    RotationStatus.ABORTED: frozenset(),
    RotationStatus.ROLLED_BACK: frozenset(),
}

# While in one of these, no other rotation of the login may begin.
OPEN = frozenset(status for status, moves in MOVES.items() if RotationStatus.ABORTED in moves)

# What the trail calls each arrival.
EVENTS: dict[str, str] = {
    RotationStatus.GENERATED: "rotation.generated",
    RotationStatus.REGISTERED: "rotation.registered",
    RotationStatus.PROVEN: "rotation.proven",
    RotationStatus.ACTIVE: "rotation.activated",
    RotationStatus.RETIRED: "rotation.retired",
    RotationStatus.ABORTED: "rotation.aborted",
    RotationStatus.ROLLED_BACK: "rotation.rolled_back",
}
