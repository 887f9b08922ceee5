"""How a login comes in at its broker, and what its session's state asks of people."""

from django.db.models import TextChoices


class WayIn(TextChoices):
    """Keys of our own (OAuth 1.0a), or a person who signs in at IBKR's Client Portal Gateway."""

    KEYS = "keys", "keys of our own"
    GATEWAY = "gateway", "IBKR's gateway"


class SessionState(TextChoices):
    """The ways to be alive or dead at the broker, as the operator reads them (gates.md §5)."""

    DOWN = "down"
    MINTING = "minting"
    AUTHENTICATED = "authenticated"
    UP = "up", "brokerage up"
    COMPETING = "competing"
    NOT_ESTABLISHED = "not_established", "connected but not established"
    EXPIRED = "expired"
    SIGNED_OUT = "signed_out", "signed out: a person must sign in at the gateway"
    UNREACHABLE = "unreachable"
    LOCKED_OUT = "locked_out", "locked out"
    MAINTENANCE = "maintenance", "broker maintenance"
    MISMATCHED = "mismatched", "environment mismatch"


class Usability(TextChoices):
    """What a state comes to for whoever waits for it."""

    USABLE = "usable"
    MANUAL = "manual_action_required", "manual action required"
    UNAVAILABLE = "unavailable"


FOR_PEOPLE = {SessionState.SIGNED_OUT, SessionState.COMPETING, SessionState.MISMATCHED}


def usability_of(state: str) -> Usability:
    """Usable now, waiting for a person, or away: then it comes back by itself or the state says why not."""
    if state == SessionState.UP:
        return Usability.USABLE
    return Usability.MANUAL if state in FOR_PEOPLE else Usability.UNAVAILABLE
